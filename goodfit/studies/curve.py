"""How the error falls with the number of samples: a power law, its uncertainty, and what twice the data would bring.

``error(n) = a + b n^-c`` with ``a, b >= 0`` and ``0 < c <= 2`` (Cortes et al. 1994; Hestness et al. 2017 found it over
six orders of magnitude). ``a`` is what no amount of such data takes away from this model: noise and bias. Errors
scatter in proportion to their size, so residuals are taken relative to the curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from goodfit import keyed
from goodfit.errors import DataError

EXPONENTS = np.concatenate(([0.02, 0.05], np.arange(0.1, 2.001, 0.05)))
DRAWS = 2000
WORTH = 0.10
"""Twice the data is called worth it where it takes away this share of the error: about what a good technique does."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """A fitted learning curve.

    floor, scale, exponent: a, b, c. scatter: relative deviation of single runs around the curve. draws: ``(draws, 3)``
    a, b, c of curves fitted to redrawn points. sizes: of the points, the largest last.
    """

    floor: float
    scale: float
    exponent: float
    scatter: float
    sizes: tuple[int, ...]
    draws: Array

    def at(self, size: Array | float) -> Array:
        """The error at these sizes."""
        return np.asarray(self.floor + self.scale * np.asarray(size, float) ** -self.exponent)

    def band(self, sizes: Array, *, confidence: float = 0.95) -> tuple[Array, Array]:
        """The curve's interval at these sizes: ``(low, high)``. It is of the curve, not of a single run."""
        a, b, c = self.draws.T[:, :, None]
        errors = a + b * np.asarray(sizes, float)[None] ** -c
        tail = (1 - confidence) / 2
        low, high = np.quantile(errors, [tail, 1 - tail], axis=0)
        return low, high

    def gain(self, factor: float = 2.0, *, confidence: float = 0.95) -> Gain:
        """What ``factor`` times the data is predicted to bring."""
        now = self.sizes[-1]
        a, b, c = self.draws.T
        before, after = a + b * float(now) ** -c, a + b * (factor * now) ** -c
        tail = (1 - confidence) / 2
        low, high = np.quantile(before - after, [tail, 1 - tail])
        relative = np.quantile(1 - after / np.maximum(before, 1e-300), [tail, 1 - tail])
        first, second = float(self.at(now)), float(self.at(factor * now))
        return Gain(
            size=now,
            factor=factor,
            now=first,
            then=second,
            gain=first - second,
            low=float(low),
            high=float(high),
            share=1 - second / first if first else 0.0,
            share_low=float(relative[0]),
            share_high=float(relative[1]),
        )


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The error now and with ``factor`` times the data; gain and interval, and the same as a share of the error now."""

    size: int
    factor: float
    now: float
    then: float
    gain: float
    low: float
    high: float
    share: float
    share_low: float
    share_high: float

    @property
    def answer(self) -> str:
        """``data`` where more of it surely helps, ``model`` where it surely helps little, else ``open``."""
        if self.share_low >= WORTH:
            return "data"
        if self.share_high < WORTH:
            return "model"
        return "data, probably" if self.share >= WORTH and self.share_low > 0.02 else "open"


def fit_power_law(sizes: Sequence[int], errors: Sequence[float], *, seed: int = 0, draws: int = DRAWS) -> PowerLaw:
    """Fit the law to single runs.

    sizes, errors: one entry a run; at least three sizes. The uncertainty is a parametric bootstrap: errors are redrawn
    around the fitted curve with the scatter that was seen (Student's t with the degrees of freedom left, so few runs
    give wide bands) and fitted again. Raises DataError for fewer than three sizes, or errors that are not positive.
    """
    n, e = np.asarray(sizes, float), np.asarray(errors, float)
    if len(np.unique(n)) < 3:
        raise DataError("a learning curve needs three sizes at least; give more --shares")
    if not np.isfinite(e).all() or (e < 0).any() or not (e > 0).any():
        raise DataError("a learning curve needs errors above 0: there is nothing left to learn from more data")
    floor = float(e[e > 0].min()) / 2
    e = np.maximum(e, floor)
    # Errors of one size are averaged for the weights, so that a lucky run does not weigh more than its neighbours.
    typical = np.array([e[n == one].mean() for one in n])
    best = _fit(n, e[None], typical)[0]
    fitted = best[0] + best[1] * n ** -best[2]
    free = max(len(n) - 3, 1)
    within = sum(float(((e[n == one] / typical[n == one] - 1) ** 2).sum()) for one in np.unique(n))
    inside = len(n) - len(np.unique(n))
    scatter = math.sqrt(float(((e / fitted - 1) ** 2).sum()) / free)
    scatter = max(scatter, math.sqrt(within / inside) if inside else 0.0)
    rng = np.random.Generator(np.random.Philox(keyed.key(seed, "learning curve") & (2**64 - 1)))
    # One factor for a whole redrawn curve: scatter itself is known with so many degrees of freedom only.
    width = scatter * np.sqrt(free / stats.chi2.rvs(free, size=(draws, 1), random_state=rng))
    drawn = fitted * np.maximum(1 + width * rng.standard_normal((draws, len(n))), 0.02)
    found = _fit(n, drawn, typical)
    return PowerLaw(
        floor=float(best[0]),
        scale=float(best[1]),
        exponent=float(best[2]),
        scatter=scatter,
        sizes=tuple(sorted({int(one) for one in sizes})),
        draws=found,
    )


def _fit(n: Array, errors: Array, typical: Array) -> Array:
    """``(curves, 3)`` least-squares ``a, b, c`` of ``errors (curves, points)`` with residuals relative to ``typical``.

    For each exponent the best ``a, b >= 0`` are a linear problem of two unknowns; the best exponent is refined once.
    """
    w = 1 / typical**2
    best, kept = np.full(len(errors), np.inf), np.zeros((len(errors), 3))
    scale = float(n.max())

    def consider(c: float) -> None:
        x = (n / scale) ** -c
        sw, sx, sxx = w.sum(), w @ x, w @ (x * x)
        sy, sxy = errors @ w, errors @ (w * x)
        determinant = sw * sxx - sx * sx
        a, b = (sxx * sy - sx * sxy) / determinant, (sw * sxy - sx * sy) / determinant
        # Where one of the two would be negative, the best lies on that edge.
        flat, steep = b < 0, (a < 0) & (b >= 0)
        a, b = np.where(flat, sy / sw, np.where(steep, 0.0, a)), np.where(flat, 0.0, np.where(steep, sxy / sxx, b))
        loss = ((errors - a[:, None] - b[:, None] * x) ** 2 * w).sum(1)
        better = loss < best - 1e-15
        best[better] = loss[better]
        kept[better] = np.stack([a, b * scale**c, np.full(len(a), c)], 1)[better]

    for c in EXPONENTS:
        consider(float(c))
    if len(errors) == 1:
        for c in np.linspace(max(kept[0, 2] - 0.05, 0.01), min(kept[0, 2] + 0.05, 2.0), 41):
            consider(float(c))
    return kept
