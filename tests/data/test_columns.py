"""Columns: what each one holds, and what is said about cells that do not fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from goodfit.data.cells import parse_numbers
from goodfit.data.columns import ColumnType, read_column, tell
from goodfit.data.sheet import read_sheet


def told(values, *, comma=False, name="x", **kind):
    series = pd.Series(values, **kind)
    return tell(series, name, comma=comma, folder=None, places=lambda rows: [f"a.csv:{r + 2}" for r in rows])


@pytest.mark.parametrize(
    ("values", "comma", "expected"),
    [
        (["1", " 2.5 ", "-3e2", "4"], False, [1, 2.5, -300, 4]),
        (["1,5", "2,25", "3", "4,0"], True, [1.5, 2.25, 3, 4]),
        (["1,5", "2,25", "3", "4,75"], False, [1.5, 2.25, 3, 4.75]),
        (["1.234,5", "2.000.000", "3,5"], True, [1234.5, 2e6, 3.5]),
        (["1,234", "2,500,000.5", "3"], False, [1234, 2500000.5, 3]),
        (["1", " ?", "", "NA", "3"], False, [1, np.nan, np.nan, np.nan, 3]),
        (["1", "-", "unknown", "4", "5"], False, [1, np.nan, np.nan, 4, 5]),
    ],
)
def test_numbers_are_read_as_people_write_them(values, comma, expected):
    column, _ = told(values, comma=comma)
    assert column.kind == "number"
    np.testing.assert_allclose(column.values, expected)


def test_text_in_a_column_of_numbers_is_missing_and_named_with_its_row():
    column, found = told([str(n) for n in range(5, 100)] + ["abc", "7"])
    assert column.kind == "number"
    assert np.isnan(column.values[95])
    assert [f.rule for f in found] == ["text-in-numbers"]
    assert "'abc' at a.csv:97" in found[0].message


def test_infinite_numbers_are_missing_and_named():
    column, found = told([1.0, np.inf, 3.0, -np.inf, 5.0])
    assert np.isnan(column.values[[1, 3]]).all()
    assert found[0].rule == "infinite-values"
    assert "a.csv:3" in found[0].message
    column, found = told(["1", "inf", "3", "4.5"])
    assert found[0].rule == "infinite-values"


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (["2020-01-02", "2021-03-04", "2020-05-06"], "2020-01-02"),
        (["2020-01-02 03:04:05", "2021-03-04 00:00:00"], "2020-01-02T03:04:05"),
        (["25/12/2020", "01/02/2021", "03/02/2021"], "2020-12-25"),
        (["12/25/2020", "01/02/2021"], "2020-12-25"),
        (["02.01.2020", "31.12.2020"], "2020-01-02"),
        (["Jan 2, 2020", "Dec 31, 2020"], "2020-01-02"),
        (["2020-01-02T03:04:05Z", "2020-01-02T03:04:06Z"], "2020-01-02T03:04:05"),
    ],
)
def test_dates_are_read_in_the_order_their_values_allow(values, first):
    column, _ = told(values)
    assert column.kind == "date"
    assert column.values[0] == np.datetime64(first, "s").astype(np.int64)
    assert not np.isnan(column.values).any()


def test_typed_dates_and_booleans_are_dates_and_categories():
    column, _ = told(pd.to_datetime(["2020-01-02", None, "2021-01-01"]))
    assert column.kind == "date"
    assert column.missing.tolist() == [False, True, False]
    column, _ = told([True, False, True])
    assert column.kind == "category"
    assert set(column.levels) == {"True", "False"}


def test_categories_lose_white_space_around_them():
    column, _ = told([" a", "a ", "b", " ?", None])
    assert column.kind == "category"
    assert column.levels.tolist() == ["a", "b"]
    assert column.values.tolist() == [0, 0, 1, -1, -1]


def test_sentences_are_text():
    column, _ = told([f"this is sentence number {n}" for n in range(30)])
    assert column.kind == "text"


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ([None, None, ""], "empty-column"),
        (["NA", "?", " "], "empty-column"),
        (["a"] * 5, "constant-column"),
        ([3.0] * 5, "constant-column"),
        ([np.nan] * 5, "empty-column"),
        ([f"u{n}x" for n in range(50)], "id-column"),
        (list(range(50)), "id-column"),
        (list(range(1, 51)), "id-column"),
    ],
)
def test_columns_that_teach_nothing_are_left_out_with_a_note(values, rule):
    column, found = told(values)
    assert column is None
    assert [f.rule for f in found] == [rule]
    assert "'x'" in found[0].message


def test_distinct_whole_numbers_are_an_id_only_under_such_a_name():
    values = np.random.default_rng(0).permutation(1000)[:60]
    assert told(values, name="salary")[0] is not None
    assert told(values, name="customer_id")[0] is None
    assert told(values, name="paid")[0] is not None


def test_a_column_of_new_data_is_read_as_training_was():
    how = ColumnType("x", "number", decimal=",")
    assert read_column(pd.Series(["1,5", "2"]), how).values.tolist() == [1.5, 2.0]
    assert read_column(pd.Series([1.5, 2]), how).values.tolist() == [1.5, 2.0]
    how = ColumnType("x", "category")
    assert read_column(pd.Series([1, 2, 1]), how).levels.tolist() == ["1", "2"]


def test_what_is_no_number_parses_to_nan():
    parsed = parse_numbers(np.asarray(["1", "=1+1", "1 2", "0x10", "1_000", "one"], dtype=object))
    assert parsed[0] == 1
    assert np.isnan(parsed[[1, 2, 5]]).all()


def test_image_paths_beside_the_table_are_images(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    (tmp_path / "t.csv").write_text("file,label\na.png,0\nb.png,1\n")
    sheet = read_sheet(tmp_path / "t.csv")
    column, _ = tell(sheet.frame["file"], "file", comma=False, folder=tmp_path, places=sheet.places)
    assert column.kind == "image"
