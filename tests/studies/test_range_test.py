"""The range test: its arithmetic, what it leaves untouched, where it cannot tell, and every kind of data."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from goodfit.errors import GoodfitError
from goodfit.recipe import Recipe
from goodfit.screen import Screen
from goodfit.store import weights_digest
from goodfit.studies.lr import range_test
from goodfit.studies.range_shown import page, show, verdict
from goodfit.studies.range_test import SMOOTHING, lr_range, read_sweeps, slopes, smoothed, sweep, sweep_rates

RATES = sweep_rates(1e-6, 10.0, 113)


def curve(falls_at: float, turns_at: float, *, noise: float = 0.0, seed: int = 0, fall: float = 1.5) -> list[float]:
    """A loss of 2 that falls by a logistic step around one rate and explodes above another."""
    rng = np.random.default_rng(seed)
    x = np.log10(RATES)
    values = 2 - fall / (1 + np.exp(-4 * (x - math.log10(falls_at)))) + 3 * np.maximum(x - math.log10(turns_at), 0) ** 2
    return list(values + noise * rng.standard_normal(len(x)))


def test_smoothing_is_the_weighted_mean_of_the_past() -> None:
    values = np.random.default_rng(0).normal(size=30)
    found = smoothed(values)
    for k in range(30):
        weights = SMOOTHING ** np.arange(k, -1, -1)
        assert found[k] == pytest.approx(float(weights @ values[: k + 1] / weights.sum()), abs=1e-12)


def test_slopes_of_a_line_are_its_slope() -> None:
    x = np.linspace(-3, 3, 50)
    assert slopes(x, 2 - 0.7 * x) == pytest.approx(np.full(50, -0.7))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_known_curves_are_read_right(noise: float) -> None:
    reading = read_sweeps(RATES, [curve(1e-3, 0.1, noise=noise, seed=k) for k in range(5)])
    assert reading.steepest is not None
    assert reading.lowest is not None
    assert reading.turns is not None
    assert 4e-4 < reading.steepest < 2.5e-3
    assert 2e-2 < reading.lowest < 0.4
    assert 0.1 < reading.turns < 2
    assert reading.suggested is not None
    assert reading.steepest <= reading.suggested <= reading.turns / 4
    assert reading.least is not None
    assert reading.most is not None
    assert reading.least <= reading.suggested <= reading.most
    assert all(low <= mid <= high for low, mid, high in zip(reading.low, reading.median, reading.high, strict=True))


def test_a_flat_or_noisy_sweep_cannot_tell() -> None:
    flat = [list(2 + 0.3 * np.random.default_rng(k).standard_normal(113)) for k in range(5)]
    for sweeps in (flat, [[2.0] * 113] * 3, [curve(1e-3, 9, fall=0.05, noise=0.4, seed=k) for k in range(5)]):
        reading = read_sweeps(RATES, sweeps)
        assert reading.suggested is None
        assert "Cannot tell" in reading.reason


@pytest.mark.parametrize("sweeps", [[[math.inf]] * 3, [[2.0, 4.0, math.nan]] * 3, [list(2 + np.arange(20.0))] * 3])
def test_what_diverges_at_once_cannot_tell(sweeps: list[list[float]]) -> None:
    reading = read_sweeps(RATES, sweeps)
    assert reading.suggested is None
    assert "Begin lower" in reading.reason


def test_a_sweep_that_never_turns_says_so() -> None:
    reading = read_sweeps(RATES, [curve(1e-2, 100.0, noise=0.02, seed=k) for k in range(3)])
    assert reading.suggested is not None
    assert reading.turns is None
    assert "--high" in reading.reason


def test_a_sweep_ends_where_it_diverges() -> None:
    losses = iter([2.0] * 20 + [9.0] * 93 + [9.0])
    assert len(sweep(lambda _: next(losses), RATES)) < 30
    bad = iter([2.0, 2.0, math.nan])
    assert len(sweep(lambda _: next(bad), RATES)) == 2


def test_the_best_rate_of_a_quadratic_lies_in_the_range() -> None:
    """SGD on curvature up to 10 diverges above 2 / 10; the loss is lowest somewhat below."""

    def one(seed: int) -> list[float]:
        torch.manual_seed(seed)
        h, x = torch.tensor([1.0, 3.0, 10.0]), torch.randn(3) * 3

        def step(rate: float) -> float:
            nonlocal x
            loss = float((h * x * x).sum() / 2)
            x = x - rate * h * x
            return loss

        return sweep(step, RATES)

    reading = read_sweeps(RATES, [one(k) for k in range(5)])
    assert reading.suggested is not None
    assert 0.005 < reading.suggested < 0.2


def test_model_optimizer_loader_and_randomness_are_left_bit_for_bit() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
    x = torch.randn(64, 4)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), 16, shuffle=True,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    optimizer = torch.optim.Adam(
        [{"params": net[0].parameters(), "lr": 1e-3}, {"params": net[1:].parameters()}], lr=0.01
    )
    nn.functional.mse_loss(net(x), x.sum(1, keepdim=True)).backward()
    optimizer.step()

    def everything() -> tuple[object, ...]:
        return (
            weights_digest(net.state_dict()),
            weights_digest({str(k): one["exp_avg"] for k, one in enumerate(optimizer.state.values())}),
            [group["lr"] for group in optimizer.param_groups],
            [float(p.grad.sum()) for p in net.parameters() if p.grad is not None],
            torch.get_rng_state().tolist(),
            loader.generator.get_state().tolist(),
            random.getstate(),
            str(np.random.get_state()),
        )

    before = everything()
    found = lr_range(net, loader, nn.functional.mse_loss, optimizer, points=60, repeats=2)
    after = everything()
    assert before == after
    assert found.repeats == 2


def test_a_module_of_ones_own_stays_as_it_is_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))
    x = torch.randn(200, 13)
    before, state = weights_digest(net.state_dict()), torch.get_rng_state()
    found = range_test(
        (x.numpy(), (x[:, 0] > 0).long().numpy() + (x[:, 1] > 1).long().numpy()), model=net, points=40, repeats=2,
        screen=Screen.silent(),
    )  # fmt: skip
    assert weights_digest(net.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert list(tmp_path.iterdir()) == []
    assert found.steps > 20


def kinds(folder: Path) -> dict[str, tuple[object, dict[str, object]]]:
    rng = np.random.default_rng(0)
    words = ["good", "bad", "film", "plot", "dull", "bright"]
    text = pd.DataFrame(
        {"text": [" ".join(rng.choice(words, 8)) for _ in range(200)], "label": rng.choice(["up", "down"], 200)}
    )
    (folder / "book.txt").write_text("the cat sat on the mat and the dog ran. " * 200)
    days = pd.date_range("2020-01-01", periods=300).strftime("%Y-%m-%d")
    series = pd.DataFrame({"day": days, "value": np.sin(np.arange(300) / 7)})
    return {
        "classification": ("wine", {}),
        "regression": ("diabetes", {}),
        "text": (text, {"data.target": "label"}),
        "language": (folder / "book.txt", {"data.length": 16, "model.width": 16, "model.depth": 1}),
        "series": (series, {"data.horizon": 2, "data.time": "day", "data.lookback": 14}),
    }


@pytest.mark.parametrize("kind", ["classification", "regression", "text", "language", "series"])
def test_every_kind_of_data_gets_an_answer_a_picture_and_a_command(kind: str, tmp_path: Path) -> None:
    source, settings = kinds(tmp_path)[kind]
    recipe = Recipe().patched(settings) if settings else None
    found = range_test(source, recipe=recipe, points=40, repeats=2, screen=Screen.silent(), said="THERE")
    assert verdict(found)
    assert found.reading.reason
    assert found.command.startswith("goodfit train THERE --set optimizer.lr=" if found.patch else "goodfit check THERE")
    show(found, Screen.silent())
    text = page(found, tmp_path / "lr.html").read_text()
    assert "data:image/svg" in text
    assert "<script" not in text


def test_the_same_test_twice_gives_the_same_answer() -> None:
    both = [range_test("wine", points=30, repeats=2, screen=Screen.silent()).reading for _ in range(2)]
    assert both[0] == both[1]


def test_sweeps_that_make_no_sense_are_refused() -> None:
    with pytest.raises(GoodfitError, match="2 repeats"):
        range_test("wine", repeats=1, screen=Screen.silent())
    with pytest.raises(GoodfitError, match="small rate"):
        range_test("wine", low=1.0, high=0.1, screen=Screen.silent())
