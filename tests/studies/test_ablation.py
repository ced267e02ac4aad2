"""goodfit ablate and tune: arms from words, verdicts, budgets, bad input, the page, the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import goodfit
from goodfit import job
from goodfit.cli import app
from goodfit.errors import GoodfitError, RecipeError
from goodfit.job import plan_for, read_data
from goodfit.plan import Plan
from goodfit.recipe import Recipe
from goodfit.screen import Screen
from goodfit.studies import arms as vocabulary
from goodfit.studies import search
from goodfit.studies.ablation import ablate, factors, seconds_from, seeds_from
from goodfit.studies.arms import Arm
from goodfit.studies.search import METHODS, Trial, edges, flips, tune
from goodfit.studies.space import Choice, Range, space_from

QUICK = Recipe(model={"name": "mlp", "width": 8}, epochs=1)
SILENT = Screen.silent()


@pytest.fixture(autouse=True)
def without_preflight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pre-flight costs each study as much as several of these runs, and has tests of its own."""
    monkeypatch.setattr(job, "preflight", lambda *_, **__: [])


@pytest.fixture(scope="module")
def digits() -> Plan:
    data = read_data("digits", Recipe(), SILENT)
    return plan_for(Recipe(), data, torch.device("cpu"))


def test_a_toggle_takes_out_what_is_on_and_puts_in_what_is_not(digits: Plan) -> None:
    made = {
        one.arm.name: dict(one.arm.patch) for one in vocabulary.toggled(["label_smoothing", "mixup", "sam"], digits)
    }
    assert made == {
        "without label_smoothing": {"loss.label_smoothing": 0.0},
        "mixup": {"batch.mixup": True},
        "sam": {"gradient.name": "sam"},
    }


def test_an_unknown_toggle_gives_the_nearest_name(digits: Plan) -> None:
    with pytest.raises(RecipeError, match="'mixupp' is nothing that can be switched; did you mean 'mixup'"):
        vocabulary.toggled(["mixupp"], digits)


def test_everything_that_is_on_is_removed_in_turn(digits: Plan) -> None:
    names = [one.arm.name for one in vocabulary.each_removed(digits)]
    assert "without crop" in names
    assert "without label_smoothing" in names
    assert all(name.startswith("without ") for name in names)


def test_values_become_arms_and_the_defaults_own_is_none(digits: Plan) -> None:
    made = vocabulary.valued(["model.width=32,64,128"], digits)
    assert [one.arm.name for one in made] == ["model.width=32", "model.width=128"]  # digits have 64
    with pytest.raises(RecipeError, match=r"did you mean 'model\.width'"):
        vocabulary.valued(["model.widht=3"], digits)


def test_a_ladder_adds_one_technique_to_the_rung_below(digits: Plan) -> None:
    made = vocabulary.ladder("augmentation", digits)
    assert made[0].arm.patch == {"batch.crop": False}
    assert [one.against for one in made[1:]] == [one.arm.name for one in made[:-1]]
    on = {key for key, value in made[-1].arm.patch.items() if value is True}
    assert {"batch.crop", "batch.cutout", "batch.mixup"} <= on
    assert "batch.flip" not in on  # digits have no mirror images
    with pytest.raises(RecipeError, match="did you mean 'augmentation'"):
        vocabulary.ladder("augmentatoin", digits)


def test_a_technique_that_helps_is_found_and_one_that_does_nothing_is_not(tmp_path: Path) -> None:
    recipe = QUICK.patched({"epochs": 4, "optimizer.lr": 0.03})
    made = ablate(
        "iris",
        arms={"far too slow": {"optimizer.lr": 1e-6}, "weak noise": {"batch.noise": True, "batch.noise.std": 1e-9}},
        recipe=recipe, seeds="6..16", out=tmp_path, metric="log_loss", matters=0.05, screen=SILENT,
    )  # fmt: skip
    slow, noise = made["far too slow"], made["weak noise"]
    assert slow.verdict == "hurts"
    assert slow.low > 0  # of log loss, less is better
    assert noise.verdict == "no difference"
    assert noise.seeds == 6  # it was clear at the first look, and no more seeds were spent
    assert "no difference larger than" in noise.sentence
    assert made.page is not None
    page = made.page.read_text()
    assert "far too slow" in page
    assert "data:image/svg+xml" in page
    assert not list(tmp_path.glob("runs/*/test.json"))


