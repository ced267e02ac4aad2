"""What a column holds: numbers, categories, dates, text or images; told from all its values, said in plain words.

Every column of strings is first reduced to its distinct values (one pass), so all parsing costs as much as there are
different values, not rows.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goodfit.types import Finding

Kind = Literal["number", "category", "date", "text", "image"]
MISSING = frozenset(("", "?", "NA", "N/A", "n/a", "na", "#N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "NaT"))
_MISSING_NUMBER = frozenset(("-", "--", ".", "none", "Nan", "NAN", "missing", "unknown"))
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
_MOSTLY = 0.9
"""A column of strings is one of numbers (or dates) when so many of its values are; the others are reported and missing."""
DATE_FORMATS = (
    "ISO8601",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d-%m-%Y",
    "%d-%m-%Y %H:%M",
    "%m-%d-%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%b %Y",
    "%B %Y",
)


@dataclass(frozen=True)
class Cells:
    """A column reduced to its distinct values.

    codes: ``(rows,)`` int64, -1 where missing. distinct: the values, strings without white space around them.
    numbers: ``(rows,)`` float64 with NaN where the source holds numbers already, then distinct is empty until asked for.
    """

    codes: NDArray[np.int64]
    distinct: NDArray[Any]
    numbers: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class ColumnType:
    """How one column is read; plain values that an encoder keeps.

    decimal: ``.``, ``,`` or ``thousands`` (a comma between groups of three digits). date: a format of strptime or ISO8601.
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
            return self.values < 0
        if self.kind == "text":
            return np.asarray(self.values == "")
        if self.kind == "image":
            return np.asarray(pd.isna(self.values))
        return np.isnan(self.values)

    def rows(self, keep: NDArray[Any]) -> Column:
        """Only these rows (a mask or positions)."""
        return Column(self.type, self.values[keep], self.levels)


def cells(series: pd.Series, *, missing: frozenset[str] = MISSING) -> Cells:
    """Reduce a column to its distinct values. Infinite numbers stay; the strings in ``missing`` become -1."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        values = series.cat.categories
        codes = series.cat.codes.to_numpy(np.int64)
        return _reduce(codes, np.asarray(values), missing)
    if pd.api.types.is_bool_dtype(dtype):
        codes, values = pd.factorize(series)
        return _reduce(codes, np.asarray(values), missing)
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        numbers = series.to_numpy(np.float64, na_value=np.nan)
        return Cells(np.zeros(0, np.int64), np.zeros(0, object), numbers)
    try:
        codes, values = pd.factorize(series)
    except TypeError:  # lists and other things that cannot be compared
        codes, values = pd.factorize(series.astype(str))
    return _reduce(codes, np.asarray(values, dtype=object), missing)


def _reduce(codes: NDArray[Any], values: NDArray[Any], missing: frozenset[str]) -> Cells:
    """Strip the distinct values, join those that became equal, and take out what means missing."""
    strings = np.asarray([_as_text(value).strip() for value in values], dtype=object)
    gone = np.asarray([value in missing for value in strings], dtype=bool)
    merged, names = pd.factorize(strings)
    merged = np.where(gone, -1, merged)
    used = np.unique(merged[merged >= 0])
    renumber = np.full(len(names) + 1, -1, np.int64)
    renumber[used] = np.arange(len(used))
    table = np.append(renumber[merged], -1)
    return Cells(table[np.asarray(codes, np.int64)], np.asarray(names, dtype=object)[used])


def _as_text(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, float | np.floating):
        return repr(float(value))
    return str(value)


def as_strings(column: Cells) -> Cells:
    """The same with its numbers as strings, for a numeric column that is used as categories (a target, groups)."""
    if column.numbers is None:
        return column
    codes, values = pd.factorize(column.numbers, sort=True)
    return Cells(np.asarray(codes, np.int64), np.asarray([_as_text(v) for v in values], dtype=object))


def numbers(column: Cells, decimal: str) -> NDArray[np.float64]:
    """``(rows,)`` float64: NaN where missing or no number."""
    if column.numbers is not None:
        return column.numbers
    return np.append(parse_numbers(column.distinct, decimal), np.nan)[column.codes]


def parse_numbers(strings: NDArray[Any], decimal: str = ".") -> NDArray[np.float64]:
    """Numbers from strings, NaN for what is none."""
    texts = pd.Series(strings, dtype=object)
    if decimal == ",":
        plain = texts.str.fullmatch(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)?(,\d+)?([eE][+-]?\d+)?").to_numpy(bool)
        texts = texts.where(~plain, texts.str.replace(".", "", regex=False).str.replace(",", ".", regex=False))
    elif decimal == "thousands":
        plain = texts.str.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?").to_numpy(bool)
        texts = texts.where(~plain, texts.str.replace(",", "", regex=False))
    return np.asarray(pd.to_numeric(texts, errors="coerce"), np.float64) if len(texts) else np.zeros(0)


def dates(series: pd.Series, column: Cells, form: str) -> NDArray[np.float64]:
    """``(rows,)`` seconds since 1970 as float64, NaN where missing or no date."""
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return _seconds(pd.DatetimeIndex(series))
    if column.numbers is not None:
        return np.full(len(series), np.nan)
    return np.append(parse_dates(column.distinct, form), np.nan)[column.codes]


def parse_dates(strings: NDArray[Any], form: str) -> NDArray[np.float64]:
    """Seconds since 1970 from strings, NaN for what is no date of this format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parsed = pd.to_datetime(pd.Series(strings, dtype=object), format=form, errors="coerce", utc=True)
    return _seconds(pd.DatetimeIndex(parsed))


