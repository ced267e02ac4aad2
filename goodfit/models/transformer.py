"""Transformers: a decoder for language, an encoder for texts and series, and both for sequences from sequences."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.attention import Cache, Layer, Parts, Places, Stack, may_look
from goodfit.models.layers import Dropout, norm, small_head, trimmed, words_of
from goodfit.models.mixing import mixed
from goodfit.models.weights import GeneratorFor, normal_
from goodfit.technique import Chance, Count, technique
from goodfit.types import InputSpec

Feedforward = Literal["gelu", "relu", "relu2", "silu", "swiglu"]
Positions = Literal["rotary", "learned"]
Orders = Annotated[int, Field(ge=1, le=8)]


@technique("model")
class Transformer:
    """A transformer: a decoder for language (each position sees the past only), an encoder for text and series.

    Formula: in each layer ``x + attention(norm(x))``, then ``x + feedforward(norm(x))``; a last norm before the head.
        Attention in each head of size d is ``softmax(Q K^T / sqrt(d)) V``; without the root the scores of large heads
        have variance d, and softmax saturates.
    Source: Vaswani et al. (2017); rotary positions: Su et al. (2021); SwiGLU: Shazeer (2020), hidden size 8/3 of the
        width; squared ReLU: So et al. (2021); RMS norm: Zhang and Sennrich (2019); zero branches: Bachlechner et al.
        (2021).
    Ours: the last weights of each branch start at zero, so every layer starts as the identity and its inner weights
        first move at the second step. No biases inside layers. A text's padding is never looked at, and its row is
        the mean over the rest.
    Helps: long reach at any distance, all positions at once. Hurts: little data, where it learns by heart; cost grows
        with the square of the length.

    width: numbers per position; a multiple of heads, with rotary positions of 2 x heads. expand: hidden size of the
    feed-forward part, in widths (not used by swiglu). positions: ``learned`` ones reach to the length seen in the
    data, ``rotary`` ones to any. dropout: of embeddings and branches. attention_dropout: of the attention weights,
    slow on a CPU. norm: ``rms`` has no mean and no bias; on a CPU its backward pass is the slower one. shift: add to
    each layer's input a learned share of the position before.

    For language: tied: the head is the embedding table (Press and Wolf, 2017); otherwise a head of its own that
    starts at zero. ngrams: add to a token's embedding those of the 2 to n tokens that end with it, hashed into
    ``buckets`` rows for each n, each n-gram left out with chance ``ngram_dropout``; 1 adds nothing. Helps small
    models on characters.
    """

    width: Count = 128
    depth: Count = 4
    heads: Count = 4
    expand: Count = 4
    feedforward: Feedforward = "gelu"
    norm: Literal["layer", "rms"] = "layer"
    positions: Positions = "rotary"
    dropout: Chance = 0.1
    attention_dropout: Chance = 0.0
    drop_path: Chance = 0.0
    shift: bool = False
    tied: bool = True
    ngrams: Orders = 1
    buckets: Count = 32768
    ngram_dropout: Chance = 0.2

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for inputs like ``spec``. Raises ModelError for images, tables and tensors."""
        if spec.kind not in ("text", "language", "series"):
            other = "'resnet', or 'timm:vit_tiny_patch16_224' for a vision transformer"
            raise ModelError(
                f"model 'transformer' takes text, language and series, but the data is {spec.kind}; use model.name = "
                + (other if spec.kind == "image" else "'mlp'")
            )
        _check_heads(self.width, self.heads, self.positions)
        parts = Parts(self.width, self.heads, self.expand, self.feedforward, self.norm, self.dropout)
        paths = [self.drop_path * (number + 1) / self.depth for number in range(self.depth)]
        layers = [Layer(parts, attention_dropout=self.attention_dropout, drop_path=p, shift=self.shift) for p in paths]
        stack = Stack(layers, norm(self.norm, self.width))
        vocabulary, length = words_of(spec) if spec.kind != "series" else (0, spec.shape[0])
        places = Places(self.width, self.heads, self.positions, length=length)
        if spec.kind == "language":
            orders = range(2, self.ngrams + 1)
            table = TokenTable(vocabulary, self.width, orders, buckets=self.buckets, dropout=self.ngram_dropout)
            tied = self.tied and outputs == vocabulary
            return Decoder(table, places, stack, None if tied else nn.Linear(self.width, outputs), dropout=self.dropout)
        first: nn.Module = (
            nn.Embedding(vocabulary, self.width, padding_idx=0)
            if spec.kind == "text"
            else nn.Linear(spec.shape[1], self.width)
        )
        head = nn.Linear(self.width, outputs)
        return Encoder(first, places, stack, head, length=length, dropout=self.dropout)


