"""Normalisations against float64 NumPy, forward and backward, and what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from goodfit.errors import ModelError
from goodfit.models import build
from goodfit.models.norms import NORMS, norm
from goodfit.types import InputSpec
from tests.reference import norms as reference

SHAPES = {1: (6, 8), 2: (6, 8, 3, 5), 3: (4, 7, 8)}


def given(shape: tuple[int, ...], width: int) -> tuple[Any, ...]:
    draw = np.random.default_rng(0)
    return draw.normal(3.0, 2.0, shape), draw.normal(1.0, 0.5, width), draw.normal(size=width), draw.normal(size=shape)


def ours(made: nn.Module, x: Any, weight: Any, bias: Any, gradient: Any) -> tuple[Any, ...]:
    """Output and gradients at inputs, weight and bias."""
    made = made.double()
    with torch.no_grad():
        made.get_parameter("weight").copy_(torch.from_numpy(weight))
        if "bias" in dict(made.named_parameters()):
            made.get_parameter("bias").copy_(torch.from_numpy(bias))
    inputs = torch.from_numpy(x).requires_grad_(True)
    out = made(inputs)
    out.backward(torch.from_numpy(gradient))
    grads = [p.grad.numpy() for p in made.parameters() if p.grad is not None]
    assert inputs.grad is not None
    return out.detach().numpy(), inputs.grad.numpy(), *grads


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("name", ["batch", "layer", "group", "rms"])
def test_a_norm_and_its_gradients_are_their_formulas(name: str, dims: int) -> None:
    x, weight, bias, gradient = given(SHAPES[dims], 8)
    made = ours(norm(name, 8, dims=dims, groups=4), x, weight, bias, gradient)  # type: ignore[arg-type]
    if name == "batch":
        expected, back = reference.batch_norm(x, weight, bias, gradient)
    elif name == "rms":
        expected, back = reference.rms_norm(x, weight, gradient, axis=1)
    elif name == "group" or dims == 2:
        expected, back = reference.group_norm(x, 4 if name == "group" else 1, weight, bias, gradient)
    else:
        expected, back = reference.layer_norm(x, weight, bias, gradient)
    np.testing.assert_allclose(made[0], expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(made[1], back.inputs, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(made[2], back.weight, rtol=1e-9, atol=1e-10)
    if name != "rms":
        np.testing.assert_allclose(made[3], back.bias, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["layer", "rms"])
def test_a_norm_of_sequences_looks_at_one_position(name: str) -> None:
    x, weight, bias, gradient = given(SHAPES[3], 8)
    made = ours(norm(name, 8), x, weight, bias, gradient)
    expected, back = (
        reference.layer_norm(x, weight, bias, gradient) if name == "layer" else reference.rms_norm(x, weight, gradient)
    )
    np.testing.assert_allclose(made[0], expected, rtol=1e-10)
    np.testing.assert_allclose(made[1], back.inputs, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(made[2], back.weight, rtol=1e-9)


@pytest.mark.parametrize("dims", [1, 2])
def test_the_formulas_of_the_reference_agree_with_differences(dims: int) -> None:
    """The reference itself, against central differences: an error of its own would prove nothing."""
    x, weight, bias, gradient = given(SHAPES[dims], 8)
    for forward in (
        lambda x: reference.batch_norm(x, weight, bias, gradient),
        lambda x: reference.group_norm(x, 2, weight, bias, gradient),
        lambda x: reference.rms_norm(x, weight, gradient, axis=1),
        *([lambda x: reference.layer_norm(x, weight, bias, gradient)] if dims == 1 else []),
    ):
        back = forward(x)[1].inputs
        way = np.random.default_rng(1).normal(size=x.shape)
        slope = ((forward(x + 1e-6 * way)[0] - forward(x - 1e-6 * way)[0]) * gradient).sum() / 2e-6
        assert float((back * way).sum()) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("dims", [1, 2])
def test_batch_norm_keeps_running_statistics_and_predicts_with_them(dims: int) -> None:
    made = norm("batch", 8, dims=dims).double().train()  # type: ignore[arg-type]
    mean, var = np.zeros(8), np.ones(8)
    for number in range(3):
        x = np.random.default_rng(number).normal(number, 2.0, SHAPES[dims])
        made(torch.from_numpy(x))
        mean, var = reference.batch_norm_running(mean, var, x)
    np.testing.assert_allclose(made.get_buffer("running_mean").numpy(), mean, rtol=1e-10)
    np.testing.assert_allclose(made.get_buffer("running_var").numpy(), var, rtol=1e-10)
    x, weight, bias, _ = given(SHAPES[dims], 8)
    with torch.no_grad():
        made.get_parameter("weight").copy_(torch.from_numpy(weight))
        made.get_parameter("bias").copy_(torch.from_numpy(bias))
    expected = reference.batch_norm_eval(x, weight, bias, mean, var)
    np.testing.assert_allclose(made.eval()(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["rms", "layer", "group"])
def test_half_precision_inputs_are_normalised_in_float32(name: str) -> None:
    x = torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(0)) * 300
    made = norm(name, 8, dims=2)
    expected = made(x.bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = made(x.bfloat16())
    torch.testing.assert_close(half.float(), expected, rtol=2e-2, atol=2e-2)


SWAPPED = {
    "mlp": (InputSpec("tensor", (6,)), list(NORMS)),
    "cnn": (InputSpec("image", (3, 8, 8)), list(NORMS)),
    "resnet": (InputSpec("image", (3, 8, 8)), list(NORMS)),
    "transformer": (InputSpec("language", (6,), vocabulary=9), ["layer", "rms"]),
}
KINDS: dict[str, Any] = {
    "batch": "BatchNorm",
    "group": "GroupNorm",
    "rms": "RMSNorm",
    "layer": ("LayerNorm", "GroupNorm"),
}


@pytest.mark.parametrize(("model", "name"), [(m, n) for m, (_, names) in SWAPPED.items() for n in names])
def test_a_norm_is_swapped_by_a_key(model: str, name: str) -> None:
    spec, _ = SWAPPED[model]
    more = {"width": 8, "depth": 8 if model == "resnet" else 2} | ({"heads": 2} if model == "transformer" else {})
    made = build(model, {"norm": name, **more}, spec, 9)
    own = {type(m).__name__.rstrip("12d") for m in made.modules() if "Norm" in type(m).__name__}
    expected = KINDS.get(name, ())
    assert own == set() if name == "none" else own and own <= {expected, *expected} | set(expected)
    inputs = torch.randint(1, 9, (4, 6)) if spec.kind == "language" else torch.randn(4, *spec.shape)
    assert bool(torch.isfinite(made(inputs)).all())


def test_groups_divide_the_channels() -> None:
    made = norm("group", 48)
    assert isinstance(made, nn.GroupNorm)
    assert made.num_groups == 16


def test_unknown_names_answer_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'batch'"):
        norm("bach", 3)
