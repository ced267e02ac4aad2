"""The main job: bit-identical twice, resumed equals uninterrupted, nothing written over, what Python gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import goodfit
from goodfit import job, store
from goodfit.errors import GoodfitError, ModelError, RunError
from goodfit.interrupt import Interrupted
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen

QUICK = {"model.name": "cnn", "model.width": 8, "model.depth": 2, "batch_size": 64, "numerics.precision": "fp32"}


def quick(**changes: object) -> Recipe:
    return Recipe().patched({**QUICK, "epochs": 2, **{k.replace("__", "."): v for k, v in changes.items()}})


def train(source: object, out: Path | str, recipe: Recipe, **more: object) -> Run:
    return job.train(source, out=out, recipe=recipe, screen=Screen(quiet=True), **more)  # type: ignore[arg-type]


def lines(folder: Path) -> list[dict[str, object]]:
    """Metrics without what the clock says."""
    kept = store.read_lines(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in ("seconds", "samples_per_second")} for row in kept]


RANDOM = {"batch.crop": True, "batch.mixup.alpha": 0.4, "model.dropout": 0.3, "loss.label_smoothing": 0.1}


def test_the_same_recipe_twice_gives_bit_identical_weights_with_mixup_crops_and_dropout() -> None:
    recipe = quick().patched(RANDOM)
    one, other = (train("digits", f"run{k}", recipe) for k in (1, 2))
    assert one.results["digest"] == other.results["digest"]
    assert lines(one.folder) == lines(other.folder)
    assert train("digits", "run3", recipe.patched({"seed": 1})).results["digest"] != one.results["digest"]


class StopAfter:
    """Takes the place of the signals: asks to stop after so many steps."""

    steps = 0

    def __init__(self) -> None:
        self.asked = 0

    def __enter__(self) -> StopAfter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def requested(self) -> int:
        self.asked += 1
        return 2 if self.asked >= StopAfter.steps else 0


@pytest.mark.parametrize("steps", [1, 7, 20, 29])
def test_an_interrupted_run_goes_on_to_the_very_same_bits(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = quick().patched({**RANDOM, "average.name": "ema", "average.decay": 0.9, "clip.auto": 90})
    whole = train("digits", "whole", recipe)
    StopAfter.steps = steps
    with monkeypatch.context() as patch:
        patch.setattr(job, "Signals", StopAfter)
        with pytest.raises(Interrupted) as caught:
            train("digits", "torn", recipe)
    assert caught.value.code == 130
    assert "the same command" in str(caught.value)
    assert Run("torn").status == "interrupted"
    resumed = train("digits", "torn", recipe)
    assert resumed.results["digest"] == whole.results["digest"]
    assert lines(resumed.folder) == lines(whole.folder)
    assert resumed.status == "finished"


def test_a_finished_run_is_never_written_over() -> None:
    run = train("digits", "r", quick())
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    with pytest.raises(RunError, match="already holds a run"):
        train("digits", "r", quick())
    with pytest.raises(RunError, match="already holds a run"):
        train("digits", "r", quick(seed=3))
    assert {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()} == before


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="not empty"):
        train("digits", tmp_path / "mine", quick())


def test_the_plan_of_a_run_trains_it_again_to_the_same_bits() -> None:
    run = train("digits", "a", quick().patched(RANDOM))
    again = train("digits", "b", run.plan.recipe())
    assert again.results["digest"] == run.results["digest"]


def test_a_run_works_from_its_folder_alone_and_counts_openings_of_the_test_part() -> None:
    made = train("digits", "r", quick())
    run = Run("r")
    images = np.zeros((3, 8, 8), dtype=np.uint8)
    pd.testing.assert_frame_equal(run.predict(images), made.predict(images))
    probabilities = run.predict(images).drop(columns="prediction").to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    first, second = run.test(), Run("r").test()
    assert (first["openings"], second["openings"]) == (1, 2)
    assert first["metrics"]["accuracy"]["value"] == second["metrics"]["accuracy"]["value"]
    assert first["samples"] + run.results["samples"] + run.plan.data["samples"]["train"] == 1797


def test_a_damaged_model_is_refused_and_not_loaded() -> None:
    train("digits", "r", quick())
    path = Path("r/model/model.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    shutil.rmtree("r/checkpoints")  # the last of which holds a good copy
    with pytest.raises(RunError, match="damaged"):
        Run("r").model()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    plan = job.dry_run("digits", recipe=quick(), screen=Screen(quiet=True))
    assert plan["model.name"] == "cnn"
    assert all(choice.reason for choice in plan.choices.values())
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_never_reaches_the_weights() -> None:
    recipe = quick().patched(
        {"optimizer.name": "sgd", "optimizer.lr": 1e25, "model.norm": "none", "schedule.name": "constant"}
    )
    with pytest.raises(GoodfitError, match=r"the loss became .* at step \d+"):
        train("digits", "r", recipe)
    weights = store.unpack_tensors(store.newest(Path("r/checkpoints"))[1]["model.safetensors"])  # type: ignore[index]
    assert all(torch.isfinite(value).all() for value in weights.values())


class Net(nn.Module):
    """A user's own module."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, classes))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.body(inputs))


