"""Scaled dot-product attention in float64 NumPy, from the formula of Vaswani et al. (2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def softmax(scores: Array) -> Array:
    """Over the last axis; minus infinity becomes exactly zero."""
    shifted = np.exp(scores - scores.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def attention(query: Array, key: Array, value: Array, allowed: NDArray[np.bool_]) -> Array:
    """softmax(Q K^T / sqrt(d)) V for one head: ``(T, d)``, ``(S, d)``, ``(S, e)``, allowed ``(T, S)``."""
    scores = query @ key.T / np.sqrt(query.shape[-1])
    return softmax(np.where(allowed, scores, -np.inf)) @ value


def multi_head(
    inputs: Array,
    memory: Array,
    weights: dict[str, Array],
    *,
    heads: int,
    allowed: NDArray[np.bool_],
    rotary: bool = False,
) -> Array:
    """One sample ``(T, width)``: project, attend in each head by itself, join, project."""
    query, key, value = inputs @ weights["q"].T, memory @ weights["k"].T, memory @ weights["v"].T
    size = query.shape[1] // heads
    parts = []
    for head in range(heads):
        here = slice(head * size, (head + 1) * size)
        q, k = query[:, here], key[:, here]
        if rotary:
            q, k = rotated(q), rotated(k)
        parts.append(attention(q, k, value[:, here], allowed))
    return np.concatenate(parts, 1) @ weights["o"].T


def rotated(rows: Array) -> Array:
    """Rotary positions (Su et al., 2021): each pair (x_i, x_{i + d/2}) as a complex number, turned by its angle."""
    half = rows.shape[1] // 2
    turn = np.exp(1j * np.outer(np.arange(len(rows)), 10000.0 ** (-np.arange(half) / half)))
    turned = (rows[:, :half] + 1j * rows[:, half:]) * turn
    return np.concatenate([turned.real, turned.imag], 1)
