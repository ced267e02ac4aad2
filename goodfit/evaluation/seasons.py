"""Does a series repeat itself, after how many steps, and how well does repeating it foresee it?"""

from __future__ import annotations

import math

import numpy as np
import torch

from goodfit.evaluation.weighted import Array
from goodfit.types import Part

# Lengths that calendars give: a season found within 2 % of one of them is taken to be it.
CALENDAR = (4, 7, 12, 24, 48, 52, 96, 144, 168, 288, 336, 365, 672, 1440)
_LONGEST = 1_500
"""Longer seasons are seldom held often enough to be told from chance: a year of hours needs many years."""


def season_of(series: Array) -> int:
    """Steps after which the series repeats itself, or 1 when nothing shows that it does.

    series: ``(time,)`` float, NaN where unknown.

    Method: autocorrelation r after the linear trend is taken out. A season of L steps, of which the series must hold
    three, shows in r being high after one and two seasons and low half a season before each. Its strength is
    min(r(L), r(2L)) - max(r(L/2), r(3L/2)), and must exceed 0.2 and four standard errors of r (Bartlett 1946), so that
    chance seldom shows one among a thousand lags. The strongest wins, the shortest of those within a tenth of it, and
    is rounded to a calendar length (7, 24, 365, ...) within 2 %.
    """
    n = len(series)
    known = np.isfinite(series)
    if n < 12 or known.sum() < 12:
        return 1
    correlation = _autocorrelation(series, known)
    lags = np.arange(2, min(n // 3, _LONGEST) + 1)
    high = np.minimum(correlation[lags], correlation[2 * lags])
    halves = [lags // 2, -(-lags // 2), 3 * lags // 2, -(-3 * lags // 2)]
    strength = high - np.max([correlation[half] for half in halves], axis=0)
    # Bartlett's variance of r, with the correlation up to its first zero: what a series without season may have too.
    fading = correlation[1 : int(np.argmax(np.append(correlation, -1.0) <= 0))]
    noise = np.sqrt((1 + 2 * float(np.square(fading).sum())) / (known.sum() * (1 - 2 * lags / n)))
    clear = (strength > np.maximum(0.2, 4 * noise)) & (high > 0)
    if not clear.any():
        return 1
    best = int(lags[clear & (strength >= 0.9 * strength[clear].max())][0])
    # The first lag that is strong enough lies on the near slope of its peak: climb it.
    reach = max(1, best // 10)
    around = np.arange(best, min(best + reach, len(lags) + 1) + 1)
    best = int(around[np.argmax(strength[around - 2])])
    near = [c for c in CALENDAR if abs(c - best) <= 0.02 * best and 3 * c <= n]
    return min(near, key=lambda c: abs(c - best)) if near else best


def seasonal_error(series: Array, season: int) -> float | None:
    """Mean of ``|y(t) - y(t - season)|`` over a series ``(time,)``, the scale of MASE; None without such a pair."""
    if len(series) <= season:
        return None
    steps = np.abs(series[season:] - series[:-season])
    steps = steps[np.isfinite(steps)]
    return float(steps.mean()) if len(steps) else None


def series_of(*parts: Part) -> tuple[Array, int] | None:
    """The series that forecast windows were cut from, put together again: values ``(time,)`` and the row of the first.

    parts: their ``targets`` are ``(windows, horizon)``, and the target of step h stands in row origin + h, where
        origin is ``part.origins`` where the part has it, else its ``index``. The rows before a part's first origin
        are read from channel 0 of its inputs, which is the target's own past.
    Rows that no window shows are NaN. None where windows contradict one another, so that these are no rows of one
    series.
    """
    rows, values = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for part in parts:
        if not len(part):
            continue
        targets = part.targets.cpu().double().numpy().reshape(len(part), -1)
        origin = origins_of(part)
        rows.append((origin[:, None] + np.arange(targets.shape[1])).ravel())
        values.append(targets.ravel())
        earliest = int(np.argmin(origin))
        inputs = part.take(torch.tensor([earliest])).inputs
        if isinstance(inputs, torch.Tensor) and inputs.ndim == 3:
            past = inputs[0, :, 0].cpu().double().numpy()
            rows.append(origin[earliest] - len(past) + np.arange(len(past)))
            values.append(past)
    row, value = np.concatenate(rows), np.concatenate(values)
    if not len(row) or np.ptp(row) > 50 * len(row) + 1000:
        return None
    first = int(row.min())
    low = np.full(int(row.max()) - first + 1, np.inf)
    high = -low
    np.minimum.at(low, row - first, value)
    np.maximum.at(high, row - first, value)
    covered = np.isfinite(low)
    if np.any(high[covered] - low[covered] > 1e-4 * max(1.0, float(np.abs(value).max()))):
        return None
    return np.where(covered, low, np.nan), first


def origins_of(part: Part) -> Array:
    """The row of each window's first target, ``(windows,)`` int64."""
    return np.asarray(getattr(part, "origins", part.index).cpu().numpy(), dtype=np.int64)


def mase_scale(train: Part, *, std: float = 1.0) -> float | None:
    """The scale of MASE from the training windows: the seasonal naive error in original units, None where unknown.

    std: what the targets were standardised with.
    """
    found = series_of(train)
    if found is None:
        return None
    error = seasonal_error(found[0], season_of(found[0]))
    return None if error is None else error * std


def _autocorrelation(series: Array, known: Array) -> Array:
    """Autocorrelation of the detrended series at every lag, over the pairs that are known, by FFT."""
    time = np.arange(len(series), dtype=float)
    slope, level = np.polyfit(time[known], series[known], 1)
    rest = np.where(known, series - slope * time - level, 0.0)
    rest = np.where(known, rest - rest[known].mean(), 0.0)
    size = 1 << math.ceil(math.log2(2 * len(series)))
    pairs = np.fft.irfft(np.abs(np.fft.rfft(known.astype(float), size)) ** 2, size)[: len(series)]
    product = np.fft.irfft(np.abs(np.fft.rfft(rest, size)) ** 2, size)[: len(series)]
    covariance = product / np.maximum(np.round(pairs), 1)
    return covariance / covariance[0] if covariance[0] > 0 else np.zeros(len(series))
