"""Mixup and CutMix sample by sample in float64 NumPy, and what cross-entropy with their targets comes to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def one_hot(labels: NDArray[np.int64], classes: int) -> Array:
    return np.eye(classes)[labels]


def mixup(x: Array, y: Array, share: Array, partner: NDArray[np.int64]) -> tuple[Array, Array]:
    """``l x_i + (1 - l) x_j`` and ``l y_i + (1 - l) y_j``, j the partner of i."""
    rows = range(len(x))
    return (
        np.stack([share[i] * x[i] + (1 - share[i]) * x[partner[i]] for i in rows]),
        np.stack([share[i] * y[i] + (1 - share[i]) * y[partner[i]] for i in rows]),
    )


def cutmix(x: Array, y: Array, inside: NDArray[np.bool_], partner: NDArray[np.int64]) -> tuple[Array, Array]:
    """The partner's pixels inside the box; targets by the share of pixels that stayed, counted."""
    made, aims = x.copy(), y.copy()
    for i in range(len(x)):
        kept = 0
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                if inside[i, row, column]:
                    made[i, :, row, column] = x[partner[i], :, row, column]
                else:
                    kept += 1
        part = kept / (x.shape[2] * x.shape[3])
        aims[i] = part * y[i] + (1 - part) * y[partner[i]]
    return made, aims


def cross_entropy(logits: Array, soft: Array) -> Array:
    """Of each sample with soft targets, by log-sum-exp."""
    top = logits.max(1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    return -(soft * log_p).sum(1)
