from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from goodfit.techniques.groups import grouped_parameters, half_life, head, layers, scaled_lr
from goodfit.techniques.optimizer import Adamw, parameter_groups


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.embed = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)) for _ in range(3))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


def rates(groups):
    return {n: g["base_lr"] for g in groups for n in g["param_names"]}


def decays(groups):
    return {n: g["weight_decay"] for g in groups for n in g["param_names"]}


def test_every_trainable_parameter_is_in_exactly_one_group():
    model = Vit()
    model.embed.weight.requires_grad_(False)
    groups = grouped_parameters(model, lr=0.1, weight_decay=0.1, layer_decay=0.5, head_lr=2.0)
    names = [n for g in groups for n in g["param_names"]]
    assert sorted(names) == sorted(n for n, p in model.named_parameters() if p.requires_grad)
    parameters = dict(model.named_parameters())
    assert all(parameters[n] is p for g in groups for n, p in zip(g["param_names"], g["params"], strict=True))


def test_norms_biases_and_vectors_have_no_decay_and_embeddings_on_request():
    model = Vit()
    found = decays(grouped_parameters(model, lr=0.1, weight_decay=0.1))
    assert {n for n, d in found.items() if d} == {
        "token",
        "embed.weight",
        "head.weight",
        *(f"blocks.{i}.1.weight" for i in range(3)),
    }
    assert not decays(grouped_parameters(model, lr=0.1, weight_decay=0.1, decay_embeddings=False))["embed.weight"]
    everything = decays(grouped_parameters(model, lr=0.1, weight_decay=0.1, decay_norms_and_biases=True))
    assert set(everything.values()) == {0.1}


def test_a_norm_over_an_image_counts_as_a_norm_though_it_is_no_vector():
    model = nn.Sequential(nn.LayerNorm((2, 3, 3)), nn.Flatten(), nn.Linear(18, 2))
    assert decays(grouped_parameters(model, lr=0.1, weight_decay=0.1))["0.weight"] == 0


def test_a_model_can_name_what_must_not_decay_and_how_rates_differ():
    model = Vit()
    model.no_weight_decay = lambda: {"token"}
    model.lr_scale = lambda: {"blocks.*.0.bias": 64.0, "*.bias": 2.0}
    groups = grouped_parameters(model, lr=0.1, weight_decay=0.1)
    assert decays(groups)["token"] == 0
    found = rates(groups)
    assert found["blocks.1.0.bias"] == pytest.approx(6.4)
    assert found["blocks.1.1.bias"] == pytest.approx(0.2)
    assert found["head.weight"] == pytest.approx(0.1)


def test_layer_decay_counts_blocks_from_the_head_and_joins_stem_and_final_norm():
    model = Vit()
    assert [len(names) for names in layers(model)] == [2, 4, 4, 4, 4]
    found = rates(grouped_parameters(model, lr=1.0, layer_decay=0.5))
    assert [
        found[n] for n in ("head.weight", "norm.weight", "blocks.2.1.weight", "blocks.0.0.bias", "embed.weight")
    ] == [
        1.0,
        1.0,
        0.5,
        0.125,
        0.0625,
    ]


def test_layer_decay_equals_timm_for_a_vision_transformer():
    timm = pytest.importorskip("timm")
    from timm.optim import param_groups_layer_decay

    model = timm.create_model("vit_tiny_patch16_224", depth=3, num_classes=5, img_size=32)
    theirs = {
        id(p): g["lr_scale"]
        for g in param_groups_layer_decay(model, weight_decay=0.1, layer_decay=0.7, no_weight_decay_list=[])
        for p in g["params"]
    }
    ours = rates(grouped_parameters(model, lr=1.0, weight_decay=0.1, layer_decay=0.7))
    for name, parameter in model.named_parameters():
        if name.startswith("norm."):  # the final norm goes with the head here, as in BEiT; with the last block in timm
            continue
        assert ours[name] == pytest.approx(theirs[id(parameter)]), name


def test_models_without_numbers_decay_by_their_children():
    model = nn.Module()
    model.stem, model.body, model.head = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    found = rates(grouped_parameters(model, lr=1.0, layer_decay=0.5))
    assert (found["stem.weight"], found["body.weight"], found["head.weight"]) == (0.25, 0.5, 1.0)


def test_the_head_is_told_from_the_attribute_timm_or_the_last_module():
    assert head(Vit()) == ["head.weight", "head.bias"]
    assert head(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.Identity())) == ["2.weight", "2.bias"]
    assert head(nn.ReLU()) == []
    timm = pytest.importorskip("timm")
    assert head(timm.create_model("resnet10t", num_classes=3)) == ["fc.weight", "fc.bias"]


def test_head_and_body_rates_multiply():
    found = rates(grouped_parameters(Vit(), lr=1.0, head_lr=3.0, body_lr=0.1))
    assert found["head.bias"] == 3.0
    assert found["norm.bias"] == pytest.approx(0.1)


def test_few_groups_are_made():
    assert len(grouped_parameters(Vit(), lr=1.0, weight_decay=0.1)) == 2
    assert len(grouped_parameters(Vit(), lr=1.0)) == 1


@given(st.floats(1e-6, 1.0), st.integers(1, 4096), st.integers(1, 4096))
def test_scaling_rules_give_what_they_say(lr, batch, base):
    assert scaled_lr(lr, batch, base, "none")[0] == lr
    assert scaled_lr(lr, batch, base, "linear")[0] == pytest.approx(lr * batch / base)
    assert scaled_lr(lr, batch, base, "sqrt")[0] == pytest.approx(lr * math.sqrt(batch / base))


def test_the_example_of_the_texts_is_the_square_root_rule():
    made, text = scaled_lr(0.001, 128, 32, "sqrt")
    assert made == pytest.approx(0.002)
    assert text == "lr 0.001 for batch 32, times sqrt(128/32) = 0.002"


def test_the_optimizer_scales_its_rate_by_the_batch_size():
    optimizer = Adamw(lr=0.1, lr_scaling="linear", base_batch=64)
    assert set(rates(parameter_groups(Vit(), optimizer, batch_size=256)).values()) == {0.4}


def test_half_life_is_the_number_of_steps_that_halve_a_weight():
    steps = half_life(0.1, 0.01)
    assert (1 - 0.001) ** steps == pytest.approx(0.5)
    assert half_life(0.1, 0.0) == math.inf
