from __future__ import annotations

import pytest
import torch
from torch import nn

from goodfit.techniques.numerics import Numerics, autocast, candidates, determinism, refusals

CPU = torch.device("cpu")


def test_fp16_on_a_cpu_is_refused_with_what_to_do():
    assert refusals("fp16", CPU) == ["numerics.precision = 'fp16' does not train on a CPU; use 'bf16' or 'fp32'"]
    assert refusals("bf16", CPU) == []
    assert refusals("fp32", CPU) == []


def test_weights_and_gradients_stay_in_float32_under_bf16():
    model = nn.Linear(4, 3)
    with autocast("bf16", CPU):
        out = model(torch.randn(2, 4))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert model.weight.dtype == model.weight.grad.dtype == torch.float32


def test_fp32_is_no_autocast_and_auto_must_be_settled():
    with autocast("fp32", CPU):
        assert nn.Linear(4, 3)(torch.randn(2, 4)).dtype == torch.float32
    with pytest.raises(ValueError, match="settled"):
        autocast("auto", CPU)


def test_candidates_start_with_float32_and_are_never_refused():
    found = candidates(CPU)
    assert found[0] == "fp32"
    assert not any(refusals(one, CPU) for one in found)
    assert "fp16" not in found


@pytest.mark.parametrize("before", [False, True])
def test_determinism_puts_the_settings_back(before):
    torch.use_deterministic_algorithms(before)
    try:
        with determinism(True):
            assert torch.are_deterministic_algorithms_enabled()
        assert torch.are_deterministic_algorithms_enabled() is before
        with determinism(False):
            assert torch.are_deterministic_algorithms_enabled() is before
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("settings", [{"precision": "fp8"}, {"threads": 0}, {"memory_format": "nhwc"}])
def test_settings_out_of_range_are_refused_with_the_range(settings):
    with pytest.raises(ValueError, match="Input should be"):
        Numerics(**settings)
