"""Reads a series: finds its times, target and channels, and cuts it into parts, newest last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from goodfit.data.columns import Column, tell
from goodfit.data.data import Data
from goodfit.data.series import Channel, SeriesEncoder, duration, in_order, split_names_of
from goodfit.data.sheet import Sheet
from goodfit.data.split import FEWEST_ROWS
from goodfit.data.target import TARGET_NAMES, split_names
from goodfit.data.windows import DAY, WEEK, YEAR, Cycle, SeriesWindows, origins
from goodfit.errors import DataError, nearest
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Finding, Task

_SHORTEST = 10
"""Windows that each part must hold."""
_MOST_LEVELS = 10


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
    ends = _ends(len(raw), settings) if sheet.part is None else _given(sheet, order, settings)
    step = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 1.0
    dated = float(stamps.min()) > 366 * DAY or float(stamps.max() - stamps.min()) > 2 * len(stamps) * 60
    cycles = _cycles(stamps, step) if _is_dated(sheet, time) and dated else ()
    lookback = settings.lookback or _lookback(step if cycles else 0.0, horizon, ends[0])
    others = [column for column in columns if column.name != target.name]
    channels = [one for column in others for one in _channels(column, ends[0])]
    kept = {channel.column for channel in channels}
    known = raw[: ends[0]][~np.isnan(raw[: ends[0]])]
    if not len(known) or known.min() == known.max():
        raise DataError(
            f"{sheet.name}: '{target.name}' does not change in the train part; there is nothing to forecast"
        )
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
    for name, low, high, share in zip(
        ("train", "valid", "test"), (0, *ends[:2]), ends, _shares(sheet, settings), strict=True
    ):
        found = origins(raw, lookback, horizon, low=low, high=high)
        if share > 0 and len(found) < _SHORTEST:
            raise DataError(
                f"{sheet.name} has {len(raw):,} rows, too few: the {name} part holds {len(found)} windows of "
                f"{lookback} rows back and {horizon} ahead; "
                "give more rows, or lower data.lookback or data.horizon"
            )
        at = torch.from_numpy(found)
        parts.append(SeriesWindows(track, values, at, rows[at], lookback, horizon, encoder.calendar))
    words = {YEAR: "year", WEEK: "week", DAY: "day"}
    summary = (
        (
            "rows",
            f"{len(raw):,}{_span(stamps) if cycles else ''}, one every {duration(step) if cycles else f'{step:g}'}",
        ),
        ("target", f"{target.name}: {np.nanmin(raw):.6g} to {np.nanmax(raw):.6g}, mean {np.nanmean(raw):.4g} ({why})"),
        ("task", f"forecast: {horizon} rows ahead from the last {lookback}"),
        (
            "channels",
            f"{1 + len(channels)} measured, calendar of the "
            f"{', '.join(words[c.period] for c in cycles) or 'rows: none'}",
        ),
        (
            "split",
            f"{len(parts[0]):,} train, {len(parts[1]):,} valid, {len(parts[2]):,} test windows, newest last"
            + ("" if sheet.part is None else ", as the source gives them"),
        ),
    )
    return Data(
        sheet.name,
        encoder.spec,
        Task("forecast", target.name, horizon, horizon=horizon),
        parts[0],
        parts[1],
        parts[2],
        encoder,
        encoder.prepare,
        summary,
        tuple(findings),
        sheet.fingerprint,
        encoder.mean,
        encoder.std,
    )


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
            raise DataError(
                f"{sheet.name}: the target '{wanted}' is no column of changing numbers; a forecast needs one"
            )
        return by_name[wanted], "as asked"
    numeric = [column for column in columns if column.kind == "number"]
    if not numeric:
        raise DataError(f"{sheet.name} has no column of numbers to forecast; name one with --target")
    called = [column for column in numeric if column.name.lower() in TARGET_NAMES]
    return (
        (called[0], "called so")
        if called
        else (numeric[-1], "the last column of numbers" if len(numeric) > 1 else "the only column of numbers")
    )


def _ends(count: int, settings: DataSettings) -> tuple[int, int, int]:
    if count < FEWEST_ROWS:
        raise DataError(f"{count} rows are too few for a forecast; give at least {FEWEST_ROWS}")
    if settings.valid + settings.test >= 1:
        raise DataError("data.valid and data.test leave nothing to train on; they must add up to less than 1")
    return round(count * (1 - settings.valid - settings.test)), round(count * (1 - settings.test)), count


def _given(sheet: Sheet, order: NDArray[np.int64], settings: DataSettings) -> tuple[int, int, int]:
    """Where the parts end that the source brings along. What it leaves out is cut from the end of its train part, but
    for a test part where it gives a valid part: that would be older.

    Raises DataError where the parts do not follow one another in time: a forecast must not learn from what comes later.
    """
    assert sheet.part is not None
    part = sheet.part[order]
    late = np.flatnonzero(np.diff(part) < 0)
    if len(late):
        names = ("train", "valid", "test")
        one, other = order[late[0]], order[late[0] + 1]
        raise DataError(
            f"the parts overlap in time: {sheet.place(int(one))} ({names[part[late[0]]]}) comes before "
            f"{sheet.place(int(other))} ({names[part[late[0] + 1]]}); give parts in order of time, or one table"
        )
    first, second, third = (int((part == number).sum()) for number in range(3))
    _, valid, test = _shares(sheet, settings)
    cut_test = 0 if third else round(first * test)
    cut_valid = 0 if second else round(first * valid)
    train = first - cut_test - cut_valid
    if train < FEWEST_ROWS:
        raise DataError(f"{train} rows are too few to train a forecast; give at least {FEWEST_ROWS}")
    return train, train + cut_valid + second, len(order)


def _shares(sheet: Sheet, settings: DataSettings) -> tuple[float, float, float]:
    """The share that each part is to have, 1 where the source gives it."""
    if sheet.part is None:
        return 1.0, settings.valid, settings.test
    valid, test = (bool((sheet.part == number).any()) for number in (1, 2))
    return 1.0, 1.0 if valid else settings.valid, 1.0 if test else 0.0 if valid else settings.test


def _cycles(stamps: NDArray[np.float64], step: float) -> tuple[Cycle, ...]:
    """The cycles that these times show at least twice and resolve: year, week, day."""
    span = float(stamps[-1] - stamps[0])
    wanted = (Cycle(YEAR, 3), Cycle(WEEK, 2), Cycle(DAY, 2))
    return tuple(
        Cycle(c.period, min(c.harmonics, int(c.period / (2 * step))))
        for c in wanted
        if span >= 1.5 * c.period and step <= c.period / 2
    )


def _lookback(step: float, horizon: int, train: int) -> int:
    """Two horizons; at least 28 days, 72 hours or 32 rows; at most a quarter of the train part."""
    usual = 28 if step == DAY else 72 if 0 < step <= 3600 else 32
    return max(1, min(max(usual, 2 * horizon), train // 4))


def _channels(column: Column, train: int) -> list[Channel]:
    if column.kind == "category":
        seen = np.unique(column.values[:train])
        levels = sorted(str(column.levels[code]) for code in seen if code >= 0)
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
        f"'{target.name}' is missing in {len(gone):,} of {len(order):,} rows (first at "
        f"{sheet.place(int(order[gone[0]]))}); inputs take the last "
        "value before, windows with missing targets are left out",
        where=target.name,
        evidence={"rows": len(gone)},
        fix="nothing has to be done; fill them in if they are known",
    )


def _span(stamps: NDArray[np.float64]) -> str:
    first, last = (str(np.datetime64(int(one), "s"))[:10] for one in (stamps[0], stamps[-1]))
    return f" from {first} to {last}"
