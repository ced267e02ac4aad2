"""Delimited text (CSV, TSV and their like) as a frame of strings, whatever its encoding and delimiter.

Nothing is evaluated and no type is guessed here: a cell ``=1+1`` stays those four characters.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from goodfit.errors import DataError
from goodfit.types import Finding

DELIMITERS = (",", ";", "\t", "|")
_NONE = "\x1f"
"""Stands for the delimiter of a table of one column, in whose cells commas are commas."""
_NAMES = {_NONE: "a separator", ",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
_HEAD = 1 << 16
_RAGGED_SHARE = 0.01
"""Up to this share of rows with a wrong number of fields is left out with a warning; more is an error."""


class Delimited(NamedTuple):
    """A parsed file: every cell a string, and where each row begins."""

    frame: pd.DataFrame
    delimiter: str
    findings: tuple[Finding, ...]
    lines: Lines


def parse(raw: bytes, name: str) -> Delimited:
    """Parse the bytes of a delimited file with a header.

    A first line of numbers only is data, not a header. Rows with one field more than the header begin with a row name.

    Raises DataError for an empty file, one that is no text, a header without rows, and for more than 1 % of rows with
    a wrong number of fields. Fewer of them are left out and reported with their lines.
    """
    if not raw:
        raise DataError(f"{name} is empty (0 bytes); give a table with a header and at least one row")
    text, findings = decode(raw, name)
    if not text.strip():
        raise DataError(f"{name} holds nothing but white space; give a table with a header and at least one row")
    delimiter = sniff(text)
    header, body, first_line = _header(text, delimiter)
    if all(_is_number(cell) for cell in header):
        body, first_line = text, 1
        findings.append(_no_header(header, name))
        header = [""] * len(header)
    elif _width(body, delimiter) == len(header) + 1:
        header = ["", *header]
    columns, renamed = unique_names(header, name)
    findings += renamed
    frame, bad = _read(body, columns, delimiter=delimiter)
    lines = Lines(body, delimiter, first_line, frozenset(record for record, _ in bad))
    if bad:
        findings.append(_ragged(bad, len(frame), lines, name=name, width=len(columns)))
    if not len(frame):
        raise DataError(f"{name} has a header and no rows; give at least one row under it")
    return Delimited(frame, delimiter, tuple(findings), lines)


def decode(raw: bytes, name: str) -> tuple[str, list[Finding]]:
    """Bytes as text: UTF-8 (with or without mark), UTF-16, else Windows-1252; line by line where they are mixed."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if raw.startswith(mark):
            try:
                return raw.decode(encoding), []
            except UnicodeDecodeError as error:
                if encoding == "utf-16":
                    raise DataError(
                        f"{name} begins as UTF-16 text and breaks at byte {error.start:,}; save it again as UTF-8"
                    ) from None
                raw = raw[3:]
    if b"\0" in raw[:_HEAD]:
        shares = [raw[start:_HEAD:2].count(b"\0") / max(len(raw[start:_HEAD:2]), 1) for start in (0, 1)]
        if max(shares) > 0.6 and min(shares) < 0.2:
            with contextlib.suppress(UnicodeDecodeError):
                return raw.decode("utf-16-le" if shares[1] > shares[0] else "utf-16-be"), []
        raise DataError(f"{name} is no text (it holds zero bytes); give a CSV, TSV or Parquet file")
    try:
        return raw.decode(), []
    except UnicodeDecodeError:
        return _decode_by_line(raw, name)


