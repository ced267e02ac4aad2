"""Transformers: layers of attention, in which every position of a sequence looks at the others."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import StochasticDepth, activation, lengths_of, norm, small_head, trimmed
from goodfit.models.weights import GeneratorFor, normal_
from goodfit.technique import Chance, Count, technique
from goodfit.types import InputSpec

Feedforward = Literal["gelu", "relu", "silu", "swiglu"]
Positions = Literal["rotary", "learned"]


@technique("model")
class Transformer:
    """A transformer: a decoder for language (each position sees the past only), an encoder for text and series.

    Layers are pre-norm: ``x + attention(norm(x))``, then ``x + feedforward(norm(x))``; a last norm before the head.
    The branches' last weights start smaller by sqrt(2 depth), as GPT-2's. On language the head is the embedding table
    itself (Press and Wolf, 2017). A text's padding is never looked at, and its row is the mean over the rest.
    Sources: Vaswani et al. (2017); rotary positions: Su et al. (2021); SwiGLU: Shazeer (2020), hidden size 8/3 of the
    width; RMS norm: Zhang and Sennrich (2019).

    width: numbers per position; a multiple of 2 x heads with rotary positions, of heads otherwise. expand: hidden
    size of the feed-forward part, in widths (not used by swiglu). positions ``learned`` reach to the length seen in
    the data; ``rotary`` to any.
    """

    width: Count = 128
    depth: Count = 4
    heads: Count = 4
    expand: Count = 4
    feedforward: Feedforward = "gelu"
    norm: Literal["layer", "rms"] = "layer"
    positions: Positions = "rotary"
    dropout: Chance = 0.1
    drop_path: Chance = 0.0

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for inputs like ``spec``. Raises ModelError for images, tables and tensors."""
        _check_heads(self.width, self.heads, self.positions)
        layers = [
            Layer(
                self.width,
                self.heads,
                expand=self.expand,
                feedforward=self.feedforward,
                norm_name=self.norm,
                dropout=self.dropout,
                drop_path=self.drop_path * (number + 1) / self.depth,
                depth=self.depth,
            )
            for number in range(self.depth)
        ]
        stack = Stack(layers, norm(self.norm, self.width))
        if spec.kind == "language":
            place = Places(self.width, self.heads, self.positions, length=spec.shape[0])
            return Decoder(spec.vocabulary, outputs, stack, place, width=self.width, dropout=self.dropout)
        if spec.kind in ("text", "series"):
            place = Places(self.width, self.heads, self.positions, length=spec.shape[0])
            first: nn.Module = (
                nn.Embedding(spec.vocabulary, self.width, padding_idx=0)
                if spec.kind == "text"
                else nn.Linear(spec.shape[1], self.width)
            )
            return Encoder(first, stack, place, nn.Linear(self.width, outputs), dropout=self.dropout)
        raise ModelError(
            f"model 'transformer' takes text, language and series, but the data is {spec.kind}; use model.name = "
            + ("'resnet', or 'timm:vit_tiny_patch16_224' for a vision transformer" if spec.kind == "image" else "'mlp'")
        )


