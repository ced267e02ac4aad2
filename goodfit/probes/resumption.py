"""What was loaded from a checkpoint, and what of it was put back before training went on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live


@dataclass
class Resumption:
    """A checkpoint that was read.

    held: what it holds beside weights: ``optimizer``, ``scheduler``, ``scaler``. used: what of that was loaded before
    the first update. where: the line that loaded the weights. steps: updates since.
    """

    held: tuple[str, ...]
    used: tuple[str, ...]
    where: str
    steps: int


class Resumptions(Listener):
    """Records ``resumption``, where a checkpoint with more than weights was read and its weights were loaded."""

    signals = ("resumption",)
    absent = "saw no checkpoint with more than weights"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.held: tuple[str, ...] = ()
        self.used: set[str] = set()
        self.where = ""

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("after_step",) if self.held and self.where else ())

    @override
    def loaded(self, what: Any) -> None:
        if isinstance(what, Mapping):
            self.held = tuple(part for part in ("optimizer", "scheduler", "scaler") if _has(what, part))

    @override
    def state_loaded(self, owner: Any, state: Mapping[str, Any]) -> None:
        if isinstance(owner, nn.Module):
            self.where = self.where or str(self.live.where())
        elif isinstance(owner, Optimizer):
            self.used.add("optimizer")
        else:
            self.used.add("scheduler")

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        held = self.live.values.get("resumption")
        if held is not None:
            held.steps += 1
        elif self.held and self.where:
            self.live.values["resumption"] = Resumption(self.held, tuple(sorted(self.used)), self.where, 1)


def _has(checkpoint: Mapping[str, Any], part: str) -> bool:
    stem = part[:5]
    return any(isinstance(v, Mapping) and v and stem in str(k).lower() for k, v in checkpoint.items())
