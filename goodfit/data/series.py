"""Time series: from the last rows of a table, the next values of one column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goodfit.data.columns import Column, ColumnType, read_column, tell
from goodfit.data.data import Data
from goodfit.data.prepare import times
from goodfit.data.sheet import Sheet, read_sheet
from goodfit.data.split import FEWEST_ROWS
from goodfit.data.table import check_columns, standardise
from goodfit.data.target import TARGET_NAMES, split_names
from goodfit.errors import DataError, nearest
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Batch, Finding, Inputs, InputSpec, Task

_DAY = 86400.0
_YEAR, _WEEK = 365.25 * _DAY, 7 * _DAY
_SHORTEST = 10
"""Windows that each part must hold."""
_MOST_LEVELS = 10


class Channel(NamedTuple):
    """One measured channel beside the target: a number, standardised, or whether a category is ``level``."""

    column: str
    middle: float = 0.0
    scale: float = 1.0
    level: str | None = None


class Cycle(NamedTuple):
    """A period in seconds and how many of its harmonics are channels (a sine and a cosine each)."""

    period: float
    harmonics: int


@dataclass(frozen=True)
class SeriesWindows:
    """Windows of one series, gathered from one tensor when they are asked for.

    track: ``(time + horizon, channels)`` float32: what the inputs hold at each time. values: ``(time,)`` float32, the target,
    standardised. origins: ``(n,)`` int64, the time of each sample's first target. index: its row in the source.
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
        """``(n, horizon)`` float32, standardised."""
        return self.values[self.origins[:, None] + torch.arange(self.horizon)] if len(self.values) else self._blank(len(self))

    def take(self, positions: Tensor) -> Batch:
        """Inputs ``(batch, lookback, channels)``, targets ``(batch, horizon)``."""
        positions = positions.cpu()
        origin = self.origins[positions][:, None]
        at = origin + torch.arange(-self.lookback, 0)
        inputs = self.track[at]
        if self.ahead:
            inputs[..., -self.ahead :] = self.track[at + self.horizon, -self.ahead :]
        past = origin + torch.arange(self.horizon)
        targets = self.values[past] if int(past.max()) < len(self.values) else self._blank(len(positions))
        return Batch(inputs, targets, None, self.index[positions])

    def batches(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        """One gathered batch for each tensor of positions."""
        for positions in plan:
            yield self.take(positions)

    def _blank(self, count: int) -> Tensor:
        return torch.zeros(count, self.horizon)


@dataclass(frozen=True)
class SeriesEncoder:
    """A table in time order as windows ``(batch, lookback, channels)`` float32.

    Channels, in order: the target (standardised like the targets), the other measured columns, the calendar of each row (sine
    and cosine of its place in the year, week and day), and the same calendar ``horizon`` rows later, whose last
    rows are the times that are forecast. ``spec.numeric`` says how many channels are measured; the rest is calendar.
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
        own = [self.target.name, *(f"{c.column} is {c.level}" if c.level is not None else c.column for c in self.channels)]
        words = {_YEAR: "year", _WEEK: "week", _DAY: "day"}
        turns = [f"{f} {words.get(c.period, '')} x{h}" for c in self.cycles for h in range(1, c.harmonics + 1) for f in ("sin", "cos")]
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
            raise DataError(f"{sheet.name} has {len(order):,} rows; {needed:,} are needed ({self.lookback:,} to look back on): add earlier rows")
        raw = read_column(sheet.frame[self.target.name], self.target).values[order]
        if np.isnan(raw).all():
            raise DataError(f"{sheet.name}: '{self.target.name}' holds no number; its past values are needed for a forecast")
        track, values = self.track(sheet, order, stamps)
        rows = torch.from_numpy(order)
        if not targets:
            last = torch.tensor([len(order)])
            return SeriesWindows(track, values, last, rows[-1:], self.lookback, self.horizon, self.calendar)
        known = origins(raw, self.lookback, self.horizon, low=0, high=len(raw))
        if not len(known):
            raise DataError(f"{sheet.name}: no {self.horizon} rows in a row have '{self.target.name}'; there is nothing to compare with")
        at = torch.from_numpy(known)
        return SeriesWindows(track, values, at, rows[at], self.lookback, self.horizon, self.calendar)

    def track(self, sheet: Sheet, order: NDArray[np.int64], stamps: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """All channels at all times and ``horizon`` times more, ``(time + horizon, channels)``, and the target ``(time,)``."""
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


def read_series(sheet: Sheet, settings: DataSettings, task: TaskSettings) -> Data:
    """A table with a time column as forecasting data, oldest rows for training, newest for testing.

    A window belongs to the part that holds all its targets; what it looks back on may lie in the part before.
    Raises DataError for a target that is no number, too few rows, and times that cannot be read.
    """
    if task.kind not in ("auto", "forecast"):
        raise DataError(f"task.kind = '{task.kind}', but data.horizon asks for a forecast; leave one of them out")
    if settings.horizon < 1:
        raise DataError("a forecast needs data.horizon, the number of rows to look ahead; such as --horizon 7")
    time = settings.time or _time_column(sheet)
    if time not in sheet.frame.columns and not set(split_names(time)) <= set(sheet.frame.columns):
        raise DataError(f"{sheet.name} has no column '{time}' (data.time){nearest(time, list(sheet.frame.columns))}")
    order, stamps, findings = in_order(sheet, time)
    findings = [*sheet.findings, *findings]
    used = set(split_names_of(time, sheet))
    columns, told = _columns(sheet, order, skip={*used, *settings.ignore, settings.groups or ""})
    target, why = _target(sheet, columns, settings)
    findings += [one for one in told if one.rule != "id-column"]
    raw = target.values
    if np.isnan(raw).any():
        findings.append(_gaps(sheet, target, order))
    horizon = settings.horizon
    ends = _ends(len(raw), settings)
    step = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 1.0
    dated = float(stamps.min()) > 366 * _DAY or float(stamps.max() - stamps.min()) > 2 * len(stamps) * 60
    cycles = _cycles(stamps, step) if _is_dated(sheet, time) and dated else ()
    lookback = settings.lookback or _lookback(step if cycles else 0.0, horizon, ends[0])
    others = [column for column in columns if column.name != target.name]
    channels = [one for column in others for one in _channels(column, ends[0])]
    kept = {channel.column for channel in channels}
    known = raw[: ends[0]][~np.isnan(raw[: ends[0]])]
    if not len(known) or known.min() == known.max():
        raise DataError(f"{sheet.name}: '{target.name}' does not change in the train part; there is nothing to forecast")
    encoder = SeriesEncoder(
        time,
        target.type,
        tuple(column.type for column in others if column.name in kept),
        tuple(channels),
        cycles,
        lookback,
        horizon,
        step,
        float(known.mean()),
        float(known.std()),
    )
    track, values = encoder.track(sheet, order, stamps)
    rows = torch.from_numpy(order)
    parts = []
    for name, low, high, share in zip(("train", "valid", "test"), (0, *ends[:2]), ends, (1.0, settings.valid, settings.test), strict=True):
        found = origins(raw, lookback, horizon, low=low, high=high)
        if share > 0 and len(found) < _SHORTEST:
            raise DataError(
                f"{sheet.name} has {len(raw):,} rows, too few: the {name} part holds {len(found)} windows of {lookback} rows back and {horizon} ahead; "
                "give more rows, or lower data.lookback or data.horizon"
            )
        at = torch.from_numpy(found)
        parts.append(SeriesWindows(track, values, at, rows[at], lookback, horizon, encoder.calendar))
    words = {_YEAR: "year", _WEEK: "week", _DAY: "day"}
    summary = (
        ("rows", f"{len(raw):,}{_span(stamps) if cycles else ''}, one every {_duration(step) if cycles else f'{step:g}'}"),
        ("target", f"{target.name}: {np.nanmin(raw):.6g} to {np.nanmax(raw):.6g}, mean {np.nanmean(raw):.4g} ({why})"),
        ("task", f"forecast: {horizon} rows ahead from the last {lookback}"),
        ("channels", f"{1 + len(channels)} measured, calendar of the {', '.join(words[c.period] for c in cycles) or 'rows: none'}"),
        ("split", f"{len(parts[0]):,} train, {len(parts[1]):,} valid, {len(parts[2]):,} test windows, newest last"),
    )
    return Data(
        sheet.name,
        encoder.spec,
        Task("forecast", target.name, horizon, horizon=horizon),
        *parts,
        encoder,
        encoder.prepare,
        summary,
        tuple(findings),
        sheet.fingerprint,
        encoder.mean,
        encoder.std,
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
                f"{sheet.name}: {count:,} of {len(order):,} rows repeat a time of '{time}' (first at {where}); if the table holds several "
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
        odd &= ~((usual > 27 * _DAY) & (np.abs(steps - usual) < 0.12 * usual))
        if odd.any():
            count, first = int(odd.sum()), int(np.argmax(odd))
            findings.append(
                Finding(
                    "irregular-times",
                    "warning" if count > 0.01 * len(steps) else "advice",
                    f"{count:,} of {len(steps):,} steps of '{time}' are not the usual {_duration(usual)}, first after "
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


def origins(raw: NDArray[np.float64], lookback: int, horizon: int, *, low: int, high: int) -> NDArray[np.int64]:
    """Times of first targets with a full window before, and all ``horizon`` targets known and within [low, high)."""
    at = np.arange(max(low, lookback), high - horizon + 1)
    if not len(at):
        return at
    gaps = np.r_[0, np.cumsum(np.isnan(raw))]
    return at[gaps[at + horizon] == gaps[at]]


def carried(values: NDArray[np.float64], first: float | None = None) -> NDArray[np.float64]:
    """Missing values replaced by the last known one before them; before all of them, by ``first`` or the first known one."""
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


def _is_dated(sheet: Sheet, time: str) -> bool:
    if time not in sheet.frame.columns:
        return True
    column, _ = tell(sheet.frame[time], time, comma=sheet.comma, folder=None, places=sheet.places)
    return column is not None and column.kind == "date"


def _time_column(sheet: Sheet) -> str:
    """The only column of dates, or year, month, day, ... columns; DataError where neither is there."""
    lower = {name.lower(): name for name in sheet.frame.columns}
    found = [name for name in sheet.frame.columns if _is_dated(sheet, name)]
    if len(found) == 1:
        return str(found[0])
    if not found and {"year", "month"} <= set(lower):
        return ", ".join(lower[unit] for unit in ("year", "month", "day", "hour", "minute") if unit in lower)
    seen = f"it has several columns of dates ({', '.join(found)})" if found else "it has no column of dates"
    raise DataError(f"{sheet.name}: name the time column with --time; {seen}")


def _columns(sheet: Sheet, order: NDArray[np.int64], *, skip: set[str]) -> tuple[list[Column], list[Finding]]:
    columns, findings = [], []
    for name in sheet.frame.columns:
        if name not in skip:
            column, found = tell(sheet.frame[name], name, comma=sheet.comma, folder=None, places=sheet.places)
            findings += found
            if column is not None:
                columns.append(column.rows(order))
    return columns, findings


def _target(sheet: Sheet, columns: Sequence[Column], settings: DataSettings) -> tuple[Column, str]:
    by_name = {column.name: column for column in columns}
    wanted = settings.target
    if wanted is not None and wanted not in sheet.frame.columns:
        raise DataError(f"{sheet.name} has no column '{wanted}'{nearest(wanted, list(sheet.frame.columns))}")
    if wanted is not None:
        if wanted not in by_name or by_name[wanted].kind != "number":
            raise DataError(f"{sheet.name}: the target '{wanted}' is no column of changing numbers; a forecast needs one")
        return by_name[wanted], "as asked"
    numeric = [column for column in columns if column.kind == "number"]
    if not numeric:
        raise DataError(f"{sheet.name} has no column of numbers to forecast; name one with --target")
    called = [column for column in numeric if column.name.lower() in TARGET_NAMES]
    return (called[0], "called so") if called else (numeric[-1], "the last column of numbers" if len(numeric) > 1 else "the only column of numbers")


def _ends(count: int, settings: DataSettings) -> tuple[int, int, int]:
    if count < FEWEST_ROWS:
        raise DataError(f"{count} rows are too few for a forecast; give at least {FEWEST_ROWS}")
    if settings.valid + settings.test >= 1:
        raise DataError("data.valid and data.test leave nothing to train on; they must add up to less than 1")
    return round(count * (1 - settings.valid - settings.test)), round(count * (1 - settings.test)), count


def _cycles(stamps: NDArray[np.float64], step: float) -> tuple[Cycle, ...]:
    """The cycles that these times show at least twice and resolve: year, week, day."""
    span = float(stamps[-1] - stamps[0])
    wanted = (Cycle(_YEAR, 3), Cycle(_WEEK, 2), Cycle(_DAY, 2))
    return tuple(
        Cycle(c.period, min(c.harmonics, int(c.period / (2 * step)))) for c in wanted if span >= 1.5 * c.period and step <= c.period / 2
    )


def _lookback(step: float, horizon: int, train: int) -> int:
    """Two horizons, and at least a month of days, three days of hours, or 32 rows; at most a quarter of the train part."""
    usual = 28 if step == _DAY else 72 if 0 < step <= 3600 else 32
    return max(1, min(max(usual, 2 * horizon), train // 4))


def _channels(column: Column, train: int) -> list[Channel]:
    if column.kind == "category":
        seen = np.unique(column.values[:train])
        levels = [str(column.levels[code]) for code in seen if code >= 0]
        return [Channel(column.name, level=level) for level in levels] if 1 < len(levels) <= _MOST_LEVELS else []
    if column.kind != "number":
        return []
    known = column.values[:train][np.isfinite(column.values[:train])]
    if not len(known) or known.min() == known.max():
        return []
    low, quarter, middle, three, high = (float(one) for one in np.quantile(known, [0, 0.25, 0.5, 0.75, 1]))
    return [Channel(column.name, middle, three - quarter if three > quarter else (high - low) / 2)]


def _gaps(sheet: Sheet, target: Column, order: NDArray[np.int64]) -> Finding:
    gone = np.flatnonzero(np.isnan(target.values))
    return Finding(
        "missing-values",
        "advice" if len(gone) < 0.2 * len(order) else "warning",
        f"'{target.name}' is missing in {len(gone):,} of {len(order):,} rows (first at {sheet.place(int(order[gone[0]]))}); inputs take the last "
        "value before, windows with missing targets are left out",
        where=target.name,
        evidence={"rows": len(gone)},
        fix="nothing has to be done; fill them in if they are known",
    )


def _duration(seconds: float) -> str:
    for size, word in ((_YEAR, "years"), (_DAY, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds")):
        if seconds >= size:
            amount = seconds / size
            return word[:-1] if amount == 1 else f"{amount:.3g} {word}"
    return f"{seconds:g}"


def _span(stamps: NDArray[np.float64]) -> str:
    first, last = (str(np.datetime64(int(one), "s"))[:10] for one in (stamps[0], stamps[-1]))
    return f" from {first} to {last}"
