"""The target: which column, classes or numbers, and what is said when it cannot be predicted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from goodfit.data.sheet import read_sheet
from goodfit.data.target import choose, encode_target, read_target
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings

N = 200
RNG = np.random.default_rng(0)


def target_of(values, *, name="t", **settings):
    sheet = read_sheet(pd.DataFrame({name: values}))
    return read_target(sheet, name, "as asked", settings=TaskSettings(**settings))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["a", "b", "c"], "c"),
        (["a", "label", "c"], "label"),
        (["Target", "b"], "Target"),
        (["class", "x", "y"], "class"),
    ],
)
def test_the_target_is_the_last_column_unless_one_is_called_so(columns, expected):
    sheet = read_sheet(pd.DataFrame({name: [1, 2] for name in columns}))
    assert choose(sheet, DataSettings())[0] == expected


def test_an_unknown_target_answers_with_the_nearest_column():
    sheet = read_sheet(pd.DataFrame({"income": [1], "age": [2]}))
    with pytest.raises(DataError, match="has no column 'incom'; did you mean 'income'"):
        choose(sheet, DataSettings(target="incom"))


@pytest.mark.parametrize("key", ["groups", "time"])
def test_other_unknown_columns_are_named_with_their_key(key):
    sheet = read_sheet(pd.DataFrame({"income": [1], "age": [2]}))
    with pytest.raises(DataError, match=f"data.{key}"):
        choose(sheet, DataSettings(**{key: "agge"}))
    with pytest.raises(DataError, match=r"data\.ignore"):
        choose(sheet, DataSettings(ignore=("agge",)))


@pytest.mark.parametrize(
    ("values", "name", "kind"),
    [
        (RNG.choice(["a", "b"], N), "t", "classification"),
        (RNG.normal(size=N), "t", "regression"),
        (RNG.integers(0, 3, N), "t", "classification"),
        (np.clip(np.round(RNG.normal(6, 0.9, N)), 3, 9), "quality", "regression"),
        (RNG.poisson(10, N), "rings", "regression"),
        (np.arange(N) % 10, "label", "classification"),
        (np.arange(N) % 10, "t", "classification"),
        (RNG.choice([0.5, 1.5], N), "t", "classification"),
        (RNG.choice([True, False], N), "t", "classification"),
        (RNG.integers(1, 10**6, N).astype(str), "price", "regression"),
    ],
)
def test_classes_and_quantities_are_told_apart_with_a_reason(values, name, kind):
    target = target_of(values, name=name)
    assert target.spec.kind == kind
    assert target.why.startswith(kind)


def test_the_kind_can_be_overruled():
    values = np.clip(np.round(RNG.normal(6, 0.9, N)), 3, 9)
    assert target_of(values, kind="classification").spec.classes == tuple(
        str(n) for n in sorted(set(values.astype(int)))
    )
    assert target_of(RNG.integers(0, 3, N), kind="regression").spec.kind == "regression"
    with pytest.raises(DataError, match="holds text such as"):
        target_of(["a", "b"] * 9, kind="regression")
    with pytest.raises(DataError, match=r"needs a \.txt file"):
        target_of(["a", "b"] * 9, kind="language")


def test_the_rarer_of_two_classes_is_positive_unless_said():
    assert target_of(["x"] * 3 + ["y"] * 9).spec.classes == ("y", "x")
    assert target_of(["x"] * 9 + ["y"] * 3).spec.classes == ("x", "y")
    assert target_of(["no"] * 3 + ["yes"] * 9).spec.classes == ("no", "yes")
    assert target_of(["x"] * 9 + ["y"] * 3, positive="x").spec.classes == ("y", "x")
    with pytest.raises(DataError, match="has no class 'z'"):
        target_of(["x"] * 9 + ["y"] * 3, positive="z")
    with pytest.raises(DataError, match="is for two classes"):
        target_of(["x", "y", "z"] * 9, positive="z")


def test_numbered_classes_are_in_the_order_of_their_numbers():
    target = target_of([10, 9, 2] * 5)
    assert target.spec.classes == ("2", "9", "10")
    assert target.values[:3].tolist() == [2, 1, 0]


def test_a_class_called_none_is_no_missing_value():
    target = target_of(["None", "some", None, ""] * 5)
    assert target.spec.classes == ("None", "some")
    assert target.missing.sum() == 10


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a"] * 20, "has only one class, 'a'"),
        ([2.5] * 20, "'t' is 2.5 in every row"),
        ([None] * 20, "missing in every row"),
        ([np.nan] * 20, "missing in every row"),
        ([f"name {n}" for n in range(20)], "20 different values in 20 rows"),
        (["Yes"] * 12 + ["yes"] * 2 + ["no"] * 9, r"'Yes' \(12 rows\) and 'yes' \(2, first at DataFrame row 12\)"),
        (["New York"] * 9 + ["New  York"] * 3, "differ only in case or white space"),
    ],
)
def test_targets_that_cannot_be_predicted_are_refused_in_one_line(values, message):
    with pytest.raises(DataError, match=message):
        target_of(values)


def test_white_space_around_classes_is_ignored_and_mentioned():
    target = target_of([" yes", "yes", "no", "no "] * 5)
    assert target.spec.classes == ("no", "yes")
    assert [f.rule for f in target.findings] == ["white-space-in-classes"]


def test_numbers_that_are_none_are_left_out_and_named():
    target = target_of([f"{n}.5" for n in range(50)] + ["abc"])
    assert target.missing.sum() == 1
    assert "'abc' at DataFrame row 50" in target.findings[0].message
    target = target_of([*np.arange(20.0) + 0.5, np.inf])
    assert [f.rule for f in target.findings] == ["infinite-target"]


def test_new_targets_use_the_old_numbers_and_new_classes_are_named():
    spec = target_of(["a", "b", "c"] * 5).spec
    assert encode_target(spec, read_sheet(pd.DataFrame({"t": ["c", " a", None]}))).tolist() == [2, 0, -1]
    with pytest.raises(DataError, match="row 1: class 'bb' of 't' was not there in training; did you mean 'b'"):
        encode_target(spec, read_sheet(pd.DataFrame({"t": ["a", "bb"]})))
