"""Networks that are evaluated with batch norms which never saw a batch: averages of weights without statistics."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live

CHANGES = 5
"""Changes in place after which a weight is no longer the one it was initialised with."""


@dataclass
class Average:
    """A network that was evaluated with ``norms`` batch norms that never saw a batch, though its weights have changed.

    calls: such evaluations.
    """

    name: str
    where: str
    norms: int
    calls: int = 0


class Averages(Listener):
    """Records ``averages``: ``Average`` by the line of the evaluation."""

    signals = ("averages",)
    absent = "saw no evaluation of a network with batch norm"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.sums: MutableMapping[nn.Module, float] = weakref.WeakKeyDictionary()
        self.restored = False

    @override
    def state_loaded(self, owner: Any, state: Any) -> None:
        self.restored = self.restored or isinstance(owner, nn.Module)

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth or torch.is_grad_enabled() or module.training or self.restored or not self.live.step:
            return
        norms = [one for one in module.modules() if isinstance(one, _BatchNorm) and one.num_batches_tracked is not None]
        if not norms:
            return
        held = self.live.values.setdefault("averages", {})
        if any(one.training or int(one.num_batches_tracked or 0) for one in norms):
            return
        weights = [p for p in module.parameters() if p.dim() > 1]
        total = sum(float(p.detach().double().sum()) for p in weights[:4])
        # Changes through ``.data`` leave no version behind; those show from one evaluation to the next.
        moved = self.sums.setdefault(module, total) != total
        if weights and (moved or min(p._version for p in weights) >= CHANGES):
            where = str(self.live.where())
            one = held.setdefault(where, Average(type(module).__name__, where, len(norms)))
            one.calls += 1
