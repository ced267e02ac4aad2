"""Texts as rows of token numbers: words, characters or byte pairs; the vocabulary from train texts only."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PAD, UNKNOWN = 0, 1
_FIRST = 2
_WORD = re.compile(r"\w+|[^\w\s]|\x1e")
_CHARACTER = re.compile(r"(?s).")
_VOCABULARY, _BPE_VOCABULARY = 30_000, 8_000
_LONGEST = 512
_COVERED = 0.98
"""The default length holds so many of the train texts whole."""


class Cut(NamedTuple):
    """Texts cut into words. codes: ``(words,)`` into ``names``; rows: ``(words,)`` each one's text, ascending."""

    codes: NDArray[np.int64]
    names: NDArray[Any]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """How texts become ``(rows, length)`` int64: 0 is padding, 1 an unknown token; longer texts lose their end.

    tokens: the words (or characters) in number order from 2; empty for byte pairs.
    bpe: the byte-pair tokenizer's own JSON, or an empty text. shift: what is added to its numbers, so that 0 is free
        for padding; 0 for our own.
    """

    tokens: tuple[str, ...]
    length: int
    characters: bool = False
    bpe: str = ""
    shift: int = 0

    @property
    def size(self) -> int:
        """How many token numbers there are, with padding and unknown."""
        return tokenizer_from(self.bpe).get_vocab_size() + self.shift if self.bpe else _FIRST + len(self.tokens)

    @classmethod
    def fit(
        cls, texts: Sequence[str], *, tokens: str = "auto", vocabulary: int | None = None, length: int | None = None
    ) -> Self:
        """The most frequent tokens of these texts. In more than 1,000 texts, what occurs once is unknown."""
        if tokens == "bpe":
            trained = train_bpe(texts, vocabulary or _BPE_VOCABULARY)
            counts = np.asarray([len(one.ids) for one in trained.encode_batch(list(texts))], np.int64)
            return cls((), length or likely_length(counts), bpe=plain_json(trained))
        found = cut(texts, characters=tokens == "characters")
        counts = np.bincount(found.codes, minlength=len(found.names))
        order = np.argsort(-counts, kind="stable")
        kept = order[counts[order] >= (2 if len(texts) > 1000 else 1)][: vocabulary or _VOCABULARY]
        sizes = np.bincount(found.rows, minlength=len(texts))
        return cls(tuple(str(found.names[n]) for n in kept), length or likely_length(sizes), tokens == "characters")

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """``(rows, length)`` int64."""
        if self.bpe:
            tokenizer = tokenizer_from(self.bpe)
            numbers = [one.ids for one in tokenizer.encode_batch(list(texts))]
            rows = np.repeat(np.arange(len(texts)), [len(one) for one in numbers])
            flat = np.fromiter((number for one in numbers for number in one), np.int64, len(rows))
            return ragged(flat + self.shift, rows, len(texts), self.length)
        found = cut(texts, characters=self.characters)
        places = {token: number for number, token in enumerate(self.tokens, _FIRST)}
        table = np.asarray([places.get(name, UNKNOWN) for name in found.names], np.int64)
        return ragged(table[found.codes], found.rows, len(texts), self.length)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "tokens": list(self.tokens),
            "length": self.length,
            "characters": self.characters,
            "bpe": json.loads(self.bpe) if self.bpe else None,
            "shift": self.shift,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The same from its JSON values."""
        bpe = json.dumps(values["bpe"]) if values["bpe"] else ""
        shift = int(values.get("shift", 0))
        return cls(tuple(values["tokens"]), int(values["length"]), bool(values["characters"]), bpe, shift)


def cut(texts: Sequence[str], *, characters: bool = False) -> Cut:
    """All words (or characters) of all texts, lower case; a punctuation mark is a word of its own."""
    joined = "\x1e".join(text.replace("\x1e", " ") for text in texts).lower()
    words = np.asarray((_CHARACTER if characters else _WORD).findall(joined), dtype=object)
    if not len(words):
        return Cut(np.zeros(0, np.int64), np.zeros(0, object), np.zeros(0, np.int64))
    codes, names = pd.factorize(words)
    ends = np.asarray(names == "\x1e")[codes]
    within = ~ends
    used, codes = np.unique(codes[within], return_inverse=True)
    return Cut(np.asarray(codes, np.int64), np.asarray(names, dtype=object)[used], np.cumsum(ends)[within])


def ragged(numbers: NDArray[np.int64], rows: NDArray[np.int64], count: int, length: int) -> NDArray[np.int64]:
    """``(count, length)`` int64, 0 behind the end, from numbers whose ``rows`` are ascending."""
    column = np.arange(len(rows)) - np.searchsorted(rows, rows)
    fits = column < length
    made = np.zeros((count, length), np.int64)
    made[rows[fits], column[fits]] = numbers[fits]
    return made


def likely_length(counts: NDArray[np.int64], longest: int = _LONGEST) -> int:
    """A length that holds 98 % of the texts whole, a multiple of 8, at most ``longest``."""
    wanted = int(np.quantile(counts, _COVERED)) if len(counts) else 8
    return int(min(longest, max(8, -(-wanted // 8) * 8)))


def train_bpe(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A byte-level byte-pair tokenizer trained on these texts: any text can be written with it and read back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<unknown>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def plain_json(tokenizer: Tokenizer) -> str:
    """A tokenizer as JSON in the form that reading and writing it again leaves alone."""
    return json.dumps(json.loads(tokenizer.to_str()))


@lru_cache(maxsize=4)
def tokenizer_from(text: str) -> Tokenizer:
    """A tokenizer from its JSON; kept, since reading one takes longer than using it."""
    return Tokenizer.from_str(text)
