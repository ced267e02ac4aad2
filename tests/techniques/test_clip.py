from __future__ import annotations

import math

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


def counted(clip, gradients):
    """The counts after steps with these gradients of one weight of three ones."""
    state = clip.fresh()
    for values in gradients:
        weight = nn.Parameter(torch.ones(3))
        weight.grad = torch.tensor(values)
        clip([weight], state=state)
    return clip.counts(state)


SMALL, LARGE, SPIKE = [0.1, 0.1, 0.1], [3.0, 4.0, 0.0], [0.0, 0.0, 1.5]


@pytest.mark.parametrize(
    ("clip", "clipped"),
    [
        (Clip(norm=1.0), 3),
        (Clip(norm=2.0), 2),
        (Clip(value=1.0), 3),
        (Clip(value=2.0), 2),
        (Clip(value=2.0, norm=1.0), 3),
        (Clip(adaptive=0.5), 3),
    ],
)
def test_steps_in_which_anything_was_bounded_are_counted(clip, clipped):
    counts = counted(clip, [SMALL, LARGE, SPIKE, LARGE, SMALL])
    assert (counts["steps"], counts["clipped"], counts["share"]) == (5, clipped, clipped / 5)


def test_steps_that_overflowed_are_not_counted():
    assert counted(Clip(norm=1.0), [SMALL, [math.inf, 0.0, 0.0], [math.nan, 0.0, 0.0], LARGE])["steps"] == 2


def test_without_a_bound_there_is_nothing_to_count():
    assert counted(Clip(), [LARGE]) == {}
    assert Clip().warning({}) == ""


@pytest.mark.parametrize(
    ("clip", "gradients", "said"),
    [
        (Clip(norm=1.0), [LARGE] * 6 + [SMALL] * 4, "clip.norm = 1 bounded the gradient in 60 % of the steps"),
        (Clip(norm=1.0), [LARGE] * 5 + [SMALL] * 5, ""),
        (Clip(value=1.0), [LARGE] * 6 + [SMALL] * 4, "clip.value = 1 bounded"),
        (Clip(adaptive=0.5), [LARGE] * 6 + [SMALL] * 4, "in 60 % of the units"),
    ],
)
def test_a_bound_that_acts_on_most_steps_is_warned_of(clip, gradients, said):
    warning = clip.warning(counted(clip, gradients))
    assert said in warning
    assert bool(warning) == bool(said)


def test_a_percentile_clips_as_many_steps_as_it_says():
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(600, 3, generator=generator).tolist()
    counts = counted(Clip(auto=90), draws)
    assert counts["share"] == pytest.approx(0.1, abs=0.03)
    assert Clip(auto=90).warning(counts) == ""


def test_agc_tells_the_share_of_units_that_it_bounded():
    made = model()
    for p in made.parameters():
        if p.grad is not None:
            p.grad.zero_()
    made[3].weight.grad[:2] = 1e3
    units = 4 + 4 + 1 + 1 + 5  # filters, their biases as one vector each, norm weight and bias, rows of the head
    clip = Clip(adaptive=0.1)
    state = clip.fresh()
    clip(list(made.parameters()), state=state)
    assert clip.counts(state)["units"] == pytest.approx(2 / (units - 3))
