"""What a plan's numbers come to, against walking the steps."""

from __future__ import annotations

import math

import pytest

from goodfit.techniques.consequences import decay, factors, rate, rates
from goodfit.techniques.optimizer import Adam, Adamw, Lamb, Sgd
from goodfit.techniques.schedule import Cosine, OneCycle, curve


def test_half_life_and_what_is_left_are_those_of_a_weight_that_only_decays() -> None:
    text = decay(Adamw(weight_decay=0.1), 0.01, curve(Cosine(), 500, 10))
    weight, steps = 1.0, 0
    while weight > 0.5:
        weight, steps = weight * (1 - 0.01 * 0.1), steps + 1
    left = math.prod(1 - 0.01 * 0.1 * factor for factor in curve(Cosine(), 500, 10))
    assert f"a half-life of {steps:,} steps" in text
    assert f"leaves {left:.2g} of a weight" in text
    assert text.startswith("lr x weight_decay = 0.001 a step")


def test_momentum_multiplies_the_decay_of_sgd() -> None:
    text = decay(Sgd(weight_decay=1e-3, momentum=0.9), 0.1, [1.0])
    assert "= 0.0001 a step" in text
    assert "(0.001 through momentum 0.9), a half-life of 693 steps" in text
    weight, velocity = 1.0, 0.0
    for _ in range(2000):
        velocity = 0.9 * velocity + 1e-3 * weight
        before, weight = weight, weight - 0.1 * velocity
    assert 1 - weight / before == pytest.approx(0.001, rel=0.02)


def test_rules_without_a_half_life_say_so() -> None:
    assert "no fixed half-life" in decay(Adam(weight_decay=0.1), 0.01, [1.0])
    assert "no half-life" in decay(Lamb(), 0.01, [1.0])
    assert decay(Adamw(weight_decay=0.0), 0.01, [1.0]) == ""
    assert decay(Adamw(), 0.0, [1.0]) == ""


def test_a_strided_look_at_a_long_run_gives_what_every_step_gives() -> None:
    every = decay(Adamw(weight_decay=0.1), 0.001, curve(Cosine(), 20_000, 10))
    some = factors(Cosine(), 20_000, 10, points=500)
    assert len(some) == 500
    assert decay(Adamw(weight_decay=0.1), 0.001, list(some.values()), 40.0) == every


def test_a_scaled_rate_comes_with_its_reason_and_an_unscaled_one_without() -> None:
    assert rate(Sgd(lr=0.1, lr_scaling="linear", base_batch=128), 512)[0] == pytest.approx(0.4)
    assert rate(Sgd(lr=0.1, lr_scaling="linear", base_batch=128), 512)[1].endswith("times 512/128 = 0.4")
    assert rate(Sgd(lr=0.1), 512) == (0.1, "")


def test_rates_follow_the_phases_and_momenta_are_there_where_they_are_cycled() -> None:
    lrs, momenta = rates(Cosine(floor=1.0), [(0, 0.1), (6, 0.01)], 10, 1)
    assert lrs == [0.1] * 6 + [0.01] * 4
    assert momenta == []
    assert len(rates(OneCycle(), [(0, 0.1)], 10, 1)[1]) == 10
