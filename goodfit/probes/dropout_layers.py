"""Whether dropout comes back after an evaluation."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live


@dataclass
class Dropouts:
    """A network in train mode whose dropout layers all dropped at first (``steps`` passes) and none does since
    (``off`` passes in a row); where: the line of its forward pass."""

    network: str
    where: str
    rate: float
    steps: int = 0
    off: int = 0


class DropoutLayers(Listener):
    """Records ``dropout.lost``: ``Dropouts`` for each network."""

    signals = ("dropout.lost",)
    absent = "saw no dropout"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.held: MutableMapping[nn.Module, tuple[list[weakref.ref[_DropoutNd]], Dropouts]]
        self.held = weakref.WeakKeyDictionary()

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("before_forward",) if any(refs for refs, _ in self.held.values()) else ())

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth or not torch.is_grad_enabled() or not module.training:
            return
        if module not in self.held:
            found = [one for one in module.modules() if isinstance(one, _DropoutNd) and one.p > 0]
            facts = Dropouts(type(module).__name__, "", max((one.p for one in found), default=0.0))
            self.held[module] = ([weakref.ref(one) for one in found], facts)
        refs, facts = self.held[module]
        layers = [one for ref in refs if (one := ref()) is not None]
        if not layers:
            return
        if any(one.training and one.p > 0 for one in layers):
            facts.steps, facts.off = facts.steps + 1, 0
        else:
            facts.off += 1
            facts.where = facts.where or str(self.live.where())
        self.live.values.setdefault("dropout.lost", {})[id(module)] = facts
