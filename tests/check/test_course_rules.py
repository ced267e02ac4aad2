"""Rules over whole courses: of a run's metrics, of several processes, and advice about speed."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from goodfit.check import Log
from goodfit.hindsight import hindsight
from goodfit.probes.evaluations import Course
from goodfit.probes.replicas import Replica
from goodfit.probes.speed import Padding, Waiting, Work
from goodfit.rules import (
    accelerator_idle,
    loader_waits,
    norms_decayed,
    overfitting,
    padding_waste,
    replicas_differ,
    same_data_in_all_processes,
)
from goodfit.trying import difference


def rows(losses: list[float], *, accuracy: float | None = None, trained: float = 0.9) -> list[dict[str, Any]]:
    made = []
    for k, loss in enumerate(losses):
        row: dict[str, Any] = {"step": 10 * k + 10, "epoch": k + 1.0, "valid_loss": loss, "train_loss": trained**k}
        made.append(row | ({} if accuracy is None else {"valid_accuracy": accuracy}))
    return made


def bowl(rise: float, noise: float = 0.01, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [1.0 / (k + 1) + rise * max(0, k - 8) + draw.gauss(0, noise) for k in range(24)]


def test_a_loss_that_rises_beyond_its_noise_is_overfitting_with_a_patch() -> None:
    (finding,) = hindsight(rows(bowl(0.03)), 24)
    assert (finding.rule, finding.severity) == ("overfitting", "warning")
    assert 6 <= finding.patch["epochs"] <= 12


def test_noise_alone_is_no_overfitting() -> None:
    for seed in range(50):
        draw = random.Random(seed)
        course = Course("valid_loss", "x", list(range(24)), [1 + draw.gauss(0, 0.1) for _ in range(24)], [0.9] * 24)
        assert isinstance(overfitting.check(Log({"evaluations": {"x": course}})), str), seed


def test_a_loss_that_still_falls_asks_for_more_epochs() -> None:
    (finding,) = hindsight(rows([math.exp(-k / 12) for k in range(18)]), 18)
    assert (finding.rule, finding.severity, finding.patch) == ("still-improving", "advice", {"epochs": 36})


def test_a_loss_that_is_level_asks_for_nothing() -> None:
    assert hindsight(rows([1 / (k + 1) if k < 4 else 0.25 for k in range(18)]), 18) == []


def test_a_loss_that_rises_while_the_accuracy_stays_is_a_drift_of_calibration() -> None:
    losses = [0.5, 0.3, 0.2, *(0.2 + 0.01 * k for k in range(1, 16))]
    (finding,) = hindsight(rows(losses, accuracy=0.93, trained=1.0), 18)
    assert (finding.rule, finding.patch) == ("calibration-drift", {"epochs": 3})


def test_a_run_without_validation_says_nothing() -> None:
    assert hindsight([{"step": 1, "epoch": 1.0, "train_loss": 1.0}], 1) == []


def test_replicas_that_come_apart_are_told_from_those_that_agree() -> None:
    same = [Replica("t.py:9", 10, {2: 1.5, 5: 1.25, 10: 1.0}) for _ in range(2)]
    assert isinstance(replicas_differ.check(Log({"replicas": same})), str)
    apart = [same[0], Replica("t.py:9", 10, {2: 1.5, 5: 1.2500001, 10: 1.001})]
    (finding,) = replicas_differ.check(Log({"replicas": apart}))
    assert (finding.severity, finding.step, finding.where) == ("error", 5, "t.py:9")
    averaged_later = [same[0], Replica("t.py:9", 10, {2: 1.6, 5: 1.26, 10: 1.0})]
    assert isinstance(replicas_differ.check(Log({"replicas": averaged_later})), str)


def test_equal_first_batches_in_all_processes_are_found() -> None:
    one, other = Replica(batches=[1.0, 2.0, 3.0], loader="t.py:5"), Replica(batches=[4.0, 5.0, 6.0])
    (finding,) = same_data_in_all_processes.check(Log({"replicas": [one, one]}))
    assert finding.where == "t.py:5"
    assert isinstance(same_data_in_all_processes.check(Log({"replicas": [one, other]})), str)


@pytest.mark.parametrize(
    ("rule", "log"),
    [
        (loader_waits, {"speed.waiting": Waiting("t.py:3", 0, 60, 4.0, 2.0)}),
        (padding_waste, {"speed.padding": Padding("t.py:3", 10, 1000, 600)}),
        (norms_decayed, {"speed.decayed": {"t.py:3": (4, "AdamW")}}),
        (accelerator_idle, {"speed.work": Work("t.py:3", half=False, odd=1, layers=4, plain_images=True)}),
    ],
)
def test_advice_is_never_more_than_advice(rule: Any, log: dict[str, Any]) -> None:
    (finding,) = rule.check(Log(log))
    assert (finding.severity, finding.where) == ("advice", "t.py:3")


@pytest.mark.parametrize(
    ("rule", "log"),
    [
        (loader_waits, {"speed.waiting": Waiting("t.py:3", 0, 60, 4.0, 1.0)}),
        (padding_waste, {"speed.padding": Padding("t.py:3", 10, 1000, 400)}),
        (norms_decayed, {"speed.decayed": {}}),
        (accelerator_idle, {"speed.work": Work("t.py:3", half=True, odd=1, layers=4, plain_images=False)}),
    ],
)
def test_no_advice_where_all_is_well(rule: Any, log: dict[str, Any]) -> None:
    assert isinstance(rule.check(Log(log)), str)


def test_the_difference_of_two_results_says_whether_it_is_sure() -> None:
    def of(value: float, low: float, high: float) -> dict[str, Any]:
        return {"headline": "acc", "metrics": {"acc": {"value": value, "low": low, "high": high, "better": "higher"}}}

    assert difference(of(0.8, 0.75, 0.85), of(0.9, 0.87, 0.93)) == "acc 0.8 before, 0.9 with it: better"
    assert difference(of(0.8, 0.7, 0.9), of(0.7, 0.6, 0.8)).endswith("worse, within the intervals of both")
    assert difference({}, {}) == "the results cannot be compared"
