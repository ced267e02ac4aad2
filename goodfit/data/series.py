"""Tables in time order as windows: from the last rows, the next values of one column."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goodfit.data.columns import ColumnType, read_column
from goodfit.data.prepare import times
from goodfit.data.sheet import Sheet, read_sheet
from goodfit.data.table import check_columns, standardise
from goodfit.data.target import split_names
from goodfit.data.windows import DAY, WEEK, YEAR, Cycle, SeriesWindows, carried, origins, turned
from goodfit.errors import DataError
from goodfit.types import Finding, Inputs, InputSpec


class Channel(NamedTuple):
    """One measured channel beside the target: a number, standardised, or whether a category is ``level``."""

    column: str
    middle: float = 0.0
    scale: float = 1.0
    level: str | None = None


@dataclass(frozen=True)
class SeriesEncoder:
    """A table in time order as windows ``(batch, lookback, channels)`` float32.

    Channels, in order: the target (standardised like the targets), the other measured columns, the calendar of each
    row (sine and cosine of its place in the year, week and day), and the same calendar ``horizon`` rows later, whose
    last rows are the times that are forecast. ``spec.numeric`` says how many channels are measured; the rest is
    calendar.
    Missing values take the last value before them: interpolating would look into the future.
    """

    time: str
    target: ColumnType
    columns: tuple[ColumnType, ...]
    channels: tuple[Channel, ...]
    cycles: tuple[Cycle, ...]
    lookback: int
    horizon: int
    step: float
    mean: float
    std: float
    kind: ClassVar[str] = "series"

    @property
    def calendar(self) -> int:
        """How many channels one calendar has."""
        return 2 * sum(cycle.harmonics for cycle in self.cycles)

    @property
    def spec(self) -> InputSpec:
        """What the inputs look like."""
        measured = 1 + len(self.channels)
        return InputSpec("series", shape=(self.lookback, measured + 2 * self.calendar), numeric=measured)

    @property
    def names(self) -> tuple[str, ...]:
        """What each channel is."""
        own = [
            self.target.name,
            *(f"{c.column} is {c.level}" if c.level is not None else c.column for c in self.channels),
        ]
        words = {YEAR: "year", WEEK: "week", DAY: "day"}
        turns = [
            f"{f} {words.get(c.period, '')} x{h}"
            for c in self.cycles
            for h in range(1, c.harmonics + 1)
            for f in ("sin", "cos")
        ]
        return (*own, *turns, *(f"{turn}, ahead" for turn in turns))

    def encode(self, source: Any, *, targets: bool = False) -> SeriesWindows:
        """New rows: one window, which ends with the last row; with ``targets`` every window whose targets are known.

        Raises DataError for missing columns and for fewer rows than a window needs.
        """
        sheet = read_sheet(source)
        check_columns(sheet, [*split_names_of(self.time, sheet), self.target.name, *(one.name for one in self.columns)])
        order, stamps, _ = in_order(sheet, self.time)
        needed = self.lookback + (self.horizon if targets else 0)
        if len(order) < needed:
            raise DataError(
                f"{sheet.name} has {len(order):,} rows; {needed:,} are needed ({self.lookback:,} to look back on): "
                f"add earlier rows"
            )
        raw = read_column(sheet.frame[self.target.name], self.target).values[order]
        if np.isnan(raw).all():
            raise DataError(
                f"{sheet.name}: '{self.target.name}' holds no number; its past values are needed for a forecast"
            )
        track, values = self.track(sheet, order, stamps)
        rows = torch.from_numpy(order)
        if not targets:
            last = torch.tensor([len(order)])
            return SeriesWindows(track, values, last, rows[-1:], self.lookback, self.horizon, self.calendar)
        known = origins(raw, self.lookback, self.horizon, low=0, high=len(raw))
        if not len(known):
            raise DataError(
                f"{sheet.name}: no {self.horizon} rows in a row have '{self.target.name}'; there is nothing to "
                f"compare with"
            )
        at = torch.from_numpy(known)
        return SeriesWindows(track, values, at, rows[at], self.lookback, self.horizon, self.calendar)

    def track(self, sheet: Sheet, order: NDArray[np.int64], stamps: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """All channels, ``(time + horizon, channels)``, and the target ``(time,)``, standardised."""
        read = {one.name: read_column(sheet.frame[one.name], one).rows(order) for one in (self.target, *self.columns)}
        measured = [(carried(read[self.target.name].values) - self.mean) / self.std]
        for channel in self.channels:
            column = read[channel.column]
            if channel.level is None:
                measured.append(standardise(carried(column.values, channel.middle), channel.middle, channel.scale))
            else:
                hit = np.flatnonzero(column.levels.astype(str) == channel.level)
                measured.append((column.values == (hit[0] if len(hit) else -2)).astype(np.float64))
        longer = np.r_[stamps, stamps[-1] + self.step * np.arange(1, self.horizon + 1)]
        turns = turned(longer, self.cycles)
        whole = np.zeros((len(longer), len(measured) + 2 * self.calendar), np.float32)
        for place, channel_values in enumerate(measured):
            whole[: len(stamps), place] = channel_values
        whole[:, len(measured) :] = np.concatenate([turns, turns], 1)
        return torch.from_numpy(whole), torch.from_numpy(measured[0].astype(np.float32))

    def prepare(self, inputs: Inputs) -> Inputs:
        """Windows go to the model as they are."""
        return inputs

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        values["channels"] = [channel._asdict() for channel in self.channels]
        values["cycles"] = [cycle._asdict() for cycle in self.cycles]
        return {"kind": self.kind, **values}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The encoder that ``to_json`` described."""
        plain = {k: v for k, v in values.items() if k != "kind"}
        return cls(
            **{
                **plain,
                "target": ColumnType(**plain["target"]),
                "columns": tuple(ColumnType(**one) for one in plain["columns"]),
                "channels": tuple(Channel(**one) for one in plain["channels"]),
                "cycles": tuple(Cycle(**one) for one in plain["cycles"]),
            }
        )


