"""Language modelling: contiguous parts, windows whose targets are the next tokens, text that comes back."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goodfit.data import encoder_from_json, read
from goodfit.data.language import LanguageEncoder, Windows
from goodfit.errors import DataError
from goodfit.evaluate import assess
from goodfit.recipe import DataSettings, TaskSettings

TEXT = "".join(f"Line {n}: the quick brown fox, number {n * n}.\n" for n in range(400))


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "t.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def read_text(path, **settings):
    return read(path, DataSettings(**settings), TaskSettings(), seed=0)


@given(tokens=st.integers(2, 90), length=st.integers(1, 20), full=st.booleans(), offset=st.integers(0, 5))
def test_windows_foresee_each_token_once_and_never_beyond_the_end(tokens, length, full, offset):
    stream = torch.arange(100, 100 + tokens)
    if tokens - 1 - offset < length:
        return
    windows = Windows(stream, length, offset, full)
    batch = windows.take(windows.index)
    real = batch.targets != -100
    assert torch.equal(batch.targets[real], batch.inputs[real] + 1)
    foreseen = batch.targets[real].tolist()
    count = (tokens - 1 - offset) // length * length if full else tokens - 1 - offset
    assert foreseen == list(range(101 + offset, 101 + offset + count))
    assert torch.equal(windows.targets, batch.targets)


def test_parts_are_contiguous_and_ninety_five_five_by_default(path):
    data = read_text(path, length=32)
    assert data.encoder.text(torch.cat([data.train.stream, data.valid.stream, data.test.stream])) == TEXT
    assert len(data.train.stream) == round(0.9 * len(TEXT))
    assert data.task.outputs == data.spec.vocabulary == len(set(TEXT)) + 2
    data = read_text(path, length=32, valid=0.2, test=0.1)
    assert len(data.train.stream) == round(0.7 * len(TEXT))


def test_windows_can_be_shifted_by_epoch_and_always_the_same_way(path):
    train = read_text(path, length=32).train
    shifted = [train.shifted(0, epoch) for epoch in range(6)]
    assert all(len(one) == len(train) for one in shifted)
    assert len({one.offset for one in shifted}) > 1
    assert [one.offset for one in shifted] == [train.shifted(0, epoch).offset for epoch in range(6)]


@pytest.mark.parametrize("tokens", ["auto", "characters", "bpe"])
def test_text_comes_back_from_its_tokens(path, tokens):
    data = read_text(path, length=32, tokens=tokens)
    encoder = encoder_from_json(json.loads(json.dumps(data.encoder.to_json())))
    assert encoder == data.encoder
    assert encoder.text(encoder.tokens("the quick\nfox 12")) == "the quick\nfox 12"
    assert torch.equal(encoder.encode(path).stream, encoder.encode(TEXT).stream)
    assert encoder.tokens("").shape == (1, 1)
    assert len(data.train.take(torch.arange(3)).inputs) == 3


def test_byte_pairs_are_fewer_than_characters(path):
    data = read_text(path, length=16, tokens="bpe", vocabulary=400)
    assert data.spec.vocabulary <= 400
    assert len(data.train.stream) < data.train.characters
    assert data.task.classes[0] == "<pad>"
    assert data.encoder.silent == (0, 1)
    borrowed = data.encoder.bpe.replace('"<pad>"', '"\u00d8"').replace('"<unknown>"', '"\u00de"')
    assert LanguageEncoder(16, bpe=borrowed).silent == ()


def test_characters_that_train_never_saw_are_unknown():
    encoder = LanguageEncoder(8, "abc")
    assert encoder.stream("a?c").tolist() == [2, 1, 4]
    assert encoder.text(encoder.tokens("a?c")) == "a\ufffdc"
    assert all(len(name) == 1 for name in encoder.names)


@pytest.mark.parametrize(
    ("raw", "settings", "message"),
    [
        (b"", {}, r"t.txt is empty \(0 bytes\)"),
        (b" \n ", {}, "nothing but white space"),
        (b"too short", {}, "t.txt is too short: its train part has 8 tokens"),
        (b"\x00\x01\x02" * 50, {}, "is no text"),
        (TEXT.encode(), {"tokens": "words"}, "is for classifying texts"),
        (TEXT.encode(), {"vocabulary": 50}, "data.vocabulary goes with"),
    ],
)
def test_what_cannot_be_modelled_is_refused_in_one_line(tmp_path, raw, settings, message):
    (tmp_path / "t.txt").write_bytes(raw)
    with pytest.raises(DataError, match=message):
        read_text(tmp_path / "t.txt", **settings)


def test_a_file_of_its_own_is_the_test_part(path, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("Line 7: the quick brown fox, number 12.\n" * 9, encoding="utf-8")
    data = read_text(path, length=32, test_source=str(other))
    assert data.encoder.text(data.test.stream) == other.read_text()
    assert data.encoder.text(torch.cat([data.train.stream, data.valid.stream])) == TEXT
    assert len(data.train.stream) == round(0.95 * len(TEXT))
    assert data.fingerprint != read_text(path, length=32).fingerprint
    with pytest.raises(DataError, match=r"none\.txt does not exist"):
        read_text(path, test_source=str(tmp_path / "none.txt"))
    other.write_text("too short")
    with pytest.raises(DataError, match="its test part has 9 tokens"):
        read_text(path, test_source=str(other))


@pytest.mark.parametrize("tokens", ["characters", "bpe"])
def test_bits_per_character_count_the_characters_whatever_a_token_is(path, tokens):
    data = read_text(path, length=16, tokens=tokens)
    text = data.encoder.text(data.valid.stream)
    first = data.encoder.text(data.valid.stream[:1])
    assert data.valid.characters == len(text) - len(first)
    nats = torch.rand(data.valid.targets.shape).masked_fill(data.valid.targets == -100, 0)
    metrics = assess(data, nats, data.valid)["metrics"]
    expected = float(nats.double().sum()) / (len(text) - len(first)) / math.log(2)
    assert metrics["bits_per_character"]["value"] == pytest.approx(expected, rel=1e-6)
    assert data.encoder.encode(text).characters == data.valid.characters


def test_a_text_cannot_be_a_regression(path):
    with pytest.raises(DataError, match="needs a table"):
        read(path, DataSettings(), TaskSettings(kind="regression"), seed=0)
