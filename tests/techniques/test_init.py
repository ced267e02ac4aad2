"""Initial weights against their formulas, and their keys."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from goodfit.errors import ModelError
from goodfit.models import build
from goodfit.models.layers import activation
from goodfit.models.weights import GAINS, fans
from goodfit.techniques.init import (
    ALL,
    Auto,
    HeNormal,
    HeUniform,
    Keep,
    LecunNormal,
    Orthogonal,
    XavierNormal,
    XavierUniform,
    Zeros,
)
from goodfit.types import InputSpec

TENSOR = InputSpec("tensor", (300,))


def filled(technique: Any, *shape: int, activation: str = "relu") -> np.ndarray:
    layer = nn.Linear(shape[1], shape[0]) if len(shape) == 2 else nn.Conv2d(shape[1], shape[0], shape[2:])  # type: ignore[arg-type]
    technique(layer, activation=activation, seed=0)
    assert not layer.bias.any()  # type: ignore[union-attr]
    return layer.weight.detach().double().numpy()


@pytest.mark.parametrize("shape", [(400, 300), (64, 32, 3, 3)])
@pytest.mark.parametrize(
    ("technique", "formula", "uniform"),
    [
        (XavierUniform(), lambda i, o: math.sqrt(2 / (i + o)), True),
        (XavierNormal(), lambda i, o: math.sqrt(2 / (i + o)), False),
        (XavierNormal(gain=3), lambda i, o: 3 * math.sqrt(2 / (i + o)), False),
        (HeNormal(), lambda i, o: math.sqrt(2 / i), False),
        (HeUniform(), lambda i, o: math.sqrt(2 / i), True),
        (LecunNormal(), lambda i, o: math.sqrt(1 / i), False),
    ],
)
def test_weights_have_the_spread_and_shape_of_their_formula(
    technique: Any, formula: Any, uniform: bool, shape: tuple[int, ...]
) -> None:
    weight = filled(technique, *shape)
    kernel = math.prod(shape[2:])
    std = formula(shape[1] * kernel, shape[0] * kernel)
    assert weight.std() == pytest.approx(std, rel=0.02)
    assert abs(weight.mean()) < 0.02 * std
    kurtosis = ((weight / weight.std()) ** 4).mean()
    assert kurtosis == pytest.approx(1.8 if uniform else 3.0, rel=0.05)
    if uniform:
        assert np.abs(weight).max() <= math.sqrt(3) * std * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (16, 8, 3, 3)])
def test_orthogonal_weights_keep_lengths(shape: tuple[int, ...]) -> None:
    weight = filled(Orthogonal(), *shape, activation="linear").reshape(shape[0], -1)
    small = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-5)


def test_formulas_equal_pytorch_s_own() -> None:
    layer = nn.Conv2d(8, 6, 3, groups=2)
    torch.manual_seed(0)
    nn.init.xavier_uniform_(layer.weight)
    theirs = float(layer.weight.detach().abs().max())
    assert fans(layer, layer.weight) == (4 * 9, 3 * 9)
    assert nn.init._calculate_fan_in_and_fan_out(layer.weight)[0] == 4 * 9
    assert theirs <= math.sqrt(6 / (4 * 9 + 6 * 9))
    assert math.sqrt(2) == nn.init.calculate_gain("relu") == GAINS["relu"]


@pytest.mark.parametrize(("name", "depth"), [("relu", 20), ("leaky_relu", 20), ("elu", 20), ("gelu", 6)])
def test_he_keeps_the_mean_square_near_one(name: str, depth: int) -> None:
    """In float64, without norms. Smooth activations keep it at a mean square of one only, so they drift with depth."""
    model = build("mlp", {"width": 400, "depth": depth, "norm": "none", "activation": name, "dropout": 0}, TENSOR, 2)
    HeNormal()(model, activation=name, seed=1)
    x = torch.randn(200, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = model.double().get_submodule("layers")(x).detach()
    assert 0.5 < float(out.square().mean()) < 2.0


@pytest.mark.parametrize("name", ["relu", "gelu", "gelu_tanh", "silu", "elu", "mish", "tanh", "sigmoid", "leaky_relu"])
def test_one_layer_under_he_gives_sums_whose_next_layer_has_unit_variance(name: str) -> None:
    layer = nn.Linear(2000, 2000)
    HeNormal()(layer, activation=name, seed=0)
    x = torch.randn(100, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sums = layer.double()(activation(name)(x)).detach()
    assert float(sums.square().mean()) == pytest.approx(1.0, rel=0.03)


def test_xavier_keeps_the_variance_of_linear_layers_and_shrinks_it_for_relu() -> None:
    stack = nn.Sequential(*(nn.Linear(400, 400) for _ in range(10)))
    XavierNormal()(stack, activation="tanh", seed=0)
    x = torch.randn(200, 400, generator=torch.Generator().manual_seed(0))
    assert float(stack(x).detach().var()) == pytest.approx(1.0, abs=0.3)
    rectified = nn.Sequential(*(part for layer in stack for part in (layer, nn.ReLU())))
    assert float(rectified(x).detach().square().mean()) < 3 * 2.0**-10


def test_two_models_that_share_a_layer_share_its_weights() -> None:
    one = build("mlp", {"depth": 2, "width": 16}, TENSOR, 3)
    two = build("mlp", {"depth": 3, "width": 16, "norm": "none"}, TENSOR, 3)
    for model in (one, two):
        torch.manual_seed(int(torch.randint(0, 99, ())))  # what was drawn before does not matter
        Auto()(model, activation="relu", seed=4)
    weights, others = dict(one.named_parameters()), dict(two.named_parameters())
    for name in ("layers.0.0.weight", "layers.1.0.weight", "head.weight"):
        assert torch.equal(weights[name], others[name])
    assert not torch.equal(weights["layers.1.0.weight"], others["layers.2.0.weight"])


@pytest.mark.parametrize("technique", [kind() for kind in ALL if kind is not Zeros], ids=lambda t: t.name)
def test_initialising_leaves_the_global_generator_alone(technique: Any) -> None:
    model = build("gru", {"width": 8}, InputSpec("text", (5,), vocabulary=9), 2)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    technique(model, activation="tanh", seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_zeros_are_refused_where_units_would_be_identical() -> None:
    with pytest.raises(ModelError, match="identical"):
        Zeros()(build("mlp", {}, TENSOR, 2), activation="relu", seed=0)
    with pytest.raises(ModelError, match=r"init\.name = 'auto'"):
        Zeros()(build("gru", {}, InputSpec("series", (4, 2)), 2), activation="tanh", seed=0)
    for spec in (TENSOR, InputSpec("table", numeric=2, cardinalities=(3, 4)), InputSpec("text", (4,), vocabulary=9)):
        model = build("linear", {}, spec, 5)
        Zeros()(model, activation="relu", seed=0)
        assert not any(p.any() for p in model.parameters())


def test_an_own_module_keeps_its_weights_under_auto_and_takes_a_named_rule() -> None:
    own = nn.Sequential(nn.Linear(50, 60), nn.BatchNorm1d(60), nn.Linear(60, 2))
    before = [p.clone() for p in own.parameters()]
    Auto()(own, activation="relu", seed=0)
    Keep()(own, activation="relu", seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, own.parameters(), strict=True))
    LecunNormal()(own, activation="relu", seed=0)
    assert float(own[0].weight.detach().std()) == pytest.approx(50**-0.5, rel=0.05)
    assert bool((own[1].weight == 1).all())


def test_tanh_and_sigmoid_start_by_xavier_under_auto() -> None:
    model = build("mlp", {"activation": "tanh", "width": 200, "depth": 2}, TENSOR, 2)
    Auto()(model, activation="tanh", seed=0)
    weight = model.get_parameter("layers.0.0.weight").detach()
    assert float(weight.abs().max()) <= math.sqrt(6 / 500)
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / 500), rel=0.02)


def test_padding_rows_of_embeddings_are_zero() -> None:
    model = build("transformer", {"width": 16, "depth": 1}, InputSpec("text", (4,), vocabulary=9), 2)
    Auto()(model, activation="gelu", seed=0)
    rows = model.get_parameter("first.weight").detach()
    assert not rows[0].any()
    assert rows[1:].any(1).all()


def test_a_tied_weight_is_filled_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Embedding(30, 20), nn.Linear(20, 30)
            self.two.weight = self.one.weight

    model = Tied()
    HeNormal()(model, activation="relu", seed=0)
    assert model.two.weight is model.one.weight
    assert float(model.one.weight.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_pytorch_s_own_default_is_neither_xavier_nor_lecun_but_the_number_on_the_page() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(400, 300)
    Keep()(layer, activation="relu", seed=0)
    weight = layer.weight.detach().double().numpy()
    assert weight.std() * math.sqrt(400) == pytest.approx(1 / math.sqrt(3), rel=0.01)
    assert np.abs(weight).max() <= 1 / math.sqrt(400)
    assert weight.var() == pytest.approx(filled(LecunNormal(), 300, 400).var() / 3, rel=0.03)
    assert weight.std() != pytest.approx(filled(XavierUniform(), 300, 400).std(), rel=0.2)
    stack = nn.Sequential(*(part for _ in range(5) for part in (nn.Linear(500, 500, bias=False), nn.ReLU())))
    x = torch.randn(500, 500, generator=torch.Generator().manual_seed(0))
    assert float(stack(x).detach().square().mean()) ** (1 / 5) == pytest.approx(1 / 6, rel=0.06)


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_"])
def test_the_spread_is_that_of_pytorch_s_function_of_the_name(name: str) -> None:
    ours = {
        "k": HeUniform if "uniform" in name else HeNormal,
        "x": XavierUniform if "uniform" in name else XavierNormal,
    }
    theirs = torch.empty(300, 400)
    torch.manual_seed(0)
    getattr(nn.init, name)(theirs, **({"nonlinearity": "relu"} if name.startswith("k") else {}))
    made = filled(ours[name[0]](), 300, 400)
    assert made.std() == pytest.approx(float(theirs.std()), rel=0.02)
    assert np.abs(made).max() == pytest.approx(float(theirs.abs().max()), rel=0.01 if "uniform" in name else 0.25)


def test_a_residual_net_starts_as_the_identity_in_every_block() -> None:
    image = InputSpec("image", (3, 8, 8))
    for norm in ("batch", "none"):
        model = build("resnet", {"depth": 8, "width": 8, "norm": norm}, image, 3)
        HeNormal()(model, activation="relu", seed=0)
        for block in model.get_submodule("blocks"):  # type: ignore[attr-defined]
            assert not block.branch(torch.randn(2, block.branch[0].in_channels, 4, 4)).detach().any()
