"""Whether a step has something to do and does it: cleared gradients, late clipping, updates without effect."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live

THOROUGH = 12
SAMPLE = 4096
"""Numbers of a parameter that are compared before and after a step."""


@dataclass
class StepFacts:
    """What the steps of one optimizer did.

    where: the line that steps. steps; empty: steps without any gradient although a backward pass had come since the
    last one; cleared_where: where gradients were cleared in between. late: gradients clipped after the step that used
    them. unscaled: steps whose gradients were clipped while a scaler still had them multiplied; clip_where: the line.
    idle: steps in which at least 98 % of the numbers with a gradient kept their bits; looked: steps that were compared;
    lr; dtype: of the parameters. skips: the longest run of steps that a scaler left out.
    uphill: of the steps that were compared and moved, those along the gradient.
    """

    name: str
    where: str
    steps: int = 0
    empty: int = 0
    cleared_where: str = ""
    late: int = 0
    unscaled: int = 0
    clip_where: str = ""
    idle: int = 0
    looked: int = 0
    lr: float = 0.0
    dtype: str = ""
    skips: int = 0
    uphill: int = 0
    compared: int = 0


class Steps(Listener):
    """Records ``steps``: ``StepFacts`` for each optimizer."""

    signals = ("steps",)
    matters = True
    absent = "saw no optimizer step"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.facts: MutableMapping[Optimizer, StepFacts] = weakref.WeakKeyDictionary()
        self.backwards = 0
        self.at: MutableMapping[Optimizer, int] = weakref.WeakKeyDictionary()
        self.cleared: tuple[int, str] = (-1, "")
        self.before: list[tuple[Tensor, Tensor]] = []
        self.consumed: MutableMapping[Tensor, int] = WeakTensorKeyDictionary()
        self.clips: list[tuple[weakref.ref[Optimizer], str]] = []
        self.skipping: MutableMapping[Optimizer, int] = weakref.WeakKeyDictionary()
        self.scaled = False

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("after_step",) if self.scaled else ())

    @override
    def optimizer_made(self, optimizer: Optimizer) -> None:
        self.at[optimizer] = 0

    @override
    def after_backward(self, roots: tuple[Tensor, ...]) -> None:
        self.backwards += 1

    @override
    def zero_grad(self, owner: Optimizer | nn.Module) -> None:
        self.cleared = (self.backwards, str(self.live.where())) if self.live.step < 60 else (self.backwards, "")

    @override
    def clip(self, parameters: list[Tensor], kind: str, limit: float, norm: Tensor | None) -> None:
        used = [p for p in parameters if p.grad is not None]
        if not used:
            return
        where = str(self.live.where())
        if all(p in self.consumed and self.consumed[p] == self.backwards for p in used):
            for facts in self.facts.values():
                facts.late += 1
                facts.clip_where = where
            return
        ids = {id(p) for p in used}
        for optimizer in self.at:
            if any(id(p) in ids for group in optimizer.param_groups for p in group["params"]):
                self.clips.append((weakref.ref(optimizer), where))

    @override
    def scaler(self, scaler: Any, what: str, optimizer: Optimizer | None) -> None:
        if not scaler.is_enabled():
            return
        self.scaled = True
        if what == "unscale" and optimizer is not None:
            self.clips = [(ref, where) for ref, where in self.clips if ref() is not optimizer]
            self._mark(optimizer, "unscaled")
        if what == "step" and optimizer is not None:
            late = [where for ref, where in self.clips if ref() is optimizer]
            states = scaler._per_optimizer_states[id(optimizer)]
            if late and getattr(states["stage"], "name", "") == "READY":
                facts = self._facts(optimizer)
                facts.unscaled += 1
                facts.clip_where = late[-1]
            self.clips = [(ref, where) for ref, where in self.clips if ref() is not optimizer]
            self.skipping[optimizer] = self.skipping.get(optimizer, 0) + 1  # set back by a step that really runs
            facts = self._facts(optimizer)
            if self.skipping[optimizer] > 1:
                facts.skips = max(facts.skips, self.skipping[optimizer] - 1)

    def _mark(self, optimizer: Optimizer, _: str) -> None:
        self.at.setdefault(optimizer, 0)

    def _facts(self, optimizer: Optimizer) -> StepFacts:
        if optimizer not in self.facts:
            self.facts[optimizer] = StepFacts(type(optimizer).__name__, str(self.live.where()))
            self.live.values.setdefault("steps", {})[len(self.facts)] = self.facts[optimizer]
        return self.facts[optimizer]

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        facts = self._facts(optimizer)
        facts.steps += 1
        since = self.backwards - self.at.get(optimizer, 0)
        self.at[optimizer] = self.backwards
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        with_gradient = [p for p in parameters if p.grad is not None]
        if since > 0 and any(p.requires_grad for p in parameters) and not _any(with_gradient):
            facts.empty += 1
            if self.cleared[0] == self.backwards:
                facts.cleared_where = self.cleared[1]
        self.before = []
        if facts.steps <= THOROUGH or facts.steps % 100 == 0:
            facts.lr = max(float(group.get("lr", 0.0)) for group in optimizer.param_groups)
            self.before = [(p, _part(p).clone()) for p in with_gradient if p.dim() > 1 and p.is_floating_point()][:12]
            facts.dtype = str(self.before[0][0].dtype).removeprefix("torch.") if self.before else facts.dtype

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        self.skipping[optimizer] = 0
        facts = self.facts.get(optimizer)
        if facts is None:
            return
        if facts.steps <= THOROUGH:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self.consumed[p] = self.backwards
        if self.before and facts.lr > 0:
            moved, total, climb = 0, 0, 0.0
            for parameter, old in self.before:
                if parameter.grad is None or parameter.grad.is_sparse:
                    continue
                some = _part(parameter.grad) != 0
                moved += int(((_part(parameter) != old) & some).sum())
                total += int(some.sum())
                climb += float((_part(parameter.grad).double() * (_part(parameter) - old).double()).sum())
            if total >= 20:
                facts.looked += 1
                facts.compared += climb != 0
                facts.uphill += climb > 0
                facts.idle += moved <= 0.02 * total
        self.before = []


def _part(tensor: Tensor) -> Tensor:
    with torch.no_grad():
        return tensor.detach().reshape(-1)[:SAMPLE]


def _any(parameters: list[Tensor]) -> bool:
    """Whether any gradient has a number other than zero."""
    return any(
        bool(p.grad.to_sparse().values().any() if p.grad.is_sparse else p.grad.any())  # type: ignore[union-attr]
        for p in parameters
    )