def _decode_by_line(raw: bytes, name: str) -> tuple[str, list[Finding]]:
    decoded, foreign, multibyte = [], [], 0
    for number, line in enumerate(raw.split(b"\n"), 1):
        try:
            decoded.append(line.decode())
            multibyte += not line.isascii()
        except UnicodeDecodeError:
            foreign.append(number)
            try:
                decoded.append(line.decode("cp1252"))
            except UnicodeDecodeError:
                decoded.append(line.decode("latin-1"))
    shown = ", ".join(str(number) for number in foreign[:5]) + ("" if len(foreign) <= 5 else ", ...")
    if multibyte:
        message = (
            f"{name} mixes encodings: {multibyte} lines are UTF-8 and {len(foreign)} are not (lines {shown}); those "
            f"are read as "
            "Windows-1252"
        )
    else:
        message = f"{name} is not UTF-8 (first in line {foreign[0]}); it is read as Windows-1252"
    finding = Finding(
        "mixed-encodings" if multibyte else "encoding",
        "warning" if multibyte else "advice",
        message,
        where=f"{name}:{foreign[0]}",
        evidence={"lines": len(foreign)},
        fix="save the file as UTF-8 and check the accented letters",
    )
    return "\n".join(decoded), [finding]


def sniff(text: str) -> str:
    """The delimiter under which header and first rows have the same number of fields, and the most of them.

    Where the header has one field under any, the table has one column and no delimiter.
    """
    head = _head(text)
    best, delimiter = (0.0, 0), _NONE
    for one in DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(head, newline=""), delimiter=one) if row][:200]
        except csv.Error:
            continue
        if not widths or widths[0] == 1:
            continue
        agree = sum(width == widths[0] for width in widths) / len(widths)
        score = (round(agree, 1), widths[0])
        if score > best:
            best, delimiter = score, one
    return delimiter


def _head(text: str) -> str:
    """The first whole lines."""
    return text if len(text) <= _HEAD else text[: text.rfind("\n", 0, _HEAD) + 1] or text[:_HEAD]


