from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_schedules

from goodfit.techniques.optimizer import set_lr, set_momentum
from goodfit.techniques.schedule import (
    ALL,
    Constant,
    Cosine,
    CosineLog,
    Exponential,
    FlatCosine,
    Linear,
    MultiStep,
    OneCycle,
    Plateau,
    Polynomial,
    Step,
    Triangle,
    Wsd,
    curve,
    exponential_mean,
)
from goodfit.types import Moment
from tests.reference import schedules as reference

WITH_FLOOR = (Cosine, Linear, Polynomial, Wsd, FlatCosine)
WITHOUT_STEPS = (Constant, Cosine, Linear, Polynomial)


def torch_curve(make, steps, *, every=1, lr=1.0):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    schedule, rates, momenta = make(optimizer), [], []
    for t in range(steps):
        rates.append(optimizer.param_groups[0]["lr"] / lr)
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if (t + 1) % every == 0 and t + 1 < steps:
            schedule.step()
    return rates, momenta


@given(total=st.integers(2, 300), warmup=st.integers(0, 100), floor=st.floats(0, 1), power=st.floats(0.1, 5))
def test_decays_with_warm_up_equal_the_formulas(total, warmup, floor, power):
    assume(warmup < total - 1)
    w = f"{warmup} steps"
    pairs = [
        (Cosine(floor=floor, warmup=w), lambda t: reference.cosine(t, total, warmup=warmup, floor=floor)),
        (Linear(floor=floor, warmup=w), lambda t: reference.polynomial(t, total, warmup=warmup, floor=floor, power=1)),
        (
            Polynomial(floor=floor, warmup=w, power=power),
            lambda t: reference.polynomial(t, total, warmup=warmup, floor=floor, power=power),
        ),
    ]
    for schedule, expected in pairs:
        assert curve(schedule, total, 10) == pytest.approx([expected(t) for t in range(total)], abs=1e-12)


@given(total=st.integers(3, 300), floor=st.floats(0, 1), which=st.sampled_from(WITH_FLOOR), warmup=st.integers(0, 30))
def test_the_floor_is_reached_exactly_at_the_last_step(total, floor, which, warmup):
    assume(warmup < total - 1)
    last = curve(which(floor=floor, warmup=f"{warmup} steps"), total, 7)[-1]
    assert last == pytest.approx(floor, abs=1e-15)


@given(total=st.integers(1, 200), warmup=st.integers(1, 200), which=st.sampled_from(ALL))
def test_rates_are_never_negative_and_warm_up_starts_above_zero(total, warmup, which):
    made = which(warmup=f"{warmup} steps") if "warmup" in which.__dataclass_fields__ else which()
    values = curve(made, total, 10)
    assert min(values) >= -1e-15
    assert max(values) <= 1 + 1e-12
    if which is not CosineLog or total >= 16:  # a wave of a shorter run may end with the first step
        assert values[0] > 0
    if "warmup" in which.__dataclass_fields__ and warmup <= total:
        assert values[0] == pytest.approx(1 / warmup)
        assert which not in WITHOUT_STEPS or values[:warmup] == sorted(values[:warmup])


def test_a_run_of_one_step_trains_at_the_full_rate():
    for which in WITH_FLOOR:
        assert curve(which(), 1, 1) == [1.0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Step(every="3 epochs", gamma=0.5), lambda o: torch_schedules.StepLR(o, 3, 0.5)),
        (
            MultiStep(milestones=("2 epochs", "50%"), gamma=0.3),
            lambda o: torch_schedules.MultiStepLR(o, [2, 5], 0.3),
        ),
    ],
    ids=["step", "multi_step"],
)
def test_staircases_equal_torch_stepped_once_an_epoch(ours, theirs):
    expected, _ = torch_curve(theirs, 40, every=4)
    assert curve(ours, 40, 4) == pytest.approx(expected)


def test_exponential_equals_torch_at_whole_epochs_and_is_continuous_between():
    expected, _ = torch_curve(lambda o: torch_schedules.ExponentialLR(o, 0.9), 40, every=4)
    made = curve(Exponential(gamma=0.9), 40, 4)
    assert made[::4] == pytest.approx(expected[::4])
    assert made[2] == pytest.approx(0.9**0.5)


@pytest.mark.parametrize("total", [2, 11, 64])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_decays_over_the_whole_run_equal_torch_stepped_every_step(total, floor):
    pairs = [
        (Cosine(floor=floor), lambda o: torch_schedules.CosineAnnealingLR(o, T_max=total - 1, eta_min=floor)),
        (Linear(floor=floor), lambda o: torch_schedules.LinearLR(o, 1.0, floor, total_iters=total - 1)),
    ]
    if not floor:
        pairs.append((Polynomial(power=3), lambda o: torch_schedules.PolynomialLR(o, total - 1, power=3)))
    for ours, theirs in pairs:
        expected, _ = torch_curve(theirs, total)
        assert curve(ours, total, 5) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("warmup", [1, 4, 20])
