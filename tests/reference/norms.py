"""Normalisations forward and backward from their formulas, in float64 NumPy; nothing here knows of PyTorch.

One derivation serves all: with ``x_hat = (x - mean) / s`` over a set of m numbers and ``g`` the gradient at x_hat,
``dx = (g - mean(g) - x_hat mean(g x_hat)) / s``. For root-mean-square norms the mean is not taken off, and ``dx =
(g - x_hat mean(g x_hat)) / s`` with ``s = sqrt(mean(x^2) + eps)``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Backward(NamedTuple):
    """Gradients at the inputs, the weight and the bias."""

    inputs: Array
    weight: Array
    bias: Array


def over(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """``x_hat`` and the divisor, with the mean and biased variance over these axes."""
    mean = x.mean(axes, keepdims=True)
    s = np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + eps)
    return (x - mean) / s, s


def back(gradient: Array, x_hat: Array, s: Array, axes: tuple[int, ...]) -> Array:
    """The gradient at x, from that at x_hat."""
    return (gradient - gradient.mean(axes, keepdims=True) - x_hat * (gradient * x_hat).mean(axes, keepdims=True)) / s


def batch_norm(x: Array, weight: Array, bias: Array, gradient: Array, *, eps: float = 1e-5) -> tuple[Array, Backward]:
    """Training mode, over all axes but the second. gradient: of the loss at the output."""
    axes = tuple(k for k in range(x.ndim) if k != 1)
    shape = [1, -1] + [1] * (x.ndim - 2)
    x_hat, s = over(x, axes, eps)
    made = x_hat * weight.reshape(shape) + bias.reshape(shape)
    inner = back(gradient * weight.reshape(shape), x_hat, s, axes)
    return made, Backward(inner, (gradient * x_hat).sum(axes), gradient.sum(axes))


def batch_norm_running(mean: Array, var: Array, x: Array, *, momentum: float = 0.1) -> tuple[Array, Array]:
    """Running statistics after one more batch: the unbiased variance goes in, though the biased one normalises."""
    axes = tuple(k for k in range(x.ndim) if k != 1)
    return (1 - momentum) * mean + momentum * x.mean(axes), (1 - momentum) * var + momentum * x.var(axes, ddof=1)


def batch_norm_eval(x: Array, weight: Array, bias: Array, mean: Array, var: Array, *, eps: float = 1e-5) -> Array:
    """Prediction: a fixed line for each channel."""
    shape = [1, -1] + [1] * (x.ndim - 2)
    scale = weight / np.sqrt(var + eps)
    return x * scale.reshape(shape) + (bias - mean * scale).reshape(shape)


def layer_norm(x: Array, weight: Array, bias: Array, gradient: Array, *, eps: float = 1e-5) -> tuple[Array, Backward]:
    """Over the last axis."""
    x_hat, s = over(x, (-1,), eps)
    rest = tuple(range(x.ndim - 1))
    inner = back(gradient * weight, x_hat, s, (-1,))
    return x_hat * weight + bias, Backward(inner, (gradient * x_hat).sum(rest), gradient.sum(rest))


def group_norm(
    x: Array, groups: int, weight: Array, bias: Array, gradient: Array, *, eps: float = 1e-5
) -> tuple[Array, Backward]:
    """Over the channels of a group and all positions of a sample."""
    shape = [1, -1] + [1] * (x.ndim - 2)
    x_hat, s = over(x.reshape(len(x), groups, -1), (2,), eps)
    inner = back((gradient * weight.reshape(shape)).reshape(len(x), groups, -1), x_hat, s, (2,)).reshape(x.shape)
    x_hat = x_hat.reshape(x.shape)
    axes = tuple(k for k in range(x.ndim) if k != 1)
    made = x_hat * weight.reshape(shape) + bias.reshape(shape)
    return made, Backward(inner, (gradient * x_hat).sum(axes), gradient.sum(axes))


def rms_norm(x: Array, weight: Array, gradient: Array, *, axis: int = -1, eps: float = 1e-6) -> tuple[Array, Backward]:
    """Over one axis; there is no bias."""
    shape = [1] * x.ndim
    shape[axis] = -1
    s = np.sqrt((x**2).mean(axis, keepdims=True) + eps)
    x_hat, inner = x / s, gradient * weight.reshape(shape)
    dx = (inner - x_hat * (inner * x_hat).mean(axis, keepdims=True)) / s
    rest = tuple(k for k in range(x.ndim) if k != axis % x.ndim)
    return x_hat * weight.reshape(shape), Backward(dx, (gradient * x_hat).sum(rest), np.zeros(0))
