"""Recurrent cells in float64 NumPy, written from their formulas; weights hold their gates in PyTorch's order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = tuple[Array, Array, Array, Array]
"""Input matrix, memory matrix, input bias, memory bias."""


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + np.exp(-x))


def rnn(steps: Array, weights: Weights) -> Array:
    """States ``(T, hidden)`` of h = tanh(W x + U h + b) for steps ``(T, inputs)``."""
    w, u, b, c = weights
    h, states = np.zeros(u.shape[1]), []
    for x in steps:
        h = np.tanh(w @ x + b + u @ h + c)
        states.append(h)
    return np.array(states)


def lstm(steps: Array, weights: Weights) -> Array:
    """States ``(T, hidden)``; gates input, forget, candidate, output."""
    w, u, b, c = weights
    h = memory = np.zeros(u.shape[1])
    states = []
    for x in steps:
        i, f, g, o = np.split(w @ x + b + u @ h + c, 4)
        memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(memory)
        states.append(h)
    return np.array(states)


def gru(steps: Array, weights: Weights) -> Array:
    """States ``(T, hidden)``; gates reset, update, candidate."""
    w, u, b, c = weights
    h, states = np.zeros(u.shape[1]), []
    for x in steps:
        (xr, xz, xn), (hr, hz, hn) = np.split(w @ x + b, 3), np.split(u @ h + c, 3)
        r, z = sigmoid(xr + hr), sigmoid(xz + hz)
        h = (1 - z) * np.tanh(xn + r * hn) + z * h
        states.append(h)
    return np.array(states)
