"""Update rules from their formulas, in float64 NumPy, for one parameter array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sgd(
    w: Array,
    grads: Sequence[Array],
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Array:
    """v <- m v + (1 - d) g, the first v being g itself; w <- w - lr v, or w - lr (g + m v)."""
    v = None
    for gradient in grads:
        g = gradient + weight_decay * w
        v = g if v is None else momentum * v + (1 - dampening) * g
        w = w - lr * (g + momentum * v if nesterov else v)
    return w


def momentum_as_mean(w: Array, grads: Sequence[Array], *, lr: float, beta: float) -> Array:
    """The other form: v <- b v + (1 - b) g from v = 0, w <- w - lr v."""
    v = np.zeros_like(w)
    for g in grads:
        v = beta * v + (1 - beta) * g
        w = w - lr * v
    return w


def adam(
    w: Array,
    grads: Sequence[Array],
    *,
    lr: float,
    b1: float,
    b2: float,
    eps: float,
    l2: float = 0.0,
    decoupled: float = 0.0,
) -> Array:
    """Adam with bias correction and eps outside the root; L2 in the gradient or decay as a step of its own."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, gradient in enumerate(grads, 1):
        g = gradient + l2 * w
        w = w * (1 - lr * decoupled)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        w = w - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w


def nadamw(w: Array, grads: Sequence[Array], *, lr: float, b1: float, b2: float, eps: float, decoupled: float) -> Array:
    """Adam's direction with b1 m + (1 - b1) g in place of m."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        w = w * (1 - lr * decoupled)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        ahead = b1 * m + (1 - b1) * g
        w = w - lr * (ahead / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w


def rmsprop(w: Array, grads: Sequence[Array], *, lr: float, alpha: float, eps: float) -> Array:
    """v <- a v + (1 - a) g^2, w <- w - lr g / (sqrt v + eps)."""
    v = np.zeros_like(w)
    for g in grads:
        v = alpha * v + (1 - alpha) * g * g
        w = w - lr * g / (np.sqrt(v) + eps)
    return w


def lamb(
    w: Array, grads: Sequence[Array], *, lr: float, b1: float, b2: float, eps: float, weight_decay: float
) -> Array:
    """r = Adam's direction + decay w; w <- w - lr (|w| / |r|) r."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        r = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * w
        w = w - lr * np.linalg.norm(w) / np.linalg.norm(r) * r
    return w


def newton_schulz(g: Array, steps: int = 5) -> Array:
    """Muon's quintic iteration towards U V^T, from a matrix of Frobenius norm 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (g.T if g.shape[0] > g.shape[1] else g) / np.linalg.norm(g)
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if g.shape[0] > g.shape[1] else x
