"""From a sheet to typed columns, a target and three parts: the steps that every kind of table shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goodfit.data import split as splits
from goodfit.data.cells import as_strings, cells, dates, numbers, parse_dates
from goodfit.data.columns import Column, tell
from goodfit.data.sheet import Sheet
from goodfit.data.split import Split
from goodfit.data.target import Target, choose, class_counts, read_target, split_names
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Finding


@dataclass(frozen=True)
class Prepared:
    """A table ready to be encoded.

    columns: the features, only rows with a target. rows: ``(samples,)`` int64, each sample's row in the sheet.
    split: positions among the samples.
    """

    sheet: Sheet
    columns: tuple[Column, ...]
    target: Target
    rows: NDArray[np.int64]
    split: Split
    findings: tuple[Finding, ...]
    summary: tuple[tuple[str, str], ...]


def prepare(sheet: Sheet, settings: DataSettings, task: TaskSettings, *, seed: int) -> Prepared:
    """Choose and read the target, tell what each column holds, split.

    Raises DataError for what cannot be trained on.
    """
    name, why = choose(sheet, settings)
    target = read_target(sheet, name, why, settings=task)
    findings = [*sheet.findings, *target.findings]
    left_out = {name, *split_names(settings.time or ""), settings.groups, *settings.ignore}
    columns = []
    for title in sheet.frame.columns:
        if title in left_out:
            continue
        column, found = tell(sheet.frame[title], title, comma=sheet.comma, folder=sheet.folder, places=sheet.places)
        findings += found
        if column is not None:
            columns.append(column)
    if not columns:
        raise DataError(
            f"{sheet.name} has no column to learn '{name}' from"
            + (
                ""
                if len(sheet.frame.columns) < 2
                else "; all others are left out: " + "; ".join(f.message for f in findings[:3])
            )
        )
    keep = ~target.missing
    if not keep.all():
        findings.append(_missing_target(sheet, name, keep))
    rows = np.flatnonzero(keep)
    columns = [column if keep.all() else column.rows(keep) for column in columns]
    target = Target(target.spec, target.values[keep], target.why, target.findings)
    split, how = _split(sheet, target, rows, settings=settings, seed=seed)
    return Prepared(
        sheet, tuple(columns), target, rows, split, tuple(findings), _summary(sheet, target, columns, split, how=how)
    )


def _split(
    sheet: Sheet, target: Target, rows: NDArray[np.int64], *, settings: DataSettings, seed: int
) -> tuple[Split, str]:
    """The split and, in words, how it was made. Parts that the source brings along stay as they are."""
    given = None if sheet.part is None else splits.by_label(sheet.part[rows])
    inside = np.arange(len(rows)) if given is None else given.train
    valid = 0.0 if given is not None and len(given.valid) else settings.valid
    test = 0.0 if given is not None and len(given.test) else settings.test
    if given is not None and not valid and not test:
        return given, "as the source gives it"
    if settings.groups is not None:
        codes = as_strings(cells(sheet.frame[settings.groups])).codes[rows][inside]
        codes = np.where(codes < 0, codes.max(initial=0) + 1 + np.arange(len(codes)), codes)
        inner, how = splits.grouped(codes, valid, test=test, seed=seed), f"whole groups of '{settings.groups}'"
    elif settings.time is not None:
        inner, how = (
            splits.by_time(times(sheet, settings.time)[rows][inside], valid, test=test),
            f"by '{settings.time}', newest last",
        )
    elif target.spec.kind == "classification":
        values = target.values[inside]
        try:
            inner = splits.stratified(values, valid, test=test, seed=seed, names=target.spec.classes)
        except DataError as error:
            raise DataError(
                f"{sheet.name}, target '{target.spec.name}': {_with_place(error, sheet, target, rows)}"
            ) from None
        how = "stratified by class"
    else:
        inner, how = splits.at_random(len(inside), valid, test=test, seed=seed), "at random"
    return (inner, how) if given is None else (splits.refill(given, inner), f"{how}, the rest as the source gives it")


def times(sheet: Sheet, name: str) -> NDArray[np.float64]:
    """A time column as float64 numbers that order the rows: seconds since 1970 for dates, else its own numbers.

    name: a column, or several that make a time together: ``"year, month, day, hour"``.
    Raises DataError, with the row, for a value that is no time.
    """
    from_parts = [] if name in sheet.frame.columns else split_names(name)
    if from_parts:
        return _assembled(sheet, from_parts)
    series = sheet.frame[name]
    column, found = tell(series, name, comma=sheet.comma, folder=None, places=sheet.places)
    found = [finding for finding in found if finding.rule not in ("id-column", "constant-column")]
    if column is None or column.kind not in ("date", "number"):
        raw = cells(series)
        values = (
            numbers(raw, ".") if raw.numbers is not None or not len(raw.distinct) else dates(series, raw, "ISO8601")
        )
        if np.isnan(values).all() and len(raw.distinct) and not np.isnan(parsed := numbers(raw, ".")).all():
            values = parsed
    else:
        values = column.values
    bad = np.isnan(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{sheet.place(row)}: '{series.iloc[row]}' in the time column '{name}' is no date or number; mend it or "
            f"remove the row"
        )
    return np.asarray(values, np.float64)


def _assembled(sheet: Sheet, names: Sequence[str]) -> NDArray[np.float64]:
    """Seconds since 1970 from columns called year, month, day, hour, minute."""
    units = [name.lower() for name in names]
    if "year" not in units or set(units) - {"year", "month", "day", "hour", "minute", "second"}:
        raise DataError(
            f"a time of several columns is made of year, month, day, hour, minute, second; not of {', '.join(names)}"
        )
    parts = {unit: numbers(cells(sheet.frame[name]), ".") for unit, name in zip(units, names, strict=True)}
    count = len(sheet.frame)
    filled = {
        unit: parts.get(unit, np.full(count, float(unit in ("month", "day"))))
        for unit in ("year", "month", "day", "hour", "minute", "second")
    }
    stack = np.stack(list(filled.values()), 1)
    bad = ~np.isfinite(stack).all(1)
    values = np.full(count, np.nan)
    whole = np.where(np.isfinite(stack), stack, 1).astype(np.int64)
    strings = np.asarray(["{:04d}-{:02d}-{:02d} {:02d}:{:02d}:{:02d}".format(*row) for row in whole], dtype=object)
    values = np.where(bad, np.nan, parse_dates(strings, "ISO8601"))
    if np.isnan(values).any():
        row = int(np.argmax(np.isnan(values)))
        raise DataError(f"{sheet.place(row)}: {', '.join(names)} do not make a date; mend them or remove the row")
    return values


def _with_place(error: DataError, sheet: Sheet, target: Target, rows: NDArray[np.int64]) -> str:
    """The message with the file's rows of classes that have one sample only."""
    text = str(error)
    counts = class_counts(target.values, target.spec.classes)
    for number in np.flatnonzero(counts == 1)[:5]:
        position = int(np.flatnonzero(target.values == number)[0])
        text = text.replace(
            f"'{target.spec.classes[number]}' (sample {position:,})",
            f"'{target.spec.classes[number]}' ({sheet.place(int(rows[position]))})",
        )
    return text


