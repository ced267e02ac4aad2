"""Losses from their formulas, in float64 NumPy, one sample at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def log_softmax(z: Array) -> Array:
    """log p_k = z_k - log sum_j exp z_j, with the largest logit taken out of the sum."""
    top = z.max()
    shifted: Array = z - (top + math.log(sum(math.exp(v - top) for v in z)))
    return shifted


def softmax(z: Array) -> Array:
    """p_k = exp z_k / sum_j exp z_j."""
    return np.exp(log_softmax(z))


def cross_entropy(z: Array, q: Array, *, smoothing: float = 0.0, weights: Sequence[float] | None = None) -> float:
    """- sum_k w_k [(1 - e) q_k + e / K] log p_k."""
    k = len(z)
    w = np.ones(k) if weights is None else np.asarray(weights)
    target = (1 - smoothing) * q + smoothing / k
    return float(-(w * target * log_softmax(z)).sum())


def weighted_mean_cross_entropy(
    logits: Array,
    targets: Sequence[int],
    *,
    weights: Sequence[float],
    samples: Sequence[float] | None = None,
    smoothing: float = 0.0,
) -> float:
    """sum_i v_i loss_i / sum_i v_i w_{y_i}; targets of -100 are left out of both sums."""
    v = [1.0] * len(logits) if samples is None else samples
    over = under = 0.0
    for z, y, s in zip(logits, targets, v, strict=True):
        if y == -100:
            continue
        q = np.eye(len(z))[y]
        smooth = (smoothing / len(z)) * float(-(np.asarray(weights) * log_softmax(z)).sum())
        over += s * ((1 - smoothing) * cross_entropy(z, q, weights=weights) + smooth)
        under += s * weights[y]
    return over / under


def bce(z: Array, t: Array, *, positive: Sequence[float] | float = 1.0) -> float:
    """Mean over outputs of -[v t log s + (1 - t) log(1 - s)], s = 1 / (1 + exp -z)."""
    v = np.broadcast_to(np.asarray(positive, dtype=np.float64), z.shape)
    log_s = -np.log1p(np.exp(-np.abs(z))) + np.minimum(z, 0)
    log_not = -np.log1p(np.exp(-np.abs(z))) + np.minimum(-z, 0)
    return float(-(v * t * log_s + (1 - t) * log_not).mean())


def focal(z: Array, y: int, *, gamma: float, alpha: Sequence[float]) -> float:
    """- a_y (1 - p_y)^gamma log p_y."""
    log_p = log_softmax(z)[y]
    return float(-alpha[y] * (1 - math.exp(log_p)) ** gamma * log_p)


def huber(e: float, delta: float) -> float:
    """e^2 / 2 inside delta, delta (|e| - delta / 2) outside."""
    return 0.5 * e * e if abs(e) <= delta else delta * (abs(e) - 0.5 * delta)


def binary_focal(z: float, y: int, *, gamma: float) -> float:
    """- (1 - p_y)^gamma log p_y, p_1 = 1 / (1 + exp -z), p_0 = 1 - p_1."""
    log_p = -math.log1p(math.exp(-z if y else z))
    return float(-((1 - math.exp(log_p)) ** gamma) * log_p)


def divergence(q: Array, p: Array) -> float:
    """KL(q || p) = sum_k q_k log (q_k / p_k)."""
    return float((q * (np.log(q) - np.log(p))).sum())


def distillation(z: Array, teacher: Array, y: int, *, hard_weight: float, temperature: float) -> float:
    """h (- log p_y) + (1 - h) T^2 KL(softmax(teacher / T) || softmax(z / T))."""
    soft = divergence(softmax(teacher / temperature), softmax(z / temperature))
    return hard_weight * float(-log_softmax(z)[y]) + (1 - hard_weight) * temperature**2 * soft
