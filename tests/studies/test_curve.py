"""The learning curve: its fit on known curves, its promise, its shares, and the whole command on small data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import curve_fit

from goodfit.errors import DataError
from goodfit.recipe import Recipe
from goodfit.screen import Screen
from goodfit.studies.curve import Gain, fit_power_law
from goodfit.studies.curve_shown import commands, page, sentences, show, verdict
from goodfit.studies.learning_curve import learning_curve, nested, sizes_of
from goodfit.types import Tensors

SIZES = np.array([80, 160, 320, 640, 1280])


@pytest.mark.parametrize(("a", "b", "c"), [(0.03, 2.0, 0.5), (0.0, 1.0, 0.35), (0.1, 30.0, 1.2), (0.2, 0.0, 1.0)])
def test_a_curve_without_noise_is_found_again(a: float, b: float, c: float) -> None:
    law = fit_power_law(SIZES, a + b * SIZES**-c, draws=20)
    assert law.at(SIZES) == pytest.approx(a + b * SIZES**-c, rel=1e-3)
    assert law.at(2560) == pytest.approx(a + b * 2560.0**-c, rel=5e-3)


def test_the_fit_is_that_of_least_squares() -> None:
    """scipy's curve_fit with the same relative weights ends at the same curve."""
    rng = np.random.default_rng(0)
    n = np.repeat(SIZES, 3)
    e = (0.05 + 2 * n**-0.5) * (1 + 0.05 * rng.standard_normal(len(n)))
    typical = np.array([e[n == one].mean() for one in n])
    (a, b, c), _ = curve_fit(
        lambda x, a, b, c: a + b * x**-c, n.astype(float), e, (0.04, 1.0, 0.4), sigma=typical, bounds=(0, (1, 99, 2))
    )
    law = fit_power_law(n, e, draws=20)
    assert law.at(SIZES) == pytest.approx(a + b * SIZES**-c, rel=2e-3)


def test_the_interval_of_the_gain_covers_the_truth() -> None:
    """Of 100 simulated curves with 6 % scatter, at least 85 intervals of 95 % hold the true gain."""
    rng = np.random.default_rng(1)
    n, hits = np.repeat(SIZES, 3), 0
    for seed in range(100):
        a, b, c = rng.choice([0, 0.02, 0.05]), rng.uniform(0.5, 3), rng.uniform(0.2, 0.8)
        gain = fit_power_law(n, (a + b * n**-c) * (1 + 0.06 * rng.standard_normal(15)), seed=seed, draws=300).gain()
        hits += gain.low <= b * 1280**-c - b * 2560**-c <= gain.high
    assert 85 <= hits <= 100


def gain(low: float, middle: float, high: float) -> Gain:
    return Gain(
        size=100, factor=2, now=1, then=1 - middle, gain=middle, low=low, high=high, share=middle, share_low=low,
        share_high=high,
    )  # fmt: skip


def test_the_answer_follows_the_whole_interval() -> None:
    assert gain(0.15, 0.2, 0.3).answer == "data"
    assert gain(0.0, 0.01, 0.04).answer == "model"
    assert gain(0.05, 0.2, 0.3).answer == "data, probably"
    assert gain(-0.1, 0.05, 0.3).answer == "open"


def test_steep_curves_ask_for_data_and_flat_ones_for_a_model() -> None:
    noise = 1 + 0.01 * np.random.default_rng(2).standard_normal(15)
    n = np.repeat(SIZES, 3)
    assert fit_power_law(n, 5 * n**-0.5 * noise).gain().answer == "data"
    assert fit_power_law(n, (0.3 + 5.0 / n) * noise).gain().answer == "model"


@pytest.mark.parametrize("errors", [[0.1, 0.1, 0.1], [0.0] * 5, [np.nan] * 5])
def test_what_cannot_be_fitted_is_refused(errors: list[float]) -> None:
    with pytest.raises(DataError):
        fit_power_law([100, 100, 200] if len(errors) == 3 else SIZES, errors)


def test_shares_are_nested_and_hold_every_class_in_its_share() -> None:
    classes = torch.tensor([0] * 600 + [1] * 300 + [2] * 100)
    part = Tensors(torch.zeros(1000, 1), classes, torch.arange(1000))
    order = nested(part, seed=3, classes=classes)
    assert sorted(order.tolist()) == list(range(1000))
    for size in (40, 125, 500):
        counts = torch.bincount(classes[order[:size]], minlength=3)
        assert (counts - size * torch.tensor([0.6, 0.3, 0.1])).abs().max() <= 1
    assert order[:100].tolist() != nested(part, seed=4, classes=classes)[:100].tolist()


def test_shares_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match="above 0"):
        sizes_of(1000, (1.0, 0.0))
    with pytest.raises(DataError, match="needs 3"):
        sizes_of(50, (1.0, 0.5, 0.1), classes=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curve") / "study"


def test_the_command_answers_goes_on_and_writes_a_page(folder: Path) -> None:
    recipe = Recipe().patched({"epochs": 3, "model.name": "linear", "optimizer.lr": 0.05})
    curve = learning_curve(
        "wine", recipe, seeds=1, resamples=3, shares=(1, 0.6, 0.3), out=folder, screen=Screen.silent()
    )
    assert len(curve.points) == 5
    assert [one.loss for one in curve.splits] == ["cross-entropy", "0/1 loss"]
    assert all(one.bias + one.variance == pytest.approx(one.total) for one in curve.splits)
    outcomes = {path: path.stat().st_mtime_ns for path in (folder / "outcomes").iterdir()}
    again = learning_curve(
        "wine", recipe, seeds=1, resamples=3, shares=(1, 0.6, 0.3), out=folder, screen=Screen.silent()
    )
    assert again.points == curve.points
    assert {path: path.stat().st_mtime_ns for path in (folder / "outcomes").iterdir()} == outcomes
    show(curve, Screen.silent(), tail="wine")
    assert verdict(curve)
    assert sentences(curve)
    assert all("wine" in command for command, _ in commands(curve, "wine"))
    text = page(curve, folder / "report.html", tail="wine").read_text()
    assert "more data or a better model?" in text
    assert "<script" not in text
    assert "data:image/svg" in text
