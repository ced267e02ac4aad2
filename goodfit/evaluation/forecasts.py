"""Forecasts without learning: the last value, the last season, and a linear function of the last values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from goodfit.evaluation.features import chosen, gathered
from goodfit.evaluation.linear import ridge
from goodfit.evaluation.seasons import origins_of, season_of, series_of
from goodfit.evaluation.weighted import Array
from goodfit.types import Inputs, Part

Forecast = tuple[Array, str]
_LONGEST = 500


def forecasts(
    train: Part, other: Part, *, history: Sequence[Part], seed: int
) -> list[tuple[str, Callable[[], Forecast | None]]]:
    """Name and maker of each simple forecast; a maker gives ``(windows, horizon)`` in the targets' units and a note.

    history: parts between ``train`` and ``other`` in time, whose values are known by then.
    """
    found = series_of(train, *history, other)
    season = 1
    if found is not None:
        past = series_of(train)
        season = 1 if past is None else season_of(past[0])

    def repeat(length: int) -> Forecast | None:
        return None if found is None else (_repeated(found[0], found[1], other, length), "")

    rows: list[tuple[str, Callable[[], Forecast | None]]] = [("last value", lambda: repeat(1))]
    if season > 1:
        rows.append((f"seasonal naive ({season} steps)", lambda: repeat(season)))
    rows.append(("ridge regression on the last values", lambda: _lags(train, other, seed)))
    return rows


def _repeated(series: Array, first: int, other: Part, season: int) -> Array:
    """For each step the newest value known before the forecast that lies a whole number of seasons back."""
    horizon = other.targets.reshape(len(other), -1).shape[1]
    origin = origins_of(other) - first
    steps = np.arange(horizon)
    lag = season * (steps // season + 1)
    rows = origin[:, None] + steps - lag
    values = np.full(rows.shape, np.nan)
    for _ in range(max(8, 400 // season)):
        missing = np.isnan(values) & (rows >= 0)
        if not missing.any():
            break
        values[missing] = series[rows[missing]]
        rows = rows - season
    # Before the first known season: the mean of what was known at the start.
    early = series[np.isfinite(series)][: max(season, 1)]
    return np.where(np.isnan(values), early.mean() if len(early) else 0.0, values)


def _lags(train: Part, other: Part, seed: int) -> Forecast:
    positions, note = chosen(len(train), 20_000, seed)
    fitted, scored = gathered(train, positions), gathered(other, torch.arange(len(other)))
    answers, how = ridge(_recent(fitted.inputs), fitted.targets.astype(np.float64), _recent(scored.inputs))
    return answers, "; ".join(filter(None, [note, how]))


def _recent(inputs: Inputs) -> Array:
    """The target's own past (channel 0) and the newest row of the other channels, ``(windows, features)``."""
    values = inputs["numeric"] if isinstance(inputs, dict) else inputs
    rows = values.double()
    if rows.ndim == 3:
        rows = torch.cat([rows[:, -_LONGEST:, 0], rows[:, -1, 1:]], 1)
    return np.asarray(np.nan_to_num(rows.reshape(len(rows), -1)[:, -2 * _LONGEST :].numpy()))
