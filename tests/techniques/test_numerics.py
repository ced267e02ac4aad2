from __future__ import annotations

import pytest
import torch
from torch import nn

from goodfit.techniques.numerics import Numerics, autocast, candidates, refusals, scaled_step

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


def test_a_gpu_without_bf16_refuses_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    assert "use 'fp16' or 'fp32'" in refusals("bf16", torch.device("cuda"))[0]
    assert refusals("fp16", torch.device("cuda")) == []


def test_a_scaled_step_tells_an_overflow_from_an_update():
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    seen = []
    for gradient in (1.0, float("inf"), float("nan"), 1.0, 1.0):
        weight.grad = torch.full((2,), gradient)
        scaler.scale(torch.ones(()))
        scaler.unscale_(optimizer)
        seen.append((scaled_step(scaler, optimizer), scaler.get_scale()))
    assert seen == [(True, 8.0), (False, 4.0), (False, 2.0), (True, 2.0), (True, 4.0)]


@pytest.mark.parametrize("settings", [{"precision": "fp8"}, {"threads": 0}, {"memory_format": "nhwc"}])
def test_settings_out_of_range_are_refused_with_the_range(settings):
    with pytest.raises(ValueError, match="Input should be"):
        Numerics(**settings)
