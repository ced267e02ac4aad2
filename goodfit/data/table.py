"""Tables of numbers, categories, dates, and perhaps some text and an image, as tensors.

Everything is fitted on the train part alone and kept as plain numbers, so new data becomes bit-identical inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from goodfit.data import audit
from goodfit.data.columns import Column, ColumnType, read_column
from goodfit.data.data import Data
from goodfit.data.decode import Layout
from goodfit.data.image_column import column_items, decoded
from goodfit.data.like import run_encoder
from goodfit.data.prepare import Prepared
from goodfit.data.sheet import Sheet, read_sheet
from goodfit.data.target import TargetSpec, encode_target
from goodfit.data.words import Words
from goodfit.errors import DataError
from goodfit.recipe import DataSettings
from goodfit.types import Inputs, InputSpec, Task, Tensors

_RARE = 3
"""In more than 1,000 rows a category seen less often than this in training shares code 0 with the unseen ones."""
_MOST_LEVELS = 5000
_SOFT_LIMIT = 3.0
_DAY = 86400.0


@dataclass(frozen=True)
class Numeric:
    """One standardised number: ``z = (x - middle) / scale``, then ``z / sqrt(1 + (z/3)^2)``, which bounds it by 3.

    middle: the median, which also takes the place of missing values. scale: the range between the quartiles.
    part: ``value``, or what of a date: ``day``, ``month``, ``weekday``, ``hour``.

    Source: robust scaling and smooth clipping of Holzmueller et al. 2024 (RealMLP). Equal values stay exactly equal,
    so a model can still recognise a spike such as a capital gain of 0.
    """

    column: str
    part: str
    middle: float
    scale: float


@dataclass(frozen=True)
class Category:
    """One column of codes. levels: the names in code order from 1; 0 is missing, rare or never seen.

    flag: instead of names, whether a number is there (1) or missing (0).
    """

    column: str
    levels: tuple[str, ...]
    flag: bool = False


@dataclass(frozen=True)
class TableEncoder:
    """Rows of a table as ``{"numeric", "category"}`` and, where there are such columns, ``"tokens"`` and ``"image"``.

    numeric: ``(rows, n)`` float32. category: ``(rows, m)`` int64, 0 missing or unseen. tokens: ``(rows, length)``
    int64, 0 padding. image: uint8 ``(rows, 3, height, width)``.
    """

    columns: tuple[ColumnType, ...]
    numeric: tuple[Numeric, ...]
    category: tuple[Category, ...]
    target: TargetSpec
    words: Words | None = None
    image: str = ""
    size: int = 0
    kind: ClassVar[str] = "table"

    @property
    def spec(self) -> InputSpec:
        """What the inputs look like."""
        return InputSpec(
            "table",
            numeric=len(self.numeric),
            cardinalities=tuple(2 if one.flag else len(one.levels) + 1 for one in self.category),
            vocabulary=self.words.size if self.words else 0,
            length=self.words.length if self.words else 0,
            image=(3, self.size, self.size) if self.image else (),
        )

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the numeric and of the category inputs, in order."""
        return (
            tuple(one.column if one.part == "value" else f"{one.column}: {one.part}" for one in self.numeric),
            tuple(f"{one.column}: present" if one.flag else one.column for one in self.category),
        )

    def encode(self, source: Any, *, targets: bool = False) -> Tensors:
        """New rows, in their order. With ``targets``, only rows whose target is known; their row numbers are the index.

        Columns that were not there in training are ignored. Raises DataError that names every column that is missing.
        """
        sheet = read_sheet(source)
        check_columns(sheet, [one.name for one in self.columns])
        rows, values = new_targets(self.target, sheet, targets=targets)
        read = {one.name: read_column(sheet.frame[one.name].iloc[rows], one) for one in self.columns}
        for one in self.columns:
            _check_numbers(read[one.name], sheet, rows)
        return Tensors(self.inputs(read, sheet, rows), values, torch.from_numpy(rows))

    def inputs(self, columns: Mapping[str, Column], sheet: Sheet, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Columns, read with this encoder's types, as tensors. ``rows``: their rows in the sheet, for messages."""
        count = len(next(iter(columns.values())).values)
        numeric = np.empty((count, len(self.numeric)), np.float32)
        for place, one in enumerate(self.numeric):
            raw = part_of(columns[one.column], one.part)
            raw = np.where(np.isfinite(raw), raw, one.middle)
            numeric[:, place] = standardise(raw, one.middle, one.scale)
        category = np.empty((count, len(self.category)), np.int64)
        for place, level in enumerate(self.category):
            column = columns[level.column]
            category[:, place] = ~column.missing if level.flag else _codes(column, level.levels)
        tensors = {"numeric": torch.from_numpy(numeric), "category": torch.from_numpy(category)}
        texts = self.texts(columns)
        if texts is not None:
            tensors["tokens"] = self.tokens(texts)
        if self.image:
            tensors["image"] = _images(columns[self.image], sheet, self.size, rows)
        return tensors

    def texts(self, columns: Mapping[str, Column]) -> list[str] | None:
        """The text columns of each row as one text; None where there are none."""
        if self.words is None:
            return None
        return join_texts([columns[one.name].values for one in self.columns if one.kind == "text"])

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """``(rows, length)`` int64 for texts that are joined already."""
        assert self.words is not None
        return torch.from_numpy(self.words.encode(texts))

    def prepare(self, inputs: Inputs) -> Inputs:
        """Images become floats around 0; everything else is left as it is."""
        if isinstance(inputs, dict) and "image" in inputs:
            return {**inputs, "image": (inputs["image"].float() - 127.5) / 63.75}
        return inputs

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        values["words"] = None if self.words is None else self.words.to_json()
        return {"kind": self.kind, **values, "target": self.target._asdict()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The encoder that ``to_json`` described."""
        return cls(
            tuple(ColumnType(**one) for one in values["columns"]),
            tuple(Numeric(**one) for one in values["numeric"]),
            tuple(Category(**{**one, "levels": tuple(one["levels"])}) for one in values["category"]),
            target_from_json(values["target"]),
            None if values["words"] is None else Words.from_json(values["words"]),
            values["image"],
            values["size"],
        )


def read_table(ready: Prepared, settings: DataSettings) -> Data:
    """A prepared table as data: fits the encoder on the train part and encodes all parts."""
    target = standardised(ready)
    known = run_encoder(settings.like, "table")
    if known is None:
        encoder = fit(ready, target, settings)
        columns = {column.name: column for column in ready.columns}
    else:  # a run's columns, codes and scales; what else the table has is left out
        encoder = replace(TableEncoder.from_json(known), target=target)
        check_columns(ready.sheet, [one.name for one in encoder.columns])
        columns = {one.name: read_column(ready.sheet.frame[one.name].iloc[ready.rows], one) for one in encoder.columns}
    inputs = encoder.inputs(columns, ready.sheet, ready.rows)
    whole = Tensors(inputs, target_tensor(ready.target.values, target), torch.from_numpy(ready.rows))
    texts = encoder.texts(columns)
    train_part, valid, test = (
        Tensors(one.inputs, one.targets, one.index, texts=texts and [texts[position] for position in part])
        for part, one in ((part, whole.take(torch.from_numpy(part))) for part in ready.split)
    )
    return Data(
        ready.sheet.name,
        encoder.spec,
        task_of(target),
        train_part,
        valid,
        test,
        encoder,
        encoder.prepare,
        ready.summary,
        (*ready.findings, *audit.table(ready)),
        ready.sheet.fingerprint,
        target.mean,
        target.std,
    )


def fit(ready: Prepared, target: TargetSpec, settings: DataSettings) -> TableEncoder:
    """The encoder for a prepared table, from its train part."""
    train = ready.split.train
    numeric: list[Numeric] = []
    category: list[Category] = []
    texts: list[NDArray[Any]] = []
    image = ""
    for column in ready.columns:
        here = column.rows(train)
        if column.kind in ("number", "date"):
            for part in ("value",) if column.kind == "number" else date_parts(here):
                if (made := _fit_number(column.name, part, part_of(here, part))) is not None:
                    numeric.append(made)
            if here.missing.any() and not here.missing.all():
                category.append(Category(column.name, (), flag=True))
        elif column.kind == "category":
            category.append(_fit_category(here))
        elif column.kind == "text":
            texts.append(here.values)
        elif not image:
            image = column.name
    words = (
        Words.fit(join_texts(texts), tokens=settings.tokens, vocabulary=settings.vocabulary, length=settings.length)
        if texts
        else None
    )
    types = tuple(column.type for column in ready.columns if column.kind != "image" or column.name == image)
    size = (settings.image_size or 64) if image else 0
    return TableEncoder(types, tuple(numeric), tuple(category), target, words, image, size)


def standardise(raw: NDArray[np.float64], middle: float, scale: float) -> NDArray[np.float64]:
    """``z / sqrt(1 + (z/3)^2)`` of ``z = (raw - middle) / scale``: nearly linear inside, never beyond 3."""
    z = (raw - middle) / scale
    return np.asarray(z / np.sqrt(1.0 + (z / _SOFT_LIMIT) ** 2))


def part_of(column: Column, part: str) -> NDArray[np.float64]:
    """A number of a column: its value, or a part of its date (weekday 0 is Monday)."""
    if part == "value":
        return column.values
    seconds = column.values
    if part == "day":
        return np.floor(seconds / _DAY)
    if part == "hour":
        return (seconds % _DAY) / 3600.0
    if part == "weekday":
        return (np.floor(seconds / _DAY) + 3.0) % 7.0
    known = np.isfinite(seconds)
    stamps = np.where(known, seconds, 0.0).astype("datetime64[s]")
    months = (stamps.astype("datetime64[M]").astype(np.int64) % 12 + 1).astype(np.float64)
    return np.where(known, months, np.nan)


def date_parts(column: Column) -> tuple[str, ...]:
    """What of a date can matter: the hour only where times are given."""
    seconds = column.values[np.isfinite(column.values)]
    return ("day", "month", "weekday", "hour") if (seconds % _DAY).any() else ("day", "month", "weekday")


def join_texts(texts: list[NDArray[Any]]) -> list[str]:
    """The text columns of each row as one text, with a mark between them."""
    if len(texts) == 1:
        return [str(one) for one in texts[0]]
    return [" | ".join(row) for row in zip(*texts, strict=True)]


def standardised(ready: Prepared) -> TargetSpec:
    """The target's specification with the mean and spread of the train part."""
    spec = ready.target.spec
    if spec.kind != "regression":
        return spec
    known = ready.target.values[ready.split.train]
    std = float(known.std())
    return spec._replace(mean=float(known.mean()), std=std if std > 0 else 1.0)


def target_tensor(values: NDArray[Any], spec: TargetSpec) -> torch.Tensor:
    """Targets as the model sees them: int64 classes, or standardised float32."""
    if spec.kind == "classification":
        return torch.from_numpy(np.ascontiguousarray(values, np.int64))
    return torch.from_numpy(((values - spec.mean) / spec.std).astype(np.float32))


def task_of(spec: TargetSpec) -> Task:
    """The task that a target column sets."""
    return Task(spec.kind, spec.name, len(spec.classes) if spec.kind == "classification" else 1, spec.classes)


def target_from_json(values: Mapping[str, Any]) -> TargetSpec:
    """A target's specification from plain values."""
    return TargetSpec(**{**values, "classes": tuple(values["classes"]), "names": tuple(values["names"])})


def check_columns(sheet: Sheet, names: list[str]) -> None:
    """Raise DataError that names every missing column."""
    missing = [name for name in names if name not in sheet.frame.columns]
    if missing:
        shown = ", ".join(map(repr, missing[:10])) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise DataError(
            f"{sheet.name} has no column {shown}; the model was trained with "
            f"{'it' if len(missing) == 1 else 'them'}: add {'it' if len(missing) == 1 else 'them'}, empty where not "
            f"known"
        )


def new_targets(spec: TargetSpec, sheet: Sheet, *, targets: bool) -> tuple[NDArray[np.int64], torch.Tensor]:
    """Which rows of new data to use, and their targets; all rows and zeros where targets are not asked for."""
    rows = np.arange(len(sheet.frame))
    if not targets:
        return rows, torch.zeros(len(rows), dtype=torch.int64 if spec.kind == "classification" else torch.float32)
    if spec.name not in sheet.frame.columns:
        raise DataError(f"{sheet.name} has no column '{spec.name}' to compare predictions with; add it")
    values = encode_target(spec, sheet)
    known = values >= 0 if spec.kind == "classification" else np.isfinite(values)
    if not known.any():
        raise DataError(
            f"{sheet.name}: '{spec.name}' is missing in every row; there is nothing to compare predictions with"
        )
    return rows[known], target_tensor(values[known], spec)


def _fit_number(column: str, part: str, raw: NDArray[np.float64]) -> Numeric | None:
    known = raw[np.isfinite(raw)]
    if not len(known) or known.min() == known.max():
        # A date's part that never changes is not made; a number that does only outside of train stays at 0.
        return None if part != "value" else Numeric(column, part, float(known[0]) if len(known) else 0.0, 1.0)
    low, quarter, middle, three, high = (float(one) for one in np.quantile(known, [0, 0.25, 0.5, 0.75, 1]))
    return Numeric(column, part, middle, three - quarter if three > quarter else (high - low) / 2)


def _fit_category(column: Column) -> Category:
    counts = np.bincount(column.values[column.values >= 0], minlength=len(column.levels))
    least = _RARE if len(column.values) > 1000 else 1
    order = np.argsort(-counts, kind="stable")
    kept = [number for number in order if counts[number] >= least][:_MOST_LEVELS]
    return Category(column.name, tuple(str(column.levels[number]) for number in kept))


def _codes(column: Column, levels: tuple[str, ...]) -> NDArray[np.int64]:
    places = {level: number for number, level in enumerate(levels, 1)}
    table = np.asarray([places.get(str(level), 0) for level in column.levels] + [0], np.int64)
    return np.asarray(table[column.values])


def _check_numbers(column: Column, sheet: Sheet, rows: NDArray[np.int64]) -> None:
    """New data in which a column of numbers is text: better an error than a column of missing values."""
    if column.kind != "number" or not len(rows) or not column.missing.all():
        return
    raw = read_column(sheet.frame[column.name].iloc[rows], ColumnType(column.name, "text")).values
    filled = np.flatnonzero(raw != "")
    if len(filled):
        row = int(rows[filled[0]])
        raise DataError(
            f"{sheet.place(row)}: '{raw[filled[0]]}' in column '{column.name}' is no number, nor is any other of "
            f"its values; "
            "the model was trained with numbers there"
        )


def _images(column: Column, sheet: Sheet, size: int, rows: NDArray[np.int64]) -> torch.Tensor:
    """An image column as ``(rows, 3, size, size)`` uint8; where there is none, middle gray."""
    pixels, failed = decoded(column_items(column.values, sheet.folder), Layout(3, size, size))
    pixels[list(failed)] = 127
    broken = [row for row in failed if not column.missing[row]]
    if broken:
        raise DataError(
            f"{sheet.place(int(rows[broken[0]]))}: the image in column '{column.name}' cannot be read "
            f"({failed[broken[0]]}), {len(broken):,} such in all; mend them or empty those cells"
        )
    return pixels
