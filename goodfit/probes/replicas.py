"""Several processes that train one network: what each must have in common with the others, and what not.

Nothing is sent: each process writes numbers down, and who collects them compares.
"""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live

LOOKS = (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
BATCHES = 3


@dataclass
class Replica:
    """What one process knows of the network that it shares with others.

    where: the line that steps. sums: the sum of all its weights after some updates. batches: marks of its first ones.
    wrapped, raw: passes with gradients through the wrapper, and past it; raw_where: the line of the latter.
    """

    where: str = ""
    steps: int = 0
    sums: dict[int, float] = field(default_factory=dict)
    batches: list[float] = field(default_factory=list)
    wrapped: int = 0
    raw: int = 0
    raw_where: str = ""
    loader: str = ""


class Replicas(Listener):
    """Records ``replica`` where `DistributedDataParallel` wraps a network and there are several processes."""

    signals = ("replica",)
    absent = "saw no network that several processes train"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.facts = Replica()
        self.networks: list[weakref.ref[DistributedDataParallel]] | None = None

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("after_step",) if self.networks else ())

    def _wrappers(self) -> list[DistributedDataParallel]:
        """Found among all objects, once: a wrapper is usually made before the optimizer, with which watching begins."""
        if self.networks is None:
            self.networks = []
            there = torch.distributed.is_available() and torch.distributed.is_initialized()
            if there and torch.distributed.get_world_size() > 1:
                found = [one for one in gc.get_objects() if type(one) is DistributedDataParallel]
                self.networks = [weakref.ref(one) for one in found]
        return [one for ref in self.networks if (one := ref()) is not None]

    @override
    def batch(self, loader: Any, number: int, batch: Any) -> None:
        if len(self.facts.batches) < BATCHES:
            first = next((one for one in (batch if isinstance(batch, list | tuple) else [batch]) if _plain(one)), None)
            if first is not None:
                flat = first.detach().reshape(-1)[:4096].double().cpu()
                self.facts.batches.append(float((flat * torch.arange(1, len(flat) + 1, dtype=torch.float64)).sum()))
                self.facts.loader = self.facts.loader or str(self.live.where())

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth or not torch.is_grad_enabled() or self.live.step > 30:
            return
        if isinstance(module, DistributedDataParallel):
            self.facts.wrapped += 1
        elif self.networks and any(one.module is module for one in self._wrappers()):
            self.facts.raw += 1
            self.facts.raw_where = self.facts.raw_where or str(self.live.where())

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        wrappers = self._wrappers()
        if not wrappers:
            return
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        shared = [p for one in wrappers for p in one.parameters() if p.requires_grad and _plain(p)]
        if not any(id(p) in held for p in shared):
            return
        self.live.values["replica"] = facts = self.facts
        facts.where = facts.where or str(self.live.where())
        facts.steps += 1
        if facts.steps in LOOKS:
            facts.sums[facts.steps] = float(torch.stack([p.detach().double().sum().cpu() for p in shared]).sum())


def _plain(one: Any) -> bool:
    """An ordinary tensor, whole in this process: shards differ from process to process."""
    return isinstance(one, Tensor) and type(one) in (Tensor, nn.Parameter) and one.layout == torch.strided
