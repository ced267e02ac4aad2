"""The course of a validation loss beside that of the training loss, as the program itself computes them."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from typing_extensions import override

from goodfit.observer.events import Listener, LossCall
from goodfit.observer.live import Live

MOST = 400
CALLS = 50
"""Calls of an evaluation whose loss is read; the mean of so many says enough."""


@dataclass
class Course:
    """Means of a loss without gradients at one line, one for each stretch between updates, with the number of updates
    before it; and the mean of the training losses of the same kind since the one before."""

    name: str
    where: str
    steps: list[int] = field(default_factory=list)
    judged: list[float] = field(default_factory=list)
    trained: list[float] = field(default_factory=list)


class Evaluations(Listener):
    """Records ``evaluations``: ``Course`` by the line of the loss that is computed without gradients."""

    signals = ("evaluations",)
    absent = "saw no loss computed for an evaluation"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.sums: dict[str, tuple[float, int]] = {}
        self.count = 0
        self.at = -1

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("loss",))

    @override
    def loss(self, call: LossCall) -> None:
        if not isinstance(call.output, Tensor) or call.output.numel() != 1:
            return
        if call.output.requires_grad:
            self.count += 1
            if call.output.device.type == "cpu" or self.count % 20 == 0:
                total, number = self.sums.get(call.name, (0.0, 0))
                self.sums[call.name] = (total + call.output.item(), number + 1)
            return
        where = str(self.live.where())
        held: dict[str, Course] = self.live.values.setdefault("evaluations", {})
        one = held.setdefault(where, Course(call.name, where))
        step = self.live.step
        if not one.steps or one.steps[-1] != step:
            if len(one.steps) >= MOST or not step:
                return
            total, number = self.sums.pop(call.name, (0.0, 0))
            one.steps.append(step)
            one.judged.append(0.0)
            one.trained.append(total / number if number else float("nan"))
            self.at = 0
        if self.at < CALLS:
            self.at += 1
            one.judged[-1] += (call.output.item() - one.judged[-1]) / self.at
