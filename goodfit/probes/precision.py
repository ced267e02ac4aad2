"""Mixed precision that is set up by half: a scaler without autocast, and an epsilon that the number format loses."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live


@dataclass
class Scaling:
    """Losses that a scaler multiplied. cast: of the forward passes before them, those under autocast. lowest: whether
    a parameter is of a 16-bit format itself."""

    where: str
    scaled: int = 0
    passes: int = 0
    cast: int = 0
    half: bool = False


@dataclass(frozen=True)
class LostEpsilon:
    """An optimizer whose epsilon is zero in the number format of its parameters."""

    name: str
    where: str
    epsilon: float
    dtype: str
    parameters: int


class Precision(Listener):
    """Records ``precision.scaling`` and ``precision.epsilon``."""

    signals = ("precision.scaling", "precision.epsilon")
    absent = "saw neither a scaler nor an optimizer with an epsilon"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.asked: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self.passes = self.cast = 0
        self.half = False

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        # A model may switch autocast on inside its own forward, so every call is asked.
        if not torch.is_grad_enabled():
            return
        self.passes += depth == 0
        self.cast += torch.is_autocast_enabled() or torch.is_autocast_enabled("cpu")

    @override
    def scaler(self, scaler: Any, what: str, optimizer: Optimizer | None) -> None:
        if what != "scale" or not scaler.is_enabled():
            return
        held = self.live.values.setdefault("precision.scaling", None)
        if held is None:
            held = self.live.values["precision.scaling"] = Scaling(str(self.live.where()))
        if self.passes:
            held.scaled += 1
            held.passes += self.passes
            held.cast += self.cast
            held.half = self.half
        self.passes = self.cast = 0

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        if optimizer in self.asked:
            return
        self.asked.add(optimizer)
        held = self.live.values.setdefault("precision.epsilon", [])
        for group in optimizer.param_groups:
            self.half = self.half or any(p.dtype in (torch.float16, torch.bfloat16) for p in group["params"])
            epsilon = group.get("eps")
            if isinstance(epsilon, float):
                lost = [p for p in group["params"] if float(torch.tensor(epsilon, dtype=p.dtype)) == 0.0]
                if lost:
                    kind = str(lost[0].dtype).removeprefix("torch.")
                    held.append(LostEpsilon(type(optimizer).__name__, str(self.live.where()), epsilon, kind, len(lost)))
