"""The tabular ensemble: bins, recognised values and members against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from goodfit.models import build
from goodfit.models.numbers import Numbers, quantile
from goodfit.models.tabular import MemberLinear, SharedLinear, TabularModel
from goodfit.techniques.init import Auto
from goodfit.types import InputSpec

SPEC = InputSpec("table", numeric=3, cardinalities=(2, 50))


def numeric(rows: int = 2000) -> torch.Tensor:
    made = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0))
    made[: rows // 2, 1] = -0.25  # half of the column is one value
    made[:, 2] = 7.0  # a column that never changes
    return made


def fitted(rows: torch.Tensor, **settings: object) -> Numbers:
    model = build("tabular", {"bins": 8, "embedding": 4, **settings}, SPEC, 2)
    assert isinstance(model, TabularModel)
    Auto()(model, activation="relu", seed=0)
    model.fit_to({"numeric": rows})
    assert model.numbers is not None
    return model.numbers


def test_bins_are_the_column_s_quantiles() -> None:
    rows = numeric()
    layer = fitted(rows)
    expected = np.quantile(rows[:, 0].double().numpy(), np.linspace(0, 1, 9))
    np.testing.assert_allclose(layer.edges[0].numpy(), expected, rtol=1e-5)


def test_the_embedding_of_a_number_is_its_formula() -> None:
    rows = numeric()
    layer = fitted(rows)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    sample = rows[[0, 1500, 1999]]
    made = layer(sample).detach().numpy()
    w = {k: v.detach().numpy() for k, v in layer.named_parameters()}
    for row in range(3):
        for column in range(3):
            x = sample[row, column].item()
            edges = layer.edges[column].numpy()
            edges = edges[np.isfinite(edges)]
            place = np.clip((x - edges[:-1]) / (edges[1:] - edges[:-1]), 0, 1)
            expected = x * w["slope"][column] + w["offset"][column] + place @ w["pieces"][column, : len(place)]
            expected = expected + np.cos(x * w["frequency"][column] + w["phase"][column]) @ w["waves"][column]
            often = layer.recurring[column].tolist()
            if x in often:
                table = w["values.weight"].reshape(3, -1, 4)
                expected = expected + table[column, often.index(x) + 1]
            np.testing.assert_allclose(made[row, column], expected, rtol=1e-4, atol=1e-5)


def test_a_column_that_never_changes_and_infinite_bins_give_finite_numbers() -> None:
    layer = fitted(numeric())
    assert bool(layer(torch.tensor([[0.0, 1e6, 7.0], [1e6, -1e6, -7.0]])).isfinite().all())


def test_values_are_recognised_only_where_one_of_them_is_a_spike() -> None:
    rows = numeric()
    rows[:, 0] = rows[:, 0].round(decimals=1)  # many repetitions, no spike
    layer = fitted(rows)
    assert bool(layer.recurring[0].isinf().all())
    assert layer.recurring[1][layer.recurring[1].isfinite()].tolist() == [-0.25]
    many = torch.cat([torch.zeros(100), torch.arange(1, 400).repeat_interleave(2).float()])
    layer = fitted(torch.stack([many, many, many], 1), values=50, spike=0.1)
    kept = layer.recurring[0]
    assert bool((kept[1:] > kept[:-1]).all())
    assert float(kept[0]) == 0.0


def test_quantiles_equal_numpy_s_in_float64() -> None:
    values = torch.randn(1001).exp()
    shares = torch.linspace(0, 1, 37, dtype=torch.float64)
    np.testing.assert_allclose(quantile(values, shares), np.quantile(values.double(), shares), rtol=1e-12)


def test_without_waves_or_values_the_parts_are_absent() -> None:
    layer = fitted(numeric(), waves=0, values=0)
    assert layer.frequency is None
    assert layer.values is None
    assert layer(numeric(5)).shape == (5, 3, 4)


@pytest.mark.parametrize("blocks", [None, [2, 3]])
def test_members_share_a_weight_between_their_own_scales(blocks: list[int] | None) -> None:
    layer = SharedLinear(5, 4, 3, blocks=blocks)
    layer.initialise(lambda name: torch.Generator().manual_seed(len(name)))
    if blocks:
        first = layer.r.detach()
        assert bool((first[:, 0] == first[:, 1]).all())
        assert bool((first[:, 2] == first[:, 4]).all())
        assert not bool((first[:, 1] == first[:, 2]).any())
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    x = torch.randn(3, 6, 5)
    w = {k: v.detach().numpy() for k, v in layer.named_parameters()}
    for member in range(3):
        expected = (x[member].numpy() * w["r"][member]) @ w["weight"] * w["s"][member] + w["bias"][member]
        np.testing.assert_allclose(layer(x)[member].detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_each_member_has_a_head_of_its_own() -> None:
    head = MemberLinear(4, 2, 3)
    head.initialise(lambda name: torch.Generator().manual_seed(0))
    x = torch.randn(3, 5, 4)
    expected = np.einsum("mbi,mio->mbo", x.numpy(), head.weight.detach().numpy())
    np.testing.assert_allclose(head(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_members_differ_from_the_start() -> None:
    model = build("tabular", {"members": 4}, SPEC, 2).eval()
    Auto()(model, activation="relu", seed=0)
    rows = {"numeric": torch.randn(5, 3), "category": torch.tensor([[0, 3]] * 5)}
    logits = model(rows)
    assert logits.shape == (5, 4, 2)
    assert float(logits.detach().std(1).min()) > 1e-4


def test_categories_with_few_codes_start_as_one_hot_rows() -> None:
    model = build("tabular", {}, SPEC, 2)
    Auto()(model, activation="relu", seed=0)
    assert torch.equal(model.get_parameter("categories.0.weight"), torch.eye(2))
    assert model.get_parameter("categories.1.weight").shape == (50, 16)
