from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from goodfit.techniques.clip import Clip, adaptive_clip_


def model(scale=1.0, seed=0):
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))
    for p in made.parameters():
        p.grad = torch.randn_like(p) * scale
    made[3].bias.grad = None  # a parameter that took no part
    return made


def grads(made):
    return [p.grad for p in made.parameters() if p.grad is not None]


@pytest.mark.parametrize("bound", [0.1, 1.0, 1e6])
def test_norm_equals_torch_and_returns_the_norm_before(bound):
    ours, theirs = model(), model()
    total = Clip(norm=bound)(list(ours.parameters()))
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), bound)
    torch.testing.assert_close(total, expected)
    for a, b in zip(grads(ours), grads(theirs), strict=True):
        torch.testing.assert_close(a, b)


def test_value_equals_torch():
    ours, theirs = model(), model()
    Clip(value=0.3)(list(ours.parameters()))
    nn.utils.clip_grad_value_(theirs.parameters(), 0.3)
    assert all(torch.equal(a, b) for a, b in zip(grads(ours), grads(theirs), strict=True))


@pytest.mark.parametrize("ratio", [0.01, 2.0, 100.0])
def test_adaptive_equals_timm(ratio):
    timm = pytest.importorskip("timm.utils.agc")
    ours, theirs = model(), model()
    adaptive_clip_(list(ours.parameters()), ratio)
    timm.adaptive_clip_grad([p for p in theirs.parameters() if p.grad is not None], clip_factor=ratio)
    for a, b in zip(grads(ours), grads(theirs), strict=True):
        torch.testing.assert_close(a, b)


def test_value_acts_before_the_norm_so_that_the_norm_holds():
    made = model(scale=10)
    Clip(value=2.0, norm=1.0)(list(made.parameters()))
    assert float(nn.utils.get_total_norm(grads(made))) == pytest.approx(1.0, rel=1e-4)


def test_auto_bounds_by_the_percentile_of_the_norms_seen():
    clip, state, seen, generator = Clip(auto=90), Clip(auto=90).fresh(), [], torch.Generator().manual_seed(0)
    clipped = 0
    for step in range(600):
        p = nn.Parameter(torch.zeros(4))
        p.grad = torch.randn(4, generator=generator)
        norm = float(p.grad.norm())
        seen = [*seen, norm][-512:]
        bound = np.quantile(np.array(seen, dtype=np.float32), 0.9) if step >= 19 else np.inf
        total = clip([p], state=state)
        assert float(total) == pytest.approx(norm)
        assert float(p.grad.norm()) == pytest.approx(min(norm, bound), rel=1e-4)
        clipped += norm > bound
    assert (int(state["seen"]), int(state["clipped"])) == (600, clipped)


def test_auto_bounds_nothing_before_the_20th_step():
    clip = Clip(auto=50)
    state, made = clip.fresh(), []
    for step in range(20):
        p = nn.Parameter(torch.zeros(1))
        p.grad = torch.tensor([float(step + 1)])
        clip([p], state=state)
        made.append(float(p.grad))
    assert made[:19] == [float(n) for n in range(1, 20)]
    assert made[19] == pytest.approx(10.5)


def test_auto_leaves_norms_that_are_not_finite_out_of_its_memory_and_its_state_resumes():
    clip, norms = Clip(auto=50), [1.0, 2.0, float("inf"), float("nan"), *range(3, 40)]
    state = clip.fresh()
    bounds = []
    for i, norm in enumerate(norms):
        if i == 25:
            state = {k: v.clone() for k, v in state.items()}
        p = nn.Parameter(torch.zeros(1))
        p.grad = torch.tensor([float(norm)])
        clip([p], state=state)
        bounds.append(float(p.grad))
    finite = [n for n in norms if np.isfinite(n)]
    assert bounds[-1] == pytest.approx(float(np.median(finite)), rel=1e-4)


def test_without_settings_or_gradients_nothing_happens():
    made = model()
    before = [g.clone() for g in grads(made)]
    assert Clip()(list(made.parameters())) is None
    assert all(torch.equal(a, b) for a, b in zip(grads(made), before, strict=True))
    assert Clip(norm=1.0)([nn.Parameter(torch.ones(2))]) is None


def test_auto_without_a_state_says_what_to_do():
    with pytest.raises(ValueError, match=r"clip\.fresh"):
        Clip(auto=90)(list(model().parameters()))


@pytest.mark.parametrize(
    "settings", [{"norm": 0.0}, {"value": -1.0}, {"adaptive": 0.0}, {"auto": 0.0}, {"auto": 101.0}]
)
def test_settings_out_of_range_are_refused_with_the_range(settings):
    with pytest.raises(ValueError, match=r"greater than 0|less than or equal to 100"):
        Clip(**settings)
