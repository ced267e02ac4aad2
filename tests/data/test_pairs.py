"""Pairs of texts: when a table is one, tokens that come back as texts, equal sources in one part, batches."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goodfit.data import encoder_from_json, read
from goodfit.data.pairs import PairEncoder, Pairs
from goodfit.data.tokens import BEGIN, END, Tokens, cut, likely
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings


def reversals(count: int = 60) -> pd.DataFrame:
    texts = [f"{n * 7919 % 10007:05d}" for n in range(count)]
    return pd.DataFrame({"text": texts, "reply": [one[::-1] + "!" for one in texts]})


def read_pairs(source: Any, kind: str = "sequence", **settings: Any) -> Any:
    return read(source, DataSettings(**settings), TaskSettings(kind=kind), seed=0)  # type: ignore[arg-type]


@given(st.lists(st.text(), max_size=5), st.sampled_from(["characters", "words", "bpe"]))
def test_texts_come_back_from_their_tokens(texts: list[str], kind: str) -> None:
    tokens = Tokens.fit(texts, tokens=kind)
    if not all(len(row) < tokens.length for row in tokens.numbers(texts)):
        return
    rows = tokens.encode(texts)
    assert rows.shape == (len(texts), tokens.length)
    assert tokens.texts(rows) == texts
    assert all(int((row == END).sum()) == 1 for row in rows)
    assert Tokens.from_json(json.loads(json.dumps(tokens.to_json()))) == tokens
    assert len(tokens.all_names) == tokens.size


@given(st.text(), st.sampled_from(["characters", "words"]))
def test_pieces_join_to_the_text(text: str, kind: str) -> None:
    assert "".join(cut(text, kind)) == text


def test_digits_stand_alone_and_a_word_takes_its_space_along() -> None:
    assert cut("in 1984, don't\tgo", "words") == ["in", " 1", "9", "8", "4", ",", " don", "'", "t", "\t", "go"]


def test_tokens_are_words_where_none_is_ever_new_then_characters_then_byte_pairs() -> None:
    closed = ["one two", "two three", "three one", "one two three"] * 5
    assert likely(closed) == "words"
    assert likely([f"w{chr(97 + n % 26)}{chr(97 + n // 26)}x" for n in range(200)]) == "characters"
    long = ["".join(f"q{chr(97 + (n + k) % 26)}{k} " for k in range(80)) + f"only{'abcdefgh'[n]}" for n in range(8)]
    assert likely(long) == "bpe"


def test_what_train_never_showed_is_unknown_and_says_so() -> None:
    tokens = Tokens.fit(["ab", "b"], tokens="characters")
    assert tokens.names == ("b", "a")
    assert tokens.encode(["axb"]).tolist() == [[5, 1, 4]]  # as long as the longest of train; it loses its end
    assert tokens.texts(torch.tensor([[5, 1, 3, 4]])) == ["a\ufffd"]


def test_a_batch_is_cut_to_its_longest_and_shifted_behind_a_begin() -> None:
    encoder = PairEncoder("a", "b", Tokens.fit(["x" * 40]), Tokens.fit(["y" * 30]))
    part = encoder.pairs(["x", "xxx"], ["yy", "y"], np.arange(2))
    batch = part.take(torch.tensor([1, 0]))
    y = 4
    assert batch.inputs["source"].shape == batch.targets.shape == (2, 8)  # type: ignore[call-overload, index]
    assert batch.inputs["target"][:, :4].tolist() == [[BEGIN, y, END, 0], [BEGIN, y, y, END]]  # type: ignore[call-overload, index]
    assert batch.targets[:, :4].tolist() == [[y, END, -100, -100], [y, y, END, -100]]
    assert batch.index.tolist() == [1, 0]
    assert part.targets.shape == (2, 31)
    assert torch.equal(part.targets[:, :8].flip(0), batch.targets)


def test_a_table_is_read_as_pairs_when_asked_or_when_nothing_else_can_be_made_of_it() -> None:
    frame = reversals()
    data = read_pairs(frame, "auto")
    assert data.task.kind == "sequence"
    assert "holds 60 different texts; task.kind overrides" in dict(data.summary)["task"]
    assert data.spec.cardinalities == (data.encoder.reads.size, data.encoder.writes.size)
    assert data.task.outputs == data.encoder.writes.size
    numbers = frame.assign(reply=np.arange(60) * 1.5)
    assert read_pairs(numbers, "auto").task.kind == "regression"
    classes = frame.assign(reply=["yes", "no"] * 30)
    assert read_pairs(classes, "auto").task.kind == "classification"
    assert read_pairs(classes).task.kind == "sequence"
    with pytest.raises(DataError, match="too many for classes"):
        read_pairs(frame.assign(more=1.5 * np.arange(60) % 7), "auto", target="reply")


def test_numbers_are_read_as_they_are_written() -> None:
    frame = pd.DataFrame({"n": np.arange(40) + 100, "word": [f"w{n % 7} x{n}" for n in range(40)]})
    assert read_pairs(frame).train.sources[0].isdigit()


def test_equal_sources_stay_in_one_part() -> None:
    frame = pd.concat([reversals(50), reversals(50).assign(reply="other")], ignore_index=True)
    data = read_pairs(frame)
    parts = [set(part.sources) for part in (data.train, data.valid, data.test)]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert sum(map(len, (data.train, data.valid, data.test))) == 100
    assert len(data.valid) > 0 < len(data.test)


def test_given_parts_stay_and_shared_sources_are_found(tmp_path) -> None:
    reversals().to_csv(tmp_path / "train.csv", index=False)
    reversals(20).to_csv(tmp_path / "new.csv", index=False)
    data = read_pairs(tmp_path / "train.csv", target="reply", test_source=str(tmp_path / "new.csv"))
    assert len(data.test) == 20
    assert len(data.train) + len(data.valid) == 60
    assert [f.rule for f in data.findings] == ["split-overlap"]


def test_rows_without_a_text_are_left_out_and_named(tmp_path) -> None:
    frame = reversals()
    frame.loc[3, "text"], frame.loc[5, "reply"] = "", None
    frame.to_csv(tmp_path / "p.csv", index=False)
    data = read_pairs(tmp_path / "p.csv")
    [found] = [f for f in data.findings if f.rule == "missing-target"]
    assert "2 of 60 rows are left out" in found.message
    assert "p.csv:5" in found.message


def test_long_texts_and_new_characters_are_reported() -> None:
    data = read_pairs(reversals(), length=4)
    assert {f.where for f in data.findings if f.rule == "cut-texts"} == {"text", "reply"}
    frame = reversals()
    first = read_pairs(frame).valid
    frame.loc[int(first.index[0]), "reply"] = "\u00e9t\u00e9"
    [found] = [f for f in read_pairs(frame).findings if f.rule == "unknown-tokens"]
    assert found.where == "reply"


def test_new_data_is_encoded_alike_and_the_encoder_survives_the_folder() -> None:
    data = read_pairs(reversals())
    encoder = encoder_from_json(json.loads(json.dumps(data.encoder.to_json())))
    assert encoder == data.encoder
    part = encoder.encode(["01234", "999"])
    assert isinstance(part, Pairs)
    assert torch.equal(part.source, encoder.encode(pd.DataFrame({"text": ["01234", "999"]})).source)
    again = encoder.encode(reversals(), targets=True)
    assert again.answers[0] == reversals()["reply"][0]
    with pytest.raises(DataError, match="has no column 'reply'"):
        encoder.encode(pd.DataFrame({"text": ["1"]}), targets=True)


@pytest.mark.parametrize(
    ("frame", "settings", "message"),
    [
        (reversals().assign(more="x"), {"target": "reply"}, r"there are 2 to read \(text, more\); leave the others"),
        (reversals()[["reply"]], {}, "there are 0 to read"),
        (reversals().assign(text=""), {}, "no row has a text both"),
        (reversals(), {"tokens": "grams"}, "say characters, words or bpe"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_line(frame: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(frame, **settings)