@technique("model")
class TransformerEncdec:
    """An encoder-decoder transformer: reads a source sequence, writes a target sequence.

    Inputs are ``{"source": (batch, S), "target": (batch, T)}`` int64, 0 is padding; logits are ``(batch, T, target
    vocabulary)``. In training the decoder sees the true target up to the token before the one it predicts (teacher
    forcing): ``target`` is the answer shifted right by one place, behind a token that says "begin".

    Formula: ``p(y_t | y_<t, x)``, for all t at once. Every layer of the decoder looks at its own past (causal mask) and
        then at the whole source, never at the source's padding; attention as for ``transformer``.
    Source: Vaswani et al. (2017); the target's embedding table is the head too: Press and Wolf (2017); teacher forcing:
        Williams and Zipser (1989).
    Ours: pre-norm layers whose branches start at zero, as in ``transformer``.
    Helps: translation, rewriting, spelling out. Hurts: it is never shown its own mistakes in training (exposure bias),
        so one wrong token can spoil the rest.

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
        """The model for pairs of token sequences like ``spec``. Raises ModelError for any other kind."""
        if spec.kind != "sequence":
            raise ModelError(
                f"model 'transformer_encdec' takes pairs of sequences (task.kind = 'sequence'), but the data is "
                f"{spec.kind}; leave model.name out"
            )
        _check_heads(self.width, self.heads, self.positions)

        parts = Parts(self.width, self.heads, self.expand, self.feedforward, self.norm, self.dropout)

        def stack(cross: bool) -> Stack:
            return Stack([Layer(parts, cross=cross) for _ in range(self.depth)], norm(self.norm, self.width))

        places = [Places(self.width, self.heads, self.positions, length=length) for length in spec.shape]
        return EncoderDecoder(
            spec.cardinalities, outputs, stack(False), stack(True), places, width=self.width, dropout=self.dropout
        )


class TokenTable(nn.Module):
    """A token's embedding, and with ``orders`` those of the hashed n-grams that end at it."""

    def __init__(self, vocabulary: int, width: int, orders: range, *, buckets: int, dropout: float) -> None:
        super().__init__()
        self.orders, self.buckets = orders, buckets
        self.tokens = nn.Embedding(vocabulary, width)
        self.grams = nn.EmbeddingBag(len(orders) * buckets, width, mode="sum") if orders else None
        self.dropout = Dropout(dropout)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """With n-grams, tokens N(0, 0.5^2) and n-grams N(0, 0.05^2): the tokens speak first."""
        if self.grams is not None:
            normal_(self.tokens.weight, 0.5, generator=generator_for("tokens.weight"))
            normal_(self.grams.weight, 0.05, generator=generator_for("grams.weight"))

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: ``(batch, T)`` int64. Returns ``(batch, T, width)``; position t has seen tokens 0..t."""
        rows = self.tokens(tokens)
        if self.grams is None:
            return torch.as_tensor(rows)
        place, past = tokens + 1, tokens
        slots: list[Tensor] = []
        for number in range(len(self.orders)):
            past = F.pad(past[:, :-1], (1, 0), value=-1)
            place = place * 1000003 + past + 2
            slots.append(((place * 0x9E3779B1) >> 16) % self.buckets + number * self.buckets)
        numbers = torch.stack(slots, -1).flatten(0, 1)
        keep: Tensor | None = None
        if self.training and self.dropout.p:
            # Whole n-grams are left out: dropping single numbers of a row leaves it recognisable, and the tables
            # learn the text by heart.
            keep = (torch.rand(numbers.shape, device=numbers.device) >= self.dropout.p).to(rows.dtype) / (
                1 - self.dropout.p
            )
        return torch.as_tensor(rows + self.grams(numbers, per_sample_weights=keep).view_as(rows))


class Decoder(nn.Module):
    """A causal language model. Without a head, the embedding table is the head."""

    def __init__(
        self, table: TokenTable, places: Places, stack: Stack, head: nn.Linear | None, *, dropout: float
    ) -> None:
        super().__init__()
        self.table, self.places = table, places
        self.dropout = Dropout(dropout)
        self.stack, self.head = stack, head

    def initialise(self, generator_for: GeneratorFor) -> None:
        """A head of its own starts at zero; the table is small already, as ``norm`` in front keeps the logits near
        its rows'."""
        if self.head is not None:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        else:
            normal_(self.table.tokens.weight, 0.02, generator=generator_for("table.tokens.weight"))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, T)`` int64. Returns logits ``(batch, T, outputs)``; position t has seen tokens 0..t."""
        return self._logits(self.table(inputs), start=0, cache=None)

    def carry(self, inputs: Tensor, state: Cache | None) -> tuple[Tensor, Cache]:
        """Logits of the tokens that come next, and the state behind them; see `goodfit.models.generate`."""
        state = {"tokens": inputs[:, :0], "seen": 0, "layers": {}} if state is None else state
        whole = torch.cat([state["tokens"], inputs], 1)
        rows = self.table(whole)[:, whole.shape[1] - inputs.shape[1] :]
        logits = self._logits(rows, start=state["seen"], cache=state["layers"])
        reach = len(self.table.orders)
        kept = whole[:, max(whole.shape[1] - reach, 0) :]
        return logits, {**state, "tokens": kept, "seen": state["seen"] + inputs.shape[1]}

    def _logits(self, rows: Tensor, *, start: int, cache: Cache | None) -> Tensor:
        stream, rotation = self.places(rows, start=start)
        states = self.stack(self.dropout(stream), causal=True, rotation=rotation, cache=cache)
        return F.linear(states, self.table.tokens.weight) if self.head is None else torch.as_tensor(self.head(states))


class Encoder(nn.Module):
    """A bidirectional encoder of texts or series, the mean over positions, a head."""

    def __init__(
        self, first: nn.Module, places: Places, stack: Stack, head: nn.Linear, *, length: int, dropout: float
    ) -> None:
        super().__init__()
        self.length = length
        self.first, self.places = first, places
        self.dropout = Dropout(dropout)
        self.stack, self.head = stack, head

    def initialise(self, generator_for: GeneratorFor) -> None:
        """A small head: the first loss is near ln C."""
        small_head(self.head, generator_for("head.weight"))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: tokens ``(batch, T)`` int64 or a series ``(batch, T, channels)``. Returns logits ``(batch,
        outputs)``."""
        return torch.as_tensor(self.head(self.dropout(mixed(self.pooled, inputs))))

    def pooled(self, inputs: Tensor) -> Tensor:
        """The mean over positions, ``(batch, width)``."""
        words = not inputs.is_floating_point()
        inputs = trimmed(inputs[:, : self.length]) if words else inputs
        mask = may_look(inputs) if words else None
        stream, rotation = self.places(self.first(inputs))
        states = self.stack(self.dropout(stream), mask=mask, rotation=rotation)
        share = mask / mask.sum(1, keepdim=True) if mask is not None else None
        return torch.as_tensor(states.mean(1) if share is None else (states * share[:, :, None]).sum(1))


