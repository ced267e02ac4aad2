"""A module of your own: dropout and initial weights set from the recipe, without editing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import goodfit
from goodfit import job
from goodfit.errors import ModelError, RecipeError
from goodfit.probes import before_training
from goodfit.run import Run

X = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(before_training, "ONE_BATCH_SECONDS", 0.05)
    monkeypatch.setattr(before_training, "GRADIENT_SECONDS", 0.05)
    monkeypatch.setattr(job, "baselines", lambda *_, **__: [])


class Two(nn.Module):
    """Dropout of two kinds, and a recurrent layer that has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop = nn.Linear(8, 16), nn.Dropout(0.0)
        self.cell = nn.GRU(16, 16, num_layers=2, batch_first=True)
        self.late, self.head = nn.AlphaDropout(0.9), nn.Linear(16, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.first(inputs).relu())[:, None]
        return torch.as_tensor(self.head(self.late(self.cell(x)[0][:, -1])))


def train(model: nn.Module, out: str, **changes: Any) -> Run:
    torch.manual_seed(0)
    recipe = goodfit.Recipe(epochs=1).patched(changes)
    return goodfit.train((X, Y), model=model, recipe=recipe, out=out)


def test_every_dropout_of_a_module_is_set_by_a_key_and_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    model = Two()
    run = train(model, "r", **{"model.dropout": 0.35})
    assert (model.drop.p, model.late.p, model.cell.dropout) == (0.35, 0.35, 0.35)
    assert "dropout 0.35 in 3 layers" in capsys.readouterr().out
    assert run.plan["model.dropout"] == 0.35
    again = train(Two(), "again", **{"model.dropout": 0.35})
    assert run.plan.recipe().flat()["model.dropout"] == 0.35
    assert again.status == "finished"


def test_a_module_without_dropout_is_told_so_and_trained(capsys: pytest.CaptureFixture[str]) -> None:
    run = train(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), "r", **{"model.dropout": 0.3})
    assert "model.dropout changes nothing: Sequential has no dropout layer" in capsys.readouterr().out
    assert run.status == "finished"


def test_without_the_key_dropout_stays_as_it_is() -> None:
    model = Two()
    train(model, "r")
    assert (model.drop.p, model.late.p, model.cell.dropout) == (0.0, 0.9, 0.0)


def test_other_keys_of_a_model_are_still_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="given twice"):
        train(Two(), "r", **{"model.width": 3})
    with pytest.raises(RecipeError, match="less than 1"):
        train(Two(), "r", **{"model.dropout": 1.5})


def test_initial_weights_of_a_module_are_drawn_by_the_name_asked_for_and_kept_otherwise() -> None:
    def layers() -> nn.Sequential:
        torch.manual_seed(7)
        return nn.Sequential(nn.Linear(8, 200), nn.ReLU(), nn.Linear(200, 2))

    still = {"epochs": "1 steps", "optimizer.name": "sgd", "optimizer.lr": 0.0, "init.name": "he_normal"}
    model, kept = layers(), layers()
    train(model, "r", **still)
    weight = model[0].weight.detach()
    assert float(weight.std()) == pytest.approx((2 / 8) ** 0.5, rel=0.05)
    train(kept, "kept", **{**still, "init.name": "auto"})
    assert torch.equal(kept[0].weight, layers()[0].weight)
    with pytest.raises(ModelError, match="identical"):
        train(layers(), "zeros", **{**still, "init.name": "zeros"})
