"""Which column is predicted, and as what: classes or numbers. Each choice comes with its reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goodfit.data.cells import MISSING, Cells, as_strings, cells, numbers, parse_numbers
from goodfit.data.sheet import Sheet
from goodfit.errors import DataError, nearest
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Finding

TARGET_NAMES = ("target", "label", "labels", "class", "y")
_CLASS_NAMES = (*TARGET_NAMES[1:4], "category", "species", "digit", "type", "kind")
_MISSING_TARGET = MISSING - {"None"}
_ORDERED_VALUES = 7
"""Whole numbers with so many values are a quantity (wine quality has 7, abalone rings 28); with fewer, classes."""
_ORDERED_RATINGS = 5
"""The same where they do not begin at -1, 0 or 1: classes are numbered from there, grades and ratings need not be."""
_MOST_CLASSES = 0.5
"""More classes than this share of the rows cannot be learned."""


class TargetSpec(NamedTuple):
    """How a target column is read; plain values. mean, std: of a regression's train part, 0 and 1 for classes."""

    name: str
    kind: Literal["classification", "regression"]
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    decimal: str = "."
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class Target:
    """A target column, read. values: ``(rows,)`` int64 class numbers, -1 missing; or float64, NaN missing."""

    spec: TargetSpec
    values: NDArray[Any]
    why: str
    findings: tuple[Finding, ...]

    @property
    def missing(self) -> NDArray[np.bool_]:
        """``(rows,)`` true where no target stands."""
        return self.values < 0 if self.spec.kind == "classification" else np.isnan(self.values)


def choose(sheet: Sheet, settings: DataSettings) -> tuple[str, str]:
    """The target's name and why it is that one. Raises DataError where it does not exist."""
    columns = list(sheet.frame.columns)
    for key, name in (("data.time", settings.time), ("data.groups", settings.groups)):
        if name is not None and name not in columns and not set(split_names(name)) <= set(columns):
            raise DataError(f"{sheet.name} has no column '{name}' ({key}){nearest(name, columns)}")
    unknown = [name for name in settings.ignore if name not in columns]
    if unknown:
        raise DataError(f"{sheet.name} has no column '{unknown[0]}' (data.ignore){nearest(unknown[0], columns)}")
    if settings.target is not None:
        if settings.target not in columns:
            raise DataError(f"{sheet.name} has no column '{settings.target}'{nearest(settings.target, columns)}")
        return settings.target, "as asked"
    taken = {*split_names(settings.time or ""), settings.groups, *settings.ignore}
    free = [name for name in columns if name not in taken]
    if not free:
        raise DataError(f"{sheet.name} has no column left to predict; name one with --target")
    for word in TARGET_NAMES:
        for name in free:
            if name.lower() == word:
                return name, f"it is called '{name}'"
    if sheet.classes and (named := [name for name in free if name in sheet.classes]):
        return named[-1], "the file names its classes"
    return free[-1], "it is the last column"


def split_names(name: str) -> list[str]:
    """``"year, month, day"`` as three names."""
    return [part.strip() for part in name.split(",") if part.strip()]


def read_target(sheet: Sheet, name: str, why: str, *, settings: TaskSettings) -> Target:
    """Read the target column and decide between classes and numbers.

    Raises DataError where it is empty, all different texts, or cannot be what ``task.kind`` asks for.
    """
    series = sheet.frame[name]
    if sheet.classes and name in sheet.classes and pd.api.types.is_integer_dtype(series.dtype):
        known = sheet.classes[name]
        codes = series.to_numpy(np.int64)
        if codes.max(initial=-1) >= len(known):
            row = int(np.argmax(codes))
            raise DataError(
                f"{sheet.place(row)}: '{name}' is {codes[row]}, but the file names {len(known)} classes; mend one "
                f"of them"
            )
        spec = TargetSpec(name, "classification", known, known)
        return Target(
            spec, np.where(codes < 0, -1, codes), f"classification: the file names {len(known)} classes; {why}", ()
        )
    column = cells(series, missing=_MISSING_TARGET)
    values, decimal = _as_numbers(column, sheet.comma)
    if (values is not None and not np.isfinite(values).any()) or (values is None and not len(column.distinct)):
        raise DataError(f"{sheet.name}: the target '{name}' is missing in every row; choose another with --target")
    kind, reason = _kind(name, values, column.distinct, settings)
    if kind == "regression":
        return _numbers(
            sheet,
            name,
            values,
            column_distinct=column.distinct,
            codes=column.codes,
            why=f"{reason}; {why}",
            decimal=decimal,
        )
    return _classes(sheet, name, series, why=f"{reason}; {why}", settings=settings)


