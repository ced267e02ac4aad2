"""Features of a frozen model: computed once, the same as computed anew in every step."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import goodfit
from goodfit.data import read
from goodfit.data.data import Data
from goodfit.errors import ModelError
from goodfit.evaluation.probe import Probe, linear_probe
from goodfit.features import as_features, features, head_alone, probe, probe_of
from goodfit.models.layers import train_mode
from goodfit.recipe import DataSettings, Recipe
from goodfit.techniques.transfer import Head
from goodfit.types import Tensors

CPU = torch.device("cpu")


class Net(nn.Module):
    """Two layers with dropout and batch norm below the head, and dropout inside of it."""

    def __init__(self, width: int = 4, classes: int = 3, *, before_head: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.before = nn.Dropout(before_head)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, classes))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.before(self.body(inputs)))


@pytest.fixture
def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 4, generator=generator)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    return read((x.numpy(), y.numpy()), DataSettings(), seed=0)


def net(**settings: float) -> Net:
    torch.manual_seed(0)
    model = Net(**settings)
    Head()(model)
    return model


def test_features_are_what_the_head_is_given_in_eval_mode_in_the_order_of_positions(data: Data) -> None:
    model = net()
    made = features(model, data.train, data.prepare, precision="fp32", device=CPU)
    assert isinstance(data.train, Tensors)
    with torch.no_grad():
        wanted = model.eval().body(data.prepare(data.train.inputs))
    torch.testing.assert_close(made.inputs, wanted)
    assert torch.equal(made.targets, data.train.targets)
    assert torch.equal(made.index, data.train.index)


def test_texts_of_unlike_length_come_back_in_their_own_order() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(9, 3), nn.Linear(3, 2)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.table(tokens).sum(1))

    torch.manual_seed(0)
    tokens = torch.randint(1, 9, (40, 6)) * (torch.arange(6) < torch.randint(1, 7, (40, 1)))
    part = Tensors(tokens, torch.zeros(40, dtype=torch.int64), torch.arange(40), torch.rand(40))
    model = Words()
    positions = torch.randperm(40)[:30]
    made = features(model, part, lambda one: one, precision="fp32", device=CPU, positions=positions)
    torch.testing.assert_close(made.inputs, model.table(tokens[positions]).sum(1).detach())
    assert torch.equal(made.index, positions)
    assert made.weight is not None
    assert part.weight is not None
    assert torch.equal(made.weight, part.weight[positions])


def test_a_fixed_body_may_be_cached_and_anything_else_says_why(data: Data) -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert head_alone(model, data, device=CPU) == (model.head, "")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert head_alone(model, data, device=CPU, changed_inputs=True)[1].startswith("augmentation")
    assert head_alone(net(before_head=0.5), data, device=CPU)[1] == (
        "what lies below the head is not the same from step to step"
    )
    learning = Net()
    assert head_alone(learning, data, device=CPU)[0] is None  # its batch norm and dropout are at work
    tokens = replace(data, task=replace(data.task, kind="language"))
    assert "every position" in head_alone(model, tokens, device=CPU)[1]


def test_what_acts_behind_the_last_part_forbids_caching(data: Data) -> None:
    class Scaled(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(inputs)

    model = Scaled()
    Head()(model)
    assert head_alone(model, data, device=CPU)[0] is None


def test_a_head_that_is_not_called_is_no_head(data: Data) -> None:
    class Odd(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.body(inputs)[:, :3]

    with pytest.raises(ModelError, match="not called"):
        features(Odd(), data.train, data.prepare, precision="fp32", device=CPU)


def test_steps_on_features_are_the_steps_of_the_whole_model(data: Data) -> None:
    whole, cached = net(), net()
    fixed = as_features(cached, data, precision="fp32", device=CPU)
    train_mode(whole)
    cached.head.train()
    for model, seen, part in ((whole, whole, data), (cached, cached.head, fixed)):
        optimizer = torch.optim.AdamW(model.head.parameters(), lr=0.1)
        for step in range(20):
            batch = part.train.take(torch.arange(step, step + 30))
            torch.manual_seed(step)
            nn.functional.cross_entropy(seen(part.prepare(batch.inputs)), batch.targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    for (name, a), b in zip(whole.state_dict().items(), cached.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


def test_a_probe_is_a_logistic_regression_on_standardised_features(data: Data) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="a dependency")
    found = probe(net(), data, precision="fp32", device=CPU, seed=0)
    assert isinstance(found, Probe)
    assert found.note == ""
    order = np.lexsort(found.train.T)
    whole = probe_of(*(as_features(net(), data, precision="fp32", device=CPU).train,) * 2)
    np.testing.assert_allclose(found.train[order], whole.train[np.lexsort(whole.train.T)])
    answer, note = linear_probe(found, data.task)
    c = float(note.removeprefix("C = "))
    level, spread = found.train.mean(0), found.train.std(0)
    spread[spread < 1e-9] = 1
    model = linear_model.LogisticRegression(C=c, max_iter=200).fit((found.train - level) / spread, found.targets)
    np.testing.assert_allclose(answer, model.predict_proba((found.other - level) / spread), atol=1e-4)


def test_a_probe_that_cannot_be_had_says_why(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"precision": "fp32", "device": CPU, "seed": 0}
    assert probe(nn.Identity(), data, **how) == "the model has no features of a whole sample"
    monkeypatch.setattr("goodfit.features._SECONDS", 0.0)
    assert re.fullmatch(r"features of \d+ samples take \d+ s", str(probe(net(), data, **how)))


def run_weights(folder: Path, recipe: Recipe, source: str) -> dict[str, torch.Tensor]:
    return goodfit.train(source, recipe=recipe, out=folder).model().state_dict()


def test_a_run_on_features_ends_with_the_weights_of_a_run_without(
    tmp_path: Path, image_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = str(image_folder(each=20))
    base = {"epochs": 2, "batch_size": 16, "numerics.precision": "fp32", "model.name": "cnn", "model.width": 8}
    goodfit.train(pictures, recipe=Recipe().patched(base), out=tmp_path / "first")
    second = {
        "model.name": f"run:{tmp_path / 'first'}",
        "epochs": 3,
        "batch_size": 16,
        "transfer.name": "head",
        "numerics.precision": "fp32",
        "seed": 1,
    }
    capsys.readouterr()
    cached = run_weights(tmp_path / "cached", Recipe().patched(second), pictures)
    assert "features of" in capsys.readouterr().out
    plain = run_weights(tmp_path / "plain", Recipe().patched({**second, "transfer.cache": False}), pictures)
    assert "features of" not in capsys.readouterr().out
    start = goodfit.Run(tmp_path / "first").model().state_dict()
    moved = [name for name in plain if not torch.equal(plain[name], start[name])]
    assert moved
    assert all(name.startswith("head") for name in moved)
    for name in plain:
        torch.testing.assert_close(cached[name], plain[name], rtol=1e-3, atol=1e-5, msg=name)
    rows = [row["name"] for row in goodfit.Run(tmp_path / "cached").results["baselines"]]
    assert rows[-2:] == ["linear probe on frozen features", "linear probe on the same net, untrained"]


def test_an_interrupted_run_on_features_goes_on_as_if_nothing_had_been(
    tmp_path: Path, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = str(image_folder(each=20))
    base = {"epochs": 1, "batch_size": 16, "numerics.precision": "fp32", "model.name": "cnn", "model.width": 8}
    goodfit.train(pictures, recipe=Recipe().patched(base), out=tmp_path / "first")
    recipe = Recipe().patched(
        {
            "model.name": f"run:{tmp_path / 'first'}",
            "epochs": 4,
            "batch_size": 16,
            "transfer.name": "head",
            "average.name": "ema",
            "seed": 1,
        }
    )
    whole = run_weights(tmp_path / "whole", recipe, pictures)
    step = torch.optim.AdamW.step
    calls = []

    def failing(self: torch.optim.AdamW, *args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.optim.AdamW, "step", failing)
    with pytest.raises(KeyboardInterrupt):
        goodfit.train(pictures, recipe=recipe, out=tmp_path / "torn")
    torn = run_weights(tmp_path / "torn", recipe, pictures)
    assert calls[5:]
    assert len(calls) > 6
    assert all(torch.equal(torn[name], whole[name]) for name in whole)
