"""Activations and their slopes from their formulas, in float64 NumPy and SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def phi(x: Array) -> Array:
    """The normal density."""
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def value(name: str, x: Array, *, slope: float = 0.01) -> Array:
    """f(x)."""
    cube = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    formulas = {
        "relu": lambda: np.maximum(x, 0),
        "leaky_relu": lambda: np.where(x >= 0, x, slope * x),
        "elu": lambda: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
        "gelu": lambda: x * (1 + special.erf(x / np.sqrt(2))) / 2,
        "gelu_tanh": lambda: x / 2 * (1 + np.tanh(cube)),
        "silu": lambda: x * sigmoid(x),
        "sigmoid": lambda: sigmoid(x),
        "tanh": lambda: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
        "mish": lambda: x * np.tanh(np.log1p(np.exp(x))),
    }
    return np.asarray(formulas[name]())


def derivative(name: str, x: Array, *, slope: float = 0.01) -> Array:
    """f'(x), by hand."""
    s = sigmoid(x)
    cube = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    steep = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    soft = np.log1p(np.exp(x))
    formulas = {
        "relu": lambda: (x > 0).astype(float),
        "leaky_relu": lambda: np.where(x > 0, 1.0, slope),
        "elu": lambda: np.where(x > 0, 1.0, np.exp(np.minimum(x, 0))),
        "gelu": lambda: (1 + special.erf(x / np.sqrt(2))) / 2 + x * phi(x),
        "gelu_tanh": lambda: (1 + np.tanh(cube)) / 2 + x / 2 * (1 - np.tanh(cube) ** 2) * steep,
        "silu": lambda: s + x * s * (1 - s),
        "sigmoid": lambda: s * (1 - s),
        "tanh": lambda: 1 - np.tanh(x) ** 2,
        "mish": lambda: np.tanh(soft) + x * (1 - np.tanh(soft) ** 2) * s,
    }
    return np.asarray(formulas[name]())


def softmax(z: Array) -> Array:
    """Rows of probabilities by log-sum-exp."""
    top = z.max(-1, keepdims=True)
    return np.exp(z - top - np.log(np.exp(z - top).sum(-1, keepdims=True)))


def softmax_backward(z: Array, gradient: Array) -> Array:
    """``dz = p (g - sum(g p))``."""
    p = softmax(z)
    return p * (gradient - (gradient * p).sum(-1, keepdims=True))
