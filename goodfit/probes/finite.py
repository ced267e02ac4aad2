"""The first loss that is not finite, and the first module whose output was not."""

from __future__ import annotations

import contextlib
import math
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live
from goodfit.probes.before_training import copied
from goodfit.probes.record import generators_kept

NUMBERS = 5_000_000
"""Weights up to which a network is copied."""


@dataclass(frozen=True)
class NonFinite:
    """A backward pass from a loss that is not finite.

    step: updates before it. loss. where: the line. module: the first whose output was not finite, "" where all were.
    inputs: whether what the network was given was not finite already. weights: name of a parameter that was not.
    """

    step: int
    loss: float
    where: str
    module: str
    inputs: bool
    weights: str


class Finite(Listener):
    """Records ``finite.first`` (None while all is well).

    Outputs are remembered weakly, in the order of the forward pass; they are looked at only once a loss is not finite,
    while the graph still holds them. On an accelerator the loss is read at every tenth step only, not to wait for it.
    """

    signals = ("finite.first",)
    matters = True
    absent = "saw no backward pass"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.outputs: list[tuple[weakref.ref[Tensor], weakref.ref[nn.Module]]] = []
        self.given: list[weakref.ref[Tensor]] = []
        self.scaled = False
        self.root: weakref.ref[nn.Module] | None = None

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("before_forward", "backward"))

    @override
    def scaler(self, scaler: Any, what: str, optimizer: Optimizer | None) -> None:
        self.scaled = self.scaled or bool(scaler.is_enabled())

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth == 0 and torch.is_grad_enabled():
            if len(self.outputs) > 5_000:
                self.outputs.clear()
            self.root = weakref.ref(module)
            self.given = [weakref.ref(one) for one in inputs if isinstance(one, Tensor)]

    @override
    def forward(self, module: nn.Module, inputs: tuple[Any, ...], output: Any, depth: int) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            self.outputs.append((weakref.ref(output), weakref.ref(module)))

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        held = self.live.values.setdefault("finite.first", None)
        outputs, self.outputs = self.outputs, []
        loss = next((root for root in roots if root.numel() == 1), None)
        if held is not None or loss is None or self.scaled:
            return
        if loss.device.type != "cpu" and self.live.step % 10:
            return
        if math.isfinite(loss.item()):
            return
        name = ""
        for output, module in outputs:
            tensor, owner = output(), module()
            if tensor is not None and owner is not None and _broken(tensor):
                name = self.live.names.module(owner)
                break
        root = None if self.root is None else self.root()
        given = [one for ref in self.given if (one := ref()) is not None]
        if not outputs and root is not None and given:
            name = self._asked(root, given)
        weights = next(
            (
                self.live.names.of(p)
                for root in self.live.names.roots
                for p in root.parameters()
                if p.is_floating_point() and _broken(p)
            ),
            "",
        )
        broken = any(_broken(one) for ref in self.given if (one := ref()) is not None and one.is_floating_point())
        self.live.values["finite.first"] = NonFinite(
            self.live.step, float(loss.detach()), str(self.live.where()), name, broken, weights
        )

    def _asked(self, root: nn.Module, given: list[Tensor]) -> str:
        """The first module whose output is not finite, by a copy: where the outputs were not remembered."""
        found: list[str] = []
        if sum(p.numel() for p in root.parameters()) > NUMBERS:
            return ""
        with generators_kept(), contextlib.suppress(Exception), torch.no_grad():
            trial = copied(root).train(root.training)
            for mine, its in zip(root.modules(), trial.modules(), strict=True):
                its.register_forward_hook(
                    lambda _, inputs, output, mine=mine: (
                        found.append(self.live.names.module(mine))
                        if isinstance(output, Tensor) and _broken(output)
                        else None
                    )
                )
            trial(*given)
        return found[0] if found else ""


def _broken(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not bool(torch.isfinite(tensor.detach()).all())