def encode_target(spec: TargetSpec, sheet: Sheet) -> NDArray[Any]:
    """The same column of new data: class numbers with -1 missing, or numbers with NaN missing (not standardised).

    Raises DataError for a class that was not there in training, naming the row.
    """
    series = sheet.frame[spec.name]
    if spec.kind == "regression":
        return np.asarray(numbers(cells(series, missing=_MISSING_TARGET), spec.decimal))
    if spec.names and pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series.dtype):
        codes = series.to_numpy(np.float64, na_value=-1)
        bad = (codes >= len(spec.names)) | (codes != np.floor(codes))
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"{sheet.place(row)}: '{spec.name}' is {codes[row]:g}; known are 0 to {len(spec.names) - 1}"
            )
        return np.asarray(np.maximum(codes, -1), np.int64)
    column = as_strings(cells(series, missing=_MISSING_TARGET))
    places = {one: number for number, one in enumerate(spec.classes)}
    table = np.asarray([places.get(str(value), -2) for value in column.distinct] + [-1], np.int64)
    found = table[column.codes]
    if (found == -2).any():
        row = int(np.argmax(found == -2))
        value = column.distinct[column.codes[row]]
        raise DataError(
            f"{sheet.place(row)}: class '{value}' of '{spec.name}' was not there in "
            f"training{nearest(str(value), spec.classes)}"
        )
    return np.asarray(found)


def _as_numbers(column: Cells, comma: bool) -> tuple[NDArray[np.float64] | None, str]:
    """The target as numbers where nearly all of it are numbers."""
    if column.numbers is not None:
        return column.numbers, "."
    if not len(column.distinct):
        return None, "."
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.distinct))
    for decimal in (".", ",", "thousands") if comma else (".", "thousands", ","):
        parsed = parse_numbers(column.distinct, decimal)
        if counts[~np.isnan(parsed)].sum() >= 0.9 * counts.sum():
            return np.append(parsed, np.nan)[column.codes], decimal
    return None, "."


def _kind(
    name: str, values: NDArray[np.float64] | None, distinct: NDArray[Any], settings: TaskSettings
) -> tuple[str, str]:
    asked = settings.kind
    if asked in ("language", "forecast"):
        raise DataError(
            f"task.kind = '{asked}' needs {'a .txt file' if asked == 'language' else 'data.horizon and data.time'}; "
            "for a table say classification or regression"
        )
    if asked == "regression" and values is None:
        raise DataError(
            f"task.kind = 'regression', but '{name}' holds text such as '{distinct[0]}'; choose a column of numbers"
        )
    if asked != "auto":
        return asked, f"{asked}: as asked"
    if values is None:
        return "classification", f"classification: '{name}' holds names"
    known = values[np.isfinite(values)]
    different, counts = np.unique(known, return_counts=True)
    other = "task.kind overrides"
    if bool((known != np.floor(known)).any()):
        if len(different) == 2:
            return "classification", f"classification: '{name}' has two values ({other})"
        return "regression", f"regression: '{name}' holds numbers with fractions ({other})"
    from_zero = different[0] in (-1, 0, 1)
    if len(different) < (_ORDERED_VALUES if from_zero else _ORDERED_RATINGS):
        return "classification", f"classification: '{name}' has {len(different)} different whole numbers ({other})"
    first, last, most = different[0], different[-1], len(different)
    contiguous = from_zero and last - first == most - 1
    if contiguous and most <= 1000 and (_called(name) or (most <= 20 and counts.min() >= 0.2 * counts.max())):
        told = "is called so" if _called(name) else "has them about equally often"
        return "classification", f"classification: '{name}' numbers {most} classes from {first:g} and {told} ({other})"
    return "regression", f"regression: '{name}' is a whole number with {most:,} different values ({other})"


def _called(name: str) -> bool:
    return name.lower() in _CLASS_NAMES or bool(re.search(r"(?i)(label|class)$", name))


