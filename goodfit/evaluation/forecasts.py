"""Forecasts without learning: the last value, the last season, and a linear function of the last values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.linear_model import RidgeCV

from goodfit.evaluation.features import chosen
from goodfit.evaluation.seasons import origins_of, season_of, series_of
from goodfit.evaluation.weighted import Array
from goodfit.types import Inputs, Part

Forecast = tuple[Array, str]
_WIDEST = 2_000


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
    rows.append(("ridge regression on the last values", lambda: _ridge(train, other, seed)))
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


def _ridge(train: Part, other: Part, seed: int) -> Forecast:
    positions, note = chosen(len(train), 20_000, seed)
    batch = train.take(positions)
    x, y = _flat(batch.inputs), batch.targets.cpu().double().numpy().reshape(len(positions), -1)
    if x.shape[1] > _WIDEST:
        note = "; ".join(filter(None, [note, f"the last {_WIDEST:,} of {x.shape[1]:,} inputs"]))
    x = x[:, -_WIDEST:]
    level, spread = x.mean(0), x.std(0) + 1e-9
    model = RidgeCV(alphas=np.logspace(-2, 4, 7)).fit((x - level) / spread, y)
    whole = other.take(chosen(len(other), len(other), seed)[0])
    answers = model.predict((_flat(whole.inputs)[:, -_WIDEST:] - level) / spread)
    return answers.reshape(len(other), -1), note


def _flat(inputs: Inputs) -> Array:
    values = inputs["numeric"] if isinstance(inputs, dict) else inputs
    return np.asarray(np.nan_to_num(values.cpu().double().reshape(len(values), -1).numpy()))
