from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import optimize
from sklearn import metrics as oracle

from goodfit.errors import ModelError
from goodfit.evaluation import Temperature, fit_temperature, point, probabilities, reliability
from goodfit.types import Task


def drawn(scale: float, n: int = 3000, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are ``scale`` times as large as the calibrated ones that the targets were drawn from."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (n, classes))
    p = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    targets = (p.cumsum(1) < rng.random((n, 1))).sum(1).clip(0, classes - 1)
    return torch.tensor(true * scale), torch.tensor(targets)


@pytest.mark.parametrize("scale", [0.4, 3.0])
def test_the_temperature_is_the_minimum_that_a_plain_search_finds(scale: float) -> None:
    z, y = drawn(scale)

    def loss(t: float) -> float:
        e = np.exp(z.numpy() / t)
        return float(oracle.log_loss(y.numpy(), e / e.sum(1, keepdims=True)))

    found = fit_temperature(z, y)
    expected = optimize.minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8})
    assert found.value == pytest.approx(expected.x, rel=1e-4)
    assert found.value == pytest.approx(scale, rel=0.1)
    assert found.log_loss_before == pytest.approx(loss(1))
    assert found.log_loss_after == pytest.approx(expected.fun)
    assert found.ece_after is not None
    assert found.ece_before is not None
    assert found.ece_after < found.ece_before
    assert found.note == ""


def test_one_logit_and_its_pair_get_the_same_temperature() -> None:
    z, y = drawn(3.0, classes=2)
    single = (z[:, 1] - z[:, 0])[:, None]
    assert fit_temperature(single, y).value == pytest.approx(fit_temperature(z, y).value, rel=1e-8)


def test_an_ensembles_temperature_lowers_its_mixed_log_loss_to_a_minimum() -> None:
    z, y = drawn(3.0)
    torch.manual_seed(0)
    both = torch.stack([z, z + torch.randn_like(z)], 1)

    def loss(t: float) -> float:
        return float(oracle.log_loss(y.numpy(), torch.softmax(both / t, -1).mean(1).numpy()))

    found = fit_temperature(both, y)
    assert found.log_loss_after == pytest.approx(loss(found.value))
    assert loss(found.value) <= min(loss(found.value * 1.01), loss(found.value / 1.01))
    assert loss(found.value) < loss(1.0)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("calibrated", "as well calibrated"),
        ("separable", "nearly"),
        ("useless", "say nothing"),
        ("empty", "no samples"),
    ],
)
def test_a_temperature_that_would_not_help_is_refused_with_the_reason(case: str, why: str) -> None:
    z, y = drawn(1.0)
    if case == "separable":
        z = torch.nn.functional.one_hot(y, 4).double()
    if case == "useless":
        z = -torch.nn.functional.one_hot(y, 4).double()
    if case == "empty":
        z, y = z[:0], y[:0]
    found = fit_temperature(z, y)
    assert found.value == 1.0
    assert why in found.note


def test_extreme_logits_are_calibrated_without_overflow() -> None:
    z, y = drawn(1.0)
    found = fit_temperature(z * 15, y)
    assert found.value == pytest.approx(15, rel=0.1)
    assert torch.isfinite(probabilities(z * 1e30)).all()


def test_a_temperature_survives_json() -> None:
    found = fit_temperature(*drawn(3.0))
    assert Temperature(**json.loads(json.dumps(found.to_json()))) == found


def test_reliability_bins_hold_every_sample_once() -> None:
    z, y = drawn(3.0)
    diagram = reliability(y.numpy(), probabilities(z).numpy())
    json.dumps(diagram, allow_nan=False)
    assert sum(one["count"] for one in diagram["bins"]) == len(y)
    for one in diagram["bins"]:
        assert one["low"] <= one["confidence"] <= one["high"] + 1e-12
        assert one["accuracy_low"] <= one["accuracy"] <= one["accuracy_high"]
    gap = sum(one["count"] * abs(one["accuracy"] - one["confidence"]) for one in diagram["bins"]) / len(y)
    assert diagram["ece"] == pytest.approx(gap)


def test_probabilities_of_members_are_averaged_and_one_logit_is_a_sigmoid() -> None:
    torch.manual_seed(0)
    z = torch.randn(6, 3, 4)
    assert torch.allclose(probabilities(z), torch.softmax(z.double(), -1).mean(1))
    single = torch.tensor([[0.0], [50.0], [-800.0]])
    assert torch.allclose(probabilities(single)[:, 1], torch.sigmoid(single.double())[:, 0])
    assert probabilities(single)[1, 0] == pytest.approx(float(torch.sigmoid(torch.tensor(-50.0, dtype=torch.float64))))
    assert torch.allclose(probabilities(z, temperature=2.0), torch.softmax(z.double() / 2, -1).mean(1))


def test_points_come_back_in_original_units() -> None:
    assert point(torch.tensor([[1.0], [2.0]]), mean=10, std=2).tolist() == [12.0, 14.0]
    assert point(torch.ones(2, 5, 3), mean=1, std=2).tolist() == [[3.0] * 3] * 2
    assert point(torch.ones(2, 5, 1)).tolist() == [1.0, 1.0]


def test_logits_that_are_no_numbers_or_too_few_are_refused() -> None:
    z = torch.zeros(5, 3)
    z[2, 1] = float("nan")
    with pytest.raises(ModelError, match=r"1 of 5 samples.*position 2"):
        probabilities(z)
    with pytest.raises(ModelError, match="1 of 5"):
        point(z)
    task = Task("classification", "y", 4, tuple("abcd"))
    with pytest.raises(ModelError, match="3 outputs for 4 classes"):
        probabilities(torch.zeros(5, 3), task)
