"""What optimizers hold and consume: each fault is found at its line, and what looks like it is left alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodfit.watching import watch
from tests.check.programs import found, line_of

X = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
Y = torch.randint(0, 3, (32,), generator=torch.Generator().manual_seed(2))


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 12) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()


class InList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(8, 8) for _ in range(2)]
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)  # type: ignore[no-any-return]


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).detach())  # type: ignore[no-any-return]


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.experts[0](x)  # type: ignore[no-any-return]


def never_cleared() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()  # here


def forgotten_group() -> None:
    model = net()
    train(model, torch.optim.Adam(model[2].parameters()))  # here


def python_list() -> None:
    model = InList()
    train(model, torch.optim.SGD(model.parameters(), 0.1))  # here


def replaced_head() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())  # here
    model[2] = nn.Linear(16, 3)
    train(model, optimizer)


def another_model() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())  # here
    train(copy.deepcopy(model), optimizer)


def detached_encoder() -> None:
    model = Cut()
    train(model, torch.optim.SGD(model.parameters(), 0.1))  # here


FAULTS: dict[str, Callable[[], None]] = {
    "stale-gradient": never_cleared,
    "parameters-not-in-optimizer": forgotten_group,
    "parameters-not-in-optimizer (list)": python_list,
    "parameters-not-in-optimizer (replaced)": replaced_head,
    "optimizer-of-another-model": another_model,
    "parameter-without-effect": detached_encoder,
}


def healthy() -> None:
    model = net()
    train(model, torch.optim.Adam(model.parameters()))


def accumulation() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(12):
        (F.cross_entropy(model(X), Y) / 2).backward()
        if step % 2:
            optimizer.step()
            optimizer.zero_grad()


def set_to_none_by_hand() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(6):
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
        for parameter in model.parameters():
            parameter.grad = None


def updated_by_hand() -> None:
    first, second = nn.Linear(8, 8), nn.Linear(8, 3)
    optimizer = torch.optim.SGD(second.parameters(), 0.1)
    for _ in range(6):
        optimizer.zero_grad()
        first.zero_grad()
        F.cross_entropy(second(first(X)), Y).backward()
        optimizer.step()
        for parameter in first.parameters():
            assert parameter.grad is not None
            parameter.data.add_(parameter.grad, alpha=-0.1)


def adversarial() -> None:
    makes, judges = nn.Linear(4, 8), nn.Linear(8, 1)
    first, second = torch.optim.Adam(makes.parameters()), torch.optim.Adam(judges.parameters())
    for _ in range(12):
        second.zero_grad()
        real = F.binary_cross_entropy_with_logits(judges(X), torch.ones(32, 1))
        fake = F.binary_cross_entropy_with_logits(judges(makes(torch.randn(32, 4)).detach()), torch.zeros(32, 1))
        (real + fake).backward()
        second.step()
        first.zero_grad()
        F.binary_cross_entropy_with_logits(judges(makes(torch.randn(32, 4))), torch.ones(32, 1)).backward()
        first.step()


def closure() -> None:
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def again() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y)
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(again)  # type: ignore[arg-type]


def frozen() -> None:
    model = net()
    model[0].requires_grad_(False)
    train(model, torch.optim.Adam(model.parameters()))


def unused_experts() -> None:
    model = Experts()
    train(model, torch.optim.Adam(model.parameters()))


def two_optimizers() -> None:
    model = net()
    first, second = torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.Adam(model[2].parameters())
    for _ in range(12):
        model.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        first.step()
        second.step()


def teacher_by_average() -> None:
    model = net()
    teacher = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(12):
        optimizer.zero_grad()
        (F.cross_entropy(model(X), Y) + F.mse_loss(model(X), teacher(X))).backward()
        optimizer.step()
        for slow, fast in zip(teacher.parameters(), model.parameters(), strict=True):
            slow.data.lerp_(fast.data, 0.1)


HEALTHY = [
    healthy, accumulation, set_to_none_by_hand, updated_by_hand, adversarial, closure, frozen, unused_experts,
    two_optimizers, teacher_by_average,
]  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_at_its_line_within_ten_steps(name: str) -> None:
    ((rule, where, step),) = found(FAULTS[name])
    assert rule == name.split(" ")[0]
    assert abs(int(where.rsplit(":", 1)[1]) - line_of(FAULTS[name], "# here")) <= 3
    assert step <= 10


@pytest.mark.parametrize("program", HEALTHY, ids=lambda one: one.__name__)
def test_what_is_well_is_left_alone(program: Callable[[], None]) -> None:
    assert found(program) == []


def losses(program: Callable[[list[float]], None]) -> list[float]:
    made: list[float] = []
    torch.manual_seed(3)
    program(made)
    return made


def test_watching_changes_no_bit_of_a_training_with_dropout() -> None:
    def program(made: list[float]) -> None:
        model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 3))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(25):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X + 0.1 * torch.randn_like(X)), Y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            made.append(loss.item())

    plain = losses(program)
    with watch():
        seen = losses(program)
    assert seen == plain
