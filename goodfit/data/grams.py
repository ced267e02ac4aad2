"""Texts as sets of n-grams: words, pairs of neighbouring words, and pieces of words; what occurs, not where.

On some thousand texts a linear model of these beats networks that read in order (Wang and Manning 2012), and pieces of
words also say something about words that training never saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from goodfit.data.words import Cut, cut, likely_length, ragged

_SHORTEST, _LONGEST = 2, 5
_MOST = 200_000
_LONGEST_ROW = 2048
_CHUNK = 4096
_SAMPLE = 1000
"""Texts from which the length of a row is told."""


@dataclass(frozen=True)
class Grams:
    """How texts become ``(rows, length)`` int64 numbers of n-grams, each once, frequent ones first; 0 is padding.

    words: single words and pairs (``"not good"``), numbered from ``first`` on. pieces: of 2 to 5 characters, within a
    word with a blank before and after it, numbered after the words.
    """

    words: tuple[str, ...]
    pieces: tuple[str, ...]
    length: int
    first: int

    @classmethod
    def fit(cls, texts: Sequence[str], *, first: int, most: int = _MOST) -> Self:
        """The n-grams of these texts, most frequent first; pieces (and, in many texts, pairs) must occur in two texts.

        first: the number of the first n-gram. most: how many of each kind are kept.
        """
        found = cut(texts)
        names, rows, codes = _word_grams(found)
        words = _often(names, *_distinct(rows, codes, len(names)), least=1, most=most)
        pieces, table, starts = _pieces_of(found.names)
        rows, codes = _of_words(*_distinct(found.rows, found.codes, len(found.names)), table, starts)
        kept = _often(pieces, *_distinct(rows, codes, len(pieces)), least=2 if len(texts) > 10 else 1, most=most)
        made = cls(words, kept, _LONGEST_ROW, first)
        sizes = np.bincount(made._numbers(texts[:: max(1, len(texts) // _SAMPLE)])[0])
        return cls(words, kept, likely_length(sizes, _LONGEST_ROW), first)

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """``(rows, length)`` int64; where a text has more n-grams than that, its rarest are left out."""
        made = np.zeros((len(texts), self.length), np.int64)
        for at in range(0, len(texts), _CHUNK):
            chunk = texts[at : at + _CHUNK]
            rows, numbers = self._numbers(chunk)
            made[at : at + len(chunk)] = ragged(numbers, rows, len(chunk), self.length)
        return made

    def _numbers(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each n-gram of each text once, by text and then by number."""
        found = cut(texts)
        names, rows, codes = _word_grams(found)
        word_rows, word_numbers = _known(names, rows, codes, self.words, self.first)
        pieces, table, starts = _pieces_of(found.names)
        rows, codes = _of_words(*_distinct(found.rows, found.codes, len(found.names)), table, starts)
        piece_rows, piece_numbers = _known(pieces, rows, codes, self.pieces, self.first + len(self.words))
        rows, numbers = np.r_[word_rows, piece_rows], np.r_[word_numbers, piece_numbers]
        return _distinct(rows, numbers, self.first + len(self.words) + len(self.pieces))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"words": list(self.words), "pieces": list(self.pieces), "length": self.length, "first": self.first}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The same from its JSON values."""
        return cls(tuple(values["words"]), tuple(values["pieces"]), int(values["length"]), int(values["first"]))


def _word_grams(found: Cut) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Words and pairs: their names, and of each occurrence the text and the name's place."""
    beside = found.rows[1:] == found.rows[:-1]
    pairs = (found.codes[:-1] * len(found.names) + found.codes[1:])[beside]
    different, places = np.unique(pairs, return_inverse=True)
    left, right = found.names[different // max(len(found.names), 1)], found.names[different % max(len(found.names), 1)]
    names = np.concatenate([found.names, left + " " + right]) if len(different) else found.names
    return names, np.r_[found.rows, found.rows[1:][beside]], np.r_[found.codes, len(found.names) + places]


def _pieces_of(words: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """All pieces of these words: the pieces, and for word ``w`` their places ``table[starts[w]:starts[w + 1]]``."""
    places: dict[str, int] = {}
    table: list[list[int]] = []
    for word in words:
        padded = f" {word} "
        end = len(padded)
        table.append(
            [
                places.setdefault(padded[at : at + size], len(places))
                for size in range(_SHORTEST, min(_LONGEST, end) + 1)
                for at in range(end - size + 1)
            ]
        )
    starts = np.cumsum([0, *map(len, table)])
    flat = np.fromiter(chain.from_iterable(table), np.int64, int(starts[-1]))
    return np.asarray(list(places), dtype=object), flat, starts


def _of_words(
    rows: NDArray[np.int64], words: NDArray[np.int64], table: NDArray[np.int64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The text and the place of each piece of each of these words."""
    sizes = (starts[1:] - starts[:-1])[words]
    inside = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(rows, sizes), table[np.repeat(starts[words], sizes) + inside]


def _distinct(
    rows: NDArray[np.int64], codes: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each pair of text and number once, in order."""
    # Sorting by hand: NumPy's unique goes through a hash table, which such regular numbers slow down tenfold and more.
    both = np.sort(rows * max(width, 1) + codes)
    both = both[np.r_[True, both[1:] != both[:-1]]] if len(both) else both
    return both // max(width, 1), both % max(width, 1)


def _often(
    names: NDArray[Any], rows: NDArray[np.int64], codes: NDArray[np.int64], *, least: int, most: int
) -> tuple[str, ...]:
    """The names that occur in at least ``least`` texts, most frequent first."""
    counts = np.bincount(codes, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    return tuple(str(names[n]) for n in order[counts[order] >= least][:most])


def _known(
    names: NDArray[Any], rows: NDArray[np.int64], codes: NDArray[np.int64], kept: tuple[str, ...], first: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Occurrences whose name was kept, with its number."""
    places = {name: number for number, name in enumerate(kept, first)}
    table = np.fromiter((places.get(name, -1) for name in names), np.int64, len(names))
    numbers = table[codes]
    return rows[numbers >= 0], numbers[numbers >= 0]
