"""Any table as one frame with unique column names: a file, a folder of train and test files, a DataFrame."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from goodfit.data import delimited
from goodfit.data.files import check_parquet, refuse_special, unpacked
from goodfit.errors import DataError
from goodfit.types import Finding

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".data", ".csv.gz", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = TEXT_SUFFIXES + PARQUET_SUFFIXES
PARTS = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}


@dataclass(frozen=True)
class Sheet:
    """A table as it was read, before anything is made of it.

    frame: a fresh index from 0 and unique names; cells of text files are strings.
    places: names rows for a message: positions -> ``"adult.csv:17"``.
    comma: whether a comma is more likely a decimal mark than a thousands separator.
    part: ``(rows,)`` 0 train, 1 valid, 2 test, where the source says so.
    folder: what relative paths in its cells start from.
    classes: names for the numbers of a column, from the file's own metadata.
    """

    name: str
    frame: pd.DataFrame
    fingerprint: str
    places: Callable[[Sequence[int]], list[str]]
    findings: tuple[Finding, ...] = ()
    comma: bool = False
    part: NDArray[np.int64] | None = None
    folder: Path | None = None
    classes: Mapping[str, tuple[str, ...]] | None = None

    def place(self, row: int) -> str:
        """One row for a message."""
        return self.places([int(row)])[0]


def read_sheet(source: Any) -> Sheet:
    """Read a table. ``source``: a path, a DataFrame or Arrow table, or a mapping of those named train, valid and test.

    Raises DataError, with the file's name, for whatever cannot be read.
    """
    if isinstance(source, Mapping) and set(source) <= set(PARTS):
        return join({str(name): read_sheet(one) for name, one in source.items()})
    if isinstance(source, pd.DataFrame):
        return _from_frame(source)
    if isinstance(source, pa.Table):
        frame, classes = _from_arrow(source)
        return replace(_from_frame(frame, name="table"), classes=classes)
    if isinstance(source, str | Path):
        path = Path(source)
        return (
            join({part: _from_file(one) for part, one in found.items()})
            if (found := parts_in(path))
            else _from_file(path)
        )
    raise DataError(f"a {type(source).__name__} is no table; give a path or a DataFrame")


def parts_in(folder: Path) -> dict[str, Path]:
    """The tables of a folder with ``train.csv`` (.tsv, .parquet) and perhaps ``valid`` and ``test``; else nothing."""
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = path.name.split(".", 1)[0].lower()
        if stem in PARTS and path.name.lower().endswith(SUFFIXES):
            part = next(name for name in ("train", "valid", "test") if PARTS[name] == PARTS[stem])
            if part in found:
                raise DataError(f"{folder} holds {found[part].name} and {path.name}; keep one of them")
            found[part] = path
    return found if "train" in found else {}


def join(sheets: Mapping[str, Sheet]) -> Sheet:
    """Several sheets as one that knows each row's part. Raises DataError where columns of train are missing."""
    if "train" not in {("train" if PARTS[name] == 0 else name) for name in sheets}:
        raise DataError("parts are given, but none is called train")
    ordered = sorted(sheets.items(), key=lambda item: PARTS[item[0]])
    first = ordered[0][1]
    for _, sheet in ordered[1:]:
        missing = [c for c in first.frame.columns if c not in sheet.frame.columns]
        if missing:
            raise DataError(f"{sheet.name} has no column {', '.join(map(repr, missing[:5]))}, which {first.name} has")
    frames = [sheet.frame[list(first.frame.columns)] for _, sheet in ordered]
    starts = np.cumsum([0, *(len(frame) for frame in frames)])

    def places(rows: Sequence[int]) -> list[str]:
        which = np.searchsorted(starts, rows, side="right") - 1
        return [ordered[w][1].place(int(row - starts[w])) for w, row in zip(which, rows, strict=True)]

    digest = hashlib.sha256("".join(f"{name}:{sheet.fingerprint}" for name, sheet in ordered).encode())
    return Sheet(
        first.name,
        pd.concat(frames, ignore_index=True),
        digest.hexdigest(),
        places,
        tuple(finding for _, sheet in ordered for finding in sheet.findings),
        first.comma,
        np.concatenate([np.full(len(sheet.frame), PARTS[name], np.int64) for name, sheet in ordered]),
        first.folder,
        first.classes,
    )


