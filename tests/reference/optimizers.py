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


def adam_with_eps_inside(w: Array, grads: Sequence[Array], *, lr: float, b1: float, b2: float, eps: float) -> Array:
    """Adam as it is sometimes written: eps under the root."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        w = w - lr * (m / (1 - b1**t)) / np.sqrt(v / (1 - b2**t) + eps)
    return w


def adam_uncorrected(w: Array, grads: Sequence[Array], *, lr: float, b1: float, b2: float, eps: float) -> Array:
    """Adam as it is sometimes written: without the correction of the bias."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for g in grads:
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        w = w - lr * m / (np.sqrt(v) + eps)
    return w


def rmsprop(
    w: Array,
    grads: Sequence[Array],
    *,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float = 0.0,
    l2: float = 0.0,
) -> Array:
    """v <- a v + (1 - a) g^2, b <- m b + g / (sqrt v + eps), w <- w - lr b; L2 in the gradient."""
    v, b = np.zeros_like(w), np.zeros_like(w)
    for gradient in grads:
        g = gradient + l2 * w
        v = alpha * v + (1 - alpha) * g * g
        b = momentum * b + g / (np.sqrt(v) + eps)
        w = w - lr * b
    return w


def schedule_free(
    w: Array, grads: Sequence[Array], *, lrs: Sequence[float], b1: float, b2: float, eps: float, decay: float
) -> tuple[Array, Array]:
    """z by AdamW's steps with the gradient at y and decay of y; x the mean of z, weighed by the largest rate squared.

    Returns y = (1 - b1) z + b1 x, where gradients are taken, and x, which predicts.
    """
    z, x, v, weights, top = w.copy(), w.copy(), np.zeros_like(w), 0.0, 0.0
    for t, (g, lr) in enumerate(zip(grads, lrs, strict=True), 1):
        y = (1 - b1) * z + b1 * x
        v = b2 * v + (1 - b2) * g * g
        z = z - lr * (g / (np.sqrt(v / (1 - b2**t)) + eps) + decay * y)
        top = max(top, lr)
        weights += top**2
        share = top**2 / weights
        x = (1 - share) * x + share * z
    return (1 - b1) * z + b1 * x, x


def muon(
    w: Array, grads: Sequence[Array], *, lr: float, momentum: float, nesterov: bool, decay: float, scale: float
) -> Array:
    """B <- m B + (1 - m) g; w <- w - lr decay w - lr scale NewtonSchulz(B, or (1 - m) g + m B)."""
    b = np.zeros_like(w)
    for g in grads:
        b = momentum * b + (1 - momentum) * g
        w = w - lr * decay * w
        w = w - lr * scale * newton_schulz((1 - momentum) * g + momentum * b if nesterov else b)
    return w


def lamb(
    w: Array, grads: Sequence[Array], *, lr: float, b1: float, b2: float, eps: float, weight_decay: float
) -> Array:
    """r = Adam's direction + decay w; w <- w - lr (|w| / |r|) r; without decay plainly w <- w - lr r."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        r = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * w
        w = w - lr * (np.linalg.norm(w) / np.linalg.norm(r) if weight_decay else 1.0) * r
    return w


def newton_schulz(g: Array, steps: int = 5) -> Array:
    """Muon's quintic iteration towards U V^T, from a matrix of Frobenius norm 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (g.T if g.shape[0] > g.shape[1] else g) / np.linalg.norm(g)
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if g.shape[0] > g.shape[1] else x
