"""Proof by intervention: replays tell a fix that helps from one that does not, and touch nothing of the program."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodfit.check import Log
from goodfit.probes.ingredients import Kit, Sample
from goodfit.proof import FIXES, Proof, Rates, compare, compare_rates, proved
from goodfit.rules.learning_rate_far_off import check as far_off
from goodfit.rules.live import LIVE_RULES
from goodfit.types import Finding
from goodfit.watching import Watch

X = torch.randn(96, 8, generator=torch.Generator().manual_seed(1))
Y = X[:, :3].argmax(1)


def loop(step: Callable[[nn.Module, torch.optim.Optimizer, Tensor, Tensor], Tensor], steps: int = 30) -> list[float]:
    net = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, 3))
    optimizer = torch.optim.SGD(net.parameters(), 0.2)
    return [step(net, optimizer, X[at], Y[at]).item() for at in (torch.randint(0, 96, (24,)) for _ in range(steps))]


def double_softmax() -> list[float]:
    def step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x).softmax(1), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    return loop(step)


def forgotten_head() -> list[float]:
    net = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 3))
    optimizer = torch.optim.Adam(net[0].parameters(), 0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(X), Y) / 2
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def two_networks() -> list[float]:
    first, second = nn.Linear(8, 8), nn.Linear(8, 3)
    optimizer = torch.optim.SGD(first.parameters(), 0.1)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(second(first(X)), Y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def seen(program: Callable[[], list[float]], *, prove: bool) -> tuple[list[float], list[Finding], Tensor]:
    torch.manual_seed(0)
    said: list[Finding] = []
    with warnings.catch_warnings(), Watch(prove=prove, say=said.append) as watch:
        warnings.simplefilter("ignore")
        losses = program()
    assert not watch.hooks.failed, watch.hooks.failed
    assert [f.rule for f in said] == [f.rule for f in watch.findings]
    assert [f.proof for f in said] == [f.proof for f in watch.findings]
    return losses, watch.findings, torch.random.get_rng_state()


def plain(program: Callable[[], list[float]]) -> tuple[list[float], Tensor]:
    torch.manual_seed(0)
    return program(), torch.random.get_rng_state()


@pytest.mark.parametrize("program", [double_softmax, forgotten_head, two_networks])
def test_a_program_trains_bit_for_bit_as_without(program: Callable[[], list[float]]) -> None:
    losses, state = plain(program)
    tried, _, after = seen(program, prove=True)
    assert tried == losses
    assert torch.equal(state, after)


def test_a_fix_that_helps_says_by_how_much() -> None:
    _, (finding,), _ = seen(double_softmax, prove=True)
    assert (finding.rule, finding.severity) == ("double-softmax", "error")
    assert finding.proof.startswith("over 40 replayed steps the loss goes from ")
    assert "the second softmax taken back" in finding.proof
    before, fixed, without = (
        float(word.strip(",")) for word in finding.proof.split() if word[:1].isdigit() and "." in word
    )
    assert fixed < without < before


def test_a_loss_that_is_divided_and_forgotten_parameters_are_replayed() -> None:
    _, (finding,), _ = seen(forgotten_head, prove=True)
    assert "all parameters in the optimizer" in finding.proof


def test_a_step_that_cannot_be_replayed_says_why() -> None:
    _, (finding,), _ = seen(two_networks, prove=True)
    assert finding.proof == "not proved, because a step makes more than one call of a network"


def test_without_being_asked_nothing_is_tried() -> None:
    _, findings, _ = seen(double_softmax, prove=False)
    assert findings[0].proof == ""


def kit(lr: float = 0.1, *, actions: tuple[str, ...] = ("zero_grad", "forward", "backward", "step")) -> Kit:
    torch.manual_seed(3)
    net = nn.Linear(8, 3)
    samples = [Sample((X[at : at + 12],), Y[at : at + 12], (12, 3)) for at in range(0, 96, 12)]
    optimizer = torch.optim.SGD(net.parameters(), lr)
    return Kit(net, optimizer, [None, None], actions, "cross_entropy", {}, "", 1.0, None, samples)


def test_a_replay_makes_the_steps_that_gradient_descent_makes() -> None:
    one = kit()
    weight, bias = (p.detach().double().clone() for p in one.network.parameters())
    for step in range(40):
        sample = one.samples[step % 8]
        x, y = sample.inputs[0].double(), F.one_hot(sample.target, 3).double()
        gap = ((x @ weight.T + bias).softmax(1) - y) / len(x)
        weight, bias = weight - 0.1 * gap.T @ x, bias - 0.1 * gap.sum(0)
    logits = [(s.inputs[0].double() @ weight.T + bias).log_softmax(1) for s in one.samples]
    expected = sum(float(-z.gather(1, s.target[:, None]).mean()) for z, s in zip(logits, one.samples, strict=True)) / 8
    proof = compare(one, FIXES["stale-gradient"])
    assert proof.without == pytest.approx(expected, rel=1e-5)
    assert proof.fixed == pytest.approx(proof.without, rel=1e-6)  # they were cleared already
    assert proof.verdict == "no difference"


def test_the_copies_of_a_kit_are_left_as_they_were() -> None:
    one = kit()
    before = [p.detach().clone() for p in one.network.parameters()]
    compare(one, FIXES["worse-than-guessing"])
    assert all(torch.equal(a, b) for a, b in zip(before, one.network.parameters(), strict=True))
    assert one.optimizer.param_groups[0]["lr"] == 0.1


def test_a_fix_that_harms_takes_a_step_of_severity_away() -> None:
    finding = Finding("worse-than-guessing", "error", "it rose", "train.py:3")
    milder = proved(finding, kit(), "")  # a tenth of a rate that is well is worse
    assert milder.severity == "warning"
    assert "does not help here" in milder.proof
    assert proved(replace(finding, severity="warning"), kit(), "").severity == "advice"


def test_what_was_counted_stays_an_error_where_the_larger_step_is_faster() -> None:
    summed = kit(actions=("forward", "backward", "step"), lr=1e-3)
    finding = proved(Finding("stale-gradient", "error", "they are not cleared", "train.py:3"), summed, "")
    assert "does not help here" in finding.proof
    assert finding.severity == "error"


def test_what_raises_on_copies_is_told_and_not_raised() -> None:
    broken = kit()
    broken.options = {"no such": 1}
    assert "the replay failed (" in proved(Finding("stale-gradient", "error", ""), broken, "").proof


@pytest.mark.parametrize(
    ("gap", "error", "verdict"), [(0.2, 0.05, "helps"), (0.2, 0.15, "no difference"), (-0.2, 0.05, "harms")]
)
def test_two_standard_errors_decide(gap: float, error: float, verdict: str) -> None:
    assert Proof(40, 2.0, 1.0, 1.0 - gap, gap, error, "it").verdict == verdict


def test_every_fix_belongs_to_a_rule() -> None:
    names = {rule.name for rule in LIVE_RULES}
    assert set(FIXES) <= names


@pytest.mark.parametrize(("lr", "word"), [(3e-4, "too low"), (60.0, "too high"), (0.5, "")])
def test_a_rate_far_off_is_told_from_one_that_is_well(lr: float, word: str) -> None:
    rates = compare_rates(kit(lr), "train.py:9")
    said = far_off(Log({"rates": rates}))
    assert (word in said[0].message and said[0].where == "train.py:9") if word else isinstance(said, str), said


def test_a_scheduled_rate_is_left_alone() -> None:
    rates = Rates(40, 1e-6, "", (1.0, 1.0), {1.0: (1.0, 1.0), 10.0: (0.5, 0.5), 100.0: (0.1, 0.1)})
    assert far_off(Log({"rates": rates, "schedules": {1: object()}})) == "a scheduler sets the rate"
