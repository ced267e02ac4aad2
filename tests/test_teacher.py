"""Distillation as a whole: what the plan records, what a teacher must fit, and that a student stands alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from goodfit import job, store
from goodfit.errors import GoodfitError, ModelError, RecipeError, RunError
from goodfit.interrupt import Interrupted
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.teacher import Teacher, taught
from goodfit.types import Batch
from tests.test_job import StopAfter, lines, train


def few() -> tuple[np.ndarray, np.ndarray]:
    """Some of scikit-learn's digits as arrays: images ``(n, 8, 8, 1)`` uint8 and classes."""
    held = load_digits()
    return (held.images[:240, :, :, None] * 15).astype(np.uint8), held.target[:240]


DATA = few()
QUICK = {"model.name": "mlp", "model.width": 64, "batch_size": 64, "numerics.precision": "fp32", "epochs": 2}


def quick(**changes: object) -> Recipe:
    """A small net that memorises a batch in no time, so that pre-flight is short."""
    return Recipe().patched({**QUICK, **{k.replace("__", "."): v for k, v in changes.items()}})


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, trained for two epochs once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("teacher"))
        return train(DATA, "wide", quick(model__width=128)).folder.resolve()


def student(teacher: object, **more: object) -> Recipe:
    return quick(loss__name="distill", loss__teacher=str(teacher), **more)


PLAIN = {"batch.crop": False}
MIXED = {"batch.crop": True, "batch.mixup.alpha": 0.4}


