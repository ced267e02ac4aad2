"""Reads data of any kind: give a name, a path or an object, get three parts, a summary and an audit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from goodfit.data import embedded, images
from goodfit.data.array_encoder import TensorEncoder
from goodfit.data.arrays import is_arrays, read_arrays
from goodfit.data.data import Data, Encoder
from goodfit.data.files import refuse_special
from goodfit.data.image_encoder import ImageEncoder
from goodfit.data.language import LanguageEncoder, read_language
from goodfit.data.pairs import PairEncoder, are_pairs, read_pairs
from goodfit.data.prepare import prepare
from goodfit.data.series import SeriesEncoder
from goodfit.data.series_data import read_series
from goodfit.data.sheet import PARTS, SUFFIXES, Sheet, join, parts_in, read_sheet, similar
from goodfit.data.table import TableEncoder, read_table
from goodfit.data.text import TextEncoder, read_text
from goodfit.errors import DataError, nearest
from goodfit.recipe import DataSettings, TaskSettings

__all__ = ["Data", "Encoder", "encoder_from_json", "read"]

_ENCODERS = (TableEncoder, TextEncoder, LanguageEncoder, PairEncoder, SeriesEncoder, ImageEncoder, TensorEncoder)
_TEXTS = (".txt", ".text", ".md")
_ARRAYS = (".npz",)


def read(source: Any, settings: DataSettings, task: TaskSettings | None = None, *, seed: int) -> Data:
    """Read data, split it by the seed, and audit it.

    source: a name (``digits``, ``iris``, ``wine``, ``breast-cancer``, ``diabetes``, ``cifar10``, ...); a folder of
        class folders of images; a CSV, TSV or Parquet file, or a folder with ``train.csv`` and ``test.csv``; a
        ``.txt`` file; a DataFrame; a mapping of those named train, valid, test; arrays, tensors, a ``Dataset`` or a
        ``DataLoader``.
    Raises DataError, in one line with file and row, for whatever cannot be trained on.
    """
    task = task or TaskSettings()
    if isinstance(source, str | Path):
        return _from_name(str(source), settings, task, seed=seed)
    if isinstance(source, pd.DataFrame | pa.Table | Sheet) or _are_tables(source):
        return _from_sheet(source if isinstance(source, Sheet) else read_sheet(source), settings, task, seed=seed)
    if is_arrays(source):
        return read_arrays(source, settings, task, seed=seed)
    raise DataError(
        f"a {type(source).__name__} cannot be read as data; give a path, a DataFrame, arrays (X, y), a Dataset or a "
        f"DataLoader"
    )


def encoder_from_json(values: dict[str, Any]) -> Encoder:
    """The encoder that ``to_json`` of any kind of encoder described."""
    for kind in _ENCODERS:
        if kind.kind == values["kind"]:
            made: Encoder = kind.from_json(values)
            return made
    raise DataError(f"unknown encoder '{values['kind']}'; this run was written by another version of goodfit")


def _from_name(name: str, settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    path = Path(name).expanduser()
    known = name.lower().replace("_", "-")
    refuse_special(path)
    # A run folder that was named like an embedded set does not hide the set.
    shadow = path.is_dir() and known in (*embedded.NAMES, *images.NAMES) and not _holds_data(path)
    if not path.exists() or shadow:
        if known in embedded.NAMES:
            return embedded.read_embedded(known, settings, task, seed=seed)
        if known in images.NAMES:
            return images.read_images(known, settings, task, seed=seed)
        if path.suffix or path.parent != Path("."):
            raise DataError(f"{name} does not exist{similar(path)}")
        raise DataError(
            f"'{name}' is neither a file nor a known data set{nearest(known, (*embedded.NAMES, *images.NAMES))}"
        )
    if path.is_dir() and not parts_in(path):
        if images.is_image_folder(path):
            return images.read_images(path, settings, task, seed=seed)
        raise DataError(
            f"{name} holds neither images nor train.csv (or .tsv, .parquet); give the file or folder with the data"
        )
    suffix = path.suffix.lower()
    if suffix in _TEXTS:
        return read_language(path, settings, task)
    if suffix in _ARRAYS:
        return read_arrays(path, settings, task, seed=seed)
    if path.is_dir() or name.lower().endswith(SUFFIXES) or _may_be_table(path):
        return _from_sheet(read_sheet(path), settings, task, seed=seed)
    raise DataError(
        f"{name}: a file of the kind '{suffix or 'without ending'}' cannot be read; give .csv, .tsv, .parquet, .txt "
        f"or a folder of images"
    )


def _holds_data(folder: Path) -> bool:
    return bool(parts_in(folder)) or (images.is_image_folder(folder) and not (folder / "status.json").exists())


def _from_sheet(sheet: Sheet, settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    """A table as what it holds: a series, pairs of texts, images, texts, or rows of all kinds."""
    if settings.test_source is not None:
        sheet = join({"train": sheet, "test": read_sheet(settings.test_source)})
    if settings.horizon or task.kind == "forecast":
        return read_series(sheet, settings, task)
    if are_pairs(sheet, settings, task):
        return read_pairs(sheet, settings, task, seed=seed)
    ready = prepare(sheet, settings, task, seed=seed)
    if images.only_images(ready):
        return images.read_image_table(ready, settings)
    if all(column.kind == "text" for column in ready.columns):
        return read_text(ready, settings)
    return read_table(ready, settings)


def _are_tables(source: Any) -> bool:
    return (
        isinstance(source, Mapping)
        and bool(source)
        and set(source) <= set(PARTS)
        and all(isinstance(one, pd.DataFrame | pa.Table | str | Path) for one in source.values())
    )


def _may_be_table(path: Path) -> bool:
    """Whether a file of unknown ending begins like Parquet or delimited text."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] in (b"PAR1", b"PK\x03\x04") or not head:
        return True
    lines = head.decode("utf-8", errors="ignore").splitlines()[:2]
    return len(lines) == 2 and any(0 < lines[0].count(one) == lines[1].count(one) for one in ",;\t|")
