"""Attention and the layers made of it: every position of a sequence looks at the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import Dropout, StochasticDepth, activation, lengths_of, norm
from goodfit.models.weights import GeneratorFor, normal_

Cache = dict[Any, Any]
"""What layers keep of the positions they have seen, so that the next ones need not compute it again; starts empty."""


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

    Without the root the scores of large heads have variance d, and softmax saturates. Source: Vaswani et al. (2017).
    Computed by ``torch.nn.functional.scaled_dot_product_attention``.
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
        cache: Cache | None = None,
    ) -> Tensor:
        """Each position of ``inputs`` looks at ``memory`` (at ``inputs`` itself without it).

        inputs: ``(batch, T, width)``. memory: ``(batch, S, width)``. mask: ``(batch, S)`` bool, True where it may look.
        causal: position t sees 0..t only. rotation: cosine and sine ``(T, head size / 2)`` of rotary positions.
        cache: what earlier calls left here, and this one adds to: the keys and values of the positions before these
            inputs, or those of the memory, which are computed once.
        """
        batch, length, width = inputs.shape
        shape = (batch, -1, self.heads, width // self.heads)
        if self.query is None:
            query, key, value = (p.reshape(shape).transpose(1, 2) for p in self.project(inputs).chunk(3, -1))
        else:
            query = self.query(inputs).reshape(shape).transpose(1, 2)
            if cache:
                key, value = cache["key"], cache["value"]
            else:
                source = inputs if memory is None else memory
                key, value = (p.reshape(shape).transpose(1, 2) for p in self.project(source).chunk(2, -1))
        if rotation is not None:
            query, key = rotate(query, *rotation), rotate(key, *rotation)
        if cache is not None:
            if cache and self.query is None:
                key, value = torch.cat([cache["key"], key], 2), torch.cat([cache["value"], value], 2)
            cache["key"], cache["value"] = key, value
        before = key.shape[2] - length if causal else 0
        seen = None if mask is None else mask[:, None, None, :]
        if causal and (seen is not None or (before and length > 1)):
            past = torch.ones(length, before + length, dtype=torch.bool, device=inputs.device).tril(before)
            seen = past if seen is None else seen & past
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=seen,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal and seen is None and not before,
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
        cache: Cache | None = None,
    ) -> Tensor:
        """inputs: ``(batch, T, width)``; the same shape out. Masks, rotation and cache as in ``Attention``."""
        here = None if cache is None else cache.setdefault("self", {})
        normed = self.norm1(inputs)
        if self.shift is not None:
            if cache is None:
                before = F.pad(normed[:, :-1], (0, 0, 1, 0))
            else:
                last = cache.get("last", torch.zeros_like(normed[:, :1]))
                before, cache["last"] = torch.cat([last, normed[:, :-1]], 1), normed[:, -1:]
            normed = normed + self.shift * before
        attended = self.attention(normed, mask=mask, causal=causal, rotation=rotation, cache=here)
        stream = inputs + self.drop_path(self.dropout(attended))
        if self.cross is not None and self.norm_cross is not None:
            there = None if cache is None else cache.setdefault("cross", {})
            looked = self.cross(self.norm_cross(stream), memory, mask=memory_mask, cache=there)
            stream = stream + self.dropout(looked)
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
        cache: Cache | None = None,
    ) -> Tensor:
        """inputs: ``(batch, T, width)``; the same shape out. cache: one of each layer, filled and used as it goes."""
        for number, layer in enumerate(self.layers):
            own = None if cache is None else cache.setdefault(number, {})
            inputs = layer(
                inputs, memory, mask=mask, memory_mask=memory_mask, causal=causal, rotation=rotation, cache=own
            )
        return torch.as_tensor(self.norm(inputs))


class Places(nn.Module):
    """Says where a position stands: an embedding added to it (``learned``) or a rotation for attention (``rotary``)."""

    def __init__(self, width: int, heads: int, kind: str, *, length: int) -> None:
        super().__init__()
        self.pairs = width // heads // 2
        self.table = nn.Embedding(length, width) if kind == "learned" else None

    def forward(self, inputs: Tensor, *, start: int = 0) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Inputs with positions added, and the rotation for attention or None.

        inputs: ``(batch, T, width)``. start: how many positions lie before them.
        """
        end = start + inputs.shape[1]
        if self.table is None:
            return inputs, rotation_of(inputs.shape[1], self.pairs, inputs.device, start=start)
        if end > self.table.num_embeddings:
            raise ModelError(
                f"a sequence of {end} is longer than the {self.table.num_embeddings} learned "
                "positions; shorten it, or train with model.positions = 'rotary'"
            )
        return inputs + self.table.weight[start:end], None


def may_look(tokens: Tensor) -> Tensor:
    """True up to the last token that is not padding, and at the first position always: ``(batch, T)`` bool."""
    return torch.arange(tokens.shape[1], device=tokens.device) < lengths_of(tokens)[:, None]


def rotation_of(length: int, half: int, device: torch.device, *, start: int = 0) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``(length, half)`` of position times frequency ``10000^(-i / half)``, from ``start`` on."""
    frequency = 10000.0 ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
    angle = torch.arange(start, start + length, device=device, dtype=torch.float32)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair (i, i + half) of ``(batch, heads, T, 2 half)`` by its position's angle (Su et al., 2021)."""
    one, two = heads.chunk(2, -1)
    cosine, sine = cosine.to(heads.dtype), sine.to(heads.dtype)
    return torch.cat([one * cosine - two * sine, two * cosine + one * sine], -1)
