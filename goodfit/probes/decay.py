"""Whether weights shrink away under regularisation."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live

LOOKS = (20, 30, 50, 75, 100, 150, 200, 300, 500, 700, 1000)


@dataclass(frozen=True)
class Shrinking:
    """The norm of an optimizer's weights at its first step and now, and its weight decay."""

    name: str
    where: str
    decay: float
    first: float
    now: float
    steps: int


class Decay(Listener):
    """Records ``decay``: ``Shrinking`` for each optimizer with weight decay, at a few steps."""

    signals = ("decay",)
    absent = "saw no optimizer with weight decay"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.first: MutableMapping[Optimizer, tuple[float, int, str]] = weakref.WeakKeyDictionary()

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("after_step",) if self.first else ())

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        held = self.first.get(optimizer)
        if held is None:
            decay = max((float(group.get("weight_decay", 0.0)) for group in optimizer.param_groups), default=0.0)
            if decay > 0:
                self.first[optimizer] = (_norm(optimizer), 1, str(self.live.where()))
            return
        first, steps, where = held
        self.first[optimizer] = (first, steps + 1, where)
        if steps + 1 in LOOKS:
            decay = max(float(group.get("weight_decay", 0.0)) for group in optimizer.param_groups)
            name = type(optimizer).__name__
            told = Shrinking(name, where, decay, first, _norm(optimizer), steps + 1)
            self.live.values.setdefault("decay", {})[f"{name} {where}"] = told


def _norm(optimizer: Optimizer) -> float:
    weights: list[Tensor] = [p.detach() for group in optimizer.param_groups for p in group["params"] if p.dim() > 1]
    weights = [w for w in weights if w.layout == torch.strided and w.is_floating_point()]
    return float(torch.stack([n.float() for n in torch._foreach_norm(weights)]).norm()) if weights else 0.0
