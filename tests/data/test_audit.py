"""The audit: leaks, duplicates, contradictions, rare classes; with numbers that can be checked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from goodfit.data import audit, read
from goodfit.recipe import DataSettings, TaskSettings

RNG = np.random.default_rng(0)
N = 400


def findings(frame, **settings):
    data = read(frame, DataSettings(**settings), TaskSettings(), seed=0)
    return {finding.rule: finding for finding in data.findings}


def healthy():
    x, y = RNG.normal(size=N), RNG.normal(size=N)
    return pd.DataFrame(
        {"x": x, "y2": y, "k": RNG.choice(list("abc"), N), "t": np.where(x + y + RNG.normal(size=N) > 0, "p", "q")}
    )


def test_a_healthy_table_has_no_warning():
    assert not [f for f in findings(healthy()).values() if f.severity != "advice"]


@pytest.mark.parametrize(
    "leak",
    [
        lambda f: np.where(f["t"] == "p", 1.0, 0.0) + RNG.normal(0, 1e-3, N),
        lambda f: f["t"].map({"p": "red", "q": "blue"}),
    ],
)
def test_a_column_that_gives_a_class_away_is_named(leak):
    frame = healthy()
    frame.insert(0, "hint", leak(frame))
    found = findings(frame)["target-given-away"]
    assert "'hint'" in found.message
    assert 'data.ignore = ["hint"]' in found.fix


def test_a_copy_of_a_number_is_named_and_a_mere_relation_is_not():
    frame = healthy().drop(columns="t")
    frame["t"] = frame["x"] * 3 + RNG.normal(0, 0.5, N)
    assert "target-given-away" not in findings(frame)
    frame.insert(0, "fahrenheit", frame["t"] * 1.8 + 32)
    assert "'fahrenheit'" in findings(frame)["target-given-away"].message


def test_classes_that_one_number_orders_perfectly_are_given_away():
    frame = healthy().assign(t=np.arange(N) // 100)
    frame.insert(0, "hint", frame["t"] * 10.0 + RNG.uniform(0, 9, N))
    assert "all 4 classes" in findings(frame, target="t")["target-given-away"].message


def test_samples_in_two_parts_are_counted():
    frame = pd.concat([healthy(), healthy().iloc[:0]], ignore_index=True)
    doubled = pd.concat([frame, frame.iloc[:100]], ignore_index=True)
    data = read(doubled, DataSettings(), TaskSettings(), seed=0)
    found = next(f for f in data.findings if f.rule == "duplicates-across-parts")
    rows = [{tuple(r) for r in doubled.iloc[p.index.numpy(), :-1].to_numpy()} for p in (data.train, data.valid)]
    expected = sum(tuple(r) in rows[0] for r in doubled.iloc[data.valid.index.numpy(), :-1].to_numpy())
    assert found.evidence["valid in train"] == expected
    assert found.severity == "warning"


def test_equal_inputs_with_different_targets_are_counted():
    frame = healthy()
    contrary = frame.iloc[:20].assign(t=np.where(frame["t"].iloc[:20] == "p", "q", "p"))
    found = findings(pd.concat([frame, contrary], ignore_index=True))["label-conflicts"]
    assert found.evidence["samples"] == 40
    assert found.evidence["wrong_at_least"] == 20


def test_imbalance_tiny_classes_and_gaps_are_mentioned():
    frame = healthy().assign(t=["a"] * (N - 5) + ["b"] * 5)
    frame.loc[: N * 3 // 4, "x"] = np.nan
    found = findings(frame)
    assert "'a' is 79 times as frequent as 'b'" in found["imbalance"].message
    assert "'b' (5)" in found["tiny-classes"].message
    assert "'x'" in found["mostly-missing"].message


def test_the_area_under_the_curve_is_the_one_of_scikit_learn():
    scores, positive = RNG.integers(0, 9, 200).astype(float), RNG.random(200) > 0.6
    assert audit._auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
