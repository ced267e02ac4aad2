"""What next: the suggestions follow the run's own numbers, fit its task, and are commands that exist."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import goodfit
from goodfit.job import dry_run
from goodfit.recipe import Recipe, parse_set
from goodfit.report import what_next
from goodfit.report.next import REGULARISERS, Suggestion, cost, suggestions
from goodfit.screen import Screen
from goodfit.techniques import TABLE


def plan(kind: str = "classification", inputs: str = "image", **choices: Any) -> dict[str, Any]:
    known = {"optimizer.lr": 0.001, "epochs": 20, "schedule.name": "cosine", "loss.label_smoothing": 0.0} | choices
    return {
        "choices": {k: {"value": v, "reason": "", "source": "-"} for k, v in known.items()},
        "data": {
            "task": {"kind": kind, "target": "y"}, "spec": {"kind": inputs}, "name": "x",
            "samples": {"train": 30_000, "valid": 5_000, "test": 5_000},
        },
    }  # fmt: skip


def results(**more: Any) -> dict[str, Any]:
    one = {"value": 0.9, "low": 0.88, "high": 0.92, "better": "higher", "title": "accuracy", "unit": ""}
    return {
        "headline": "accuracy",
        "metrics": {"accuracy": one},
        "baselines": [],
        "steps": 1000,
        "seconds": 60.0,
    } | more


def rows(train: list[float], valid: list[float]) -> list[dict[str, Any]]:
    return [
        {"step": k, "train_loss": t, "valid_loss": v, "seconds": 6.0 * (k + 1)}
        for k, (t, v) in enumerate(zip(train, valid, strict=True))
    ]


LEARNS = rows([1, 0.8, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [1, 0.8, 0.65, 0.6, 0.55, 0.55, 0.55, 0.55, 0.55, 0.55])
MEMORISES = rows([1, 0.8, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.01], [1, 0.8, 0.7, 0.7, 0.75, 0.8, 0.9, 1, 1.1, 1.2])
FALLING = rows([1 - 0.08 * k for k in range(10)], [1 - 0.08 * k for k in range(10)])


def commands(found: list[Suggestion]) -> list[str]:
    return [one.command for one in found]


def test_a_model_that_memorises_is_regularised_first() -> None:
    found = suggestions(results(), plan(), MEMORISES, source="x.csv")
    assert found[0].command == "goodfit ablate x.csv --toggle mixup,cutmix,trivial_augment"
    assert "rose" in found[0].why
    assert any("label_smoothing" in one for one in commands(found))


def test_a_model_that_still_learns_is_trained_longer_first() -> None:
    assert suggestions(results(), plan(), FALLING, source="x.csv")[0].command == "goodfit ablate x.csv --set epochs=40"


def test_a_baseline_that_is_not_beaten_asks_for_the_rate() -> None:
    beaten = results(baselines=[{"name": "trees", "metrics": {"accuracy": 0.95}}])
    found = suggestions(beaten, plan(), LEARNS, source="x.csv")
    assert found[0].command == "goodfit lr x.csv"
    assert "trees reaches 0.95" in found[0].why


def test_a_finding_with_a_patch_becomes_an_ablation() -> None:
    finding = {"rule": "lr-too-high", "severity": "warning", "message": "m", "patch": {"optimizer.lr": 1e-4}}
    found = suggestions(results(), plan(), LEARNS, findings=[finding], source="x.csv")
    assert found[0].command == "goodfit ablate x.csv --set optimizer.lr=0.0001"
    assert "lr-too-high" in found[0].why


def test_few_samples_ask_for_a_curve_and_many_do_not() -> None:
    few = plan()
    few["data"]["samples"] = {"train": 900, "valid": 200, "test": 200}
    found = commands(suggestions(results(), few, LEARNS, source="x.csv"))
    assert "goodfit curve x.csv" in found
    assert "goodfit train x.csv --folds 5" in found
    assert not any("curve" in one for one in commands(suggestions(results(), plan(), LEARNS, source="x.csv")))


def test_costs_come_from_the_runs_own_time() -> None:
    found = suggestions(results(), plan(), FALLING, source="x.csv")
    assert found[0].minutes == pytest.approx((1 + 2) * 6 * 60 / 60)
    twice = [dict(row, seconds=2 * row["seconds"]) for row in FALLING]
    assert suggestions(results(), plan(), twice, source="x.csv")[0].minutes == pytest.approx(2 * found[0].minutes)
    assert cost(0.2) == "under a minute"


@pytest.mark.parametrize("kind", REGULARISERS)
def test_only_what_this_input_can_have_is_suggested(kind: str) -> None:
    assert all(kind in TABLE["batch"][name].kinds for name in REGULARISERS[kind])
    on = {f"batch.{name}": True for name in REGULARISERS[kind]}
    found = suggestions(results(), plan(inputs=kind, **on), MEMORISES, source="x.csv")
    assert not any("--toggle" in one for one in commands(found))


def test_forecasts_are_not_mixed() -> None:
    found = suggestions(results(), plan("forecast", "series"), MEMORISES, source="x.csv")
    assert not any("mixup" in one or "label_smoothing" in one for one in commands(found))


def test_names_with_spaces_are_quoted() -> None:
    found = suggestions(results(), plan(), LEARNS, source="my file.csv", recipe="runs/a b/recipe.toml")
    words = shlex.split(found[0].command)
    assert "my file.csv" in words
    assert "runs/a b/recipe.toml" in words


def sources(folder: Path) -> dict[str, tuple[Any, dict[str, Any]]]:
    rng = np.random.default_rng(0)
    text = pd.DataFrame(
        {"t": [" ".join(rng.choice(list("abcdefgh"), 9)) for _ in range(120)], "y": rng.choice(["u", "v"], 120)}
    )
    days = pd.date_range("2020-01-01", periods=200).strftime("%Y-%m-%d")
    text.to_csv(folder / "text.csv", index=False)
    pd.DataFrame({"day": days, "v": np.sin(np.arange(200) / 7)}).to_csv(folder / "series.csv", index=False)
    return {
        "table": ("wine", {}),
        "values": ("diabetes", {}),
        "text": (folder / "text.csv", {"data.target": "y"}),
        "series": (folder / "series.csv", {"data.horizon": 2, "data.lookback": 10}),
    }


@pytest.mark.parametrize("kind", ["table", "values", "text", "series"])
def test_what_a_real_run_suggests_is_a_command_whose_recipe_can_be_planned(kind: str, tmp_path: Path) -> None:
    source, settings = sources(tmp_path)[kind]
    recipe = Recipe().patched({**settings, "epochs": 2})
    run = goodfit.train(source, recipe=recipe, out=tmp_path / "run", screen=Screen.silent())
    found = what_next(run.folder)
    assert found
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    page = (run.folder / "report.html").read_text()
    assert "What next" in page
    assert page.rindex("What next") > page.rindex("Environment")
    # Suggested by any curve, not by this one only.
    rest = suggestions(run.results, run.plan.to_json(), MEMORISES, source=str(source), recipe="r.toml", most=99)
    rest += suggestions(run.results, run.plan.to_json(), FALLING, source=str(source), recipe="r.toml", most=99)
    assert any("ablate" in one.command for one in rest)
    for one in (*found, *rest):
        words = shlex.split(one.command)
        assert words[:2] in [["goodfit", verb] for verb in ("ablate", "lr", "curve", "tune", "train")]
        assert one.minutes > 0
        for flag, value in pairwise(words):
            if flag == "--set":
                key, _, values = value.partition("=")
                for each in values.split(","):
                    dry_run(source, recipe=recipe.patched(parse_set(f"{key}={each}")), screen=Screen.silent())
            if flag == "--toggle":
                for name in value.split(","):
                    dry_run(source, recipe=recipe.patched({f"batch.{name}": True}), screen=Screen.silent())
