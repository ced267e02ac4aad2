"""Which gradients an optimizer consumes: fresh ones, ones it has consumed before, or none at all."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live


@dataclass(frozen=True)
class StaleUse:
    """An optimizer consumed gradients a second time, with new ones added on top.

    count: parameters. of: parameters with a gradient. names: some of them. steps: at which steps of this optimizer.
    """

    optimizer: str
    where: str
    count: int
    of: int
    names: tuple[str, ...]
    steps: tuple[int, ...]


class GradientUse(Listener):
    """Records ``gradient.stale``: for each optimizer the steps that consumed a gradient twice.

    A gradient counts as consumed twice when, after a step has used it, the next backward pass adds to the very same
    values, and the same optimizer steps again without a clearing in between.
    """

    signals = ("gradient.stale", "step.optimizers")
    matters = True
    absent = "saw no optimizer step"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.steps: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()
        # Of each parameter: the gradient that was consumed, and its version then.
        self.used: weakref.WeakKeyDictionary[Optimizer, list[tuple[weakref.ref[Tensor], weakref.ref[Tensor], int]]]
        self.used = weakref.WeakKeyDictionary()
        self.stale: weakref.WeakKeyDictionary[Optimizer, list[tuple[weakref.ref[Tensor], weakref.ref[Tensor]]]]
        self.stale = weakref.WeakKeyDictionary()

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        for optimizer, held in list(self.used.items()):
            self.stale[optimizer] = [
                (parameter, gradient)
                for parameter, gradient, version in held
                if (p := parameter()) is not None
                and (g := gradient()) is not None
                and p.grad is g
                and g._version == version
                and bool(g.any())
            ]
            del self.used[optimizer]

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        count = self.steps[optimizer] = self.steps.get(optimizer, 0) + 1
        self.live.values.setdefault("gradient.stale", {})
        self.live.values["step.optimizers"] = len(self.steps)
        pairs = self.stale.pop(optimizer, [])
        again = [p for parameter, gradient in pairs if (p := parameter()) is not None and p.grad is gradient()]
        if again:
            name = type(optimizer).__name__
            held = self.live.values["gradient.stale"].get(name)
            self.live.values["gradient.stale"][name] = StaleUse(
                name,
                held.where if held else str(self.live.where()),
                len(again),
                sum(p.grad is not None for p in _parameters(optimizer)),
                tuple(self.live.names.of(p) for p in again[:3]),
                (*(held.steps if held else ()), count)[:20],
            )

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        self.used[optimizer] = [
            (weakref.ref(p), weakref.ref(grad), grad._version)
            for p in _parameters(optimizer)
            if (grad := p.grad) is not None
        ]

    @override
    def woken(self) -> None:
        self.used.clear()
        self.stale.clear()


def _parameters(optimizer: Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]