def _seconds(index: pd.DatetimeIndex) -> NDArray[np.float64]:
    if index.tz is not None:
        index = index.tz_convert("UTC").tz_localize(None)
    values = index.as_unit("us").to_numpy()
    return np.where(np.isnat(values), np.nan, values.astype(np.int64) / 1e6)


def read_column(series: pd.Series, how: ColumnType) -> Column:
    """Read a column of new data as ``how`` says."""
    if how.kind == "image":
        return Column(how, series.where(series.notna(), None).to_numpy(dtype=object), np.zeros(0, object))
    column = cells(series)
    if how.kind == "number":
        return Column(how, numbers(column, how.decimal), np.zeros(0, object))
    if how.kind == "date":
        return Column(how, dates(series, column, how.date), np.zeros(0, object))
    column = as_strings(column)
    if how.kind == "text":
        return Column(how, np.append(column.distinct, "")[column.codes], np.zeros(0, object))
    return Column(how, column.codes, column.distinct)


def tell(
    series: pd.Series, name: str, *, comma: bool, folder: Path | None, places: Callable[[Sequence[int]], list[str]]
) -> tuple[Column | None, list[Finding]]:
    """Read a column as what it seems to hold; None where there is nothing to learn from, with a finding that says why."""
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
        column, found = _numeric(Column(how, numbers(column_cells, how.decimal), np.zeros(0, object)), places)
        stray = np.isnan(parse_numbers(distinct, how.decimal)) & ~np.isin(distinct, list(_MISSING_NUMBER))
        if stray.any():
            found.append(_text_in_numbers(name, np.append(stray, False)[column_cells.codes], column_cells, places))
        return column, found
    if form := _date_format(distinct):
        return read_column(series, ColumnType(name, "date", date=form)), []
    if len(distinct) == 1 and counts[0] == len(series):
        return None, [_constant(name, distinct[0])]
    if folder is not None and _are_images(distinct, folder):
        return read_column(series, ColumnType(name, "image")), []
    return _words(name, column_cells, counts, len(series))


