"""Sheets: files, folders, Parquet and DataFrames as one kind of table."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from goodfit.data.sheet import read_sheet
from goodfit.errors import DataError


def test_a_folder_with_train_and_test_files_is_one_sheet_that_knows_its_parts(tmp_path):
    (tmp_path / "train.csv").write_text("a,b\n1,x\n2,y\n")
    (tmp_path / "test.csv").write_text("b,a\nz,3\n")
    sheet = read_sheet(tmp_path)
    assert sheet.frame["a"].tolist() == ["1", "2", "3"]
    assert sheet.part.tolist() == [0, 0, 2]
    assert sheet.place(2) == "test.csv:2"


def test_a_mapping_of_frames_is_read_like_a_folder():
    sheet = read_sheet({"train": pd.DataFrame({"a": [1, 2]}), "test": pd.DataFrame({"a": [3]})})
    assert sheet.part.tolist() == [0, 0, 2]


def test_parts_that_lack_a_column_are_refused():
    with pytest.raises(DataError, match="has no column 'b'"):
        read_sheet({"train": pd.DataFrame({"a": [1], "b": [2]}), "test": pd.DataFrame({"a": [3]})})


def test_parquet_keeps_types_and_class_names(tmp_path):
    table = pa.table(
        {
            "image": pa.array(
                [{"bytes": b"x", "path": "p"}] * 2, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            ),
            "label": pa.array([0, 1]),
            "when": pa.array([1, 2], pa.date32()),
        }
    )
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    sheet = read_sheet(tmp_path / "a.parquet")
    assert sheet.frame["image"].tolist() == [b"x", b"x"]
    assert sheet.classes == {"label": ("cat", "dog")}
    assert pd.api.types.is_datetime64_any_dtype(sheet.frame["when"])


def test_a_compressed_csv_is_unpacked(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert read_sheet(tmp_path / "a.csv.gz").frame["b"].tolist() == ["2"]


def test_a_frame_with_repeated_names_and_its_own_index_is_read():
    frame = pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"], index=["p", "q"])
    sheet = read_sheet(frame)
    assert sheet.frame.columns.tolist() == ["a", "a (2)"]
    assert sheet.place(1) == "DataFrame row q"


def test_the_fingerprint_changes_with_one_cell():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [[1], [2]]})
    changed = frame.assign(a=[1, 3])
    assert read_sheet(frame).fingerprint == read_sheet(frame.copy()).fingerprint
    assert read_sheet(frame).fingerprint != read_sheet(changed).fingerprint


def _damaged(tmp_path):
    path = tmp_path / "bad.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    return path


def _zip(tmp_path):
    path = tmp_path / "book.csv"
    path.write_bytes(b"PK\x03\x04 and more")
    return path


def _gzip(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n" * 100)[:-9])
    return path


def _near(tmp_path):
    (tmp_path / "adult.csv").write_text("a\n1\n")
    return tmp_path / "adlut.csv"


def _no_rows(tmp_path):
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "none.parquet")
    return tmp_path / "none.parquet"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_damaged, "bad.parquet is no readable Parquet file"),
        (_zip, "spreadsheet or a zip archive"),
        (_gzip, "damaged gzip file"),
        (_near, "did you mean .*adult.csv"),
        (_no_rows, "none.parquet has no rows"),
        (lambda path: path, "a folder without train.csv"),
        (lambda path: pd.DataFrame(), "has no columns"),
        (lambda path: pd.DataFrame({"a": []}), "has no rows"),
        (lambda path: np.zeros(3), "is no table"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, make, message):
    with pytest.raises(DataError, match=message) as caught:
        read_sheet(make(tmp_path))
    assert "\n" not in str(caught.value)