def _missing_target(sheet: Sheet, name: str, keep: NDArray[np.bool_]) -> Finding:
    gone = np.flatnonzero(~keep)
    shown = ", ".join(sheet.places(gone[:3].tolist()))
    return Finding(
        "missing-target",
        "warning",
        f"{len(gone):,} of {len(keep):,} rows are left out: their target '{name}' is missing (first at {shown})",
        where=name,
        evidence={"rows": len(gone)},
        fix="fill the target in, or remove these rows",
    )


def _summary(
    sheet: Sheet, target: Target, columns: Sequence[Column], split: Split, *, how: str
) -> tuple[tuple[str, str], ...]:
    counted: dict[str, int] = {}
    for column in columns:
        counted[column.kind] = counted.get(column.kind, 0) + 1
    kinds = ", ".join(f"{count} {kind}" for kind, count in counted.items())
    cells_missing = sum(int(column.missing.sum()) for column in columns)
    rows = len(sheet.frame)
    return (
        ("rows", f"{rows:,}"),
        ("columns", f"{len(columns)} to learn from: {kinds}"),
        (
            "missing",
            f"{cells_missing:,} cells ({cells_missing / max(rows * len(columns), 1):.1%})" if cells_missing else "none",
        ),
        ("target", describe_target(target)),
        ("task", target.why),
        ("split", f"{len(split.train):,} train, {len(split.valid):,} valid, {len(split.test):,} test, {how}"),
    )


def describe_target(target: Target) -> str:
    """The target in one line: its classes with shares, or its range."""
    spec = target.spec
    if spec.kind == "regression":
        return f"{spec.name}: {target.values.min():.6g} to {target.values.max():.6g}, mean {target.values.mean():.4g}"
    counts = class_counts(target.values, spec.classes)
    shares = counts / counts.sum()
    if len(spec.classes) == 2:
        return f"{spec.name}: 2 classes, {shares[1]:.1%} '{spec.classes[1]}' (the positive one)"
    most, least = int(np.argmax(counts)), int(np.argmin(counts))
    if counts[most] == counts[least]:
        return f"{spec.name}: {len(spec.classes)} classes of equal size"
    return (
        f"{spec.name}: {len(spec.classes)} classes, from '{spec.classes[least]}' ({shares[least]:.1%}) to "
        f"'{spec.classes[most]}' ({shares[most]:.1%})"
    )
