"""How closely a watch looks: everything at first, next to nothing later, everything again after something new."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from goodfit.observer.attention import FIRST, LOOKS, OFTEN, Attention, is_near
from goodfit.observer.events import Listener
from goodfit.observer.hooks import Hooks
from goodfit.watching import Watch

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(1))
Y = X[:, :2].argmax(1)


class Counting(Listener):
    """Counts what it hears; hears backward passes always."""

    def __init__(self) -> None:
        self.forwards = self.backwards = self.wakes = 0

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("backward",))

    @override
    def forward(self, module: nn.Module, inputs: object, output: object, depth: int) -> None:
        self.forwards += 1

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        self.backwards += 1

    @override
    def woken(self) -> None:
        self.wakes += 1


def test_the_first_steps_and_those_before_a_look_are_close() -> None:
    clock = Attention()
    close = []
    for step in range(110):
        close += [step] if clock.close else []
        clock.stepped()
    assert close == [*range(FIRST), 30, 48, 49, 50, 73, 74, 75, 98, 99, 100]
    assert is_near(5_000)
    assert not is_near(5_001)
    assert all(is_near(look) for look in LOOKS)


def test_what_is_new_is_followed_the_less_the_more_often_it_comes() -> None:
    clock = Attention()
    for _ in range(2_003):
        clock.stepped()
    followed = []
    for count in range(1, 41):
        clock.news("evaluation", 1)
        followed += [count] if clock.close else []
        for _ in range(2):
            clock.stepped()
    assert followed == [*range(1, OFTEN + 1), 8, 16, 32]


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(X), Y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def test_listeners_hear_little_between_and_all_after_an_evaluation() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    heard = Counting()
    hooks = Hooks([heard])
    hooks.install()
    try:
        train(net, optimizer, 40)
        assert (heard.forwards, heard.backwards) == (4 * (FIRST + 1), 40)
        with torch.no_grad():
            net(X)
        train(net, optimizer, 3)
        assert heard.forwards == 4 * (FIRST + 1) + 4 * 4
        assert heard.wakes == 1
    finally:
        hooks.remove()


def test_a_fault_that_begins_after_an_evaluation_is_found_though_nobody_looked_before() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with Watch() as watch:
        train(net, optimizer, 130)
        net.eval()
        with torch.no_grad():
            net(X)
        train(net, optimizer, 6)
    assert [one.rule for one in watch.findings] == ["training-in-eval-mode"]


@pytest.mark.parametrize("when", [5, 44])
def test_a_loss_that_breaks_is_located_whether_or_not_somebody_looked(when: int) -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.log, self.last = nn.Linear(6, 6), Logarithm(), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.log(self.first(x)))  # type: ignore[no-any-return]

    class Logarithm(nn.Module):
        broken = False

        def forward(self, x: Tensor) -> Tensor:
            return (x * 0).log() * 0 if self.broken else x

    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with Watch() as watch:
        train(net, optimizer, when)
        Logarithm.broken = True
        train(net, optimizer, 2)
    finding = next(one for one in watch.findings if one.rule == "non-finite-loss")
    assert "log (Logarithm)" in f"{finding.message} {finding.evidence}"
