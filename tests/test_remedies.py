"""Remedies for rare classes, and penalties, through the whole job: what a plan shows and refuses, what results say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from goodfit import job
from goodfit.errors import DataError, RecipeError
from goodfit.plan import Plan
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.techniques.penalty import penalised, sparsity


def rare() -> tuple[np.ndarray, np.ndarray]:
    """Two classes, the second with a tenth of 800 samples, that overlap."""
    random = np.random.default_rng(0)
    y = (np.arange(800) % 10 == 0).astype(np.int64)
    return (random.normal(size=(800, 4)) + 1.2 * y[:, None]).astype(np.float32), y


DATA = rare()


def recipe(**changes: object) -> Recipe:
    plain = {"epochs": 2, "batch_size": 64, "model.name": "mlp", "model.width": 16, "numerics.precision": "fp32"}
    return Recipe().patched({**plain, **{k.replace("__", "."): v for k, v in changes.items()}})


def plan(**changes: object) -> Plan:
    asked = recipe(**changes)
    data = job.read_data(DATA, asked, Screen(quiet=True))
    return job.plan_for(asked, data, torch.device("cpu"))


def train(out: str, **changes: object) -> Run:
    return job.train(DATA, out=out, recipe=recipe(**changes), screen=Screen(quiet=True))


def test_the_plan_shows_the_weights_the_priors_and_what_smoothing_makes_of_the_targets() -> None:
    counts = plan().data["samples"]["train"] * 0.9, plan().data["samples"]["train"] * 0.1
    weighed = plan(loss__class_weight="inverse", loss__logit_adjustment=1.0, loss__label_smoothing=0.1)
    assert weighed["loss.weights"] == pytest.approx([sum(counts) / (2 * n) for n in counts])
    assert weighed["loss.priors"] == pytest.approx([0.9, 0.1])
    assert weighed.choices["loss.weights"].reason == "0 0.556, 1 5"
    assert "0.95 for the right class, 0.05 for each other" in weighed.choices["loss.label_smoothing"].reason
    assert weighed.recipe().flat()["loss.weights"] == weighed["loss.weights"]
    assert plan()["loss.weights"] is None
    focal = plan(loss__name="focal", loss__alpha=[1.0, 9.0])
    assert focal["loss.weights"] == pytest.approx([1 / 1.8, 9 / 1.8])
    assert plan(loss__name="bce", loss__pos_weight="balanced")["loss.weights"] == pytest.approx([1 / 9, 9.0])


TWICE: list[dict[str, object]] = [
    {"loss__class_weight": "inverse"},
    {"loss__class_weight": [1.0, 5.0]},
    {"loss__logit_adjustment": 1.0},
    {"loss__name": "focal", "loss__alpha": "effective"},
    {"loss__name": "bce", "loss__pos_weight": 3.0},
]


@pytest.mark.parametrize("loss", TWICE, ids=lambda one: " ".join(map(str, one.values())))
def test_weights_and_sampling_together_are_refused_unless_asked_for(loss: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=r"together twice; take one out, or set sampling\.combine = true"):
        plan(sampling__name="balanced", **loss)
    assert plan(sampling__name="balanced", sampling__combine=True, **loss)["sampling.name"] == "balanced"
    assert plan(sampling__name="balanced", sampling__power=0.0, **loss)["sampling.power"] == 0.0
    plan(**loss)


def test_focal_without_alpha_goes_with_sampling() -> None:
    assert plan(sampling__name="balanced", loss__name="focal")["loss.gamma"] == 2.0


def test_what_counts_classes_is_refused_where_there_are_none() -> None:
    x, y = DATA
    data = job.read_data((x, y + x[:, 0]), recipe(), Screen(quiet=True))
    with pytest.raises(RecipeError, match="counts the samples of each class, and this is regression"):
        job.plan_for(recipe(sampling__name="balanced"), data, torch.device("cpu"))
    with pytest.raises(RecipeError, match=r"'task\.threshold' cuts the probability of one of two classes"):
        job.plan_for(recipe(task__threshold="f1"), data, torch.device("cpu"))


def test_what_is_filled_in_is_not_to_be_written() -> None:
    with pytest.raises(DataError, match=r"take it out, or write loss\.class_weight"):
        plan(loss__weights=[1.0, 5.0])
    with pytest.raises(DataError, match="3 weights for 2 classes"):
        plan(loss__class_weight=[1.0, 2.0, 3.0])


REMEDIES: dict[str, dict[str, object]] = {
    "weights": {"loss__class_weight": "inverse"},
    "partial oversampling": {"sampling__name": "balanced", "sampling__power": 0.5},
    "focal": {"loss__name": "focal", "loss__alpha": 0.75},
    "adjustment": {"loss__logit_adjustment": 1.0},
}


@pytest.mark.parametrize("name", REMEDIES)
def test_each_remedy_trains_and_its_plan_trains_it_again_to_the_same_bits(name: str) -> None:
    run = train("r", **REMEDIES[name])
    logged = [row.get("train_plain_loss") for row in run.metrics]
    assert all(value is None for value in logged) if "sampling__name" in REMEDIES[name] else all(logged)
    if name == "adjustment":
        again = job.train(DATA, out="again", recipe=run.plan.recipe(), screen=Screen(quiet=True))
        assert again.results["digest"] == run.results["digest"]


def test_a_threshold_is_tuned_for_what_was_asked_and_predictions_keep_to_it() -> None:
    run = train("r", task__threshold="balanced_accuracy", epochs=6)
    tuned = run.results["threshold"]
    assert tuned["objective"] == "balanced_accuracy"
    frame = pd.read_parquet(run.folder / "predictions.parquet")
    said, there, p = (frame[k].to_numpy() for k in ("prediction", "target", "p(1)"))
    assert (said == np.where(p >= tuned["value"], "1", "0")).all()
    scores = [balanced_accuracy_score(there, np.where(p >= cut, "1", "0")) for cut in p]
    assert tuned["at_value"]["balanced_accuracy"] == pytest.approx(max(scores))
    assert tuned["at_value"]["balanced_accuracy"] >= tuned["at_default"]["balanced_accuracy"]
    assert "balanced accuracy" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert train("none", task__threshold="none").results["threshold"] is None


def test_l1_makes_exact_zeros_that_the_results_and_the_report_tell() -> None:
    run = train("r", penalty__l1=0.3, optimizer__name="sgd", optimizer__lr=0.05, average__name="none")
    share = run.results["sparsity"]
    assert 0.1 < share <= 1
    assert share == sparsity(penalised(run.model()))
    assert f"{100 * share:.1f} % of the weights are exactly zero" in Path("r/report.html").read_text(encoding="utf-8")
    assert "sparsity" not in train("none").results


def test_beside_l1_weights_are_not_averaged_by_default_since_an_average_has_no_zeros() -> None:
    data = job.read_data("digits", Recipe(), Screen(quiet=True))
    cpu = torch.device("cpu")
    assert job.plan_for(Recipe(), data, cpu)["average.name"] == "ema"
    assert job.plan_for(Recipe().patched({"penalty.l1": 1e-4}), data, cpu)["average.name"] == "none"
    asked = Recipe().patched({"penalty.l1": 1e-4, "average.name": "ema"})
    assert job.plan_for(asked, data, cpu)["average.name"] == "ema"
