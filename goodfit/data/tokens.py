"""Texts as tokens from which the very same texts can be made again: what a model that writes texts needs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from goodfit.data.words import PAD, UNKNOWN, plain_json, ragged, tokenizer_from, train_bpe

BEGIN, END = 2, 3
_FIRST = 4
_LATER = _FIRST - 2
"""A byte-pair tokenizer knows padding and unknown itself; its other numbers make room for begin and end."""
# A word takes the space before it along, so that joining tokens gives the text back; digits stand alone, because
# numbers are never all seen.
_WORD = re.compile(r" ?[^\W\d]+| ?\d| ?[^\w\s]|\s")
_VOCABULARY = 4096
_LONGEST = 512
_CLOSED, _MOST_WORDS = 0.001, 5_000
"""Words are taken where no more than this share of them occurs only once: then hardly any new one is to come."""
_SHORT = 128
"""Up to so many characters a text is written letter by letter; longer ones in byte pairs."""

Kind = Literal["characters", "words", "bpe"]


@dataclass(frozen=True)
class Tokens:
    """How the texts of one column become ``(rows, length)`` int64, each with an end behind it, and texts again.

    Numbers: 0 padding, 1 unknown, 2 begin, 3 end, then ``names`` in order (or the byte pairs of ``bpe``, the
    tokenizer's own JSON). length: tokens of a row, the end included; longer texts lose theirs.
    """

    kind: Kind
    length: int
    names: tuple[str, ...] = ()
    bpe: str = ""

    @property
    def size(self) -> int:
        """How many token numbers there are."""
        return tokenizer_from(self.bpe).get_vocab_size() + _LATER if self.bpe else _FIRST + len(self.names)

    @property
    def all_names(self) -> tuple[str, ...]:
        """What each token number stands for."""
        rest = self.names
        if self.bpe:
            tokenizer = tokenizer_from(self.bpe)
            rest = tuple(str(tokenizer.id_to_token(k)) for k in range(2, tokenizer.get_vocab_size()))
        return ("<pad>", "<unknown>", "<begin>", "<end>", *rest)

    @classmethod
    def fit(
        cls, texts: Sequence[str], *, tokens: str = "auto", vocabulary: int | None = None, length: int | None = None
    ) -> Self:
        """Tokens for texts like these. By default words where they hardly ever are new ones, else characters, or byte
        pairs for long texts; as many a row as the longest text has, 512 at most."""
        kind: Kind = likely(texts) if tokens == "auto" else tokens  # type: ignore[assignment]
        names: tuple[str, ...] = ()
        bpe = ""
        if kind == "bpe":
            bpe = plain_json(train_bpe(texts, vocabulary or _VOCABULARY))
        else:
            counts = Counter(piece for text in texts for piece in cut(text, kind))
            order = sorted(counts, key=lambda name: (-counts[name], name))
            names = tuple(order[:vocabulary])
        made = cls(kind, 1, names, bpe)
        longest = max((len(row) for row in made.numbers(texts)), default=0) + 1
        return cls(kind, length or min(longest, _LONGEST), names, bpe)

    def numbers(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's token numbers, without an end."""
        if self.bpe:
            tokenizer = tokenizer_from(self.bpe)
            return [[n + _LATER if n > UNKNOWN else n for n in one.ids] for one in tokenizer.encode_batch(list(texts))]
        places = {name: number for number, name in enumerate(self.names, _FIRST)}
        return [[places.get(piece, UNKNOWN) for piece in cut(text, self.kind)] for text in texts]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """``(rows, length)`` int64."""
        rows = [[*row, END] for row in self.numbers(texts)]
        sizes = np.asarray([len(row) for row in rows], np.int64)
        flat = np.fromiter((number for row in rows for number in row), np.int64, int(sizes.sum()))
        return torch.from_numpy(ragged(flat, np.repeat(np.arange(len(rows)), sizes), len(rows), self.length))

    def texts(self, tokens: Tensor) -> list[str]:
        """What rows of token numbers ``(rows, T)`` say, each up to its end."""
        made = []
        names = () if self.bpe else self.all_names
        for row in tokens.tolist():
            kept = row[: row.index(END)] if END in row else row
            kept = [number for number in kept if number not in (PAD, BEGIN)]
            if self.bpe:
                ids = [number - _LATER if number > UNKNOWN else number for number in kept]
                made.append(str(tokenizer_from(self.bpe).decode(ids)))
            else:
                made.append("".join("\ufffd" if number == UNKNOWN else names[number] for number in kept))
        return made

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        bpe = json.loads(self.bpe) if self.bpe else None
        return {"kind": self.kind, "length": self.length, "names": list(self.names), "bpe": bpe}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The same from its JSON values."""
        bpe = json.dumps(values["bpe"]) if values["bpe"] else ""
        return cls(values["kind"], int(values["length"]), tuple(values["names"]), bpe)


def cut(text: str, kind: str) -> list[str]:
    """A text in pieces that join to it again: its characters, or words with the space before them.

    >>> cut("one two-3", "words")
    ['one', ' two', '-', '3']
    """
    return list(text) if kind == "characters" else _WORD.findall(text)


def likely(texts: Sequence[str]) -> Kind:
    """The kind of token that suits these texts; see `Tokens.fit`."""
    counts = Counter(piece for text in texts for piece in cut(text, "words"))
    once = sum(1 for count in counts.values() if count == 1)
    if len(counts) <= _MOST_WORDS and once <= _CLOSED * counts.total():
        return "words"
    sizes = np.asarray([len(text) for text in texts])
    return "characters" if not len(sizes) or np.quantile(sizes, 0.98) <= _SHORT else "bpe"