def _numbers(
    sheet: Sheet, name: str, values: Any, *, column_distinct: NDArray[Any], codes: NDArray[Any], why: str, decimal: str
) -> Target:
    findings = []
    if len(column_distinct):
        wrong = np.isnan(values) & (codes >= 0)
        if wrong.any():
            row = int(np.argmax(wrong))
            findings.append(
                Finding(
                    "text-in-target",
                    "warning",
                    f"the target '{name}' is no number in {int(wrong.sum()):,} rows, first "
                    f"'{column_distinct[codes[row]]}' at "
                    f"{sheet.place(row)}; they are left out",
                    where=name,
                    evidence={"rows": int(wrong.sum())},
                    fix="mend these cells",
                )
            )
    infinite = np.isinf(values)
    if infinite.any():
        row = int(np.argmax(infinite))
        findings.append(
            Finding(
                "infinite-target",
                "warning",
                f"the target '{name}' is infinite in {int(infinite.sum()):,} rows, first at {sheet.place(row)}; "
                f"they are left out",
                where=name,
                evidence={"rows": int(infinite.sum())},
                fix="mend these cells",
            )
        )
        values = np.where(infinite, np.nan, values)
    known = values[~np.isnan(values)]
    if len(known) and known.min() == known.max():
        raise DataError(f"{sheet.name}: the target '{name}' is {known[0]:g} in every row; there is nothing to predict")
    return Target(TargetSpec(name, "regression", decimal=decimal), values, why, tuple(findings))


def _classes(sheet: Sheet, name: str, series: pd.Series, *, why: str, settings: TaskSettings) -> Target:
    raw = cells(series, missing=_MISSING_TARGET)
    column = as_strings(raw)
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.distinct))
    order = _class_order(column.distinct)
    names, counts = column.distinct[order], counts[order]
    known = int(counts.sum())
    if len(names) == 1:
        raise DataError(
            f"{sheet.name}: the target '{name}' has only one class, '{names[0]}'; two are needed to learn the "
            f"difference"
        )
    if len(names) > max(_MOST_CLASSES * known, 2) and known >= 10:
        raise DataError(
            f"{sheet.name}: the target '{name}' has {len(names):,} different values in {known:,} rows, too many for "
            f"classes; "
            "choose another with --target"
        )
    findings = _alike(sheet, name, names, counts, series=series)
    if len(names) == 2:
        positive = _positive(names, counts, settings, name)
        if positive == 0:
            names, order = names[::-1], order[::-1]
    elif settings.positive is not None:
        raise DataError(
            f"task.positive = '{settings.positive}' is for two classes; '{name}' has {len(names)}; leave it out"
        )
    renumber = np.append(np.argsort(order), -1)
    spec = TargetSpec(name, "classification", tuple(str(one) for one in names))
    return Target(spec, renumber[column.codes], why, tuple(findings))


def _class_order(names: NDArray[Any]) -> NDArray[np.int64]:
    values = parse_numbers(names)
    return np.asarray(np.argsort(values) if not np.isnan(values).any() else np.argsort(names.astype(str)), np.int64)


def _positive(names: NDArray[Any], counts: NDArray[np.int64], settings: TaskSettings, target: str) -> int:
    """Which of two classes is the positive one: as asked, else the rarer, else the second."""
    if settings.positive is None:
        return 0 if counts[0] < counts[1] and not _is_negative(names[0]) else 1
    found = np.flatnonzero(names == str(settings.positive).strip())
    if not len(found):
        raise DataError(
            f"'{target}' has no class '{settings.positive}' (task.positive){nearest(settings.positive, list(names))}"
        )
    return int(found[0])


def _is_negative(name: str) -> bool:
    return str(name).lower() in ("0", "no", "false", "n", "f", "negative", "neg", "-1")


def _alike(
    sheet: Sheet, name: str, names: NDArray[Any], counts: NDArray[np.int64], *, series: pd.Series
) -> list[Finding]:
    """Refuse classes that differ in case or inner white space only; mention outer white space that was taken away."""
    seen: dict[str, int] = {}
    for number, one in enumerate(names):
        folded = " ".join(str(one).casefold().split())
        if folded in seen:
            first = seen[folded]
            rare, often = sorted((first, number), key=lambda n: counts[n])
            stripped = series.astype(str).str.strip()
            row = int(np.argmax((stripped == str(names[rare])).to_numpy()))
            raise DataError(
                f"classes '{names[often]}' ({counts[often]:,} rows) and '{names[rare]}' ({counts[rare]:,}, first at "
                f"{sheet.place(row)}) of '{name}' differ only in case or white space; write them alike"
            )
        seen[folded] = number
    if pd.api.types.is_string_dtype(series.dtype):
        raw = [str(one) for one in pd.unique(series.dropna())]
        joined = len(raw) - len({one.strip() for one in raw})
        if joined:
            return [
                Finding(
                    "white-space-in-classes",
                    "advice",
                    f"white space around {joined} class name{'s' if joined > 1 else ''} of '{name}' is ignored",
                    where=name,
                    evidence={"names": joined},
                    fix="take it out of the file",
                )
            ]
    return []


def class_counts(values: NDArray[Any], classes: Sequence[str]) -> NDArray[np.int64]:
    """How many samples each class has."""
    return np.asarray(np.bincount(values[values >= 0].astype(np.int64), minlength=len(classes)), np.int64)