@pytest.mark.parametrize("augmented", [False, True])
def test_an_interrupted_student_goes_on_to_the_same_bits_and_logs_its_plain_loss(
    augmented: bool, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = student(digits).patched(MIXED if augmented else PLAIN)
    whole = train(DATA, "whole", recipe)
    StopAfter.steps = 3
    with monkeypatch.context() as patch:
        patch.setattr(job, "Signals", StopAfter)
        with pytest.raises(Interrupted):
            train(DATA, "torn", recipe)
    resumed = train(DATA, "torn", recipe)
    assert resumed.results["digest"] == whole.results["digest"]
    assert lines(resumed.folder) == lines(whole.folder)
    assert all(row["train_plain_loss"] != row["train_loss"] for row in whole.metrics)


def test_the_plan_records_the_teacher_and_predictions_do_not_need_it(digits: Path) -> None:
    shutil.copytree(digits, "wide")
    run = train(DATA, "small", student("wide").patched(PLAIN))
    weights = store.unpack_tensors(store.read_folder(digits / "model")["model.safetensors"])
    assert (run.plan["loss.teacher"], run.plan["loss.digest"]) == ("wide", store.weights_digest(weights))
    again = train(DATA, "again", run.plan.recipe())
    assert again.results["digest"] == run.results["digest"]
    shutil.rmtree("wide")
    images = np.zeros((3, 8, 8, 1), dtype=np.uint8)
    pd.testing.assert_frame_equal(Run("small").predict(images), run.predict(images))
    with pytest.raises(RunError, match="wide is no run folder"):
        train(DATA, "other", student("wide"))


def test_another_teacher_in_the_same_place_is_refused_by_the_old_plan(digits: Path) -> None:
    recipe = student(digits).patched({"loss.digest": "0" * 64})
    with pytest.raises(RunError, match="other weights than when this plan was made"):
        train(DATA, "r", recipe)


class Wide(nn.Module):
    """A module of one's own, which notes whether it was asked in eval mode and without gradients."""

    asked: ClassVar[list[tuple[bool, bool]]] = []

    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(64, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        Wide.asked.append((self.training, torch.is_grad_enabled()))
        return self.head(self.drop(images.flatten(1)))


def test_a_module_teaches_in_eval_mode_without_gradients_and_stays_as_it_was() -> None:
    module = Wide().train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    Wide.asked = []
    recipe = quick().patched({"epochs": 1, **MIXED})
    run = train(DATA, "r", recipe, teacher=module)
    assert set(Wide.asked) == {(False, False)}
    assert len(Wide.asked) > run.results["steps"]  # asked at every step, since images are cropped and mixed
    assert module.training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert run.plan["loss.teacher"] == "custom:Wide"
    with pytest.raises(ModelError, match=r"give it again: train\(..., teacher=Wide\(\)\)"):
        train(DATA, "again", run.plan.recipe())


def test_without_augmentation_the_teacher_is_asked_once() -> None:
    Wide.asked = []
    recipe = quick().patched({**PLAIN})
    run = train(DATA, "r", recipe, teacher=Wide())
    trials = 2 * 14 + 1  # the timed steps of at most two ways to execute, and the check of its outputs
    assert len(Wide.asked) <= trials + 3
    assert run.results["steps"] == 6


def test_what_is_remembered_is_what_the_teacher_says_of_each_sample_whatever_their_order(digits: Path) -> None:
    recipe = student(digits).patched(PLAIN)
    data = job.read_data(DATA, recipe, Screen(quiet=True))
    device = torch.device("cpu")
    plan, teacher = taught(job.plan_for(recipe, data, device), data, device)
    assert isinstance(teacher, Teacher)
    batch = data.train.take(torch.tensor([5, 99, 17, 17]))
    asked = teacher(batch)
    assert "computed once" in teacher.remember(data.train, plan)
    torch.testing.assert_close(teacher(batch), asked, rtol=1e-5, atol=1e-5)
    blank = Batch(torch.zeros_like(torch.as_tensor(batch.inputs)), *batch[1:])
    assert torch.equal(teacher(blank), teacher(batch))
    augmented = job.plan_for(recipe.patched({"batch.crop": True}), data, device)
    assert "crop" in Teacher(teacher.model, teacher.prepare, device).remember(data.train, augmented)


def iris(**changes: object) -> Recipe:
    return Recipe().patched(
        {
            "epochs": 2,
            "model.name": "mlp",
            "numerics.precision": "fp32",
            **{k.replace("__", "."): v for k, v in changes.items()},
        }
    )


def test_a_teacher_that_does_not_fit_is_refused_in_one_line(digits: Path) -> None:
    with pytest.raises(RecipeError, match="needs a teacher"):
        train(DATA, "r", quick(loss__name="distill"))
    with pytest.raises(RunError, match="is no run folder"):
        train(DATA, "r", student("nowhere"))
    with pytest.raises(ModelError, match=r"10 classes .*3 classes"):
        train("iris", "r", iris(loss__name="distill", loss__teacher=str(digits)))
    with pytest.raises(ModelError, match="gives 7 outputs"):
        train(DATA, "r", quick(), teacher=Wide(7))
    with pytest.raises(ModelError, match="fails on this data"):
        train(DATA, "r", quick(), teacher=nn.Linear(3, 10))
    with pytest.raises(RecipeError, match=r"take out loss\.name"):
        train(DATA, "r", quick(loss__name="bce"), teacher=digits)
    with pytest.raises(GoodfitError, match=r"teacher.*belongs to distill"):
        train(DATA, "r", quick(loss__name="bce", loss__teacher=str(digits)))


def found(source: object, recipe: Recipe) -> Teacher | None:
    """The teacher that training with this recipe would begin with."""
    data, cpu = job.read_data(source, recipe, Screen(quiet=True)), torch.device("cpu")
    return taught(job.plan_for(recipe, data, cpu), data, cpu)[1]


def test_tables_must_come_encoded_alike_and_images_of_another_split_bring_a_warning(digits: Path) -> None:
    train("iris", "teacher", iris())
    asked = {"loss__name": "distill", "loss__teacher": "run:teacher", "model__width": 8}
    alike, other = found("iris", iris(**asked)), found(DATA, student(digits, seed=3))
    assert alike is not None
    assert alike.warning == ""
    with pytest.raises(ModelError, match="encoded otherwise"):
        found("iris", iris(**asked, seed=3))
    assert other is not None
    assert "another split" in other.warning
    assert "seed" in other.warning
