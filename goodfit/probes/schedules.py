"""Whether schedulers step in the right order, in the right unit, and to the right end."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live


@dataclass
class ScheduleFacts:
    """How one scheduler was used.

    kind; where: the line that steps it. steps: its own, the first one that its constructor makes left out.
    early: whether it stepped before the first update. updates: of its optimizer. epochs: of a loader that ended.
    batches: updates in the first epoch. horizon: the steps that it was made for, 0 where it has no end.
    dead: updates in a row with a rate below a hundred-millionth of the first. highest, lr: rates.
    mode, metrics: of ReduceLROnPlateau, and what it was given.
    """

    kind: str
    where: str
    horizon: int
    steps: int = 0
    early: bool = False
    updates: int = 0
    epochs: int = 0
    batches: int = 0
    steps_first_epoch: int = 0
    dead: int = 0
    highest: float = 0.0
    lr: float = 0.0
    rose_again: int = 0
    mode: str = ""
    metrics: list[float] = field(default_factory=list)


class Schedules(Listener):
    """Records ``schedules``: ``ScheduleFacts`` for each scheduler."""

    signals = ("schedules",)
    absent = "saw no scheduler"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.facts: MutableMapping[Any, ScheduleFacts] = weakref.WeakKeyDictionary()
        self.skipped = False

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("before_step", "scheduler_step") if self.facts else ())

    @override
    def scheduler_made(self, scheduler: Any) -> None:
        horizon = 0
        if isinstance(scheduler, OneCycleLR):
            horizon = int(getattr(scheduler, "total_steps", 0) or 0)
        elif isinstance(scheduler, CosineAnnealingLR):
            horizon = int(getattr(scheduler, "T_max", 0) or 0)
        facts = ScheduleFacts(type(scheduler).__name__, "", horizon)
        self.facts[scheduler] = facts
        self.live.values.setdefault("schedules", {})[len(self.facts)] = facts

    @override
    def scaler(self, scaler: Any, what: str, optimizer: Optimizer | None) -> None:
        self.skipped = self.skipped or what == "step"  # a scaler may leave the first updates out

    @override
    def scheduler_step(self, scheduler: Any, arguments: tuple[Any, ...]) -> None:
        facts = self.facts.get(scheduler)
        if facts is None:
            return
        if not facts.horizon:  # set after the base class's constructor has told of it
            facts.horizon = int(getattr(scheduler, "total_steps", 0) or getattr(scheduler, "T_max", 0) or 0)
        facts.steps += 1
        if isinstance(scheduler, ReduceLROnPlateau) and arguments and len(facts.metrics) < 100:
            facts.mode = str(scheduler.mode)
            facts.metrics.append(float(arguments[0]))
        if not facts.where:
            facts.where = str(self.live.where())
            facts.early = facts.updates == 0 and not self.skipped
        before, facts.lr = facts.lr, _rate(scheduler.optimizer)
        if facts.horizon and facts.steps > facts.horizon and facts.lr > before > 0:
            facts.rose_again += 1

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        for scheduler, facts in self.facts.items():
            if getattr(scheduler, "optimizer", None) is optimizer:
                facts.updates += 1
                rate = _rate(optimizer)
                facts.highest = max(facts.highest, rate)
                facts.dead = facts.dead + 1 if rate <= 1e-8 * facts.highest else 0

    @override
    def loader_ends(self, loader: Any, batches: int) -> None:
        for facts in self.facts.values():
            if batches > 1 and facts.updates and (facts.epochs == 0 or facts.updates > facts.batches):
                facts.epochs += 1
                if facts.epochs == 1:
                    facts.batches, facts.steps_first_epoch = facts.updates, facts.steps


def _rate(optimizer: Optimizer) -> float:
    return max(float(group.get("lr", 0.0)) for group in optimizer.param_groups)
