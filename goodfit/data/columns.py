"""What a column holds: numbers, categories, dates, text or images; told from all its values, said in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goodfit.data.cells import MOSTLY, Cells, as_strings, as_text, cells, date_format, dates, numbers, parse_numbers
from goodfit.types import Finding

Kind = Literal["number", "category", "date", "text", "image"]
_MISSING_NUMBER = frozenset(("-", "--", ".", "none", "Nan", "NAN", "missing", "unknown"))
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True)
class ColumnType:
    """How one column is read; plain values that an encoder keeps.

    decimal: ``.``, ``,`` or ``thousands`` (a comma between groups of three digits). date: a strptime format or ISO8601.
    """

    name: str
    kind: Kind
    decimal: str = "."
    date: str = ""


@dataclass(frozen=True)
class Column:
    """A column, read.

    values: number: ``(rows,)`` float64, NaN missing; date: ``(rows,)`` float64 seconds since 1970, NaN missing;
        category: ``(rows,)`` int64 into ``levels``, -1 missing; text: ``(rows,)`` strings, empty where missing;
        image: ``(rows,)`` bytes or paths, None where missing.
    """

    type: ColumnType
    values: NDArray[Any]
    levels: NDArray[Any]

    @property
    def name(self) -> str:
        """Its title."""
        return self.type.name

    @property
    def kind(self) -> Kind:
        """What it holds."""
        return self.type.kind

    @property
    def missing(self) -> NDArray[np.bool_]:
        """``(rows,)`` true where nothing stands."""
        if self.kind == "category":
            return np.asarray(self.values < 0, bool)
        if self.kind == "text":
            return np.asarray(self.values == "", bool)
        if self.kind == "image":
            return np.asarray(pd.isna(self.values), bool)
        return np.asarray(np.isnan(self.values), bool)

    def rows(self, keep: NDArray[Any]) -> Column:
        """Only these rows (a mask or positions)."""
        return Column(self.type, self.values[keep], self.levels)


def read_column(series: pd.Series, how: ColumnType) -> Column:
    """Read a column of new data as ``how`` says."""
    if how.kind == "image":
        return Column(how, series.where(series.notna(), None).to_numpy(dtype=object), np.zeros(0, object))
    column = cells(series)
    if how.kind == "number":
        return Column(how, numbers(column, how.decimal), np.zeros(0, object))
    if how.kind == "date":
        return Column(how, dates(series, column, how.date or date_format(column.distinct)), np.zeros(0, object))
    column = as_strings(column)
    if how.kind == "text":
        return Column(how, np.append(column.distinct, "")[column.codes], np.zeros(0, object))
    return Column(how, column.codes, column.distinct)


def tell(
    series: pd.Series, name: str, *, comma: bool, folder: Path | None, places: Callable[[Sequence[int]], list[str]]
) -> tuple[Column | None, list[Finding]]:
    """Read a column as what it seems to hold; None, with a finding that says why, where nothing can be learned."""
    if len(series) and series.dtype == object and any(isinstance(v, bytes) for v in series.iloc[:20]):
        return read_column(series, ColumnType(name, "image")), []
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        column = read_column(series, ColumnType(name, "date"))
        return (column, []) if not column.missing.all() else (None, [_all_missing(name)])
    column_cells = cells(series)
    if column_cells.numbers is not None:
        return _numeric(Column(ColumnType(name, "number"), column_cells.numbers, np.zeros(0, object)), places)
    distinct = column_cells.distinct
    if not len(distinct):
        return None, [_all_missing(name)]
    counts = np.bincount(column_cells.codes[column_cells.codes >= 0], minlength=len(distinct))
    if how := _as_numbers(name, distinct, counts, comma):
        number, found = _numeric(Column(how, numbers(column_cells, how.decimal), np.zeros(0, object)), places)
        stray = np.isnan(parse_numbers(distinct, how.decimal)) & ~np.isin(distinct, list(_MISSING_NUMBER))
        if stray.any():
            found.append(_text_in_numbers(name, np.append(stray, False)[column_cells.codes], column_cells, places))
        return number, found
    if form := date_format(distinct):
        return read_column(series, ColumnType(name, "date", date=form)), []
    if len(distinct) == 1 and counts[0] == len(series):
        return None, [_constant(name, distinct[0])]
    if folder is not None and _are_images(distinct, folder):
        return read_column(series, ColumnType(name, "image")), []
    return _words(name, column_cells, counts, len(series))


def _numeric(column: Column, places: Callable[[Sequence[int]], list[str]]) -> tuple[Column | None, list[Finding]]:
    """A column of numbers: infinities become missing; an empty, constant or merely counting one is left out."""
    values, found = column.values, []
    infinite = np.isinf(values)
    if infinite.any():
        rows = np.flatnonzero(infinite)
        found.append(
            Finding(
                "infinite-values",
                "warning",
                f"column '{column.name}' holds {len(rows):,} infinite values (first at {places([int(rows[0])])[0]}); "
                "they count as missing",
                where=column.name,
                evidence={"rows": len(rows)},
                fix="mend the values, or leave the column out with data.ignore",
            )
        )
        values = np.where(infinite, np.nan, values)
        column = Column(column.type, values, column.levels)
    known = values[~np.isnan(values)]
    if not len(known):
        return None, [*found, _all_missing(column.name)]
    if len(known) == len(values) and known.min() == known.max():
        return None, [*found, _constant(column.name, as_text(known[0]))]
    if len(known) == len(values) and _is_counter(known, column.name):
        return None, [*found, _id_like(column.name, "counts the rows")]
    return column, found


def _is_counter(values: NDArray[np.float64], name: str) -> bool:
    """Whether the values are 0, 1, 2, ... in row order, or all different whole numbers under a name such as id."""
    if len(values) < 10:
        return False
    if values[0] in (0, 1) and bool((np.diff(values) == 1).all()):
        return True
    named = re.fullmatch(
        r"(?i)(.*[_ ])?(id|idx|index|row|uuid|guid|no|key)|column 1|Unnamed: 0", name
    ) or name.endswith("Id")
    return bool(named) and bool((values == np.floor(values)).all()) and len(np.unique(values)) == len(values)


def _as_numbers(name: str, distinct: NDArray[Any], counts: NDArray[np.int64], comma: bool) -> ColumnType | None:
    """How to read these strings as numbers, or None where they are none."""
    countable = np.asarray([d not in _MISSING_NUMBER for d in distinct])
    total = counts[countable].sum()
    if not total:
        return None
    sample = distinct[countable][:: max(1, len(distinct) // 200)]
    if not any(re.match(r"[+-]?[.,]?\d|[+-]?inf", str(one), re.IGNORECASE) for one in sample):
        return None

    def share(decimal: str) -> float:
        return float(counts[countable & ~np.isnan(parse_numbers(distinct, decimal))].sum() / total)

    plain = share(".")
    if plain == 1.0:
        return ColumnType(name, "number")
    best, decimal = plain, "."
    if any("," in d for d in distinct[:1000]):
        for other in (",", "thousands") if comma else ("thousands", ","):
            if (reached := share(other)) > best:
                best, decimal = reached, other
    return ColumnType(name, "number", decimal=decimal) if best >= MOSTLY else None


def _are_images(distinct: NDArray[Any], folder: Path) -> bool:
    sample = distinct[:20]
    return all(str(d).lower().endswith(IMAGE_SUFFIXES) for d in sample) and any(
        (folder / str(d)).is_file() for d in sample
    )


def _words(name: str, column: Cells, counts: NDArray[np.int64], rows: int) -> tuple[Column | None, list[Finding]]:
    """Text, categories, or a mere name of the row."""
    distinct = column.distinct
    sample = distinct[:: max(1, len(distinct) // 2000)]
    words = float(np.mean([d.count(" ") + 1 for d in sample]))
    length = float(np.mean([len(d) for d in sample]))
    known = int(counts.sum())
    unlike = len(distinct) / known
    if (words >= 3 and unlike > 0.5 and known >= 10) or words >= 8 or length >= 100:
        return Column(ColumnType(name, "text"), np.append(distinct, "")[column.codes], np.zeros(0, object)), []
    if unlike > 0.95 and known >= 20 and known > 0.5 * rows:
        return None, [
            _id_like(name, f"names nearly every row differently ({len(distinct):,} values in {known:,} rows)")
        ]
    return Column(ColumnType(name, "category"), column.codes, distinct), []


def _all_missing(name: str) -> Finding:
    return Finding(
        "empty-column",
        "warning",
        f"column '{name}' is left out: all its values are missing",
        where=name,
        fix="fill it, or remove it from the file",
    )


def _constant(name: str, value: str) -> Finding:
    return Finding(
        "constant-column",
        "advice",
        f"column '{name}' is left out: it is '{value[:40]}' in every row",
        where=name,
        fix="nothing has to be done; a constant teaches nothing",
    )


def _id_like(name: str, why: str) -> Finding:
    return Finding(
        "id-column",
        "advice",
        f"column '{name}' is left out: it {why}, so it would be learned by heart",
        where=name,
        fix="nothing has to be done; give it another form if it carries meaning",
    )


def _text_in_numbers(
    name: str, stray: NDArray[np.bool_], column: Cells, places: Callable[[Sequence[int]], list[str]]
) -> Finding:
    rows = np.flatnonzero(stray)
    shown = ", ".join(
        f"'{str(column.distinct[column.codes[r]])[:30]}' at {p}"
        for r, p in zip(rows[:3], places(rows[:3].tolist()), strict=True)
    )
    more = f" and {len(rows) - 3:,} more" if len(rows) > 3 else ""
    return Finding(
        "text-in-numbers",
        "warning",
        f"column '{name}' holds numbers, but not {shown}{more}; those count as missing",
        where=name,
        evidence={"rows": len(rows)},
        fix="mend these cells, or write what is missing as an empty cell",
    )
