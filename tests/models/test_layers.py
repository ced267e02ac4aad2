"""Activations and norms by name against float64 formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import erf
from torch import nn

from goodfit.errors import ModelError
from goodfit.models import build, set_dropout
from goodfit.models.layers import Dropout, StochasticDepth, activation, nonlinearity_of, norm, train_mode
from goodfit.models.weights import GAINS
from goodfit.types import InputSpec

FORMULAS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
}


@pytest.mark.parametrize("name", [name for name in FORMULAS if name != "linear"])
def test_an_activation_is_its_formula(name: str) -> None:
    x = np.linspace(-6, 6, 241)
    made = activation(name)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(made, FORMULAS[name](x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(FORMULAS))
def test_a_gain_keeps_the_mean_square_of_a_standard_normal_at_one(name: str) -> None:
    # Two half-lines, so that the kink of ReLU does not spoil the quadrature.
    grid = np.linspace(0, 12, 200_001)
    density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
    square = sum(np.trapezoid(FORMULAS[name](sign * grid) ** 2 * density, grid) for sign in (1.0, -1.0))
    assert GAINS[name] == pytest.approx(1 / math.sqrt(square), rel=2e-4)
    points, weights = hermegauss(60)
    if name in ("tanh", "sigmoid", "gelu"):
        smooth = (FORMULAS[name](points) ** 2 * weights).sum() / math.sqrt(2 * math.pi)
        assert smooth == pytest.approx(square, rel=1e-3)


def test_the_slope_of_leaky_relu_is_a_setting() -> None:
    assert activation("leaky_relu", slope=0.2)(torch.tensor(-1.0)) == pytest.approx(-0.2)
    model = build("mlp", {"activation": "leaky_relu", "slope": 0.3}, InputSpec("tensor", (3,)), 2)
    assert [m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)] == [0.3] * 3


def test_gelu_reaches_its_published_minimum() -> None:
    values = activation("gelu")(torch.linspace(-3, 0, 30_001, dtype=torch.float64))
    assert float(values.min()) == pytest.approx(-0.16997, abs=1e-5)


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("name", ["layer", "rms", "group", "batch"])
def test_a_norm_is_its_formula(name: str, dims: int) -> None:
    shape = (6, 8, 3, 5) if dims == 2 else (6, 8)
    x = np.random.default_rng(0).normal(3.0, 2.0, shape)
    made = norm(name, 8, dims=dims, groups=4).double()(torch.from_numpy(x)).detach().numpy()  # type: ignore[arg-type]
    if name == "rms":
        expected = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)
    elif name == "batch":
        axes = (0, 2, 3) if dims == 2 else (0,)
        expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    else:
        parts = x.reshape(6, 4 if name == "group" else 1, -1)
        expected = ((parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + 1e-5)).reshape(
            shape
        )
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


def test_group_norm_finds_a_number_of_groups_that_divides_the_channels() -> None:
    made = norm("group", 48)
    assert isinstance(made, nn.GroupNorm)
    assert made.num_groups == 16


def test_unknown_names_answer_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'gelu'"):
        activation("gelo")
    with pytest.raises(ModelError, match="did you mean 'batch'"):
        norm("bach", 3)


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = StochasticDepth(0.25).train()
    out = layer(torch.ones(40_000, 2, 2)).flatten(1)
    torch.testing.assert_close(out.unique(), torch.tensor([0.0, 4 / 3]))
    assert bool((out == out[:, :1]).all())
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)
    assert torch.equal(layer.eval()(torch.ones(3, 2)), torch.ones(3, 2))


@pytest.mark.parametrize("name", ["mlp", "resnet", "cnn", "gru", "transformer", "bag", "tabular"])
def test_dropout_is_set_from_outside_and_off_in_eval_mode(name: str) -> None:
    kinds = {"resnet": "image", "cnn": "image", "gru": "text", "transformer": "text", "bag": "text", "tabular": "table"}
    kind = kinds.get(name, "tensor")
    shape = {"image": (1, 8, 8), "text": (6,), "tensor": (4,), "table": ()}[kind]
    spec = InputSpec(kind, shape, numeric=3 if kind == "table" else 0, vocabulary=9)  # type: ignore[arg-type]
    model = build(name, {"dropout": 0.0}, spec, 2)
    rows: torch.Tensor = torch.randn(8, *shape) if kind in ("image", "tensor") else torch.randint(1, 9, (8, *shape))
    inputs = rows if kind != "table" else {"numeric": torch.randn(8, 3), "category": torch.zeros(8, 0).long()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    assert torch.equal(model(inputs), model(inputs))
    assert set_dropout(model, 0.5) > 0
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_its_share_and_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    inputs = torch.ones(999, 501, dtype=dtype, requires_grad=True)
    out = Dropout(p).train()(inputs)
    kept = out != 0
    assert float(kept.float().mean()) == pytest.approx(1 - p, abs=0.003)
    assert float(out.detach()[kept][0]) == pytest.approx(1 / (1 - p), rel=5e-3)
    rows, columns = kept.float().mean(1), kept.float().mean(0)
    assert max(float(rows.std()), float(columns.std())) < 1.2 * math.sqrt(p * (1 - p) / 501)
    out.sum().backward()
    assert torch.equal(inputs.grad != 0, kept)  # type: ignore[operator]


def test_dropout_is_made_again_by_the_same_seed_and_is_off_in_eval_mode() -> None:
    layer, x = Dropout(0.3), torch.randn(100, 100)
    made = []
    for _ in range(2):
        torch.manual_seed(5)
        made.append(layer(x))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(layer(x), made[0])
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()


def test_dropout_out_of_range_is_refused_and_a_model_without_any_says_zero() -> None:
    assert set_dropout(nn.Linear(2, 2), 0.5) == 0
    with pytest.raises(ModelError, match="below 1"):
        set_dropout(nn.Linear(2, 2), 1.0)


def test_the_activation_of_a_model_is_found() -> None:
    image = InputSpec("image", (3, 8, 8))
    assert nonlinearity_of(build("cnn", {"activation": "silu"}, image, 2)) == "silu"
    assert nonlinearity_of(build("cnn", {"activation": "gelu_tanh"}, image, 2)) == "gelu_tanh"
    assert nonlinearity_of(nn.Linear(2, 2)) == "linear"


def test_frozen_batch_norm_stays_in_eval_mode() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2), nn.Linear(2, 2)).eval()
    model[0].requires_grad_(False)
    train_mode(model)
    assert (model.training, model[0].training, model[1].training) == (True, False, True)


def test_dropout_is_the_inverted_one_and_not_the_one_that_shifts_the_mean() -> None:
    """Against the formula in float64, with the mask read from the output: scaled in training, nothing at prediction."""
    x = torch.rand(64, 300, generator=torch.Generator().manual_seed(0)) + 1.0
    for p in (0.2, 0.5):
        torch.manual_seed(1)
        out = Dropout(p).train()(x)
        keep = (out != 0).double().numpy()
        expected = x.double().numpy() * keep / (1 - p)
        np.testing.assert_allclose(out.double().numpy(), expected, rtol=2e-4)
        assert abs(float(out.mean()) / float(x.mean()) - 1) < 0.02
        without_scaling = float((x.numpy() * keep).mean())
        assert without_scaling / float(x.mean()) == pytest.approx(1 - p, abs=0.02)
        assert torch.equal(Dropout(p).eval()(x), x)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_stochastic_depth_is_torchvision_s(p: float) -> None:
    ops = pytest.importorskip("torchvision.ops", reason="torchvision has the function to compare with")
    x = torch.randn(4000, 2, 3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    ours = StochasticDepth(p).train()(x)
    torch.manual_seed(0)
    theirs = ops.stochastic_depth(x, p, mode="row", training=True)
    kept = [(made != 0).flatten(1).any(1) for made in (ours, theirs)]
    for made, rows in zip((ours, theirs), kept, strict=True):
        torch.testing.assert_close(made[rows], x[rows] / (1 - p))
        assert not made[~rows].any()
        assert float(rows.float().mean()) == pytest.approx(1 - p, abs=0.03)
    assert torch.equal(StochasticDepth(p).eval()(x), ops.stochastic_depth(x, p, mode="row", training=False))


@pytest.mark.parametrize("name", ["resnet", "transformer"])
def test_the_last_block_drops_its_branch_most_and_earlier_ones_less_in_a_line(name: str) -> None:
    spec = InputSpec("image", (3, 8, 8)) if name == "resnet" else InputSpec("language", (6,), vocabulary=9)
    more = {"depth": 20, "width": 8} if name == "resnet" else {"depth": 5, "width": 16, "heads": 2}
    model = build(name, {"drop_path": 0.3, **more}, spec, 9)
    found = [module.p for module in model.modules() if isinstance(module, StochasticDepth)]
    assert found == pytest.approx([0.3 * (k + 1) / len(found) for k in range(len(found))])
    assert len(found) == (9 if name == "resnet" else 5)


def test_the_slope_of_leaky_relu_reaches_every_model_that_has_the_key() -> None:
    for name in ("mlp", "cnn", "resnet"):
        model = build(name, {"activation": "leaky_relu", "slope": 0.2}, InputSpec("image", (3, 8, 8)), 2)
        slopes = {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)}
        assert slopes == {0.2}