def in_order(sheet: Sheet, time: str) -> tuple[NDArray[np.int64], NDArray[np.float64], list[Finding]]:
    """The rows in time order, one for each time (the last one), their times, and what is odd about them."""
    stamps = times(sheet, time)
    order = np.argsort(stamps, kind="stable")
    ordered = stamps[order]
    findings = []
    last = np.r_[ordered[1:] != ordered[:-1], True]
    if not last.all():
        count = int((~last).sum())
        twins = np.flatnonzero(~last)[:1]
        where = ", ".join(sheet.places([int(order[twins[0]]), int(order[twins[0] + 1])]))
        if count > 0.1 * len(order):
            raise DataError(
                f"{sheet.name}: {count:,} of {len(order):,} rows repeat a time of '{time}' (first at {where}); if "
                f"the table holds several "
                "series, give one of them at a time"
            )
        findings.append(
            Finding(
                "repeated-times",
                "warning",
                f"{count:,} rows repeat a time of '{time}' (first at {where}); the last row of each time is kept",
                where=time,
                evidence={"rows": count},
                fix="remove the repetitions",
            )
        )
        order, ordered = order[last], ordered[last]
    steps = np.diff(ordered)
    if len(steps):
        usual = float(np.median(steps))
        odd = np.abs(steps - usual) > 0.01 * usual
        # Months and years differ by a few days; that is no irregularity.
        odd &= ~((usual > 27 * DAY) & (np.abs(steps - usual) < 0.12 * usual))
        if odd.any():
            count, first = int(odd.sum()), int(np.argmax(odd))
            findings.append(
                Finding(
                    "irregular-times",
                    "warning" if count > 0.01 * len(steps) else "advice",
                    f"{count:,} of {len(steps):,} steps of '{time}' are not the usual {duration(usual)}, first after "
                    f"{sheet.place(int(order[first]))}; rows are taken as if evenly spaced",
                    where=time,
                    evidence={"steps": count},
                    fix="fill in the missing times with empty values",
                )
            )
    return order, ordered, findings


def split_names_of(time: str, sheet: Sheet) -> list[str]:
    """The columns that make up the time."""
    return [time] if time in sheet.frame.columns else split_names(time)


def duration(seconds: float) -> str:
    """A length of time in words: ``hour``, ``3 days``."""
    for size, word in ((YEAR, "years"), (DAY, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds")):
        if seconds >= size:
            amount = seconds / size
            return word[:-1] if amount == 1 else f"{amount:.3g} {word}"
    return f"{seconds:g}"
