"""Texts: vocabularies from train alone, padding and unknown words, n-grams, byte pairs; the same for new data."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer

from goodfit.data import encoder_from_json, read
from goodfit.data.grams import Grams
from goodfit.data.words import Words, cut
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings

GOOD, BAD = (
    ["a fine and warm film", "truly great , don't miss it"],
    ["a dull and cold film", "truly awful , do miss it"],
)
TEXTS = ["The cat sat.", "the CAT ran!", "a dog", ""]


def reviews(count: int = 80) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    texts = [f"{rng.choice(GOOD if n % 2 else BAD)} says visitor v{n}" for n in range(count)]
    return pd.DataFrame({"text": texts, "mood": ["glad" if n % 2 else "sad" for n in range(count)]})


def read_text(source, **settings):
    return read(source, DataSettings(**settings), TaskSettings(), seed=0)


def test_words_are_lower_case_and_punctuation_is_a_word():
    found = cut(["Do not stop, Ann!", "", "stop"])
    assert found.names[found.codes].tolist() == ["do", "not", "stop", ",", "ann", "!", "stop"]
    assert found.rows.tolist() == [0, 0, 0, 0, 0, 0, 2]


def test_tokens_are_numbered_by_frequency_with_padding_zero_and_unknown_one():
    words = Words.fit(TEXTS, length=5)
    assert words.tokens[:2] == ("the", "cat")
    rows = words.encode(["the cat flew", "", "the cat sat on the mat ."])
    assert rows[0].tolist() == [2, 3, 1, 0, 0]
    assert rows[1].tolist() == [0] * 5
    assert len(rows[2]) == 5
    assert words.encode([]).shape == (0, 5)


def test_the_vocabulary_can_be_limited_and_cut_into_characters():
    assert Words.fit(TEXTS, vocabulary=2).size == 4
    characters = Words.fit(["ab ba"], tokens="characters", length=6)
    assert characters.encode(["b a?"])[0].tolist() == [
        2 + characters.tokens.index("b"),
        2 + characters.tokens.index(" "),
        2 + characters.tokens.index("a"),
        1,
        0,
        0,
    ]


def test_byte_pairs_write_any_text():
    words = Words.fit(["low lower lowest"] * 20, tokens="bpe", vocabulary=300, length=40)
    rows = words.encode(["lowest ünknown 漢字", ""])
    assert rows.shape == (2, 40)
    assert (rows[0] > 1).any()
    assert (rows != 1).all()
    assert Words.from_json(json.loads(json.dumps(words.to_json()))) == words


def test_n_grams_are_those_of_scikit_learn_each_once():
    texts = ["the cat sat on the mat", "a cat ran", "dogs and cats , cats"]
    grams = Grams.fit(texts, first=10)
    pattern = r"\w+|[^\w\s]"
    words = CountVectorizer(ngram_range=(1, 2), token_pattern=pattern, binary=True).fit(texts)
    pieces = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5), binary=True).fit(texts)
    assert set(grams.words) == set(words.vocabulary_)
    assert set(grams.pieces) == set(pieces.vocabulary_)
    names = [*grams.words, *grams.pieces]
    rows = grams.encode(texts)
    for row, text in zip(rows, texts, strict=True):
        numbers = row[row > 0]
        assert (np.diff(numbers) > 0).all()
        expected = set(words.inverse_transform(words.transform([text]))[0]) | set(
            pieces.inverse_transform(pieces.transform([text]))[0]
        )
        assert {names[n - 10] for n in numbers} == expected


def test_a_table_of_texts_is_text_and_learns_its_words_from_train_only():
    data = read_text(reviews(), tokens="words")
    assert data.spec.kind == "text"
    assert data.spec.shape == (data.spec.length,)
    assert data.train.inputs.shape == (len(data.train), data.spec.length)
    assert data.train.inputs.max() < data.spec.vocabulary
    seen = {f"v{n}" for n in data.train.index.tolist()}
    assert not {t for t in data.encoder.words.tokens if t.startswith("v") and t[1:].isdigit()} - seen
    assert (data.test.inputs == 1).any()


@pytest.mark.parametrize("tokens", ["auto", "words", "characters", "bpe", "grams"])
def test_an_encoder_from_json_gives_bit_identical_tokens(tokens):
    frame = reviews()
    data = read_text(frame, tokens=tokens)
    encoder = encoder_from_json(json.loads(json.dumps(data.encoder.to_json())))
    assert encoder == data.encoder
    part = encoder.encode(frame, targets=True)
    assert torch.equal(part.inputs[data.test.index], data.test.inputs)
    assert torch.equal(part.targets[data.test.index], data.test.targets)
    assert torch.equal(encoder.encode(frame["text"].tolist()[:3]).inputs, part.inputs[:3])


def test_rows_with_n_grams_hold_words_first_and_n_grams_in_their_own_range():
    spec = (data := read_text(reviews(), tokens="grams")).spec
    words, grams = data.train.inputs[:, : spec.length], data.train.inputs[:, spec.length :]
    assert words.max() < spec.cardinalities[0]
    assert grams[grams > 0].min() >= spec.cardinalities[0]
    assert grams.max() < spec.vocabulary == sum(spec.cardinalities)


def test_several_text_columns_are_joined():
    frame = reviews()
    frame.insert(0, "title", [f"title number {n} of many" for n in range(80)])
    data = read_text(frame)
    assert data.encoder.columns == ("title", "text")
    assert "|" in data.encoder.words.tokens
    with pytest.raises(DataError, match="has no column 'title'"):
        data.encoder.encode(frame.drop(columns="title"))


def test_missing_texts_are_rows_of_padding():
    frame = reviews()
    frame.loc[5, "text"] = None
    part = read_text(frame).encoder.encode(frame)
    assert part.inputs[5].tolist() == [0] * part.inputs.shape[1]
