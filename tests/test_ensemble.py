"""Ensembles and soups: means of probabilities and of weights, judged where no member has seen the samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor, nn

import goodfit
from goodfit import job, store
from goodfit.cli import app
from goodfit.ensemble import Ensemble
from goodfit.errors import GoodfitError, ModelError, RunError
from goodfit.probes import before_training
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.soup import soup
from goodfit.techniques.average import greedy_soup, mean_weights

BASE = {
    "model.name": "mlp",
    "model.width": 16,
    "model.depth": 1,
    "epochs": 6,
    "data.seed": 0,
    "numerics.precision": "fp32",
    "numerics.compile": False,
}
HEAD = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n"


def train(out: Path, source: Any = "iris", **changes: Any) -> Run:
    recipe = Recipe().patched({**BASE, **{k.replace("__", "."): v for k, v in changes.items()}})
    return job.train(source, out=out, recipe=recipe, screen=Screen(quiet=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Three seeds of iris, one with a split of its own, one with another rate, batch norm; and a regression pair."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        patch.setattr(before_training, "ONE_BATCH_SECONDS", 0.05)
        patch.setattr(before_training, "GRADIENT_SECONDS", 0.05)
        patch.setattr(job, "baselines", lambda *_, **__: [])
        x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
        values = (x, 5 + x[:, 0] * 2 - x[:, 1])
        made = {
            "one": train(root / "one", seed=1),
            "two": train(root / "two", seed=2),
            "three": train(root / "three", seed=3),
            "moved": train(root / "moved", seed=4, data__seed=4),
            "norm": train(root / "norm", seed=1, model__norm="batch"),
            "norm, faster": train(root / "faster", seed=1, model__norm="batch", optimizer__lr=5e-3),
            "values": train(root / "values", values, seed=1),
            "other values": train(root / "other", values, seed=2),
        }
        yield {name: run.folder for name, run in made.items()}


def test_an_ensemble_predicts_the_mean_of_calibrated_probabilities(runs: dict[str, Path], tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text(HEAD + "5.1,3.5,1.4,0.2\n6.2,2.8,4.8,1.8\n5.9,3.0,4.2,1.5\n")
    members = [Run(runs[name]) for name in ("one", "two", "three")]
    made = goodfit.Ensemble([run.folder for run in members]).predict(new)
    columns = [c for c in made if c.startswith("p(")]
    expected = np.mean([run.predict(new)[columns].to_numpy() for run in members], axis=0)
    np.testing.assert_allclose(made[columns].to_numpy(), expected, rtol=1e-12)
    assert list(made["prediction"]) == [columns[k][2:-1] for k in expected.argmax(1)]


def test_an_ensemble_of_values_predicts_their_mean(runs: dict[str, Path]) -> None:
    members = [Run(runs["values"]), Run(runs["other values"])]
    new = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    made = Ensemble(members).predict(new)
    expected = (members[0].predict(new)["prediction"] + members[1].predict(new)["prediction"]) / 2
    np.testing.assert_allclose(made["prediction"], expected, rtol=1e-12)
    found = Ensemble(members).evaluate()
    tables = [pd.read_parquet(run.folder / "predictions.parquet").set_index("index") for run in members]
    error = np.mean([t["prediction"] for t in tables], axis=0) - tables[0].loc[tables[0].index, "target"]
    assert found["ensemble"]["rmse"]["value"] == pytest.approx(float(np.sqrt((error**2).mean())), rel=1e-6)


def test_an_ensemble_is_judged_beside_its_members_as_scikit_learn_judges_the_mean(runs: dict[str, Path]) -> None:
    folders = [runs[name] for name in ("one", "two", "three")]
    found = Ensemble(folders).evaluate()
    tables = [pd.read_parquet(folder / "predictions.parquet").set_index("index") for folder in folders]
    assert all(table.index.equals(tables[0].index) for table in tables)
    columns = [c for c in tables[0] if c.startswith("p(")]
    mean = np.mean([table[columns].to_numpy() for table in tables], axis=0)
    names = [c[2:-1] for c in columns]
    truth = tables[0]["target"]
    assert found["samples"] == len(truth)
    expected = sklearn_metrics.log_loss(truth, mean[:, np.argsort(names)], labels=sorted(names))
    assert found["ensemble"]["log_loss"]["value"] == pytest.approx(expected, rel=1e-9)
    accuracy = float((np.array(names)[mean.argmax(1)] == truth.to_numpy()).mean())
    assert found["ensemble"]["accuracy"]["value"] == pytest.approx(accuracy)
    for folder in folders:
        own = found["members"][str(folder)]
        assert own["log_loss"]["value"] == pytest.approx(Run(folder).results["metrics"]["log_loss"]["value"], rel=1e-5)
    # The mean of probabilities is never worse in log loss than the members are on average.
    worst = np.mean([one["log_loss"]["value"] for one in found["members"].values()])
    assert found["ensemble"]["log_loss"]["value"] <= worst + 1e-12


def test_members_with_splits_of_their_own_are_not_judged_on_what_another_was_trained_on(runs: dict[str, Path]) -> None:
    with pytest.raises(RunError, match=r"--set data\.seed=0"):
        Ensemble([runs["one"], runs["moved"]]).evaluate()


def test_one_seed_for_the_split_gives_the_same_parts_whatever_the_seed_of_the_run(runs: dict[str, Path]) -> None:
    tables = [pd.read_parquet(runs[name] / "predictions.parquet")["index"] for name in ("one", "two", "moved")]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    assert Run(runs["two"]).read_again().valid.index.tolist() == tables[1].tolist()


@pytest.mark.parametrize(
    ("names", "said"),
    [(["one"], "two runs or more"), (["one", "values"], "do not predict the same: their task's kind")],
)
def test_what_cannot_predict_together_is_refused(runs: dict[str, Path], names: list[str], said: str) -> None:
    with pytest.raises(RunError, match=said):
        Ensemble([runs[name] for name in names])


def test_a_soup_of_a_run_s_rates_is_a_run_with_the_mean_of_their_weights(runs: dict[str, Path]) -> None:
    pair = [Run(runs["norm"]), Run(runs["norm, faster"])]
    made = soup(pair, out="s")
    told = made.results["soup"]
    assert sorted([*told["taken"], *told["left_out"]]) == sorted(str(run.folder) for run in pair)
    states = {str(run.folder): run.model().state_dict() for run in map(Run, (run.folder for run in pair))}
    expected = mean_weights([states[folder] for folder in told["taken"]])
    weights = made.model().state_dict()
    for name, value in weights.items():
        if "running" not in name:
            torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)
    better = max(told["alone"].values())
    assert told["together"] >= better - 1e-12
    assert made.status == "finished"
    assert made.results["digest"] == store.weights_digest(weights)
    assert (made.folder / "report.html").stat().st_size > 1000
    pd.testing.assert_frame_equal(Run("s").predict(_rows()), made.predict(_rows()))
    assert Run("s").test()["openings"] == 1


def _rows() -> pd.DataFrame:
    return pd.DataFrame([[5.1, 3.5, 1.4, 0.2], [6.2, 2.8, 4.8, 1.8]], columns=HEAD.strip().split(","))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["one"], "two runs or more"),
        (["one", "norm"], "their architecture differs"),
        (["one", "values"], "their data differs"),
        (["one", "moved"], r"their split \(data\.seed\) differs"),
    ],
)
def test_what_cannot_be_averaged_is_refused(runs: dict[str, Path], names: list[str], said: str) -> None:
    with pytest.raises(RunError, match=said):
        soup([runs[name] for name in names], out="s")
    assert not Path("s").exists()


def test_a_soup_is_never_written_over_anything(runs: dict[str, Path]) -> None:
    with pytest.raises(RunError, match="not empty"):
        soup([runs["one"], runs["two"]], out=runs["three"])


def test_the_command_line_predicts_judges_and_cooks(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new.csv"
    new.write_text(HEAD + "5.1,3.5,1.4,0.2\n")
    one, two = str(runs["one"]), str(runs["two"])
    app(["predict", one, two, str(new), "--out", "p.csv"], standalone_mode=False)
    expected = Ensemble([one, two]).predict(new)
    np.testing.assert_allclose(pd.read_csv("p.csv").iloc[0, 1:].astype(float), expected.iloc[0, 1:].astype(float))
    app(["predict", one, str(new)], standalone_mode=False)
    app(["ensemble", one, two], standalone_mode=False)
    app(["soup", one, two, "--out", "s"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "together" in said
    assert "written to s" in said
    with pytest.raises(GoodfitError, match="two runs or more"):
        app(["ensemble", one], standalone_mode=False)


def test_texts_are_not_averaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = object.__new__(Run)
    run.folder, run.task = tmp_path, goodfit.Task("language", "next token", 9)
    with pytest.raises(ModelError, match="writes text"):
        Ensemble([run, run])


# Weights alone.


def valley(centre: Tensor) -> Any:
    """A score that is the better, the nearer the weights are to a centre."""

    def score(weights: Any) -> float:
        return -float((weights["w"].double() - centre).norm())

    return score


def test_a_greedy_soup_takes_what_helps_in_the_order_of_what_is_best_alone() -> None:
    """Against the greedy choice written out: three around the centre, one far away."""
    ingredients = [{"w": torch.tensor(v)} for v in ([2.0, 0.0], [-1.0, 0.0], [50.0, 50.0], [0.0, 1.5])]
    score = valley(torch.zeros(2, dtype=torch.float64))
    made = greedy_soup(ingredients, score, larger_is_better=True)
    assert made.alone == [score(one) for one in ingredients]
    order = sorted(range(4), key=lambda k: -made.alone[k])
    taken = [order[0]]
    for k in order[1:]:
        mean = np.mean([ingredients[j]["w"].numpy() for j in (*taken, k)], axis=0)
        now = np.mean([ingredients[j]["w"].numpy() for j in taken], axis=0)
        if np.linalg.norm(mean) <= np.linalg.norm(now):
            taken.append(k)
    assert made.taken == taken
    assert 2 not in made.taken
    assert made.score == pytest.approx(score(made.weights))
    lower = greedy_soup(ingredients, lambda w: -score(w), larger_is_better=False)
    assert (lower.taken, lower.score) == (made.taken, -made.score)


def test_a_soup_of_runs_far_apart_is_the_best_of_them_alone() -> None:
    ingredients = [{"w": torch.tensor([3.0])}, {"w": torch.tensor([-1.0])}, {"w": torch.tensor([-9.0])}]
    made = greedy_soup(ingredients, valley(torch.tensor([-1.0])), larger_is_better=True)
    assert made.taken == [1]
    assert made.weights["w"].tolist() == [-1.0]


def test_a_score_that_is_no_number_is_never_taken() -> None:
    ingredients = [{"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}]
    made = greedy_soup(ingredients, lambda w: float("nan") if w["w"][0] != 2 else 1.0, larger_is_better=True)
    assert made.taken == [1]
    with pytest.raises(ValueError, match="at least one"):
        greedy_soup([], lambda w: 0.0, larger_is_better=True)


def test_mean_weights_are_float64_means_and_keep_dtypes_and_counters() -> None:
    draw = np.random.default_rng(0)
    values = [draw.normal(size=(3, 4)).astype(np.float32) for _ in range(3)]
    states = [{"a": torch.from_numpy(v), "n": torch.tensor(k)} for k, v in enumerate(values)]
    made = mean_weights(states)
    np.testing.assert_array_equal(made["a"].numpy(), np.mean(np.stack(values).astype(np.float64), 0).astype(np.float32))
    assert (made["a"].dtype, int(made["n"])) == (torch.float32, 0)
    with pytest.raises(ValueError, match="not of one architecture"):
        mean_weights([states[0], {"b": torch.zeros(1)}])


def test_a_soup_of_linear_models_predicts_their_mean() -> None:
    torch.manual_seed(0)
    nets = [nn.Linear(3, 2) for _ in range(3)]
    mean = nn.Linear(3, 2)
    mean.load_state_dict(mean_weights([net.state_dict() for net in nets]))
    x = torch.randn(5, 3)
    torch.testing.assert_close(mean(x), torch.stack([net(x) for net in nets]).mean(0))