def test_warm_up_then_cosine_equals_torch_in_sequence(warmup):
    def theirs(optimizer):
        up = torch_schedules.LinearLR(optimizer, 1 / warmup, 1.0, total_iters=max(warmup - 1, 1))
        down = torch_schedules.CosineAnnealingLR(optimizer, T_max=60 - 1 - warmup)
        return torch_schedules.SequentialLR(optimizer, [up, down], [warmup])

    if warmup == 1:
        expected, _ = torch_curve(lambda o: torch_schedules.CosineAnnealingLR(o, T_max=58), 59)
        expected = [1.0, *expected]
    else:
        expected, _ = torch_curve(theirs, 60)
    assert curve(Cosine(warmup=f"{warmup} steps"), 60, 5) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("total", [12, 100])
def test_one_cycle_equals_the_formula_in_rate_and_momentum(total):
    made = OneCycle(up="25%", div=10.0, final_div=100.0, low=0.8, high=0.9)
    for t in range(total):
        rate, momentum = reference.one_cycle(t, total, up=0.25, start=0.1, end=1e-3, low=0.8, high=0.9)
        assert made.factor(Moment(0, 0, t, total)) == pytest.approx(rate, abs=1e-12)
        assert made.momentum(Moment(0, 0, t, total)) == pytest.approx(momentum, abs=1e-12)


def test_one_cycle_reaches_the_optimizers_momentum_or_first_beta():
    schedule, weight = OneCycle(), torch.nn.Parameter(torch.zeros(1))
    adam = torch.optim.AdamW([{"params": [weight], "base_lr": 0.1}])
    sgd = torch.optim.SGD([{"params": [weight], "base_lr": 0.1}], momentum=0.5)
    moment = Moment(0, 0, 29, 100)
    for optimizer in (adam, sgd):
        set_lr(optimizer, schedule.factor(moment))
        set_momentum(optimizer, schedule.momentum(moment))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    assert adam.param_groups[0]["betas"] == pytest.approx((0.85, 0.999))
    assert sgd.param_groups[0]["momentum"] == pytest.approx(0.85)


def test_the_named_forms_are_what_their_pages_say():
    gamma, every = 0.5, 10
    continuous = curve(Exponential(gamma=gamma, every="10 steps"), 40, 1)
    assert continuous == pytest.approx([reference.decay_by_k(t, k=-math.log(gamma) / every) for t in range(40)])
    steps = curve(Step(gamma=gamma, every="10 steps"), 40, 1)
    assert steps == pytest.approx([reference.staircase(t, every=every, gamma=gamma) for t in range(40)])
    assert continuous[::10] == pytest.approx(steps[::10])


def test_stepped_once_an_epoch_after_it_the_first_epoch_is_at_full_rate_and_the_floor_is_never_reached():
    wrong = [reference.stepped_after_each_epoch(e, 30, warmup=5, lr=1e-3, floor=1e-6) for e in range(30)]
    assert wrong[:2] == pytest.approx([1e-3, 2e-4])
    assert min(wrong) > 1e-6 * 1.5
    right = [1e-3 * factor for factor in curve(Cosine(warmup="5 epochs", floor=1e-3), 300, 10)]
    assert right[0] == pytest.approx(1e-3 / 50)
    assert right[-1] == pytest.approx(1e-6, rel=1e-12)


