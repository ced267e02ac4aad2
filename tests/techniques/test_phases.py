"""Phases: each equals an optimizer of its own from that step on, its state resumes, and the schedule is as stated."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from goodfit.techniques.optimizer import Adam, Adamw, Muon, ScheduleFree, Sgd, parameter_groups, set_lr, set_mode
from goodfit.techniques.phases import Phase, Phased, Restarting, enter, first_steps, in_phases, restarting
from goodfit.techniques.schedule import Cosine, Linear, OneCycle, curve
from goodfit.types import Moment

TOTAL, PER_EPOCH = 20, 5


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def backward(model: nn.Module, step: int) -> None:
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    model.zero_grad()
    (model(inputs) - inputs[:, :2]).square().mean().backward()


def moment(step: int) -> Moment:
    return Moment(0, step // PER_EPOCH, step, TOTAL, PER_EPOCH)


def phased(model: nn.Module, first: object, *later: tuple[int, Phase, object]) -> torch.optim.Optimizer:
    return in_phases(lambda one: one.build(parameter_groups(model, one, batch_size=6)), first, later)


def go(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: object, steps: range) -> None:
    for step in steps:
        backward(model, step)
        enter(optimizer, step)
        set_lr(optimizer, schedule.factor(moment(step)))  # type: ignore[attr-defined]
        optimizer.step()


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("goes_on", ["continue", "restart"])
def test_adam_then_sgd_equals_a_loop_written_by_hand(goes_on: str) -> None:
    later = [(12, Phase(after="60%", schedule=goes_on), Sgd(lr=0.05))]
    schedule = restarting(Cosine(warmup="2 steps"), later)
    model = net()
    go(model, phased(model, Adam(lr=0.01), *later), schedule, range(TOTAL))

    by_hand = net()
    adam = torch.optim.Adam(by_hand.parameters(), lr=0.01)
    sgd = torch.optim.SGD(by_hand.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    if goes_on == "continue":
        factors = curve(Cosine(warmup="2 steps"), TOTAL, PER_EPOCH)
    else:
        factors = curve(Cosine(warmup="2 steps"), 12, PER_EPOCH) + curve(Cosine(warmup="2 steps"), 8, PER_EPOCH)
    for step in range(TOTAL):
        used, lr = (adam, 0.01) if step < 12 else (sgd, 0.05)
        used.param_groups[0]["lr"] = lr * factors[step]
        backward(by_hand, step)
        used.step()
    torch.testing.assert_close(weights(model), weights(by_hand), rtol=1e-12, atol=1e-14)
    alone = net()
    go(alone, phased(alone, Adam(lr=0.01)), schedule, range(TOTAL))
    assert (weights(alone) - weights(model)).abs().max() > 1e-3


@pytest.mark.parametrize("stop", [1, 6, 7, 8, 13, 14, 15, 19])
def test_it_goes_on_from_any_step_of_any_phase_to_the_very_same_bits(stop: int) -> None:
    later = [(7, Phase(), Sgd(lr=0.05)), (14, Phase(), Muon(lr=0.01))]
    schedule = restarting(Linear(), later)
    whole = net()
    go(whole, phased(whole, Adamw(lr=0.01), *later), schedule, range(TOTAL))
    torn = net()
    optimizer = phased(torn, Adamw(lr=0.01), *later)
    go(torn, optimizer, schedule, range(stop))
    saved = copy.deepcopy((torn.state_dict(), optimizer.state_dict()))
    resumed = net()
    resumed.load_state_dict(saved[0])
    again = phased(resumed, Adamw(lr=0.01), *later)
    again.load_state_dict(saved[1])
    go(resumed, again, schedule, range(stop, TOTAL))
    assert torch.equal(weights(resumed), weights(whole))


def test_a_phase_that_is_left_gives_its_state_back() -> None:
    model = net()
    optimizer = phased(model, Adam(), (3, Phase(), Sgd()))
    assert isinstance(optimizer, Phased)
    go(model, optimizer, Cosine(), range(3))
    assert len(optimizer.state) == 4
    go(model, optimizer, Cosine(), range(3, 5))
    assert not optimizer.parts[0].state
    assert "momentum_buffer" in next(iter(optimizer.state.values()))


def test_a_schedule_free_phase_is_left_at_the_weights_that_predict() -> None:
    pytest.importorskip("schedulefree", reason="the rule is that package's")
    model = net()
    optimizer = phased(model, ScheduleFree(lr=0.05), (4, Phase(), Sgd(lr=0.0)))
    go(model, optimizer, Linear(floor=1.0), range(4))
    set_mode(optimizer, training=False)
    predicting = weights(model)
    set_mode(optimizer, training=True)
    assert not torch.equal(weights(model), predicting)
    go(model, optimizer, Linear(floor=1.0), range(4, 6))
    torch.testing.assert_close(weights(model), predicting, rtol=1e-12, atol=1e-14)


def test_without_later_phases_nothing_is_wrapped() -> None:
    model = net()
    assert type(phased(model, Sgd())) is torch.optim.SGD
    schedule = Cosine()
    assert restarting(schedule, []) is schedule
    assert restarting(schedule, [(5, Phase(), Sgd())]) is schedule


def test_a_schedule_that_restarts_fits_its_parts_momentum_included() -> None:
    schedule = Restarting(OneCycle(), (0, 8))
    made = [schedule.factor(moment(t)) for t in range(TOTAL)]
    assert made == curve(OneCycle(), 8, PER_EPOCH) + curve(OneCycle(), 12, PER_EPOCH)
    momenta = [schedule.momentum(moment(t)) for t in range(TOTAL)]
    assert momenta[8] == momenta[0] == OneCycle().high


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        (["0%"], r"phase.2.after' = '0%' is step 0, which is not after the start of the run"),
        (["100%"], r"step 100 of a run of 100 steps, so the phase would never come"),
        (["12 epochs"], "would never come; give an earlier point"),
        (["50%", "30 steps"], r"'phase.3.after' = '30 steps' is step 30, which is not after phase.2 \(step 50\)"),
    ],
)
def test_phases_outside_the_run_or_out_of_order_are_refused(spans: list[str], said: str) -> None:
    phases = [(str(n), Phase(after=span)) for n, span in enumerate(spans, 2)]
    with pytest.raises(ValueError, match=said):
        first_steps(phases, total=100, steps_per_epoch=10)


def test_steps_epochs_and_shares_say_where_a_phase_begins() -> None:
    phases = [("2", Phase(after="20%")), ("3", Phase(after="3 epochs")), ("4", Phase(after="99 steps"))]
    assert first_steps(phases, total=100, steps_per_epoch=10) == {"2": 20, "3": 30, "4": 99}
