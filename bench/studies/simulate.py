"""Many studies at once: differences with a known mean, and what the statistics make of them after each pair.

The formulas are written here a second time, for whole arrays of studies; ``tests/studies`` holds both to each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

KINDS = ("normal", "gamma", "lognormal", "exponential")


def draw(kind: str, studies: int, pairs: int, *, seed: int) -> Array:
    """``(studies, pairs)`` differences with mean 0 and standard deviation 1; skewed ones with their tail below."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    shape = (studies, pairs)
    if kind == "normal":
        return rng.standard_normal(shape)
    if kind == "gamma":  # skewness -1
        return (4 - rng.gamma(4, size=shape)) / 2
    if kind == "lognormal":  # skewness -1.75
        value = np.exp(0.5 * rng.standard_normal(shape))
        return (np.exp(0.125) - value) / np.sqrt((np.exp(0.25) - 1) * np.exp(0.25))
    return 1 - rng.exponential(size=shape)  # skewness -2


def corrected(d: Array, *, adverse: float) -> tuple[Array, Array]:
    """``(t, corrected |t|)`` of every study after every pair, ``(studies, pairs)``; NaN where too few."""
    n = np.arange(1, d.shape[1] + 1)[None].astype(float)
    with np.errstate(all="ignore"):
        m1, m2, m3 = (np.cumsum(d**k, 1) / n for k in (1, 2, 3))
        square = m2 - m1**2
        skew = (m3 - 3 * m1 * m2 + 2 * m1**3) / square**1.5 * np.sqrt(n * (n - 1)) / (n - 2)
        t = m1 / np.sqrt(square / (n - 1))
        error = np.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
        a = np.minimum(np.sign(t) * skew - adverse * error, 0) / (3 * np.sqrt(n))
        size = np.abs(t)
        cubic = ((1 + a * size) ** 3 - 1) / (3 * a) + a / 2
        return t, np.where(a < 0, np.minimum(size, np.maximum(cubic, 0)), size)
