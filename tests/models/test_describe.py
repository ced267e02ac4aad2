"""The table of layers against hand-computed numbers and PyTorch's own flop counter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from goodfit.models import build
from goodfit.models.describe import describe, render
from goodfit.types import Inputs, InputSpec

IMAGE, TABLE = InputSpec("image", (3, 32, 32)), InputSpec("table", numeric=4, cardinalities=(3, 40))
TEXT, LANGUAGE = InputSpec("text", (20,), vocabulary=30), InputSpec("language", (20,), vocabulary=30)


def test_rows_hold_the_numbers_one_computes_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5))
    made = describe(model, torch.randn(2, 3, 4, 4))
    conv, relu, flatten, linear = made.rows
    assert (conv.name, conv.kind, conv.output) == ("0", "Conv2d", (2, 8, 4, 4))
    assert (conv.parameters, conv.multiply_adds) == (8 * 27 + 8, 2 * 16 * 8 * 27)
    assert (relu.parameters, relu.multiply_adds, flatten.output) == (0, 0, (2, 128))
    assert (linear.parameters, linear.multiply_adds) == (128 * 5 + 5, 2 * 128 * 5)
    assert made.parameters == made.trainable == 224 + 645
    # Saved for the backward pass: input and ReLU's output as the convolution, ReLU and linear layer need them.
    assert made.saved == 4 * (2 * 3 * 16 + 2 * 8 * 16)
    assert made.memory == 16 * made.parameters + made.saved


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Conv2d(4, 6, 3, stride=2, groups=2), (1, 4, 9, 9), 16 * 6 * 2 * 9),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 5), 25 * 4 * 6 * 4),
        (nn.Conv1d(2, 3, 5), (2, 2, 10), 2 * 6 * 3 * 2 * 5),
        (nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True), (2, 7, 3), 14 * 2 * 4 * 5 * (3 + 5 + 10 + 5)),
        (nn.GRU(3, 5, batch_first=True), (2, 7, 3), 14 * 3 * 5 * 8),
        (nn.RNN(3, 5, batch_first=True), (2, 7, 3), 14 * 5 * 8),
    ],
)
def test_one_layer_costs_what_its_formula_says(module: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    assert describe(module, torch.randn(shape)).multiply_adds == expected


def test_attention_counts_both_products() -> None:
    model = build("transformer", {"width": 16, "depth": 1, "heads": 2}, LANGUAGE, 30)
    rows = {row.name: row for row in describe(model, torch.ones(3, 20, dtype=torch.int64)).rows}
    assert rows["stack.layers.0.attention"].multiply_adds == 2 * 3 * 20 * 20 * 16
    assert rows["stack.layers.0.attention.project"].multiply_adds == 3 * 20 * 16 * 48
    assert rows[""].multiply_adds == 3 * 20 * 16 * 30


def test_products_written_by_hand_in_a_forward_are_counted() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 6))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x @ self.w) @ self.w.T

    made = describe(Own(), torch.randn(5, 4))
    assert made.multiply_adds == 5 * 4 * 6 * 2
    assert [row.parameters for row in made.rows] == [24]


CASES: list[tuple[str, dict[str, Any], InputSpec, Inputs]] = [
    ("resnet", {"depth": 8, "width": 8}, IMAGE, torch.randn(2, 3, 32, 32)),
    ("resnet", {"depth": 50, "width": 8}, IMAGE, torch.randn(2, 3, 32, 32)),
    ("fastnet", {"width": 16}, IMAGE, torch.randn(2, 3, 32, 32)),
    ("cnn", {"width": 8}, IMAGE, torch.randn(2, 3, 32, 32)),
    ("transformer", {"width": 32}, TEXT, torch.randint(1, 30, (2, 20))),
    ("transformer", {"width": 32, "feedforward": "swiglu"}, LANGUAGE, torch.randint(1, 30, (2, 20))),
    ("mlp", {"width": 32}, TABLE, {"numeric": torch.randn(2, 4), "category": torch.ones(2, 2, dtype=torch.int64)}),
    ("tabular", {"width": 32}, TABLE, {"numeric": torch.randn(2, 4), "category": torch.ones(2, 2, dtype=torch.int64)}),
    ("bag", {"buckets": 99}, TEXT, torch.randint(1, 30, (2, 20))),
]


@pytest.mark.parametrize(("name", "settings", "spec", "inputs"), CASES)
def test_totals_equal_pytorch_s_flop_counter(
    name: str, settings: dict[str, Any], spec: InputSpec, inputs: Inputs
) -> None:
    model = build(name, settings, spec, 30 if spec.kind == "language" else 4).eval()
    with FlopCounterMode(display=False) as counter:
        model(inputs)
    assert describe(model, inputs).multiply_adds * 2 == counter.get_total_flops()


def test_the_model_and_the_generator_are_left_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    model[2].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    describe(model, torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model] == [True, True, False]
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_model_that_fails_raises_its_own_error_and_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4)).train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        describe(model, torch.randn(2, 3))
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(ValueError, match="at least one sample"):
        describe(model, torch.randn(0, 4))


def test_a_shared_weight_is_counted_once() -> None:
    shared = nn.Linear(3, 3)
    made = describe(nn.Sequential(shared, nn.ReLU(), shared), torch.randn(2, 3))
    assert made.parameters == 12
    assert sum(row.parameters for row in made.rows) == 12
    assert made.multiply_adds == 2 * 2 * 9


def test_frozen_parameters_have_no_gradient_and_no_moments_in_the_memory() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 2))
    model[0].requires_grad_(False)
    made = describe(model, torch.randn(1, 10))
    assert (made.parameters, made.trainable) == (132, 22)
    assert made.memory - made.saved == 4 * 132 + 12 * 22


def test_the_text_is_a_table_with_totals() -> None:
    text = str(describe(nn.Sequential(nn.Linear(1000, 10)), torch.randn(2, 1000)))
    assert "0      Linear  2 x 10      10,010         20,000" in text
    assert "multiply-adds    10,000 a sample" in text
    assert "MiB at batch 2" in text


def test_the_memory_of_a_batch_of_another_size_is_told_before_training() -> None:
    """Weights, gradients and moments once, activations in proportion; against the description of that very batch."""
    model = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 3))
    told = render(describe(model, torch.randn(2, 20)), batch=64)
    (line,) = [one for one in told.split("\n") if one.startswith("training memory")]
    (expected,) = [
        one for one in render(describe(model, torch.randn(64, 20))).split("\n") if one.startswith("training memory")
    ]
    assert line == expected
    assert "at batch 64" in line
