"""Windows of a series, gathered when they are asked for, and the arithmetic of time they rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goodfit.types import Batch

DAY = 86400.0
YEAR, WEEK = 365.25 * DAY, 7 * DAY


class Cycle(NamedTuple):
    """A period in seconds and how many of its harmonics are channels (a sine and a cosine each)."""

    period: float
    harmonics: int


@dataclass(frozen=True)
class SeriesWindows:
    """Windows of one series, gathered from one tensor when they are asked for.

    track: ``(time + horizon, channels)`` float32: what the inputs hold at each time. values: ``(time,)`` float32, the
    target, standardised. origins: ``(n,)`` int64, the time of each sample's first target. index: its row in the source.
    ahead: how many of the last channels are read ``horizon`` later than the others.
    """

    track: Tensor
    values: Tensor
    origins: Tensor
    index: Tensor
    lookback: int
    horizon: int
    ahead: int = 0

    def __len__(self) -> int:
        return len(self.origins)

    @property
    def targets(self) -> Tensor:
        """``(n, horizon)`` float32, standardised; zeros where they lie in the future."""
        return self._targets(self.origins)

    def take(self, positions: Tensor) -> Batch:
        """Inputs ``(batch, lookback, channels)``, targets ``(batch, horizon)``."""
        positions = positions.cpu()
        origin = self.origins[positions][:, None]
        at = origin + torch.arange(-self.lookback, 0)
        inputs = self.track[at]
        if self.ahead:
            inputs[..., -self.ahead :] = self.track[at + self.horizon, -self.ahead :]
        return Batch(inputs, self._targets(origin[:, 0]), None, self.index[positions])

    def batches(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        """One gathered batch for each tensor of positions."""
        for positions in plan:
            yield self.take(positions)

    def _targets(self, origins: Tensor) -> Tensor:
        at = origins[:, None] + torch.arange(self.horizon)
        known = at < len(self.values)
        return torch.where(known, self.values[at.clamp_max(len(self.values) - 1)], 0.0)


def origins(raw: NDArray[np.float64], lookback: int, horizon: int, *, low: int, high: int) -> NDArray[np.int64]:
    """Times of first targets with a full window before, and all ``horizon`` targets known and within [low, high)."""
    at = np.arange(max(low, lookback), high - horizon + 1)
    if not len(at):
        return at
    gaps = np.r_[0, np.cumsum(np.isnan(raw))]
    return np.asarray(at[gaps[at + horizon] == gaps[at]])


def carried(values: NDArray[np.float64], first: float | None = None) -> NDArray[np.float64]:
    """Missing values become the last known one before them; before all of those, ``first`` or the first known one."""
    known = np.isfinite(values)
    if known.all():
        return values
    if not known.any():
        return np.full(len(values), first or 0.0)
    place = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    start = values[np.argmax(known)] if first is None else first
    return np.where(place < 0, start, values[np.maximum(place, 0)])


def turned(stamps: NDArray[np.float64], cycles: Sequence[Cycle]) -> NDArray[np.float64]:
    """``sin`` and ``cos`` of ``2 pi h t / period`` for each cycle and harmonic ``h``, ``(time, 2 * harmonics)``."""
    angles = [2 * np.pi * h * stamps / cycle.period for cycle in cycles for h in range(1, cycle.harmonics + 1)]
    columns = [function(angle) for angle in angles for function in (np.sin, np.cos)]
    return np.stack(columns, 1) if columns else np.zeros((len(stamps), 0))
