"""Attention and the layers made of it: every position of a sequence looks at the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import Dropout, StochasticDepth, activation, lengths_of, norm
from goodfit.models.weights import GeneratorFor, normal_


@dataclass(frozen=True)
class Parts:
    """What all layers of a transformer share."""

    width: int
    heads: int
    expand: int
    feedforward: str
    norm: str
    dropout: float


class Attention(nn.Module):
    """Multi-head scaled dot-product attention: ``softmax(Q K^T / sqrt(d)) V`` in each head of size d, then one linear
    map.

    Source: Vaswani et al. (2017). Computed by ``torch.nn.functional.scaled_dot_product_attention``.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0, cross: bool = False) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width, bias=False) if cross else None
        self.project = nn.Linear(width, width * (2 if cross else 3), bias=False)
        self.out = nn.Linear(width, width, bias=False)

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
    """One pre-norm layer: self-attention, attention to a memory where ``cross``, feed-forward; each added to its
    input."""

    def __init__(
        self,
        parts: Parts,
        *,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
        shift: bool = False,
        cross: bool = False,
    ) -> None:
        super().__init__()
        width = parts.width
        self.norm1 = norm(parts.norm, width)
        self.shift = nn.Parameter(torch.zeros(width)) if shift else None
        self.attention = Attention(width, parts.heads, dropout=attention_dropout)
        self.norm_cross = norm(parts.norm, width) if cross else None
        self.cross = Attention(width, parts.heads, dropout=attention_dropout, cross=True) if cross else None
        self.norm2 = norm(parts.norm, width)
        self.feedforward = Feed(width, parts.expand, parts.feedforward)
        self.dropout = Dropout(parts.dropout)
        self.drop_path = StochasticDepth(drop_path)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Linear layers N(0, 1 / fan_in); those that end a branch, and the shift, zero."""
        if self.shift is not None:
            nn.init.zeros_(self.shift)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and name.endswith("out"):
                nn.init.zeros_(module.weight)
            elif isinstance(module, nn.Linear):
                normal_(module.weight, module.in_features**-0.5, generator=generator_for(f"{name}.weight"))

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
        normed = self.norm1(inputs)
        if self.shift is not None:
            normed = normed + self.shift * F.pad(normed[:, :-1], (0, 0, 1, 0))
        attended = self.attention(normed, mask=mask, causal=causal, rotation=rotation)
        stream = inputs + self.drop_path(self.dropout(attended))
        if self.cross is not None and self.norm_cross is not None:
            stream = stream + self.dropout(self.cross(self.norm_cross(stream), memory, mask=memory_mask))
        return torch.as_tensor(stream + self.drop_path(self.dropout(self.feedforward(self.norm2(stream)))))


class Feed(nn.Module):
    """The feed-forward part: ``out(f(inner(x)))``, or SwiGLU ``out(silu(a) b)`` with ``a, b = inner(x)``."""

    def __init__(self, width: int, expand: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        hidden = -(-8 * width // 3 // 8) * 8 if kind == "swiglu" else expand * width
        self.inner = nn.Linear(width, hidden * (2 if kind == "swiglu" else 1), bias=False)
        self.activation = activation({"swiglu": "silu", "relu2": "relu"}.get(kind, kind))
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(..., width)``; the same shape out."""
        hidden = self.inner(inputs)
        if self.kind == "swiglu":
            gate, value = hidden.chunk(2, -1)
            return torch.as_tensor(self.out(self.activation(gate) * value))
        active = self.activation(hidden)
        return torch.as_tensor(self.out(active.square() if self.kind == "relu2" else active))


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
