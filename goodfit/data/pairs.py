"""A table of two columns of text: from what one says, the other is to be written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from goodfit.data import split as splits
from goodfit.data.cells import as_strings, cells, date_format, parse_numbers
from goodfit.data.data import Data
from goodfit.data.sheet import Sheet, read_sheet
from goodfit.data.split import Split
from goodfit.data.table import check_columns
from goodfit.data.target import choose
from goodfit.data.tokens import BEGIN, END, Tokens
from goodfit.data.words import PAD, UNKNOWN
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Batch, Finding, Inputs, InputSpec, Task

_MOST_CLASSES = 0.5
"""More different texts than this share of the rows are no classes."""
_EMPTY = frozenset(("",))
_MULTIPLE = 8


@dataclass(frozen=True)
class Pairs:
    """A part whose samples are pairs of token rows, padded with 0 at their end.

    source: ``(n, S)`` int64. answer: ``(n, T)`` int64, ending in the end token. texts: both as they were read.

    A batch is cut to its longest rows, rounded up to a multiple of 8. Its inputs are ``source`` and ``target``, the
    answer behind a token that says "begin" and without its last: what the model has written when it is to write the
    next one (teacher forcing). Its targets are the answer with -100 for padding.
    """

    source: Tensor
    answer: Tensor
    index: Tensor
    sources: tuple[str, ...]
    answers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def targets(self) -> Tensor:
        """``(n, T)`` int64, -100 where the answer has ended."""
        return self.answer.masked_fill(self.answer == PAD, -100)

    def take(self, positions: Tensor) -> Batch:
        """The pairs at ``positions`` ``(batch,)`` int64."""
        positions = positions.cpu()
        source, answer = _cut(self.source[positions]), _cut(self.answer[positions])
        begin = torch.full((len(answer), 1), BEGIN)
        inputs = {"source": source, "target": torch.cat([begin, answer[:, :-1]], 1)}
        return Batch(inputs, answer.masked_fill(answer == PAD, -100), None, self.index[positions])

    def batches(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        """One gathered batch for each tensor of positions."""
        for positions in plan:
            yield self.take(positions)


@dataclass(frozen=True)
class PairEncoder:
    """Rows of a table with two columns of text as pairs of token rows, each side with tokens of its own."""

    source: str
    target: str
    reads: Tokens
    writes: Tokens
    kind: ClassVar[str] = "sequence"

    @property
    def spec(self) -> InputSpec:
        """What the inputs look like."""
        sizes = (self.reads.size, self.writes.size)
        shape = (self.reads.length, self.writes.length)
        return InputSpec("sequence", shape, cardinalities=sizes, vocabulary=sizes[0], length=shape[0])

    def encode(self, source: Any, *, targets: bool = False) -> Pairs:
        """New rows of a table, or a list of texts to read; with ``targets`` only rows where both texts are there."""
        if isinstance(source, list | tuple) and all(isinstance(one, str) for one in source):
            return self.pairs([str(one) for one in source], [""] * len(source), np.arange(len(source)))
        sheet = read_sheet(source)
        check_columns(sheet, [self.source, self.target] if targets else [self.source])
        read = texts_of(sheet, self.source)
        written = texts_of(sheet, self.target) if targets else np.full(len(read), "", object)
        rows = np.flatnonzero((read != "") & (written != "")) if targets else np.arange(len(read))
        return self.pairs(list(read[rows]), list(written[rows]), rows)

    def pairs(self, sources: Sequence[str], answers: Sequence[str], rows: NDArray[np.int64]) -> Pairs:
        """Texts as a part; rows: their numbers in the source."""
        index = torch.from_numpy(np.asarray(rows, np.int64))
        return Pairs(self.reads.encode(sources), self.writes.encode(answers), index, tuple(sources), tuple(answers))

    def prepare(self, inputs: Inputs) -> Inputs:
        """Token numbers go to the model as they are."""
        return inputs

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "source": self.source,
            "target": self.target,
            "reads": self.reads.to_json(),
            "writes": self.writes.to_json(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The encoder that ``to_json`` described."""
        reads, writes = Tokens.from_json(values["reads"]), Tokens.from_json(values["writes"])
        return cls(values["source"], values["target"], reads, writes)


def are_pairs(sheet: Sheet, settings: DataSettings, task: TaskSettings) -> bool:
    """Whether a table is to be read as pairs of texts: as asked, or because nothing else can be made of it.

    That is: two columns, and the target holds texts that are no numbers, no dates and mostly all different.
    """
    if task.kind != "auto":
        return task.kind == "sequence"
    if len(sheet.frame.columns) - len(set(settings.ignore) | ({settings.groups} - {None})) != 2:
        return False
    column = cells(sheet.frame[choose(sheet, settings)[0]])
    known = int((column.codes >= 0).sum())
    if column.numbers is not None or known < 10 or len(column.distinct) <= _MOST_CLASSES * known:
        return False
    return bool(np.isnan(parse_numbers(column.distinct)).mean() > 0.5) and not date_format(column.distinct)


