"""Tables whose only features are texts: each row becomes a sequence of tokens, and perhaps a set of n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch

from goodfit.data import audit
from goodfit.data.columns import ColumnType, read_column
from goodfit.data.data import Data
from goodfit.data.grams import Grams
from goodfit.data.like import model_words, run_encoder
from goodfit.data.prepare import Prepared
from goodfit.data.sheet import read_sheet
from goodfit.data.table import (
    check_columns,
    join_texts,
    new_targets,
    standardised,
    target_from_json,
    target_tensor,
    task_of,
)
from goodfit.data.target import TargetSpec
from goodfit.data.words import Words
from goodfit.recipe import DataSettings
from goodfit.types import Inputs, InputSpec, Tensors

AUTO = "grams"
"""What ``data.tokens = "auto"`` means for texts that are classified."""


@dataclass(frozen=True)
class TextEncoder:
    """One or several text columns, joined, as ``(rows, length)`` int64 token numbers.

    With n-grams (``data.tokens = "grams"``) a row holds the text's words in order, ``spec.length`` of them, and behind
    them the numbers of its n-grams, each once, from a range of their own. ``spec.cardinalities`` is then how many
    numbers there are of each kind: words (with padding and unknown), word n-grams, pieces of words.
    """

    columns: tuple[str, ...]
    words: Words
    target: TargetSpec
    grams: Grams | None = None
    kind: ClassVar[str] = "text"

    @property
    def spec(self) -> InputSpec:
        """What the inputs look like."""
        length, size = self.words.length, self.words.size
        if self.grams is None:
            return InputSpec("text", shape=(length,), vocabulary=size, length=length, shift=self.words.shift)
        kinds = (size, len(self.grams.words), len(self.grams.pieces))
        return InputSpec(
            "text", shape=(length + self.grams.length,), cardinalities=kinds, vocabulary=sum(kinds), length=length
        )

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """``(rows, length)`` int64 for texts that are joined already."""
        words = self.words.encode(texts)
        return torch.from_numpy(words if self.grams is None else np.concatenate([words, self.grams.encode(texts)], 1))

    def encode(self, source: Any, *, targets: bool = False) -> Tensors:
        """New rows of a table, or a list of texts; with ``targets`` only rows whose target is known."""
        if isinstance(source, list | tuple) and all(isinstance(one, str) for one in source) and not targets:
            tokens = self.tokens(source)
            blank = torch.zeros(
                len(source), dtype=torch.int64 if self.target.kind == "classification" else torch.float32
            )
            return Tensors(tokens, blank, torch.arange(len(source)))
        sheet = read_sheet(source)
        check_columns(sheet, list(self.columns))
        rows, values = new_targets(self.target, sheet, targets=targets)
        texts = [read_column(sheet.frame[name].iloc[rows], ColumnType(name, "text")).values for name in self.columns]
        return Tensors(self.tokens(join_texts(texts)), values, torch.from_numpy(rows))

    def prepare(self, inputs: Inputs) -> Inputs:
        """Token numbers go to the model as they are."""
        return inputs

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "columns": list(self.columns),
            "words": self.words.to_json(),
            "target": self.target._asdict(),
            "grams": None if self.grams is None else self.grams.to_json(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The encoder that ``to_json`` described."""
        grams = None if values["grams"] is None else Grams.from_json(values["grams"])
        target = target_from_json(values["target"])
        return cls(tuple(values["columns"]), Words.from_json(values["words"]), target, grams)


def _cutting(train: Sequence[str], settings: DataSettings) -> tuple[Words, Grams | None]:
    """How texts are cut: as the model wants it that ``data.like`` names, else as these train texts tell."""
    known = run_encoder(settings.like, "text")
    if known is not None:
        old = TextEncoder.from_json(known)
        return old.words, old.grams
    own = model_words(settings.like, train, length=settings.length)
    if own is not None:
        return own, None
    tokens = AUTO if settings.tokens == "auto" else settings.tokens
    words = Words.fit(train, tokens=tokens, vocabulary=settings.vocabulary, length=settings.length)
    return words, Grams.fit(train, first=words.size) if tokens == "grams" else None


def read_text(ready: Prepared, settings: DataSettings) -> Data:
    """A prepared table of texts as data."""
    target = standardised(ready)
    texts = join_texts([column.values for column in ready.columns])
    train = [texts[position] for position in ready.split.train]
    words, grams = _cutting(train, settings)
    encoder = TextEncoder(tuple(column.name for column in ready.columns), words, target, grams)
    whole = Tensors(encoder.tokens(texts), target_tensor(ready.target.values, target), torch.from_numpy(ready.rows))
    train_part, valid, test = (
        Tensors(one.inputs, one.targets, one.index, texts=[texts[position] for position in part])
        for part, one in ((part, whole.take(torch.from_numpy(part))) for part in ready.split)
    )
    counted = f"{words.size:,} different, up to {words.length} a sample"
    if grams is not None:
        counted += f"; {len(grams.words) + len(grams.pieces):,} n-grams, up to {grams.length} a sample"
    summary = (*ready.summary, ("tokens", counted))
    return Data(
        ready.sheet.name,
        encoder.spec,
        task_of(target),
        train_part,
        valid,
        test,
        encoder,
        encoder.prepare,
        summary,
        (*ready.findings, *audit.table(ready)),
        ready.sheet.fingerprint,
        target.mean,
        target.std,
    )
