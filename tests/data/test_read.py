"""Reading: every source finds its reader, and a wrong one is told what to do."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from goodfit.data import encoder_from_json, read
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings


def read_it(source, **settings):
    return read(source, DataSettings(**settings), TaskSettings(), seed=0)


def test_digits_are_images_of_eight_by_eight_in_ten_classes():
    data = read_it("digits")
    assert data.spec.shape == (1, 8, 8)
    batch = data.train.take(torch.arange(5))
    assert batch.inputs.dtype == torch.uint8
    assert int(data.train.take(torch.arange(len(data.train))).inputs.max()) == 255
    assert (len(data.train), len(data.valid), len(data.test)) == (1257, 270, 270)
    assert data.task.classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("name", "kind", "outputs"),
    [
        ("iris", "classification", 3),
        ("wine", "classification", 3),
        ("breast-cancer", "classification", 2),
        ("diabetes", "regression", 1),
    ],
)
def test_embedded_tables_are_read_by_name(name, kind, outputs):
    data = read_it(name)
    assert (data.name, data.task.kind, data.task.outputs) == (name, kind, outputs)
    assert not [f for f in data.findings if f.severity == "error"]
    assert encoder_from_json(data.encoder.to_json()) == data.encoder
    assert len(data.fingerprint) == 64


def test_breast_cancer_keeps_the_malignant_ones_as_positive():
    assert read_it("breast-cancer").task.classes == ("benign", "malignant")


def test_summaries_say_how_the_target_was_told():
    rows = dict(read_it("iris").summary)
    assert rows["rows"] == "150"
    assert rows["task"].startswith("classification: ")
    assert "stratified" in rows["split"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("iirs", "'iirs' is neither a file nor a known data set; did you mean 'iris'"),
        ("missing.csv", "missing.csv does not exist"),
        (object(), "a object cannot be read as data"),
        (3, "a int cannot be read as data"),
    ],
)
def test_what_is_no_source_is_said_so(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        read_it(source)


def test_files_and_folders_of_unknown_kinds_are_refused(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"hello there")
    with pytest.raises(DataError, match=r"kind '\.xyz' cannot be read"):
        read_it(tmp_path / "a.xyz")
    with pytest.raises(DataError, match="neither images nor train"):
        read_it(tmp_path)


def test_a_table_of_unknown_ending_is_recognised(tmp_path):
    frame = pd.DataFrame({"a": range(40), "b": [n % 7 / 2 for n in range(40)], "c": ["p", "q"] * 20})
    frame.to_csv(tmp_path / "table.dat", index=False)
    assert read_it(tmp_path / "table.dat").task.target == "c"


def test_a_forecast_is_asked_for_by_a_horizon():
    frame = pd.DataFrame({"when": pd.date_range("2020-01-01", periods=200), "x": [n % 11 for n in range(200)]})
    assert read_it(frame, horizon=2, time="when").task.kind == "forecast"


def test_an_encoder_of_another_version_is_refused():
    with pytest.raises(DataError, match="unknown encoder 'abacus'"):
        encoder_from_json({"kind": "abacus"})