class EncoderDecoder(nn.Module):
    """Reads ``source``, writes ``target``; see ``TransformerEncdec``."""

    def __init__(
        self,
        vocabularies: tuple[int, ...],
        outputs: int,
        encoder: Stack,
        decoder: Stack,
        places: list[Places],
        *,
        width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.source_table, self.target_table = (nn.Embedding(size, width) for size in vocabularies)
        self.source_places, self.target_places = places
        self.dropout = Dropout(dropout)
        self.encoder, self.decoder = encoder, decoder
        self.head = None if outputs == vocabularies[1] else nn.Linear(width, outputs)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """A small head: the first loss is near ln C."""
        if self.head is not None:
            small_head(self.head, generator_for("head.weight"))
        else:
            normal_(self.target_table.weight, 0.02, generator=generator_for("target_table.weight"))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """inputs: source ``(batch, S)`` and target ``(batch, T)`` int64. Returns logits ``(batch, T, outputs)``.

        Position t has seen the whole source and the tokens 0..t of ``target``, the first of which says "begin".
        """
        memory, mask = self._read(inputs["source"])
        return self._write(inputs["target"], memory, mask=mask)

    def carry(self, inputs: dict[str, Tensor], state: Cache | None) -> tuple[Tensor, Cache]:
        """Logits of the target tokens that come next, and the state behind them; see `goodfit.models.generate`.

        The source is read in the first call only.
        """
        target = inputs["target"]
        if state is None:
            memory, mask = self._read(inputs["source"])
            state = {"memory": memory, "mask": mask, "seen": 0, "layers": {}}
        start, cache = state["seen"], state["layers"]
        logits = self._write(target, state["memory"], mask=state["mask"], start=start, cache=cache)
        return logits, {**state, "seen": start + target.shape[1]}

    def _read(self, source: Tensor) -> tuple[Tensor, Tensor]:
        source = trimmed(source)
        mask = may_look(source)
        stream, rotation = self.source_places(self.source_table(source))
        return self.encoder(self.dropout(stream), mask=mask, rotation=rotation), mask

    def _write(
        self, target: Tensor, memory: Tensor, *, mask: Tensor, start: int = 0, cache: Cache | None = None
    ) -> Tensor:
        stream, rotation = self.target_places(self.target_table(target), start=start)
        states = self.decoder(
            self.dropout(stream), memory, memory_mask=mask, causal=True, rotation=rotation, cache=cache
        )
        return F.linear(states, self.target_table.weight) if self.head is None else torch.as_tensor(self.head(states))


def _check_heads(width: int, heads: int, positions: str) -> None:
    unit = heads * (2 if positions == "rotary" else 1)
    if width % unit:
        near = max(round(width / unit), 1) * unit
        raise ModelError(
            f"model.width {width} does not divide among {heads} heads ({positions} positions); set model.width = {near}"
        )
