from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import goodfit
from goodfit.probes import before_training
from goodfit.techniques.stopping import NoStopping, Patience, best_of, cost, wasted

values = st.one_of(st.floats(-10, 10), st.sampled_from([math.nan, math.inf, -math.inf]))


@given(st.lists(st.floats(-10, 10), min_size=1), st.booleans())
def test_the_best_is_the_first_of_the_best_values(history, larger):
    best = best_of(history, larger_is_better=larger)
    assert history[best] == (max(history) if larger else min(history))
    assert history[best] not in history[:best]


@given(st.lists(values, min_size=1), st.booleans())
def test_not_a_number_never_wins_against_a_number(history, larger):
    best = best_of(history, larger_is_better=larger)
    assert not math.isnan(history[best]) or all(math.isnan(v) for v in history)


def test_it_stops_after_patience_evaluations_without_a_gain_and_not_before():
    history = [3.0, 2.0, 1.0, 1.5, 1.2, 1.0]
    stopping = Patience(patience=3)
    assert [stopping.stop(history[:n], larger_is_better=False) for n in range(1, 7)] == [False] * 5 + [True]
    up = [-v for v in history]
    assert [stopping.stop(up[:n], larger_is_better=True) for n in range(1, 7)] == [False] * 5 + [True]
    assert stopping.best(history, larger_is_better=False) == 2
    assert wasted(history, larger_is_better=False) == 3


def test_gains_within_min_delta_do_not_count_but_the_best_is_the_best():
    history = [1.0, 0.99, 0.98, 0.97]
    stopping = Patience(patience=3, min_delta=0.05)
    assert stopping.stop(history, larger_is_better=False)
    assert stopping.best(history, larger_is_better=False) == 3
    assert not Patience(patience=3).stop(history, larger_is_better=False)


def test_small_gains_add_up_to_one_that_counts():
    history = [1.0, 0.98, 0.96, 0.94, 0.92, 0.9, 0.88]
    assert not Patience(patience=3, min_delta=0.05).stop(history, larger_is_better=False)


def test_a_smoothed_history_is_not_fooled_by_one_lucky_value():
    history = [5.0, 4.0, 0.5, 4.0, 3.0, 2.0, 1.9, 1.8]
    assert Patience().best(history, larger_is_better=False) == 2
    assert Patience(smoothing=0.7).best(history, larger_is_better=False) == 7


def test_it_never_stops_when_switched_off_and_still_names_the_best():
    assert not NoStopping().stop([1.0] * 100, larger_is_better=False)
    assert NoStopping().best([1.0, 3.0, 2.0], larger_is_better=True) == 1


def test_a_patience_in_epochs_becomes_a_count_of_evaluations():
    stopping = Patience(patience="5 epochs", min_delta=0.1)
    resolved = stopping.resolved(total=1000, steps_per_epoch=10, steps_between=20)
    assert (resolved.patience, resolved.min_delta) == (3, 0.1)
    assert Patience(patience="10%").resolved(total=1000, steps_per_epoch=10, steps_between=10).patience == 10
    assert Patience(patience=4).resolved(total=1000, steps_per_epoch=10, steps_between=20).patience == 4
    with pytest.raises(ValueError, match="resolved"):
        stopping.stop([1.0], larger_is_better=False)


def test_an_empty_history_has_no_best():
    with pytest.raises(ValueError, match="empty"):
        best_of([], larger_is_better=True)


@pytest.mark.parametrize("settings", [{"patience": 0}, {"min_delta": -1.0}, {"smoothing": 1.0}])
def test_settings_out_of_range_are_refused_with_the_range(settings):
    with pytest.raises(ValueError, match=r"greater than or equal to|less than"):
        Patience(**settings)


def test_what_stopping_cost_is_the_steps_after_the_best_and_the_share_of_the_plan_not_run():
    found = cost([10, 20, 30, 40], best=1, total=200)
    assert found == {"best_step": 20, "after_best": 20, "planned": 200, "not_run": 0.8}
    assert cost([10, 20], best=1, total=20) == {"best_step": 20, "after_best": 0, "planned": 20, "not_run": 0.0}


def test_a_run_that_stops_early_says_what_it_cost_everywhere(capsys, monkeypatch):
    monkeypatch.setattr(before_training, "ONE_BATCH_SECONDS", 0.05)
    recipe = goodfit.Recipe().patched(
        {
            "model.name": "mlp",
            "model.width": 8,
            "model.depth": 1,
            "epochs": 40,
            "optimizer.name": "sgd",
            "optimizer.lr": 1e-7,
            "schedule.name": "constant",
            "stopping.name": "patience",
            "stopping.patience": 3,
            "stopping.min_delta": 0.01,
        }
    )
    run = goodfit.train("iris", recipe=recipe, out="r")
    rows = run.metrics
    assert rows[-1]["step"] == run.results["steps"] == 4 * rows[0]["step"]
    said = run.results["stopping"]
    best = max((row for row in rows if row["best"]), key=lambda row: row["step"])
    assert said["best_step"] == best["step"]
    assert said["after_best"] == rows[-1]["step"] - best["step"]
    assert said["not_run"] == pytest.approx(1 - rows[-1]["step"] / said["planned"])
    assert said["not_run"] > 0.8
    screen = " ".join(capsys.readouterr().out.split())
    report = " ".join((run.folder / "report.html").read_text(encoding="utf-8").split())
    for place in (screen, report):
        assert f"left {100 * said['not_run']:.0f} % of the planned {said['planned']:,} steps unrun" in place


def test_the_last_weights_are_kept_where_that_is_asked() -> None:
    history = [1.0, 3.0, 2.0]
    assert [NoStopping(keep="last").best(history[:n], larger_is_better=True) for n in (1, 2, 3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="'best' or 'last'"):
        NoStopping(keep="first")