def test_the_difference_is_the_mean_over_pairs_and_a_fixed_number_gives_a_t_interval(tmp_path: Path) -> None:
    made = ablate("iris", toggle=["label_smoothing"], recipe=QUICK, seeds=3, out=tmp_path, screen=SILENT)
    one = made.findings[0]
    values = {
        (o.arm, o.seed): o.value for o in goodfit.studies.Study(tmp_path, "iris", QUICK, screen=SILENT).outcomes()
    }
    pairs = [values["label_smoothing", s] - values["default", s] for s in range(3)]
    assert one.difference == pytest.approx(np.mean(pairs))
    assert one.seeds == 3
    assert one.rows is not None
    assert one.rows["difference"] == pytest.approx(one.difference)


def test_a_failing_arm_does_not_sink_the_study(tmp_path: Path) -> None:
    made = ablate(
        "iris", arms={"wild": {"optimizer.lr": 1e30}, "smooth": {"loss.label_smoothing": 0.1}},
        recipe=QUICK, seeds=3, out=tmp_path, screen=SILENT,
    )  # fmt: skip
    assert made["wild"].verdict == "failed"
    assert "loss" in made["wild"].sentence
    assert made["smooth"].seeds == 3


def test_a_recipe_that_fails_itself_is_told(tmp_path: Path) -> None:
    recipe = QUICK.patched({"optimizer.lr": 1e30})
    with pytest.raises(GoodfitError, match="the recipe itself fails"):
        ablate("iris", toggle=["label_smoothing"], recipe=recipe, seeds=3, out=tmp_path, screen=SILENT)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"arms": {"a": {"batch.mixup": True}, "b": {"batch.mixup": True}}}, "'a' and 'b' are the same recipe"),
        ({"arms": {"a": {"optimizer.weight_decay": 0.0}, "b": {"epochs": 1}}}, "are the same recipe"),
        ({"toggle": ["mixup", "mixup"]}, "given twice"),
        ({}, "say what to compare"),
        ({"toggle": ["mixup"], "seeds": "0"}, "from 2 to 50"),
        ({"toggle": ["mixup"], "budget": "soon"}, "write it as 90s"),
        ({"arms": {"a": {"optimizer.lrr": 1}}}, "arm 'a'"),
        ({"toggle": ["mixup"], "tune_each": 1, "seeds": "2"}, "two trials at least"),
    ],
)
def test_bad_input_is_one_clear_line(asked: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        ablate("iris", recipe=QUICK, out=tmp_path, screen=SILENT, **asked)  # type: ignore[arg-type]


def test_a_budget_too_small_for_one_pair_says_what_it_would_take_and_keeps_what_was_trained(tmp_path: Path) -> None:
    recipe = QUICK.patched({"epochs": 3000})
    with pytest.raises(GoodfitError, match="too small for one pair, which takes about"):
        ablate("iris", toggle=["label_smoothing"], recipe=recipe, budget="2s", out=tmp_path, screen=SILENT)
    assert list(tmp_path.glob("runs/default-0/checkpoints/0*"))


def test_a_budget_is_kept(tmp_path: Path) -> None:
    recipe = QUICK.patched({"epochs": 20})
    made = ablate("iris", toggle=["label_smoothing"], recipe=recipe, budget=5, seeds=50, out=tmp_path, screen=SILENT)
    assert made.seconds < 5 + 1
    assert "budget" in made.ended
    assert 1 <= made.findings[0].seeds < 50


def test_every_arm_is_tuned_with_the_same_learning_rates_by_rows_that_do_not_judge(tmp_path: Path) -> None:
    made = ablate(
        "iris", toggle=["label_smoothing"], recipe=QUICK, seeds=2, tune_each=3, out=tmp_path, screen=SILENT
    )  # fmt: skip
    outcomes = goodfit.studies.Study(tmp_path, "iris", QUICK, screen=SILENT).outcomes()
    for arm in ("default", "label_smoothing"):
        tried = [o for o in outcomes if o.arm.startswith(f"{arm} lr=")]
        assert len(tried) == 3
        best = max(tried, key=lambda o: o.picked or 0)
        assert any(o.arm == f"{arm} tuned lr={best.patch['optimizer.lr']:g}" for o in outcomes)
    assert "best of 3" in made.findings[0].notes[0]


def test_words_are_read() -> None:
    assert seeds_from("6..20") == (6, 20)
    assert seeds_from(5) == (5, 5)
    assert [seconds_from(t) for t in ("90s", "30m", "2h", 5, None)] == [90, 1800, 7200, 5, None]
    assert factors(3) == pytest.approx([1, 0.1**0.5, 10**0.5])


def test_a_space_is_read_and_its_mistakes_are_told_at_once() -> None:
    assert space_from("optimizer.lr=1e-4..1e-1:log,model.width=32|64,batch_size=8..64") == {
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
        "model.width": Choice((32, 64)),
        "batch_size": Range(8, 64, whole=True),
    }
    with pytest.raises(RecipeError) as wrong:
        space_from("optimizer.lrr=1..2,optimizer.lr=2..1,model.width=3,optimizer.weight_decay=0..1:log,seed=1|2")
    said = str(wrong.value)
    for part in (
        "did you mean 'optimizer.lr'",
        "must be the smaller",
        "write a range",
        "above 0",
        "no setting to search",
    ):
        assert part in said


def test_edges_and_flipping_ranks_are_warned_of() -> None:
    space = {"a": Range(1e-4, 1e-1, log=True), "b": Choice((1, 2, 3))}
    assert edges(Trial(0, {"a": 9.9e-2, "b": 2}, "complete", 1.0, []), space)[0].startswith(
        "the best a (0.099) lies at"
    )
    assert edges(Trial(0, {"a": 1e-2, "b": 3}, "complete", 1.0, []), space) == [
        "the best b (3) lies at the high edge; search beyond it"
    ]
    steady = [Trial(k, {}, "complete", float(k), [k / 3, k / 2, float(k)]) for k in range(8)]
    assert flips(steady, 1) == []
    turned = [Trial(k, {}, "complete", float(k), [-float(k), 0.0, float(k)]) for k in range(8)]
    assert "ranks flip" in flips(turned, 1)[0]
    assert flips(steady, -1) == []


@pytest.mark.parametrize("method", METHODS)
def test_every_method_searches_and_resumes(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna", reason="the extra 'search' is not installed")
    recipe = QUICK.patched({"epochs": 2})
    if method != "grid":  # two pictures of one kind prove no more than one
        monkeypatch.setattr(search, "write_search", lambda *_, **__: tmp_path)
    asked = {"over": {"optimizer.lr": Range(1e-4, 1e-1, log=True), "model.width": [4, 8]}, "recipe": recipe}
    asked |= {"method": method, "trials": 4, "confirm": 2, "out": tmp_path, "screen": SILENT}
    if method != "tpe":
        monkeypatch.setattr(search, "ablate", lambda *_, **__: (_ for _ in ()).throw(RecipeError(["not asked here"])))
    first = tune("iris", **asked)
    assert len(first.trials) == 4
    assert first.best is not None
    assert len({tuple(one.params.items()) for one in first.trials}) == 4
    assert first.page is not None
    again = tune("iris", **asked)
    assert [one.params for one in again.trials] == [one.params for one in first.trials]
    assert again.best == first.best


def test_a_winner_is_recommended_only_where_fresh_seeds_confirm_it(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra 'search' is not installed")
    recipe = QUICK.patched({"epochs": 3, "optimizer.lr": 1e-6})
    made = tune(
        "iris", over={"optimizer.lr": [1e-5, 0.03]}, method="grid", recipe=recipe, metric="log_loss", confirm=6,
        out=tmp_path, screen=SILENT,
    )  # fmt: skip
    assert made.recommended == {"optimizer.lr": 0.03}
    assert made.confirmed is not None
    assert made.confirmed.findings[0].verdict == "helps"
    worse = tune(
        "iris", over={"optimizer.lr": [1e-6, 1e-7]}, method="grid", recipe=recipe, metric="log_loss", confirm=6,
        out=tmp_path, screen=SILENT,
    )  # fmt: skip
    assert worse.recommended == {}


def test_the_command_line_answers_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["ablate", "iris", "--toggle", "label_smoothing", "--seeds", "2", "--with", "epochs=1"]
    said = CliRunner().invoke(app, [*words, "--with", "model.name=mlp"])
    assert said.exit_code == 0, said.output
    assert (
        "inconclusive" in said.output
        or "no difference" in said.output
        or "helps" in said.output
        or "hurts" in said.output
    )
    assert list(tmp_path.glob("runs/iris-study-*/ablation.html"))
    wrong = CliRunner().invoke(app, ["tune", "iris", "--over", "optimizer.lr=1e-3..1e-1", "--method", "tpee"])
    assert isinstance(wrong.exception, RecipeError)
    assert "did you mean 'tpe'" in str(wrong.exception)
    assert Arm("a") == Arm("a", {})
