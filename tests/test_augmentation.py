"""Augmentation in whole runs: the sheet, its end under resume, test-time views, the warning, rare classes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from goodfit import job, store
from goodfit.errors import RecipeError
from goodfit.interrupt import Interrupted
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.techniques.batch import Cutmix, Flip, Minority, TrivialAugment, by_rarity
from goodfit.types import Moment

QUICK = {"model.name": "cnn", "model.width": 8, "model.depth": 2, "batch_size": 32, "numerics.precision": "fp32"}


def train(source: Any, out: Path | str, **changes: Any) -> Run:
    recipe = Recipe().patched({**QUICK, "epochs": 2, **{k.replace("__", "."): v for k, v in changes.items()}})
    return job.train(source, out=out, recipe=recipe, screen=Screen(quiet=True))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth colour images of two classes with awkward names, no side preferred."""
    draw, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "photographs"
    for k, name in enumerate(("<i>cats<i>", "dogs & co")):
        (folder / name).mkdir(parents=True)
        for n in range(50 if k else 90):
            coarse = draw.integers(0, 256, (3, 3, 3), dtype=np.uint8) // 2 + 100 * k
            picture = Image.fromarray(coarse.astype(np.uint8)).resize((12, 12), Image.Resampling.BICUBIC)
            picture.save(folder / name / f"{n}.png")
    return folder


ASKED = {
    "batch__flip__p": 1.0,
    "batch__crop": False,
    "batch__trivial_augment": True,
    "batch__minority__strength": 1.0,
    "batch__cutmix__p": 1.0,
    "batch__cutmix__per": "sample",
    "tta": "flip_shift",
    "seed": 5,
}


