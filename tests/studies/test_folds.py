"""Folds hold what scikit-learn's splitters hold, and a cross-validation predicts each row once, from others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from goodfit.data.windows import SeriesWindows
from goodfit.errors import DataError
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.studies.cross_validate import cross_validate, group_weights, show
from goodfit.studies.folds import at_random, contiguous, grouped, parted, stratified


def numbers_of(splitter: object, count: int, **more: object) -> np.ndarray:
    fold = np.empty(count, int)
    for number, (_, held) in enumerate(splitter.split(np.zeros(count), **more)):  # type: ignore[attr-defined]
        fold[held] = number
    return fold


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 7), st.lists(st.integers(0, 4), min_size=20, max_size=120), st.integers(0, 99))
def test_classes_are_spread_as_evenly_as_by_scikit_learn(folds: int, classes: list[int], seed: int) -> None:
    y = np.unique(np.array(classes), return_inverse=True)[1]
    fold = stratified(y, folds, seed=seed)
    for kind in range(y.max() + 1):
        counts = np.bincount(fold[y == kind], minlength=folds)
        assert np.ptp(counts) <= 1
    assert np.ptp(np.bincount(fold, minlength=folds)) <= 1
    if np.bincount(y).min() >= folds:
        theirs = numbers_of(StratifiedKFold(folds, shuffle=True, random_state=seed), len(y), y=y)
        for kind in range(y.max() + 1):
            mine, other = (np.sort(np.bincount(f[y == kind], minlength=folds)) for f in (fold, theirs))
            assert mine.tolist() == other.tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.lists(st.integers(0, 15), min_size=30, max_size=120), st.integers(0, 99))
def test_groups_stay_whole_and_sizes_even(folds: int, groups: list[int], seed: int) -> None:
    g = np.array(groups)
    if len(np.unique(g)) < folds:
        with pytest.raises(DataError, match="cannot fill"):
            grouped(g, folds, seed=seed)
        return
    fold = grouped(g, folds, seed=seed)
    assert all(len(np.unique(fold[g == one])) == 1 for one in np.unique(g))
    assert len(np.unique(fold)) == folds
    theirs = numbers_of(GroupKFold(folds), len(g), groups=g)
    assert np.bincount(fold).max() <= np.bincount(theirs).max() + 1


def test_groups_of_unlike_classes_are_evened_out_about_as_well_as_by_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    g = rng.integers(0, 60, 600)
    y = (rng.random(600) < np.linspace(0.02, 0.6, 60)[g]).astype(int)
    mine = grouped(g, 5, seed=0, classes=y)
    theirs = numbers_of(StratifiedGroupKFold(5, shuffle=True, random_state=0), 600, y=y, groups=g)
    spread = [np.std([y[f == k].mean() for k in range(5)]) for f in (mine, theirs)]
    assert spread[0] <= max(spread[1], 0.01)


def test_random_and_neighbouring_folds_have_the_sizes_of_scikit_learn() -> None:
    theirs = numbers_of(KFold(4), 22)
    assert contiguous(22, 4).tolist() == theirs.tolist()
    assert sorted(np.bincount(at_random(22, 4, seed=0))) == sorted(np.bincount(theirs))
    assert at_random(22, 4, seed=0).tolist() == at_random(22, 4, seed=0).tolist() != at_random(22, 4, seed=1).tolist()


def test_no_training_window_touches_what_is_judged() -> None:
    values = torch.arange(200.0)
    origins = torch.arange(10, 196)
    part = SeriesWindows(torch.zeros(204, 1), values, origins, origins, lookback=10, horizon=5)
    for one in parted(part, contiguous(len(part), 4)):
        held = {t for k in one.held for t in range(int(origins[k]), int(origins[k]) + 5)}
        seen = {t for k in one.train for t in range(int(origins[k]) - 10, int(origins[k]) + 5)}
        assert not held & seen
        assert one.dropped == len(part) - len(one.train) - len(one.held) > 0


@pytest.mark.parametrize("folds", [1, 0, 30])
def test_folds_that_cannot_be_are_refused(folds: int) -> None:
    with pytest.raises(DataError):
        at_random(20, folds, seed=0)


def test_groups_are_drawn_whole() -> None:
    codes = np.array([0, 0, 1, 2, 2, 2])
    weights = group_weights(codes, 500, seed=0)
    assert (weights[0] == weights[1]).all()
    assert (weights[3] == weights[5]).all()
    assert weights[[0, 2, 3]].sum(0).tolist() == [3] * 500


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    patient = rng.integers(0, 30, 240)
    x = rng.normal(size=(240, 2))
    ill = x[:, 0] + rng.normal(size=30)[patient] > 0
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "patient": patient, "ill": np.where(ill, "yes", "no")})


def test_each_row_is_predicted_once_by_a_model_that_saw_neither_it_nor_its_group(
    patients: pd.DataFrame, tmp_path: Path
) -> None:
    source = tmp_path / "patients.csv"
    patients.to_csv(source, index=False)
    recipe = Recipe().patched({"epochs": 3, "model.name": "linear"})
    found = cross_validate(
        source, recipe, folds=3, groups="patient", target="ill", out=tmp_path / "study", screen=Screen.silent()
    )
    table = pd.read_parquet(found.table)
    assert table["index"].is_unique
    assert len(table) == found.rows == sum(found.sizes)
    assert (table["target"].to_numpy() == patients["ill"].to_numpy()[table["index"]]).all()
    whose = patients["patient"].to_numpy()[table["index"]]
    assert pd.Series(whose).groupby(whose).transform("size").gt(0).all()
    assert all(
        table["fold"].to_numpy()[whose == one].min() == table["fold"].to_numpy()[whose == one].max() for one in whose
    )
    share = (table["prediction"] == table["target"]).mean()
    assert found.metrics["accuracy"]["value"] == pytest.approx(share)
    assert found.metrics["accuracy"]["low"] < share < found.metrics["accuracy"]["high"]
    assert found.deviation == pytest.approx(np.std(found.values, ddof=1))
    for run in sorted((tmp_path / "study" / "runs").iterdir()):
        assert Run(run).openings == 0
    show(found, Screen.silent())


def test_a_group_column_that_is_not_there_gets_the_nearest_name(patients: pd.DataFrame, tmp_path: Path) -> None:
    source = tmp_path / "patients.csv"
    patients.to_csv(source, index=False)
    with pytest.raises(DataError, match="patient"):
        cross_validate(source, folds=3, groups="pateint", target="ill", out=tmp_path / "s", screen=Screen.silent())
