"""Weights that training cannot tell apart, that get no gradient, or that were meant to be one."""

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

STEPS = 10
DEAD = 20
LATER = (30, 40, 60, 80, 100, 150, 200)


@dataclass(frozen=True)
class Dead:
    """A weight whose gradient was exactly zero at each of ``looks`` steps, while others' were not."""

    name: str
    looks: int
    steps: int


class Symmetry(Listener):
    """Records ``equal.layers`` and ``equal.checked``, ``dead.weights``, ``tied.apart``, ``still.weights``."""

    signals = ("equal.layers", "equal.checked", "dead.weights", "tied.apart", "still.weights")
    matters = True
    absent = "saw no optimizer step"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.steps: MutableMapping[Optimizer, int] = weakref.WeakKeyDictionary()
        self.equal: MutableMapping[Tensor, int] = WeakTensorKeyDictionary()
        self.zero: MutableMapping[Tensor, int] = WeakTensorKeyDictionary()
        self.samples: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()
        self.asked: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("before_step",))

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth or not torch.is_grad_enabled() or module in self.asked or len(self.asked) > 20:
            return
        self.asked.add(module)
        held: dict[str, str] = self.live.values.setdefault("tied.apart", {})
        tables = [m.weight for m in module.modules() if isinstance(m, nn.Embedding)]
        heads = [m.weight for m in module.modules() if isinstance(m, nn.Linear)]
        for table in tables:
            for head in heads:
                if head is table or head.shape != table.shape or head.device != table.device:
                    continue
                if torch.equal(head.detach(), table.detach()) and bool((head.detach() != head.detach()[0, 0]).any()):
                    held[self.live.names.of(head)] = self.live.names.of(table)

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        count = self.steps[optimizer] = self.steps.get(optimizer, 0) + 1
        if count > STEPS and count not in (DEAD, *LATER):
            return
        weights = [
            p
            for group in optimizer.param_groups
            for p in group["params"]
            if p.dim() > 1 and p.grad is not None and p.grad.layout == torch.strided
        ]
        if count in (1, STEPS):
            self._equal(weights, count)
        if count in (STEPS, 2 * STEPS, 60):
            self._still(optimizer, count)
        if count >= 5:
            self._dead(optimizer, weights, count)

    def _equal(self, weights: list[Tensor], count: int) -> None:
        layers: dict[str, tuple[int, int]] = self.live.values.setdefault("equal.layers", {})
        self.live.values["equal.checked"] = len(weights)
        self.live.values.setdefault("dead.weights", {})
        self.live.values.setdefault("tied.apart", {})
        for weight in weights:
            rows = weight.detach().flatten(1)
            if len(rows) < 2 or rows.shape[1] < 2 or bool((rows[1] != rows[0]).any()):
                continue
            if not bool((rows == rows[0]).all()):
                continue
            if count == 1:
                self.equal[weight] = 1
            elif weight in self.equal:
                layers[self.live.names.of(weight)] = (len(rows), len(rows))

    def _still(self, optimizer: Optimizer, count: int) -> None:
        """Weights that kept their bits from step 10 to 60 although they had a gradient and a rate above zero."""
        moved, still = 0, []
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.dim() < 2 or p.grad is None or p.grad.layout != torch.strided or not float(group.get("lr", 1)):
                    continue
                some = p.detach().reshape(-1)[:64]
                if count == STEPS:
                    self.samples[p] = some.clone()
                elif p in self.samples:
                    if not torch.equal(some, self.samples[p]):
                        moved += 1
                    elif float((p.grad.reshape(-1)[:64] != 0).float().mean()) > 0.5:
                        still.append(self.live.names.of(p))
        if count == 60:
            self.live.values["still.weights"] = still if moved else []

    def _dead(self, optimizer: Optimizer, weights: list[Tensor], count: int) -> None:
        norms = torch._foreach_norm([p.grad for p in weights if p.grad is not None]) if weights else []
        values = torch.stack([one.float().cpu() for one in norms]).tolist() if norms else []
        living = any(values) or any(
            bool(p.grad.any())
            for group in optimizer.param_groups
            for p in group["params"]
            if p.dim() < 2 and p.grad is not None and not p.grad.is_sparse
        )
        held: dict[str, Dead] = self.live.values.setdefault("dead.weights", {})
        for weight, norm in zip(weights, values, strict=True):
            if norm or not living:
                if norm:
                    self.zero[weight] = -1_000_000
                    if held:
                        held.pop(self.live.names.of(weight), None)
                continue
            looks = self.zero[weight] = self.zero.get(weight, 0) + 1
            if looks >= 7 and count >= DEAD:
                name = self.live.names.of(weight)
                held[name] = Dead(name, looks, count)
