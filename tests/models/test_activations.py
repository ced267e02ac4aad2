"""Activations against their formulas in float64, forward and backward, and the numbers their pages name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats

from goodfit.errors import ModelError
from goodfit.models.activations import ACTIVATIONS, activation, softmax
from goodfit.models.weights import GAINS
from goodfit.pages import explain
from tests.reference import activations as reference

POINTS = np.concatenate([np.linspace(-6, 6, 241) + 0.0123, [-30.0, 30.0]])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_and_its_slope_are_their_formulas(name: str) -> None:
    x = torch.from_numpy(POINTS).requires_grad_(True)
    made = activation(name)(x)
    made.sum().backward()
    np.testing.assert_allclose(made.detach().numpy(), reference.value(name, POINTS), rtol=1e-9, atol=1e-13)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), reference.derivative(name, POINTS), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_slopes_of_the_reference_agree_with_differences(name: str) -> None:
    points = POINTS[:-2]
    slope = (reference.value(name, points + 1e-6) - reference.value(name, points - 1e-6)) / 2e-6
    np.testing.assert_allclose(reference.derivative(name, points), slope, rtol=1e-6, atol=1e-8)


def test_the_slope_of_leaky_relu_is_a_setting() -> None:
    x = torch.tensor([-2.0, 3.0])
    assert activation("leaky_relu", slope=0.3)(x).tolist() == pytest.approx([-0.6, 3.0])


@pytest.mark.parametrize(
    ("name", "lowest", "where"),
    [("gelu", -0.16997, -0.7518), ("silu", -0.27846, -1.27846), ("mish", -0.30884, -1.19241)],
)
def test_the_lowest_value_is_the_one_on_the_page(name: str, lowest: float, where: float) -> None:
    found = optimize.minimize_scalar(
        lambda x: float(reference.value(name, np.array(x))), bounds=(-3, 0), method="bounded"
    )
    assert found.fun == pytest.approx(lowest, abs=6e-6)
    assert found.x == pytest.approx(where, abs=1e-4)
    assert f"{lowest}" in explain(name)


def test_the_two_forms_of_gelu_differ_by_what_the_page_says() -> None:
    x = np.linspace(-6, 6, 20001)
    apart = np.abs(reference.value("gelu", x) - reference.value("gelu_tanh", x)).max()
    assert 4e-4 < apart < 5e-4


def test_sigmoid_and_its_slope_stay_inside_open_ranges() -> None:
    x = torch.linspace(-30, 30, 2001, dtype=torch.float64).requires_grad_(True)
    made = activation("sigmoid")(x)
    made.sum().backward()
    assert float(made.detach().min()) > 0
    assert float(made.detach().max()) < 1
    assert x.grad is not None
    assert float(x.grad.min()) > 0
    assert float(x.grad.max()) == pytest.approx(0.25)
    assert float(torch.sigmoid(torch.tensor(17.0))) == 1.0 or float(torch.sigmoid(torch.tensor(18.0))) == 1.0


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gain_is_one_over_the_root_mean_square_of_a_normal_number(name: str) -> None:
    square, _ = integrate.quad(
        lambda z: float(reference.value(name, np.array(z))) ** 2 * stats.norm.pdf(z), -10, 10, points=[0], limit=200
    )
    assert GAINS[name] == pytest.approx(square**-0.5, rel=1e-3)


def test_softmax_is_log_sum_exp_forward_and_backward_at_any_size_of_logits() -> None:
    z = np.random.default_rng(0).normal(0, 3, (5, 7))
    z[0] *= 1000
    gradient = np.random.default_rng(1).normal(size=z.shape)
    inputs = torch.from_numpy(z).requires_grad_(True)
    made = softmax()(inputs)
    made.backward(torch.from_numpy(gradient))
    np.testing.assert_allclose(made.detach().numpy(), reference.softmax(z), rtol=1e-10, atol=1e-300)
    assert inputs.grad is not None
    np.testing.assert_allclose(inputs.grad.numpy(), reference.softmax_backward(z, gradient), rtol=1e-9, atol=1e-15)


def test_softmax_then_logarithm_overflows_where_log_softmax_does_not() -> None:
    gap = torch.tensor([110.0, 0.0])
    assert torch.isinf(gap.softmax(0).log()[1])
    assert float(gap.log_softmax(0)[1]) == pytest.approx(-110.0)
    assert not torch.isinf(torch.tensor([103.0, 0.0]).softmax(0).log()[1])


def test_unknown_names_answer_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'gelu'"):
        activation("gelo")