def test_a_schedule_knows_nothing_but_the_step_so_it_may_be_asked_in_any_order():
    for which in ALL:
        schedule = which()
        forwards = curve(schedule, 30, 5)
        backwards = [schedule.factor(Moment(0, t // 5, t, 30, 5)) for t in reversed(range(30))]
        assert backwards[::-1] == forwards


def test_a_staircase_stands_at_1_where_the_continuous_form_has_fallen_to_0_316():
    assert curve(Step(every="30 steps", gamma=0.1), 40, 1)[15] == 1.0
    assert curve(Exponential(every="30 steps", gamma=0.1), 40, 1)[15] == pytest.approx(0.316, abs=1e-3)


@pytest.mark.parametrize("total", [10, 37, 200])
def test_one_cycle_equals_torch_in_rate_and_momentum(total):
    rates, momenta = torch_curve(
        lambda o: torch_schedules.OneCycleLR(o, max_lr=1.0, total_steps=total, pct_start=0.25), total
    )
    schedule = OneCycle(up="25%")
    assert curve(schedule, total, 10) == pytest.approx(rates, abs=1e-12)
    made = [schedule.momentum(Moment(0, 0, t, total)) for t in range(total)]
    assert made == pytest.approx(momenta, abs=1e-12)
    assert OneCycle(cycle_momentum=False).momentum(Moment(0, 0, 0, total)) is None


def test_wsd_is_a_trapezoid_and_triangle_a_triangle():
    made = curve(Wsd(decay="25%", warmup="5 steps", floor=0.1), 80, 10)
    expected = [reference.trapezoid(t, 80, warmup=5, decay=20, floor=0.1) for t in range(80)]
    assert made == pytest.approx(expected)
    made = curve(Triangle(start=0.2, peak=0.25, floor=0.05), 81, 10)
    assert made == pytest.approx([reference.triangle(t, 81, start=0.2, peak=0.25, floor=0.05) for t in range(81)])
    assert (made[0], max(made), made[20], made[-1]) == pytest.approx((0.2, 1.0, 1.0, 0.05))


def test_flat_cosine_is_flat_and_then_a_cosine():
    made = curve(FlatCosine(flat=0.5), 101, 10)
    assert made[:51] == [1.0] * 51
    assert made[50:] == pytest.approx([reference.cosine(t, 51, warmup=0, floor=0) for t in range(51)])


def test_cosine_log_equals_the_formula_and_ends_at_zero():
    made = curve(CosineLog(waves=4), 300, 10)
    assert made == pytest.approx([reference.log_cosine(t, 300, waves=4) for t in range(300)], abs=1e-12)
    assert made[-1] == pytest.approx(0, abs=1e-12)
    assert sum(a < b > c for a, b, c in zip(made, made[1:], made[2:], strict=False)) == 4


def test_no_schedule_but_one_cycle_touches_the_momentum():
    for which in ALL:
        if which is not OneCycle:
            assert which().momentum(Moment(0, 0, 3, 10)) is None


@settings(deadline=None, max_examples=60)
@given(
    history=st.lists(st.one_of(st.floats(0, 2), st.sampled_from([1.0, float("inf"), float("nan")])), max_size=40),
    patience=st.integers(0, 4),
    cooldown=st.integers(0, 3),
    threshold=st.sampled_from([0.0, 1e-4, 0.1]),
)
def test_plateau_equals_torch_on_any_history(history, patience, cooldown, threshold):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch_schedules.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, cooldown=cooldown, threshold=threshold, eps=0
    )
    ours = Plateau(gamma=0.5, patience=patience, cooldown=cooldown, threshold=threshold)
    for i, value in enumerate(history):
        theirs.step(value)
        assert ours.factor(Moment(0, 0, i, 100), history[: i + 1]) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_plateau_stops_at_its_floor_and_smooths_what_it_sees():
    assert Plateau(gamma=0.1, patience=0, floor=0.05).factor(Moment(0, 0, 0, 9), [1.0] * 9) == 0.05
    noisy = [1.0 - 0.02 * i + (0.15 if i % 2 else 0.0) for i in range(30)]
    assert Plateau(patience=0).drops(noisy) > Plateau(patience=0, smoothing=0.8).drops(noisy)


def test_exponential_mean_is_free_of_the_bias_of_the_start():
    assert exponential_mean([3.0, 3.0, 3.0], 0.9) == pytest.approx([3.0] * 3)
    assert exponential_mean([1.0, 2.0], 0.5) == pytest.approx([1.0, (0.25 * 1 + 0.5 * 2) / 0.75])


def test_lengths_may_be_written_in_steps_epochs_or_percent():
    for text in ("20 steps", "2 epochs", "10%"):
        assert curve(Cosine(warmup=text), 200, 10) == curve(Cosine(warmup="20 steps"), 200, 10)
    assert curve(Constant(), 3, 1) == [1.0] * 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cosine(floor=1.5), "less than or equal to 1"),
        (lambda: Cosine(warmup="5"), "write it with its unit"),
        (lambda: Cosine(warmup="120%"), "at most 100%"),
        (lambda: Step(gamma=0.0), "greater than 0"),
        (lambda: MultiStep(milestones=()), "at least 1"),
        (lambda: OneCycle(div=0.5), "greater than or equal to 1"),
        (lambda: Triangle(peak=1.0), "less than 1"),
        (lambda: Plateau(gamma=1.0), "less than 1"),
        (lambda: CosineLog(waves=0), "greater than or equal to 1"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_range(make, said):
    with pytest.raises(ValueError, match=said):
        make()
