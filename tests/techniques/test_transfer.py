from __future__ import annotations

import pytest
from torch import nn

from goodfit.techniques.optimizer import Adamw, parameter_groups
from goodfit.techniques.transfer import ALL, Full, Head, LastK, NoTransfer


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4)) for _ in range(3))
        self.head = nn.Linear(4, 2)


def learning(model):
    return {n.rsplit(".", 1)[0] for n, p in model.named_parameters() if p.requires_grad}


def test_head_trains_the_head_alone():
    model = Net()
    frozen = Head()(model)
    assert learning(model) == {"head"}
    assert len(frozen) == len(list(model.parameters())) - 2


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (0, {"head"}),
        (1, {"head", "blocks.2.0", "blocks.2.1"}),
        (3, {"head", *(f"blocks.{i}.{j}" for i in range(3) for j in range(2))}),
        (99, {"head", "stem", *(f"blocks.{i}.{j}" for i in range(3) for j in range(2))}),
    ],
)
def test_last_k_trains_the_head_and_k_layers_below(k, expected):
    model = Net()
    LastK(k=k)(model)
    assert learning(model) == expected


def test_frozen_parameters_are_in_no_group():
    model = Net()
    Head()(model)
    groups = parameter_groups(model, Adamw(), batch_size=8)
    assert sorted(n for g in groups for n in g["param_names"]) == ["head.bias", "head.weight"]


def test_full_gives_the_head_the_rate_and_the_rest_a_share_that_falls_with_depth():
    model, transfer = Net(), Full(lr_factor=0.1, layer_decay=0.5)
    assert transfer(model) == []
    groups = parameter_groups(model, Adamw(lr=1.0), batch_size=8, **transfer.rates())
    rates = {n: g["base_lr"] for g in groups for n in g["param_names"]}
    assert rates["head.weight"] == 1.0
    assert rates["blocks.2.1.weight"] == pytest.approx(0.05)
    assert rates["stem.weight"] == pytest.approx(0.1 * 0.5**4)


def test_switched_off_it_changes_nothing():
    model = Net()
    assert NoTransfer()(model) == []
    assert NoTransfer().rates() == {}
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("cls", ALL, ids=lambda c: c.name)
def test_something_always_learns(cls):
    model = Net()
    cls()(model)
    assert learning(model)


@pytest.mark.parametrize("make", [lambda: LastK(k=-1), lambda: Full(lr_factor=0.0), lambda: Full(layer_decay=1.1)])
def test_settings_out_of_range_are_refused_with_the_range(make):
    with pytest.raises(ValueError, match=r"greater than|less than"):
        make()