@pytest.fixture(scope="module")
def run(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with much augmentation."""
    return train(photographs, tmp_path_factory.mktemp("runs") / "r", **ASKED)


def test_the_sheet_shows_the_first_steps_samples_as_the_model_saw_them(run: Run) -> None:
    kept = store.read_json(run.folder / "augmented.json")
    assert kept["techniques"] == ["flip", "trivial_augment", "cutmix"]
    assert len(kept["samples"]) == 32
    data = run.data
    assert data is not None
    total, per_epoch = run.plan.steps(len(data.train))
    order = run.plan.one("sampling").order(data.train, seed=5, epoch=0).tensor_split(per_epoch)
    made = (Minority(strength=1.0), Flip(p=1.0), TrivialAugment(), Cutmix(p=1.0, per="sample"))
    changes = by_rarity(made, torch.bincount(data.train.targets))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    for step in range(2):
        batch, moment = data.train.take(order[step]), Moment(5, 0, step, total, per_epoch, 2)
        for change in changes:
            batch = change(batch, moment)
        assert isinstance(batch.inputs, torch.Tensor)
        seen += zip(batch.inputs, batch.targets, strict=True)
    for one, (pixels, shares) in zip(kept["samples"], seen, strict=False):
        picture = Image.open(io.BytesIO(base64.b64decode(one["image"].removeprefix("data:image/png;base64,"))))
        expected = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((64, 64), Image.Resampling.NEAREST)
        assert np.array_equal(np.asarray(picture), np.asarray(expected))
        assert one["target"].count(run.task.classes[int(shares.argmax())]) == 1
        assert (f"{100 * float(shares.max()):.0f}\u00a0%" in one["target"]) == (float(shares.max()) < 0.995)


def test_the_sheet_is_in_the_report_and_again_when_that_is_written_anew(run: Run) -> None:
    page = (run.folder / "report.html").read_text()
    assert page.count('alt="augmented sample') == 32
    assert "What the model saw in epoch 1" in page
    assert "&lt;i&gt;cats" in page
    assert "<i>" not in page
    (run.folder / "report.html").unlink()
    assert Run(run.folder).report().read_text() == page


def test_without_images_there_is_no_sheet() -> None:
    frame = pd.DataFrame({"x": np.arange(160.0) % 7, "y": ["a", "b"] * 80})
    recipe = Recipe().patched({"epochs": 1, "batch.noise": True})
    table = job.train(frame, target="y", out="table", recipe=recipe, screen=Screen(quiet=True))
    assert not (table.folder / "augmented.json").exists()
    assert "epoch 1" not in (table.folder / "report.html").read_text()


class StopAfter:
    """Takes the place of the signals: asks to stop after so many steps."""

    steps, quiet = 0, False

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


def test_augmentation_ends_at_the_same_step_when_a_run_is_resumed(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four steps an epoch, twelve in all: turned off at steps 5, 7 and 8.
    ends = {"batch__crop__until": "5 steps", "batch__flip__until": "60%", "batch__rand_augment__until": "-1 epoch"}
    whole = train(photographs, "whole", epochs=3, **ends)
    StopAfter.steps = 6
    with monkeypatch.context() as patch:
        patch.setattr(job, "Signals", StopAfter)
        with pytest.raises(Interrupted):
            train(photographs, "torn", epochs=3, **ends)
    assert train(photographs, "torn", epochs=3, **ends).results["digest"] == whole.results["digest"]


@pytest.mark.parametrize(
    ("changes", "views"),
    [({}, "flip"), ({"batch.flip": False}, "none"), ({"batch.flip.p": 0.3}, "flip"), ({"tta": "shift"}, "shift")],
    ids=str,
)
def test_views_are_flip_where_training_flips_and_none_elsewhere(
    photographs: Path, changes: dict[str, Any], views: str
) -> None:
    recipe = Recipe().patched(changes)
    data = job.read_data(photographs, recipe, Screen(quiet=True))
    plan = job.plan_for(recipe, data, torch.device("cpu"))
    assert plan["tta"] == views
    assert ("batch.flip" in plan.mirrors) == ("batch.flip" in plan.choices)
    assert ("tta" in plan.mirrors) == (views == "flip")


def test_digits_are_not_flipped_and_have_one_view_unless_asked_for() -> None:
    data = job.read_data("digits", Recipe(), Screen(quiet=True))
    plan = job.plan_for(Recipe(), data, torch.device("cpu"))
    assert plan["tta"] == "none"
    assert plan.mirrors == []
    assert job.plan_for(Recipe(batch={"flip": True}), data, torch.device("cpu")).mirrors == ["batch.flip", "tta"]


def test_results_predictions_and_the_test_part_look_alike(run: Run) -> None:
    again, data = Run(run.folder), run.data
    assert data is not None
    images = data.valid.take(torch.arange(len(data.valid))).inputs
    pixels = data.encoder.prepare(images)
    assert isinstance(images, torch.Tensor)
    assert isinstance(pixels, torch.Tensor)
    model = again.model()
    padded = torch.nn.functional.pad(pixels, (1, 1, 1, 1), mode="reflect")
    with torch.no_grad():
        sides = [
            (model(one) + model(one.flip(-1))) / 2 for one in (pixels, padded[:, :, :-2, :-2], padded[:, :, 2:, 2:])
        ]
    by_hand = 0.5 * sides[0] + 0.25 * sides[1] + 0.25 * sides[2]
    assert torch.allclose(again.logits(data.valid), by_hand, atol=1e-4)
    column, warmth = f"p({run.task.classes[0]})", run.results["temperature"]["value"]
    kept = pd.read_parquet(run.folder / "predictions.parquet")[column]
    assert np.allclose(kept, (by_hand / warmth).softmax(1)[:, 0], atol=1e-4)
    assert np.allclose(again.predict(images.numpy())[column], kept, atol=1e-4)
    right = (again.logits(data.test).argmax(1) == data.test.targets).double().mean()
    assert run.test()["metrics"]["accuracy"]["value"] == pytest.approx(float(right))


def test_views_of_what_is_no_image_are_refused() -> None:
    frame = pd.DataFrame({"x": np.arange(160.0) % 7, "y": ["a", "b"] * 80})
    with pytest.raises(RecipeError, match=r"tta = 'flip'.*this is table; use 'none'"):
        job.train(frame, target="y", recipe=Recipe(tta="flip"), screen=Screen(quiet=True))
    with pytest.raises(RecipeError, match="'none', 'flip', 'shift' or 'flip_shift'"):
        Recipe(tta="turn")


def findings(run: Run) -> list[dict[str, Any]]:
    return [one for one in store.read_json(run.folder / "findings.json") if one["rule"] == "mirrored-symbols"]


def test_who_asks_for_a_flip_of_digits_is_warned_with_the_evidence(run: Run) -> None:
    (found,) = findings(train("digits", "r", epochs=1, batch__flip=True))
    assert found["severity"] == "warning"
    assert "batch.flip and tta mirror images" in found["message"]
    assert found["evidence"]["told_apart"] > 0.75
    assert "--set batch.flip=false" in found["fix"]
    Recipe().patched(found["patch"])
    assert findings(run) == []


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (
            lambda: (np.eye(60, 3), np.arange(60.0) * 1.5),
            {"batch.noise": True},
            "counts classes, and this is regression",
        ),
        (lambda: (np.eye(60, 3), np.arange(60) % 2), {}, "none is on; add one"),
    ],
    ids=["no classes", "nothing to grade"],
)
def test_where_minority_has_nothing_to_do_it_is_refused(
    make: Callable[[], Any], changes: dict[str, Any], words: str
) -> None:
    recipe = Recipe().patched({"epochs": 1, "batch.minority": True, **changes})
    with pytest.raises(RecipeError, match=words):
        job.train(make(), recipe=recipe, screen=Screen(quiet=True))