def _numeric(column: Column, places: Callable[[Sequence[int]], list[str]]) -> tuple[Column | None, list[Finding]]:
    """A column of numbers: infinities become missing; nothing left, one value only, or a mere row counter is left out."""
    values, found = column.values, []
    infinite = np.isinf(values)
    if infinite.any():
        rows = np.flatnonzero(infinite)
        found.append(
            Finding(
                "infinite-values",
                "warning",
                f"column '{column.name}' holds {len(rows):,} infinite values (first at {places(rows[:1])[0]}); they count as missing",
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
        return None, [*found, _constant(column.name, _as_text(known[0]))]
    if len(known) == len(values) and _is_counter(known, column.name):
        return None, [*found, _id_like(column.name, "counts the rows")]
    return column, found


def _is_counter(values: NDArray[np.float64], name: str) -> bool:
    """Whether the values are 0, 1, 2, ... in row order, or all different whole numbers under a name such as id."""
    if len(values) < 10:
        return False
    if values[0] in (0, 1) and bool((np.diff(values) == 1).all()):
        return True
    named = re.fullmatch(r"(?i)(.*[_ ])?(id|idx|index|row|uuid|guid|no|key)|column 1|Unnamed: 0", name) or name.endswith("Id")
    return bool(named) and bool((values == np.floor(values)).all()) and len(np.unique(values)) == len(values)


def _as_numbers(name: str, distinct: NDArray[Any], counts: NDArray[np.int64], comma: bool) -> ColumnType | None:
    """How to read these strings as numbers, or None where they are none."""
    countable = np.asarray([d not in _MISSING_NUMBER for d in distinct])
    total = counts[countable].sum()
    if not total:
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
    return ColumnType(name, "number", decimal=decimal) if best >= _MOSTLY else None


def _date_format(distinct: NDArray[Any]) -> str:
    """The format under which nearly all strings are dates, or an empty string."""
    sample = distinct[:: max(1, len(distinct) // 200)]
    looks = [bool(re.search(r"\d", d)) and bool(re.search(r"[-/.:]|[A-Za-z]{3}", d)) and 6 <= len(d) <= 35 for d in sample]
    if np.mean(looks) < _MOSTLY:
        return ""
    best, form = 0.0, ""
    for one in DATE_FORMATS:
        good = float(np.mean(~np.isnan(parse_dates(sample, one))))
        if good > best:
            best, form = good, one
            if good == 1.0 and one in ("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S"):
                other = one.replace("%m/%d", "%d/%m")
                if np.isnan(parse_dates(distinct, one)).any() and not np.isnan(parse_dates(distinct, other)).any():
                    form = other
            if good == 1.0:
                break
    return form if best >= _MOSTLY else ""


def _are_images(distinct: NDArray[Any], folder: Path) -> bool:
    sample = distinct[:20]
    return all(str(d).lower().endswith(IMAGE_SUFFIXES) for d in sample) and any((folder / str(d)).is_file() for d in sample)


def _words(name: str, column: Cells, counts: NDArray[np.int64], rows: int) -> tuple[Column | None, list[Finding]]:
    """Text, categories, or a mere name of the row."""
    distinct = column.distinct
    sample = distinct[:: max(1, len(distinct) // 2000)]
    words = float(np.mean([d.count(" ") + 1 for d in sample]))
    length = float(np.mean([len(d) for d in sample]))
    known = int(counts.sum())
    unlike = len(distinct) / known
    if words >= 3 and unlike > 0.5 and known >= 10 or words >= 8 or length >= 100:
        return Column(ColumnType(name, "text"), np.append(distinct, "")[column.codes], np.zeros(0, object)), []
    if unlike > 0.95 and known >= 20 and known > 0.5 * rows:
        return None, [_id_like(name, f"names nearly every row differently ({len(distinct):,} values in {known:,} rows)")]
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
    shown = ", ".join(f"'{str(column.distinct[column.codes[r]])[:30]}' at {p}" for r, p in zip(rows[:3], places(rows[:3].tolist()), strict=True))
    more = f" and {len(rows) - 3:,} more" if len(rows) > 3 else ""
    return Finding(
        "text-in-numbers",
        "warning",
        f"column '{name}' holds numbers, but not {shown}{more}; those count as missing",
        where=name,
        evidence={"rows": len(rows)},
        fix="mend these cells, or write what is missing as an empty cell",
    )
