from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as oracle

from goodfit.evaluation import Threshold, tune_threshold, wants_threshold


def scored(n: int = 500, share: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(int)
    s = 1 / (1 + np.exp(-np.round(rng.normal(-2.5, 1, n) + 2 * y, 1)))
    return y, s


@pytest.mark.parametrize("objective", ["f1", "balanced_accuracy"])
@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_is_the_best_of_all(objective: str, seed: int) -> None:
    y, s = scored(seed=seed)
    score = oracle.f1_score if objective == "f1" else oracle.balanced_accuracy_score
    best = max(score(y, s >= t) for t in np.unique(s))
    found = tune_threshold(y, s, objective=objective)  # type: ignore[arg-type]
    assert score(y, s >= found.value) == pytest.approx(best)
    assert found.at_value[objective] == pytest.approx(best)
    assert found.at_default[objective] == pytest.approx(score(y, s >= 0.5))


def test_the_counts_are_those_of_the_confusion_matrix() -> None:
    y, s = scored()
    found = tune_threshold(y, np.stack([1 - s, s], 1))
    (tn, fp), (fn, tp) = oracle.confusion_matrix(y, s >= found.value)
    assert [found.at_value[k] for k in ("tn", "fp", "fn", "tp")] == [tn, fp, fn, tp]
    assert found.at_value["precision"] == pytest.approx(tp / (tp + fp))
    assert found.at_value["recall"] == pytest.approx(tp / (tp + fn))
    assert Threshold(**json.loads(json.dumps(found.to_json()))) == found


def test_half_is_kept_where_nothing_is_better() -> None:
    y = np.repeat([0, 1], 20)
    assert tune_threshold(y, np.where(y == 1, 0.9, 0.2)).value == 0.5


def test_too_few_samples_of_a_class_leave_it_at_half() -> None:
    y = np.r_[np.ones(5, int), np.zeros(100, int)]
    found = tune_threshold(y, np.linspace(0.3, 0, 105))
    assert found.value == 0.5
    assert "5 samples" in found.note
    assert found.at_default["precision"] is None


def test_only_imbalanced_classes_ask_for_a_threshold() -> None:
    assert wants_threshold(np.r_[np.ones(10), np.zeros(90)])
    assert wants_threshold(np.r_[np.ones(90), np.zeros(10)])
    assert not wants_threshold(np.r_[np.ones(30), np.zeros(70)])
    assert not wants_threshold(np.zeros(10))