def read_pairs(sheet: Sheet, settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    """A table with a column to read and a column to write as data.

    Rows with equal sources go to one part, so that no answer can be known by heart. Raises DataError for other
    columns, for empty ones and for too few rows.
    """
    target = choose(sheet, settings)[0]
    left = [n for n in sheet.frame.columns if n not in {target, settings.groups, *settings.ignore}]
    if len(left) != 1:
        raise DataError(
            f"{sheet.name}: task.kind = 'sequence' reads one column and writes '{target}', and there are {len(left)} "
            f"to read ({', '.join(left[:6]) or 'none'}); "
            + ("leave the others out with data.ignore" if left else "give a table with two columns")
        )
    if settings.tokens == "grams":
        raise DataError("data.tokens = 'grams' is for classifying texts; here say characters, words or bpe")
    source = left[0]
    read, written = texts_of(sheet, source), texts_of(sheet, target)
    rows = np.flatnonzero((read != "") & (written != ""))
    if not len(rows):
        raise DataError(f"{sheet.name}: no row has a text both in '{source}' and in '{target}'")
    split, how = _split(sheet, rows, read[rows], settings, seed=seed)
    train = rows[split.train]
    reads, writes = (
        Tokens.fit(list(texts[train]), tokens=settings.tokens, vocabulary=settings.vocabulary, length=settings.length)
        for texts in (read, written)
    )
    encoder = PairEncoder(source, target, reads, writes)
    parts = [encoder.pairs(list(read[rows[one]]), list(written[rows[one]]), rows[one]) for one in split]
    different = len(np.unique(written[rows].astype(str)))
    told = f"'{target}' holds {different:,} different texts; task.kind overrides"
    why = "as asked" if task.kind == "sequence" else told
    summary = (
        ("rows", f"{len(sheet.frame):,}"),
        ("task", f"sequence: '{source}' is read, '{target}' is written ({why})"),
        ("source", f"{source}: {_described(encoder.reads)}"),
        ("target", f"{target}: {_described(encoder.writes)}, {different:,} different texts"),
        ("split", f"{len(parts[0]):,} train, {len(parts[1]):,} valid, {len(parts[2]):,} test, {how}"),
    )
    size = encoder.writes.size
    return Data(
        sheet.name,
        encoder.spec,
        Task("sequence", target, size, encoder.writes.all_names if size <= 1000 else ()),
        parts[0],
        parts[1],
        parts[2],
        encoder,
        encoder.prepare,
        summary,
        (*sheet.findings, *_findings(sheet, encoder, parts, rows)),
        sheet.fingerprint,
    )


def texts_of(sheet: Sheet, name: str) -> NDArray[Any]:
    """``(rows,)`` strings of a column without white space around them, empty where nothing stands."""
    column = as_strings(cells(sheet.frame[name], missing=_EMPTY))
    return np.asarray(np.append(column.distinct, "")[column.codes], dtype=object)


def _split(
    sheet: Sheet, rows: NDArray[np.int64], sources: NDArray[Any], settings: DataSettings, *, seed: int
) -> tuple[Split, str]:
    given = None if sheet.part is None else splits.by_label(sheet.part[rows])
    inside = np.arange(len(rows)) if given is None else given.train
    valid = 0.0 if given is not None and len(given.valid) else settings.valid
    test = 0.0 if given is not None and len(given.test) else settings.test
    if given is not None and not valid and not test:
        return given, "as the source gives it"
    groups = sources if settings.groups is None else texts_of(sheet, settings.groups)[rows]
    codes = pd.factorize(groups[inside])[0].astype(np.int64)
    inner = splits.grouped(codes, valid, test=test, seed=seed)
    how = "at random, equal sources together" if settings.groups is None else f"whole groups of '{settings.groups}'"
    return (inner, how) if given is None else (splits.refill(given, inner), f"{how}, the rest as the source gives it")


def _findings(sheet: Sheet, encoder: PairEncoder, parts: Sequence[Pairs], rows: NDArray[np.int64]) -> Iterator[Finding]:
    missing = np.setdiff1d(np.arange(len(sheet.frame)), rows)
    if len(missing):
        yield Finding(
            "missing-target",
            "warning",
            f"{len(missing):,} of {len(sheet.frame):,} rows are left out: a text is missing (first at "
            f"{sheet.place(int(missing[0]))})",
            where=encoder.target,
            evidence={"rows": len(missing)},
            fix="fill them in, or remove these rows",
        )
    known = set(parts[0].sources)
    held = [one for part in parts[1:] for one in part.sources]
    shared = sum(one in known for one in held)
    if shared:
        yield Finding(
            "split-overlap",
            "warning",
            f"{shared:,} of {len(held):,} held-out sources also stand in train",
            where=encoder.source,
            evidence={"shared": shared, "held out": len(held)},
            fix="remove duplicates from the files",
        )
    for name, tokens, whole in (
        (encoder.source, encoder.reads, [part.source for part in parts]),
        (encoder.target, encoder.writes, [part.answer for part in parts]),
    ):
        cut = sum(int(((one[:, -1] != PAD) & (one[:, -1] != END)).sum()) for one in whole)
        if cut:
            yield Finding(
                "cut-texts",
                "warning",
                f"{cut:,} texts of '{name}' are longer than {tokens.length} tokens and lose their end",
                where=name,
                evidence={"texts": cut},
                fix="set data.length higher",
            )
        strange = sum(int((one == UNKNOWN).any(1).sum()) for one in whole[1:])
        if strange:
            yield Finding(
                "unknown-tokens",
                "advice" if strange < 0.01 * max(len(held), 1) else "warning",
                f"{strange:,} held-out texts of '{name}' hold {tokens.kind} that train never shows",
                where=name,
                evidence={"texts": strange},
                fix="nothing has to be done; data.tokens = 'bpe' can write any text",
            )


def _described(tokens: Tokens) -> str:
    word = {"characters": "characters", "words": "words", "bpe": "byte pairs"}[tokens.kind]
    return f"{tokens.size - 4:,} different {word}, up to {tokens.length - 1} a sample"


def _cut(rows: Tensor) -> Tensor:
    """Rows without the columns that are padding in all of them, but for a multiple of 8: so there are few shapes."""
    used = int((rows != PAD).sum(1).max()) if len(rows) else 1
    return rows[:, : min(-(-max(used, 1) // _MULTIPLE) * _MULTIPLE, rows.shape[1])]