def arrays(count: int = 240) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    random = np.random.default_rng(0)
    x = random.normal(size=(count, 4)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > 0).astype(int) + (x[:, 2] > 0.5)


def test_a_users_own_module_and_arrays_train_in_three_lines() -> None:
    x, y = arrays()
    run = goodfit.train((x, y), model=Net(), recipe=goodfit.Recipe(epochs=150), out="r", screen=Screen(quiet=True))
    assert run.results["metrics"]["accuracy"]["value"] > 0.7
    assert len(run.predict(x[:5])) == 5
    with pytest.raises(ModelError, match="your own module Net"):
        Run("r").model()
    pd.testing.assert_frame_equal(Run("r", model=Net()).predict(x[:5]), run.predict(x[:5]))


@pytest.mark.parametrize("kind", ["dataset", "loader", "loaders"])
def test_a_users_own_datasets_and_loaders_are_first_class(kind: str) -> None:
    x, y = arrays()
    data = TensorDataset(torch.tensor(x), torch.tensor(y))
    sources = {
        "dataset": data,
        "loader": DataLoader(data, batch_size=16, shuffle=True),
        "loaders": (DataLoader(data, batch_size=16, shuffle=True), DataLoader(data, batch_size=16)),
    }
    run = train(sources[kind], "r", Recipe(epochs=3), model=Net())
    assert run.status == "finished"
    assert run.metrics[-1]["valid_loss"] < 1.3


def test_a_model_whose_outputs_do_not_fit_is_refused_before_training() -> None:
    x, y = arrays()
    with pytest.raises(GoodfitError):
        train((x, y), "r", Recipe(epochs=2), model=Net(classes=2))
    assert not Path("r/metrics.jsonl").exists()


def test_tables_pictures_texts_series_and_plain_text_all_train(
    image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    rows = 200
    frame = pd.DataFrame({"size": random.normal(size=rows), "colour": random.choice(["red", "blue"], rows)})
    frame["price"] = 3 * frame["size"] + (frame["colour"] == "red") + random.normal(size=rows) * 0.1
    frame["kind"] = np.where(frame["price"] > 0, "dear", "cheap")
    frame.to_csv("table.csv", index=False)
    words = random.choice(["good", "fine", "great", "bad", "poor", "awful"], (rows, 5))
    label = [int(sum(w in ("good", "fine", "great") for w in row) > 2) for row in words]
    pd.DataFrame({"review": [" ".join(w) + " film" for w in words], "label": label}).to_csv("texts.csv", index=False)
    days = pd.date_range("2020-01-01", periods=400)
    wave = np.sin(np.arange(400) / 7)
    pd.DataFrame({"day": days, "value": wave + random.normal(size=400) * 0.1}).to_csv("series.csv", index=False)
    Path("book.txt").write_text("to be or not to be that is the question. " * 200)
    one = Recipe(epochs=1)
    assert train("table.csv", "t1", one, target="price").results["headline"] == "rmse"
    assert train("table.csv", "t2", one, target="kind").results["headline"] == "accuracy"
    assert train("texts.csv", "t3", one).plan.data["spec"]["kind"] == "text"
    assert train(image_folder(), "t4", one).plan.data["spec"]["kind"] == "image"
    forecast = train("series.csv", "t5", one, time="day", horizon=3, target="value")
    assert forecast.results["metrics"]["mase"]["value"] is not None
    language = train("book.txt", "t6", Recipe(epochs="8 steps"))
    assert language.results["headline"] == "nats_per_character"
    assert len(language.generate("to be", length=20)) == 20
    for name in ("t1", "t2", "t3", "t4", "t5", "t6"):
        page = (tmp_path / name / "report.html").read_text()
        assert "<script" not in page
        assert "http" not in page.replace("http-equiv", "")
        json.loads((tmp_path / name / "results.json").read_text())


def test_names_from_the_data_are_escaped_in_the_report() -> None:
    frame = pd.DataFrame({"<b>x</b>": np.arange(120.0), "y": ["<script>alert(1)</script>", "b&amp;'\""] * 60})
    frame.iloc[:, 0] += (frame["y"] == "b&amp;'\"") * 500
    run = train(frame, "r", Recipe(epochs=1), target="y")
    page = (run.folder / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