@technique("model")
class TransformerEncdec:
    """An encoder-decoder transformer: reads a source sequence, writes a target sequence.

    Inputs are ``{"source": (batch, S), "target": (batch, T)}`` int64, 0 is padding; logits are ``(batch, T,
    vocabulary)``. In training the decoder sees the true target up to the token before the one it predicts (teacher
    forcing): the model shifts ``target`` right itself, behind a learned start, so inputs and targets are the same
    tokens. Source: Vaswani et al. (2017), with pre-norm layers; one embedding table serves source, target and head,
    as in T5 (Raffel et al., 2020).

    Settings as for ``transformer``; ``depth`` layers on either side.
    """

    width: Count = 128
    depth: Count = 3
    heads: Count = 4
    expand: Count = 4
    feedforward: Feedforward = "gelu"
    norm: Literal["layer", "rms"] = "layer"
    positions: Positions = "rotary"
    dropout: Chance = 0.1

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for token sequences like ``spec``. Raises ModelError for any other kind."""
        if spec.kind not in ("text", "language"):
            raise ModelError(f"model 'transformer_encdec' takes pairs of token sequences, but the data is {spec.kind}")
        _check_heads(self.width, self.heads, self.positions)

        def stack(cross: bool) -> Stack:
            layers = [
                Layer(
                    self.width,
                    self.heads,
                    expand=self.expand,
                    feedforward=self.feedforward,
                    norm_name=self.norm,
                    dropout=self.dropout,
                    depth=self.depth,
                    cross=cross,
                )
                for _ in range(self.depth)
            ]
            return Stack(layers, norm(self.norm, self.width))

        places = [Places(self.width, self.heads, self.positions, length=spec.shape[0]) for _ in range(2)]
        return EncoderDecoder(
            spec.vocabulary, outputs, stack(False), stack(True), places, width=self.width, dropout=self.dropout
        )


class Attention(nn.Module):
    """Multi-head scaled dot-product attention: ``softmax(Q K^T / sqrt(d)) V`` in each head of size d, then one linear
    map.

    Source: Vaswani et al. (2017). Computed by ``torch.nn.functional.scaled_dot_product_attention``.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0, cross: bool = False) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width) if cross else None
        self.project = nn.Linear(width, width * (2 if cross else 3))
        self.out = nn.Linear(width, width)

    def forward(
        self,
        inputs: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        rotation: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Each position of ``inputs`` looks at ``memory`` (at ``inputs`` itself without it).

        inputs: ``(batch, T, width)``. memory: ``(batch, S, width)``. mask: ``(batch, S)`` bool, True where it may look.
        causal: position t sees 0..t only. rotation: cosine and sine ``(T, head size / 2)`` of rotary positions.
        """
        batch, length, width = inputs.shape
        shape = (batch, -1, self.heads, width // self.heads)
        if self.query is None:
            query, key, value = (p.reshape(shape).transpose(1, 2) for p in self.project(inputs).chunk(3, -1))
        else:
            query = self.query(inputs).reshape(shape).transpose(1, 2)
            source = inputs if memory is None else memory
            key, value = (p.reshape(shape).transpose(1, 2) for p in self.project(source).chunk(2, -1))
        if rotation is not None:
            query, key = rotate(query, *rotation), rotate(key, *rotation)
        seen = None if mask is None else mask[:, None, None, :]
        if seen is not None and causal:
            seen = seen & torch.ones(length, length, dtype=torch.bool, device=inputs.device).tril()
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=seen,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal and seen is None,
        )
        return torch.as_tensor(self.out(mixed.transpose(1, 2).reshape(batch, length, width)))


class Layer(nn.Module):
    """One pre-norm transformer layer: self-attention, attention to a memory where ``cross``, feed-forward; each added
    to its input."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        expand: int,
        feedforward: str,
        norm_name: str,
        dropout: float,
        depth: int,
        drop_path: float = 0.0,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.depth = depth
        self.norm1 = norm(norm_name, width)
        self.attention = Attention(width, heads, dropout=dropout)
        self.norm_cross = norm(norm_name, width) if cross else None
        self.cross = Attention(width, heads, dropout=dropout, cross=True) if cross else None
        self.norm2 = norm(norm_name, width)
        self.feedforward = Feed(width, expand, feedforward)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = StochasticDepth(drop_path)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Linear layers N(0, 1 / fan_in); those that end a branch smaller by sqrt(2 depth)."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                ends = name.endswith("out")
                std = 1.0 / math.sqrt(module.in_features * (2 * self.depth if ends else 1))
                normal_(module.weight, std, generator=generator_for(f"{name}.weight"))

    def forward(
        self,
        inputs: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        causal: bool = False,
        rotation: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """inputs: ``(batch, T, width)``; the same shape out. Masks and rotation as in ``Attention``."""
        attended = self.attention(self.norm1(inputs), mask=mask, causal=causal, rotation=rotation)
        stream = inputs + self.drop_path(self.dropout(attended))
        if self.cross is not None and self.norm_cross is not None:
            stream = stream + self.dropout(self.cross(self.norm_cross(stream), memory, mask=memory_mask))
        return torch.as_tensor(stream + self.drop_path(self.dropout(self.feedforward(self.norm2(stream)))))


class Feed(nn.Module):
    """The feed-forward part: ``out(f(inner(x)))``, or SwiGLU ``out(silu(a) b)`` with ``a, b = inner(x)``."""

    def __init__(self, width: int, expand: int, kind: str) -> None:
        super().__init__()
        self.gated = kind == "swiglu"
        hidden = -(-8 * width // 3 // 8) * 8 if self.gated else expand * width
        self.inner = nn.Linear(width, hidden * (2 if self.gated else 1))
        self.activation = activation("silu" if self.gated else kind)
        self.out = nn.Linear(hidden, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(..., width)``; the same shape out."""
        hidden = self.inner(inputs)
        if self.gated:
            gate, value = hidden.chunk(2, -1)
            return torch.as_tensor(self.out(self.activation(gate) * value))
        return torch.as_tensor(self.out(self.activation(hidden)))


class Stack(nn.Module):
    """Layers one after another, and a norm at the end."""

    def __init__(self, layers: list[Layer], last: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = last

    def forward(
        self,
        inputs: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        causal: bool = False,
        rotation: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """inputs: ``(batch, T, width)``; the same shape out."""
        for layer in self.layers:
            inputs = layer(inputs, memory, mask=mask, memory_mask=memory_mask, causal=causal, rotation=rotation)
        return torch.as_tensor(self.norm(inputs))


class Places(nn.Module):
    """Says where a position stands: an embedding added to it (``learned``) or a rotation for attention (``rotary``)."""

    def __init__(self, width: int, heads: int, kind: str, *, length: int) -> None:
        super().__init__()
        self.pairs = width // heads // 2
        self.table = nn.Embedding(length, width) if kind == "learned" else None

    def forward(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """inputs: ``(batch, T, width)``. Returns them with positions added, and the rotation for attention or None."""
        length = inputs.shape[1]
        if self.table is None:
            return inputs, rotation_of(length, self.pairs, inputs.device)
        if length > self.table.num_embeddings:
            raise ModelError(
                f"a sequence of {length} is longer than the {self.table.num_embeddings} learned "
                "positions; shorten it, or train with model.positions = 'rotary'"
            )
        return inputs + self.table.weight[:length], None


class Decoder(nn.Module):
    """A causal language model."""

    def __init__(
        self, vocabulary: int, outputs: int, stack: Stack, places: Places, *, width: int, dropout: float
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.places = places
        self.dropout = nn.Dropout(dropout)
        self.stack = stack
        self.head = None if outputs == vocabulary else nn.Linear(width, outputs)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """A small head where it is not the embedding table, whose N(0, 0.02) rows are small already."""
        if self.head is not None:
            small_head(self.head, generator_for("head.weight"))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, T)`` int64. Returns logits ``(batch, T, outputs)``; position t has seen tokens 0..t."""
        stream, rotation = self.places(self.table(inputs))
        states = self.stack(self.dropout(stream), causal=True, rotation=rotation)
        return F.linear(states, self.table.weight) if self.head is None else torch.as_tensor(self.head(states))


class Encoder(nn.Module):
    """A bidirectional encoder of texts or series, the mean over positions, a head."""

    def __init__(self, first: nn.Module, stack: Stack, places: Places, head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.first, self.places = first, places
        self.dropout = nn.Dropout(dropout)
        self.stack, self.head = stack, head

    def initialise(self, generator_for: GeneratorFor) -> None:
        """A small head: the first loss is near ln C."""
        small_head(self.head, generator_for("head.weight"))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: tokens ``(batch, T)`` int64 or a series ``(batch, T, channels)``. Returns logits ``(batch,
        outputs)``."""
        words = not inputs.is_floating_point()
        inputs = trimmed(inputs) if words else inputs
        mask = may_look(inputs) if words else None
        stream, rotation = self.places(self.first(inputs))
        states = self.stack(self.dropout(stream), mask=mask, rotation=rotation)
        share = mask / mask.sum(1, keepdim=True) if mask is not None else None
        pooled = states.mean(1) if share is None else (states * share[:, :, None]).sum(1)
        return torch.as_tensor(self.head(self.dropout(pooled)))


class EncoderDecoder(nn.Module):
    """Reads ``source``, writes ``target``; see ``TransformerEncdec``."""

    def __init__(
        self,
        vocabulary: int,
        outputs: int,
        encoder: Stack,
        decoder: Stack,
        places: list[Places],
        *,
        width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.start = nn.Parameter(torch.zeros(width))
        self.source_places, self.target_places = places
        self.dropout = nn.Dropout(dropout)
        self.encoder, self.decoder = encoder, decoder
        self.head = None if outputs == vocabulary else nn.Linear(width, outputs)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """The start is one more row of the table."""
        normal_(self.start, 0.02, generator=generator_for("start"))
        if self.head is not None:
            small_head(self.head, generator_for("head.weight"))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """inputs: source ``(batch, S)`` and target ``(batch, T)`` int64. Returns logits ``(batch, T, outputs)``.

        Position t has seen the whole source and target tokens 0..t-1.
        """
        source, target = inputs["source"], inputs["target"]
        mask = may_look(source)
        stream, rotation = self.source_places(self.table(source))
        memory = self.encoder(self.dropout(stream), mask=mask, rotation=rotation)
        start = self.start.to(stream.dtype).expand(len(target), 1, -1)
        stream, rotation = self.target_places(torch.cat([start, self.table(target[:, :-1])], 1))
        states = self.decoder(self.dropout(stream), memory, memory_mask=mask, causal=True, rotation=rotation)
        return F.linear(states, self.table.weight) if self.head is None else torch.as_tensor(self.head(states))


def may_look(tokens: Tensor) -> Tensor:
    """True up to the last token that is not padding, and at the first position always: ``(batch, T)`` bool."""
    return torch.arange(tokens.shape[1], device=tokens.device) < lengths_of(tokens)[:, None]


def rotation_of(length: int, half: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``(length, half)`` of position times frequency ``10000^(-i / half)``."""
    frequency = 10000.0 ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair (i, i + half) of ``(batch, heads, T, 2 half)`` by its position's angle (Su et al., 2021)."""
    one, two = heads.chunk(2, -1)
    cosine, sine = cosine.to(heads.dtype), sine.to(heads.dtype)
    return torch.cat([one * cosine - two * sine, two * cosine + one * sine], -1)


def _check_heads(width: int, heads: int, positions: str) -> None:
    unit = heads * (2 if positions == "rotary" else 1)
    if width % unit:
        near = max(round(width / unit), 1) * unit
        raise ModelError(
            f"model.width {width} does not divide among {heads} heads ({positions} positions); set model.width = {near}"
        )