def _header(text: str, delimiter: str) -> tuple[list[str], str, int]:
    """The first row that is not blank, the text after it, and the line in which that begins."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        header = next((row for row in reader if any(cell.strip() for cell in row)), [])
    except csv.Error:
        header = []
    if not header:
        raise DataError("the header cannot be parsed; check its quotation marks") from None
    return header, text[lines.tell() :], reader.line_num + 1


def _width(body: str, delimiter: str) -> int:
    """The number of fields of the first rows where all agree, else 0."""
    try:
        widths = {len(row) for row in csv.reader(io.StringIO(_head(body), newline=""), delimiter=delimiter) if row}
    except csv.Error:
        return 0
    return widths.pop() if len(widths) == 1 else 0


def _no_header(header: Sequence[str], name: str) -> Finding:
    return Finding(
        "no-header",
        "warning",
        f"the first line of {name} holds numbers only, so it is read as data; the columns are called column 1 to "
        f"column {len(header)}",
        where=f"{name}:1",
        fix="put a line with the columns' names first",
    )


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\s*", cell))


def unique_names(header: Sequence[str], name: str) -> tuple[list[str], list[Finding]]:
    """Column names of which no two are the same: blanks are numbered, repetitions get ``(2)``, and are reported."""
    columns: dict[str, None] = {}
    copies: dict[str, int] = {}
    renamed: list[str] = []
    for position, cell in enumerate(header, 1):
        wanted = cell.strip() or f"column {position}"
        title, copy = wanted, copies.get(wanted, 1)
        while title in columns:
            copy += 1
            title = f"{wanted} ({copy})"
        copies[wanted] = copy
        if copy > 1:
            renamed.append(title)
        columns[title] = None
    if not renamed:
        return list(columns), []
    return list(columns), [
        Finding(
            "duplicate-columns",
            "warning",
            f"{name} has several columns of one name; the later ones are called {', '.join(map(repr, renamed[:5]))}",
            where=f"{name}:1",
            evidence={"renamed": len(renamed)},
            fix="give every column its own name, or leave the copies out with data.ignore",
        )
    ]


def _read(body: str, columns: Sequence[str], *, delimiter: str) -> tuple[pd.DataFrame, list[tuple[int, int]]]:
    """The frame of strings, and (record number from 0, number of fields) of each row that does not fit."""
    bad: list[tuple[int, int]] = []

    def leave_out(row: pyarrow.csv.InvalidRow) -> str:
        bad.append((int(row.number) - 1, int(row.actual_columns)))
        return "skip"

    raw = body.encode("utf-8", errors="replace")
    if not raw.strip():
        return pd.DataFrame(columns=list(columns)), []
    # One thread: only then does a row that does not fit know its number.
    reading = pyarrow.csv.ReadOptions(
        column_names=list(columns), use_threads=False, block_size=min(len(raw) + 1, 1 << 27)
    )
    parsing = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=leave_out)
    converting = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.large_string()), strings_can_be_null=False
    )
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(raw), read_options=reading, parse_options=parsing, convert_options=converting
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"the table cannot be parsed: {error}; check its quotation marks") from None
    return table.to_pandas(), bad


class Lines:
    """In which line of the file a record begins. The file is parsed again for that, once, when a message asks."""

    def __init__(self, body: str, delimiter: str, first_line: int, left_out: frozenset[int]) -> None:
        self.body, self.delimiter, self.first_line, self.left_out = body, delimiter, first_line, left_out

    def __call__(self, records: Sequence[int]) -> list[int]:
        """The lines of these rows of the frame."""
        return [self._kept[r] if r < len(self._kept) else r + self.first_line for r in records]

    def of_all(self, records: Sequence[int]) -> list[int]:
        """The lines of these records, where those that were left out count too."""
        return [self._starts[r] if r < len(self._starts) else r + self.first_line for r in records]

    @cached_property
    def _starts(self) -> list[int]:
        starts, before = [], 0
        reader = csv.reader(io.StringIO(self.body, newline=""), delimiter=self.delimiter)
        try:
            for row in reader:
                if row:
                    starts.append(before + self.first_line)
                before = reader.line_num
        except csv.Error:
            pass  # a field longer than this reader takes: what follows is counted by record
        return starts

    @cached_property
    def _kept(self) -> list[int]:
        return [line for record, line in enumerate(self._starts) if record not in self.left_out]


def _ragged(bad: Sequence[tuple[int, int]], kept: int, lines: Lines, *, name: str, width: int) -> Finding:
    where = lines.of_all([record for record, _ in bad[:5]])
    shown = ", ".join(f"{name}:{line} ({fields})" for line, (_, fields) in zip(where, bad[:5], strict=True))
    more = f" and {len(bad) - 5:,} more" if len(bad) > 5 else ""
    message = (
        f"the header has {width} field{'' if width == 1 else 's'}, but other numbers of fields are in {shown}{more}"
        f"{_hint(lines, where, width)}"
    )
    if len(bad) > _RAGGED_SHARE * (kept + len(bad)):
        raise DataError(
            f"{message}; mend these lines, or put fields that hold {_NAMES[lines.delimiter]} in quotation marks"
        )
    return Finding(
        "ragged-rows",
        "warning",
        f"{len(bad):,} of {kept + len(bad):,} rows are left out: {message}",
        where=f"{name}:{where[0]}",
        evidence={"rows": len(bad)},
        fix=f"mend these lines, or put fields that hold {_NAMES[lines.delimiter]} in quotation marks",
    )


def _hint(lines: Lines, where: Sequence[int], width: int) -> str:
    """What may have gone wrong in these lines."""
    text = lines.body.split("\n")
    for other in DELIMITERS:
        if (
            width > 1
            and other != lines.delimiter
            and all(
                text[line - lines.first_line].count(other) == width - 1
                for line in where
                if line - lines.first_line < len(text)
            )
        ):
            return f"; {_NAMES[other]} seems to be their delimiter, and {_NAMES[lines.delimiter]} that of the others"
    if lines.body.count('"') % 2:
        return "; a quotation mark is opened and never closed"
    return ""