def _from_file(path: Path) -> Sheet:
    if not path.exists():
        raise DataError(f"{path} does not exist{similar(path)}")
    refuse_special(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder without train.csv, train.tsv or train.parquet; give the table itself")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    name, fingerprint = path.name, hashlib.sha256(raw).hexdigest()
    if name.lower().endswith(PARQUET_SUFFIXES) or raw[:4] == b"PAR1":
        return _from_parquet(raw, path, fingerprint)
    if raw[:4] == b"PK\x03\x04":
        raise DataError(f"{name} is a spreadsheet or a zip archive; save the sheet as CSV, or unpack it, and give that")
    if raw[:2] == b"\x1f\x8b":
        raw = unpacked(raw, name)
    parsed = delimited.parse(raw, name)

    def places(rows: Sequence[int]) -> list[str]:
        return [f"{name}:{line}" for line in parsed.lines(rows)]

    return Sheet(
        name,
        parsed.frame,
        fingerprint,
        places,
        parsed.findings,
        parsed.delimiter in (";", "\t", "|"),
        folder=path.parent,
    )


def _from_parquet(raw: bytes, path: Path, fingerprint: str) -> Sheet:
    name = path.name
    if not raw:
        raise DataError(f"{name} is empty (0 bytes); give a table with at least one row")
    try:
        with pyarrow.parquet.ParquetFile(pa.BufferReader(raw)) as file:
            check_parquet(file, len(raw), name)
            table = file.read()
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name} is no readable Parquet file ({first}); write it again") from None
    if not table.num_rows:
        raise DataError(f"{name} has no rows; give at least one")
    frame, classes = _from_arrow(table)
    sheet = _from_frame(frame, name=name)
    return replace(
        sheet,
        fingerprint=fingerprint,
        places=lambda rows: [f"{name} row {r + 1}" for r in rows],
        folder=path.parent,
        classes=classes,
    )


def _from_arrow(table: pa.Table) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """A frame in which an image struct ``{bytes, path}`` is its bytes, and class names from Hugging Face's metadata."""
    columns = {}
    for name in dict.fromkeys(table.column_names):
        column = table[table.column_names.index(name)]
        if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            column = pa.chunked_array([chunk.field("bytes") for chunk in column.chunks], type=pa.binary())
        elif pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        elif pa.types.is_date(column.type):
            column = column.cast(pa.timestamp("ms"))
        columns[name] = column.to_pandas()
    classes: dict[str, tuple[str, ...]] = {}
    metadata = (table.schema.metadata or {}).get(b"huggingface")
    if metadata:
        try:
            features = json.loads(metadata)["info"]["features"]
        except (ValueError, KeyError, TypeError):
            features = {}
        for name, feature in features.items():
            if isinstance(feature, dict) and isinstance(feature.get("names"), list):
                classes[name] = tuple(str(one) for one in feature["names"])
    return pd.DataFrame(columns), classes


def _from_frame(source: pd.DataFrame, *, name: str = "DataFrame") -> Sheet:
    if not len(source.columns):
        raise DataError(f"the {name} has no columns")
    if not len(source):
        raise DataError(f"the {name} has no rows; give at least one")
    titles = [" ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in source.columns]
    columns, findings = delimited.unique_names(titles, f"the {name}")
    frame = source.set_axis(columns, axis="columns").reset_index(drop=True)
    labels = source.index

    def places(rows: Sequence[int]) -> list[str]:
        return [f"{name} row {labels[r]}" for r in rows]

    return Sheet(name, frame, _fingerprint(frame), places, tuple(findings))


def _fingerprint(frame: pd.DataFrame) -> str:
    digest = hashlib.sha256("\x1f".join(frame.columns).encode())
    for name in frame.columns:
        try:
            values = pd.util.hash_array(np.asarray(frame[name]), categorize=True)
        except TypeError:
            values = pd.util.hash_array(frame[name].astype(str).to_numpy(dtype=object))
        digest.update(values.tobytes())
    return digest.hexdigest()


def similar(path: Path) -> str:
    """The nearest name beside a path that does not exist, as the end of a message."""
    parent = path.parent
    names = [one.name for one in parent.iterdir()] if parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"; did you mean {parent / close[0]}?" if close else "; check the path"
