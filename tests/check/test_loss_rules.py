"""What losses are given: each fault is found at its line, and what looks like it is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.check.programs import found

X = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
Y = torch.randint(0, 3, (32,), generator=torch.Generator().manual_seed(2))
Z = (Y > 0).float()


def train(net: nn.Module, loss: Callable[[Tensor], Tensor], steps: int = 12) -> None:
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(net(X)).backward()
        optimizer.step()


def net(outputs: int, *behind: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, outputs), *behind)


FAULTS: dict[str, tuple[str, Callable[[], None]]] = {
    "softmax before cross_entropy": (
        "double-softmax", lambda: train(net(3, nn.Softmax(1)), lambda o: F.cross_entropy(o, Y))),
    "softmax before CrossEntropyLoss": (
        "double-softmax", lambda: train(net(3, nn.Softmax(1)), lambda o: nn.CrossEntropyLoss()(o, Y))),
    "softmax of each position before cross_entropy": (
        "double-softmax",
        lambda: train(net(6), lambda o: F.cross_entropy(o.view(32, 3, 2).softmax(1), torch.stack([Y, Y], 1)))),
    "nll_loss of logits": ("logits-into-nll", lambda: train(net(3), lambda o: F.nll_loss(o, Y))),
    "nll_loss of probabilities": (
        "logits-into-nll", lambda: train(net(3, nn.Softmax(1)), lambda o: nn.NLLLoss()(o, Y))),
    "sigmoid before BCEWithLogitsLoss": (
        "sigmoid-before-logits-loss",
        lambda: train(net(1, nn.Sigmoid()), lambda o: nn.BCEWithLogitsLoss()(o[:, 0], Z))),
    "binary targets of -1 and 1": (
        "impossible-targets",
        lambda: train(net(1), lambda o: F.binary_cross_entropy_with_logits(o[:, 0], 2 * Z - 1))),
    "column against row in mse_loss": ("broadcast-loss", lambda: train(net(1), lambda o: F.mse_loss(o, Z))),
    "row against column in L1Loss": (
        "broadcast-loss", lambda: train(net(1), lambda o: nn.L1Loss()(o[:, 0], Z[:, None]))),
    "cross_entropy over one class": (
        "impossible-targets", lambda: train(net(1), lambda o: F.cross_entropy(o, torch.zeros_like(Y)))),
    "no target counts": (
        "impossible-targets", lambda: train(net(3), lambda o: F.cross_entropy(o, torch.full_like(Y, -100)))),
    "ReLU behind the logits": ("clipped-logits", lambda: train(net(3, nn.ReLU()), lambda o: F.cross_entropy(o, Y))),
    "softmax over the batch": (
        "softmax-over-batch", lambda: train(net(3, nn.Softmax(0)), lambda o: F.cross_entropy(o, Y))),
}  # fmt: skip

HEALTHY: dict[str, Callable[[], None]] = {
    "logits": lambda: train(net(3), lambda o: F.cross_entropy(o, Y)),
    "log_softmax before nll_loss": lambda: train(net(3, nn.LogSoftmax(1)), lambda o: F.nll_loss(o, Y)),
    "log_softmax before cross_entropy": lambda: train(net(3, nn.LogSoftmax(1)), lambda o: F.cross_entropy(o, Y)),
    "soft targets": lambda: train(net(3), lambda o: F.cross_entropy(o, F.one_hot(Y, 3).float())),
    "probabilities for binary_cross_entropy": lambda: train(
        net(1, nn.Sigmoid()), lambda o: F.binary_cross_entropy(o[:, 0], Z)
    ),
    "binary logits": lambda: train(net(1), lambda o: F.binary_cross_entropy_with_logits(o[:, 0], Z)),
    "a constant target": lambda: train(net(1), lambda o: F.mse_loss(o, torch.ones(1))),
    "matching shapes": lambda: train(net(1), lambda o: F.mse_loss(o[:, 0], Z)),
    "some targets ignored": lambda: train(net(3), lambda o: F.cross_entropy(o, torch.where(Y == 1, -100, Y))),
    "kl_div of log-probabilities": lambda: train(
        net(3, nn.LogSoftmax(1)), lambda o: F.kl_div(o, torch.full((32, 3), 1 / 3), reduction="batchmean")
    ),
    "ReLU behind a regression": lambda: train(net(1, nn.ReLU()), lambda o: F.mse_loss(o[:, 0], Z)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_within_ten_steps(name: str) -> None:
    rule, program = FAULTS[name]
    ((seen, where, step),) = found(program)
    assert seen == rule
    assert "test_loss_rules.py:" in where
    assert step <= 10


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_well_is_left_alone(name: str) -> None:
    assert found(HEALTHY[name]) == []
