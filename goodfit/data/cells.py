"""The cells of a column as distinct values, numbers or dates; whatever the source stored them as.

Every column of strings is first reduced to its distinct values (one pass), so all parsing costs as much as there are
different values, not rows.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MISSING = frozenset(
    (
        "",
        "?",
        "NA",
        "N/A",
        "n/a",
        "na",
        "#N/A",
        "#NA",
        "<NA>",
        "NaN",
        "nan",
        "-NaN",
        "-nan",
        "NULL",
        "null",
        "None",
        "NaT",
    )
)
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
MOSTLY = 0.9
"""A column of strings holds numbers (or dates) when so many of its values are; the others are reported."""


@dataclass(frozen=True)
class Cells:
    """A column reduced to its distinct values.

    codes: ``(rows,)`` int64, -1 where missing. distinct: the values, strings without white space around them.
    numbers: ``(rows,)`` float64 with NaN, where the source holds numbers already; codes and distinct are then empty.
    """

    codes: NDArray[np.int64]
    distinct: NDArray[Any]
    numbers: NDArray[np.float64] | None = None


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
    strings = np.asarray([as_text(value).strip() for value in values], dtype=object)
    gone = np.asarray([value in missing for value in strings], dtype=bool)
    merged, names = pd.factorize(strings)
    merged = np.where(gone, -1, merged)
    used = np.unique(merged[merged >= 0])
    renumber = np.full(len(names) + 1, -1, np.int64)
    renumber[used] = np.arange(len(used))
    table = np.append(renumber[merged], -1)
    return Cells(table[np.asarray(codes, np.int64)], np.asarray(names, dtype=object)[used])


def as_text(value: Any) -> str:
    """A value as a category's name; whole numbers without a decimal point."""
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
    return Cells(np.asarray(codes, np.int64), np.asarray([as_text(v) for v in values], dtype=object))


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
    if column.numbers is not None or not form:
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


def date_format(distinct: NDArray[Any]) -> str:
    """The format under which nearly all strings are dates, or an empty string."""
    sample = distinct[:: max(1, len(distinct) // 200)]
    if not len(sample):
        return ""
    looks = [
        bool(re.search(r"\d", d)) and bool(re.search(r"[-/.:]|[A-Za-z]{3}", d)) and 6 <= len(d) <= 35 for d in sample
    ]
    if np.mean(looks) < MOSTLY:
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
    return form if best >= MOSTLY else ""
