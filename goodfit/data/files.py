"""Files of data as bytes, with bounds: no pipe is waited for, and nothing packed unfolds to more than memory holds."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from goodfit.errors import DataError

SMALL = 1 << 28
"""Bytes to which anything may unfold, however small it is packed."""
RATIO = 200
"""How many times its size a larger file may unfold to: text packs 5 to 20 times, and a bomb 1,000 times."""
MOST_VALUES = 50_000_000
"""Values that a Parquet file may declare, however small it is: a run of one value takes a few bytes."""


def refuse_special(path: Path) -> None:
    """Raise DataError for a pipe, a socket or a device: some would be waited for, others never end."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise DataError(f"{path} is a pipe or a device; save what it gives to a file, and give that")
    except OSError as error:
        raise DataError(f"{str(path)[:200]} cannot be read: {error.strerror or error}") from None


def unpacked(raw: bytes, name: str) -> bytes:
    """What a gzip file holds. Raises DataError where it is damaged or a bomb."""
    most = max(SMALL, RATIO * len(raw))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            found = file.read(most + 1)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{name} is a damaged gzip file ({error}); fetch it again") from None
    except Exception as error:  # zlib has an error of its own, which is none of the above
        raise DataError(f"{name} is a damaged gzip file ({error}); fetch it again") from None
    if len(found) > most:
        raise DataError(f"{name} unfolds to more than {most / 2**20:,.0f} MiB; unpack it, and give the table itself")
    return found


def check_parquet(file: pyarrow.parquet.ParquetFile, size: int, name: str) -> None:
    """Raise DataError where a Parquet file of so many bytes declares more than such a file can hold in earnest."""
    meta = file.metadata
    groups = [meta.row_group(n) for n in range(meta.num_row_groups)]
    values = sum(group.column(n).num_values for group in groups for n in range(group.num_columns))
    total = sum(group.total_byte_size for group in groups)
    if values > max(MOST_VALUES, RATIO * size) or total > max(SMALL, 5 * RATIO * size):
        raise DataError(f"{name} declares {values:,} values in {size:,} bytes; that is no table")


def check_npz(path: Path) -> None:
    """Raise DataError where NumPy would make more of a ``.npz`` or ``.npy`` file than it holds."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(one.file_size for one in members) > max(SMALL, RATIO * size):
                raise DataError(f"{path} unfolds to more than {RATIO} times its size; save it anew without compression")
            for one in members:
                with archive.open(one) as inside:
                    _check_header(inside, one.file_size, f"{path} ({one.filename})")
    else:
        with path.open("rb") as file:
            _check_header(file, size, str(path))


def _check_header(file: Any, size: int, name: str) -> None:
    form: Any = np.lib.format
    readers: dict[tuple[int, int], Callable[[Any], Any]] = {
        (1, 0): form.read_array_header_1_0,
        (2, 0): form.read_array_header_2_0,
    }
    version = form.read_magic(file)
    shape, _, dtype = readers.get(version, form.read_array_header_2_0)(file)
    if dtype.hasobject:
        raise DataError(f"{name} holds Python objects, which are programs; save numbers")
    count = 1
    for side in shape:
        count *= int(side)
    if count * max(dtype.itemsize, 1) > size or count < 0:
        raise DataError(f"{name} declares an array of shape {shape}, which it does not hold; save it anew")
