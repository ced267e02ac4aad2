"""Does a series repeat itself, after how many steps, and how well does repeating it foresee it?"""

from __future__ import annotations

import math

import numpy as np
import torch

from goodfit.evaluation.weighted import Array
from goodfit.types import Part

# Lengths that calendars give: a season found within 2 % of one of them is taken to be it.
CALENDAR = (4, 7, 12, 24, 48, 52, 96, 144, 168, 288, 336, 365, 672, 1440, 8766)
_LONGEST = 10_000


def season_of(series: Array) -> int:
    """Steps after which the series repeats itself, or 1 when nothing shows that it does.

    series: ``(time,)`` float, NaN where unknown.

    Method: autocorrelation after the linear trend is taken out. Among the lags of which the series holds at least two
    seasons, a peak counts when it exceeds 0.1 and its 90 % bound under no correlation beyond shorter lags (Bartlett
    1946, the test of Fiorucci and others for the Theta method in the M4 competition), and rises by 0.1 above the
    lowest value before it. The highest peak wins, the shortest of nearly equal ones, and is rounded to a calendar
    length (7, 24, 365, ...) within 2 %.
    """
    n = len(series)
    known = np.isfinite(series)
    if n < 8 or known.sum() < 8:
        return 1
    correlation = _autocorrelation(series, known)[: min(n // 2, _LONGEST) + 1]
    lags = np.arange(len(correlation))
    bound = 1.645 * np.sqrt((1 + 2 * np.concatenate(([0, 0], np.cumsum(correlation[1:-1] ** 2)))) / n)
    lowest = np.minimum.accumulate(correlation)
    peak = np.zeros(len(correlation), dtype=bool)
    peak[2:-1] = (correlation[2:-1] >= correlation[1:-2]) & (correlation[2:-1] >= correlation[3:])
    # The band around a lag decides, so that one noisy lag on a slow slope is no peak.
    able = peak & (lags >= 2) & (correlation > np.maximum(bound, 0.1)) & (correlation - lowest > 0.1)
    found = np.flatnonzero(able & (correlation >= _local_maximum(correlation)))
    if not len(found):
        return 1
    best = int(found[correlation[found] >= 0.95 * correlation[found].max()][0])
    near = [c for c in CALENDAR if abs(c - best) <= 0.02 * best and c < len(correlation)]
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

    parts: their ``targets`` are ``(windows, horizon)``, and the target of step h stands in row origin + h, where origin is
        ``part.origins`` where the part has it, else its ``index``. The rows before a part's first origin are read from channel 0
        of its inputs, which is the target's own past.
    Rows that no window shows are NaN. None where windows contradict one another, so that these are no rows of one series.
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


def _local_maximum(values: Array) -> Array:
    """For each lag the largest value within a tenth of it, at least one step, to either side."""
    made = values.copy()
    for lag in range(2, len(values)):
        reach = max(1, lag // 10)
        made[lag] = values[max(2, lag - reach) : lag + reach + 1].max()
    return made
