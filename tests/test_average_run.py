"""Averages of weights in a whole run: norms with fresh statistics in the weights that are kept, resumed to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from goodfit import job
from goodfit.errors import RunError
from goodfit.interrupt import Interrupted
from goodfit.probes import before_training
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen
from tests.test_job import StopAfter

BASE = {
    "model.name": "cnn",
    "model.width": 4,
    "model.depth": 1,
    "batch_size": 64,
    "epochs": 2,
    "numerics.precision": "fp32",
    "numerics.memory_format": "contiguous",
    "numerics.compile": False,
    "schedule.name": "constant",
    "batch.crop": False,
}
AVERAGES = {
    "ema": {"average.name": "ema", "average.decay": 0.9},
    "swa": {"average.name": "swa", "average.start": "30%", "average.every": "5 steps"},
    "lawa": {"average.name": "lawa", "average.window": 3, "average.every": "5 steps"},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else a run does is tested elsewhere."""
    monkeypatch.setattr(before_training, "ONE_BATCH_SECONDS", 0.05)
    monkeypatch.setattr(before_training, "GRADIENT_SECONDS", 0.05)
    monkeypatch.setattr(job, "baselines", lambda *_, **__: [])


def train(out: str, **changes: object) -> Run:
    return job.train("digits", out=out, recipe=Recipe().patched({**BASE, **changes}), screen=Screen(quiet=True))


@pytest.mark.parametrize("name", AVERAGES)
def test_the_weights_that_are_kept_have_the_norm_statistics_of_the_training_images(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "NORM_SHARE", 1.0)
    run = train("r", **AVERAGES[name])
    model = run.model()
    convolution, norm = model.get_submodule("body.0"), model.get_submodule("body.1")
    assert run.data is not None
    images = run.data.prepare(run.data.train.take(torch.arange(len(run.data.train))).inputs)
    features = convolution(images).detach().transpose(0, 1).flatten(1).double().numpy()
    np.testing.assert_allclose(norm.get_buffer("running_mean").numpy(), features.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.get_buffer("running_var").numpy(), features.var(1, ddof=1), rtol=1e-4)


def test_before_there_is_an_average_the_running_statistics_of_training_are_kept() -> None:
    run = train("r", **{"average.name": "swa", "average.start": "100%"})
    other = train("other", **{"average.name": "none"})
    assert run.results["digest"] == other.results["digest"]


@pytest.mark.parametrize(("name", "steps"), [("swa", 17), ("lawa", 31)])
def test_an_interrupted_average_goes_on_to_the_very_same_bits(
    name: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole", **AVERAGES[name])
    StopAfter.steps = steps
    with monkeypatch.context() as patch:
        patch.setattr(job, "Signals", StopAfter)
        with pytest.raises(Interrupted):
            train("torn", **AVERAGES[name])
    resumed = train("torn", **AVERAGES[name])
    assert resumed.results["digest"] == whole.results["digest"]
    assert [row["valid_loss"] for row in resumed.metrics] == [row["valid_loss"] for row in whole.metrics]
    with pytest.raises(RunError, match="already holds a run"):
        train("whole", **AVERAGES[name])
