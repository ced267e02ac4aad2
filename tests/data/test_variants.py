from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from goodfit.data import read
from goodfit.data.data import Data
from goodfit.data.variants import Rewritten, known_words, rewritten
from goodfit.errors import RecipeError
from goodfit.recipe import DataSettings
from goodfit.technique import technique
from goodfit.techniques.batch_text import Synonyms
from goodfit.techniques.batch_words import WordDrop
from goodfit.types import Tensors
from tests.reference.wordnet import Set, write_wordnet

CPU = torch.device("cpu")
ADJECTIVES = ("good", "bad", "long", "short")


@technique("batch")
class Louder:
    """Texts with marks behind them, counted."""

    marks: int = 1
    asked: tuple[str, ...] = ()

    def rewriter(self, known: Any, device: torch.device) -> tuple[Callable[[Sequence[str]], list[list[str]]], str]:
        def rewrite(texts: Sequence[str]) -> list[list[str]]:
            CALLS.append(list(texts))
            return [[text + " !" * (k + 1) * self.marks for k in range(2)] for text in texts]

        return rewrite, "a tool"


CALLS: list[list[str]] = []


def texts(count: int = 120) -> pd.DataFrame:
    rows = [f"number {k} is a {ADJECTIVES[k % 4]} film of the year {k // 3}" for k in range(count)]
    return pd.DataFrame({"text": rows, "label": ["yes" if k % 2 else "no" for k in range(count)]})


def data_of(tokens: str = "words", **more: Any) -> Data:
    return read(texts().assign(**more), DataSettings(target="label", tokens=tokens), seed=0)


@pytest.mark.parametrize("tokens", ["words", "grams", "bpe", "characters"])
def test_variants_are_encoded_as_texts_are(tmp_path: Path, tokens: str) -> None:
    data = data_of(tokens)
    made = rewritten(data, [Louder()], cache=tmp_path, device=CPU)
    train = made.train
    assert isinstance(train, Rewritten)
    assert isinstance(data.train, Tensors)
    assert train.texts is not None
    rows = train.variants["louder"]
    assert rows.shape == (2, len(train), *data.spec.shape)
    assert rows.dtype == torch.int32
    for k in range(2):
        expected = made.encoder.tokens([text + " !" * (k + 1) for text in train.texts])
        assert torch.equal(rows[k].long(), expected)
    assert torch.equal(train.inputs, data.train.inputs)
    assert torch.equal(train.targets, data.train.targets)
    assert made.valid is data.valid
    assert made.encoder is data.encoder


def test_a_table_s_text_column_has_variants_too(tmp_path: Path) -> None:
    data = data_of(price=[float(k % 17) for k in range(120)])
    assert data.spec.kind == "table"
    made = rewritten(data, [Louder()], cache=tmp_path, device=CPU)
    assert isinstance(made.train, Rewritten)
    assert made.train.variants["louder"].shape == (2, len(made.train), data.spec.length)
    assert not torch.equal(made.train.variants["louder"][0].long(), made.train.inputs["tokens"])


def test_what_rewrites_nothing_leaves_the_data_as_it_is(tmp_path: Path) -> None:
    data = data_of()
    assert rewritten(data, [WordDrop()], cache=tmp_path / "cache", device=CPU) is data
    assert not (tmp_path / "cache").exists()


def test_variants_are_made_once_and_then_kept(tmp_path: Path) -> None:
    data = data_of()
    CALLS.clear()
    first = rewritten(data, [Louder()], cache=tmp_path, device=CPU)
    asked = [text for one in CALLS for text in one]
    assert sorted(asked) == sorted(first.train.texts)
    CALLS.clear()
    again = rewritten(data, [Louder()], cache=tmp_path, device=CPU)
    assert not CALLS
    assert torch.equal(first.train.variants["louder"], again.train.variants["louder"])
    rewritten(data, [Louder(marks=2)], cache=tmp_path, device=CPU)
    assert CALLS
    assert len(list(tmp_path.glob("louder-*.jsonl"))) == 2


def test_an_interrupted_job_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    data = data_of()
    whole = rewritten(data, [Louder()], cache=tmp_path, device=CPU)
    (path,) = tmp_path.glob("louder-*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:50]) + lines[50][:20])  # a line torn by a crash
    CALLS.clear()
    again = rewritten(data, [Louder()], cache=tmp_path, device=CPU)
    assert sum(map(len, CALLS)) == len(lines) - 50
    assert torch.equal(whole.train.variants["louder"], again.train.variants["louder"])
    assert sorted(path.read_bytes().splitlines()) == sorted(line.rstrip() for line in lines)
    assert all(set(json.loads(line)) == {"text", "variants", "crc"} for line in path.read_bytes().splitlines())


def test_progress_is_told_where_it_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    rewritten(data_of(), [Louder()], cache=tmp_path / "quick", device=CPU, say=said.append)
    assert not said
    monkeypatch.setattr("goodfit.data.variants._QUIET", -1.0)
    rewritten(data_of(), [Louder()], cache=tmp_path / "slow", device=CPU, say=said.append)
    assert said
    assert said[0].strip().startswith("louder: variants of 32 of 84 texts are made, about")


def test_data_without_texts_is_refused(tmp_path: Path) -> None:
    frame = texts()[["label"]].assign(a=[float(k * k % 31) for k in range(120)])
    data = read(frame, DataSettings(target="label"), seed=0)
    with pytest.raises(RecipeError, match=r"'batch.louder' rewrites texts, and this data holds none"):
        rewritten(data, [Louder()], cache=tmp_path, device=CPU)


def test_synonyms_bring_in_only_words_that_a_vocabulary_of_words_knows(tmp_path: Path) -> None:
    folder = write_wordnet(
        tmp_path / "wordnet", [Set("adj", ("good", "long", "splendid"), 2), Set("noun", ("year", "twelvemonth"), 1)]
    )
    chosen = Synonyms(wordnet=str(folder), p=0.5, variants=6)
    words, pairs = data_of("words"), data_of("bpe")
    known = known_words(words.encoder)
    assert known is not None
    assert "good" in known
    assert known_words(pairs.encoder) is None
    made = rewritten(words, [chosen], cache=tmp_path, device=CPU).train
    assert isinstance(made, Rewritten)
    assert (made.variants["synonyms"] != 1).all()  # no unknown word
    rewritten(pairs, [chosen], cache=tmp_path, device=CPU)
    kept = [path.read_text() for path in tmp_path.glob("synonyms-*.jsonl")]
    assert sorted("splendid" in text for text in kept) == [False, True]


def test_parts_know_their_texts() -> None:
    frame = texts()
    for data in (data_of(), data_of(price=[float(k % 17) for k in range(120)])):
        for part in (data.train, data.valid, data.test):
            assert isinstance(part, Tensors)
            assert part.texts == [frame["text"][int(k)] for k in part.index]
