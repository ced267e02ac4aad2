"""In which mode the network ran: trained in eval mode, evaluated in train mode, dropout that never rests."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer
from typing_extensions import override

from goodfit.observer.events import Listener, LossCall
from goodfit.observer.live import Live


@dataclass
class ModeFacts:
    """How one network was run.

    name; layers: its layers that behave otherwise in train mode (dropout that drops, batch norm), by name.
    steps: updates from a forward pass in train mode. eval_steps: the longest run of updates, one after the other, from
    forward passes in eval mode after train mode had been seen; eval_where: the line of that forward pass.
    never: updates so far, all from eval mode. train_evals: forward passes in train mode, without gradients, on data
    that is only evaluated; train_where: their line.
    """

    name: str
    layers: tuple[str, ...]
    steps: int = 0
    eval_steps: int = 0
    eval_where: str = ""
    never: int = 0
    never_where: str = ""
    train_evals: int = 0
    train_where: str = ""


@dataclass
class DropoutFacts:
    """Dropout at one line that dropped while its network was in eval mode. fresh: by a layer made on the spot."""

    where: str
    rate: float
    calls: int
    fresh: bool


class _Root:
    """What is remembered of one network between its forward pass and the step."""

    def __init__(self, module: nn.Module) -> None:
        self.layers = [weakref.ref(one) for one in module.modules() if _has_modes(one)]
        self.mode: bool | None = None
        self.where = ""
        self.trained = False
        self.run = 0


class Modes(Listener):
    """Records ``mode.networks`` (by network) and ``mode.dropout`` (by line)."""

    signals = ("mode.networks", "mode.dropout")
    matters = True
    absent = "saw no network with dropout or batch norm that was trained"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.roots: MutableMapping[nn.Module, _Root] = weakref.WeakKeyDictionary()
        self.outer: nn.Module | None = None
        self.loader: weakref.ref[Any] | None = None
        self.fresh_batch = False
        self.training_loaders: weakref.WeakSet[Any] = weakref.WeakSet()
        self.pending: tuple[nn.Module, str] | None = None

    @override
    def batch(self, loader: Any, number: int, batch: Any) -> None:
        self.loader, self.fresh_batch = weakref.ref(loader), True

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        loader = None if self.loader is None else self.loader()
        if loader is not None and self.fresh_batch:
            self.training_loaders.add(loader)

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth:
            return
        self.outer = module
        root = self.roots.get(module)
        if root is None:
            root = self.roots[module] = _Root(module)
        if not root.layers:
            return
        if torch.is_grad_enabled():
            root.mode, root.where = module.training, str(self.live.where())
        elif module.training and root.trained and any(_drops(one) for one in _alive(root)):
            self._evaluated(module)

    def _evaluated(self, module: nn.Module) -> None:
        loader = None if self.loader is None else self.loader()
        where = str(self.live.where())
        if loader is not None and self.fresh_batch and loader not in self.training_loaders:
            self._count_evaluation(module, where)
        else:
            self.pending = (module, where)

    @override
    def loss(self, call: LossCall) -> None:
        if self.pending is not None and not torch.is_grad_enabled():
            module, where = self.pending
            self.pending = None
            self._count_evaluation(module, where)

    def _count_evaluation(self, module: nn.Module, where: str) -> None:
        facts = self._facts(module)
        facts.train_evals += 1
        facts.train_where = facts.train_where or where

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        self.pending = None
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for module, root in list(self.roots.items()):
            if root.mode is None or not root.layers or not any(id(p) in held for p in module.parameters()):
                continue
            facts = self._facts(module)
            if root.mode:
                root.trained, root.run = True, 0
                facts.steps += 1
            elif root.trained:
                root.run += 1
                if root.run >= facts.eval_steps:
                    facts.eval_steps, facts.eval_where = root.run, root.where
            else:
                facts.never += 1
                facts.never_where = root.where
            root.mode = None

    @override
    def dropout(self, rate: float, training: bool, module: nn.Module | None, told: bool) -> None:
        outer = self.outer
        if not training or rate <= 0 or module is None or outer is None or outer.training:
            return
        layer = isinstance(module, _DropoutNd)
        fresh = layer and all(one is not module for one in outer.modules())
        if (layer and not fresh) or (told and not layer):  # switched on in eval mode on purpose
            return
        held = self.live.values.setdefault("mode.dropout", {})
        where = str(self.live.where())
        facts = held.setdefault(where, DropoutFacts(where, rate, 0, fresh))
        facts.calls += 1

    @override
    def woken(self) -> None:
        self.pending = None
        for root in self.roots.values():
            root.mode, root.run = None, 0

    def _facts(self, module: nn.Module) -> ModeFacts:
        held: dict[int, ModeFacts] = self.live.values.setdefault("mode.networks", {})
        self.live.values.setdefault("mode.dropout", {})
        if id(module) not in held:
            layers = tuple(self.live.names.module(one) for one in _alive(self.roots[module]))
            held[id(module)] = ModeFacts(type(module).__name__, layers[:20])
        return held[id(module)]


def _has_modes(module: nn.Module) -> bool:
    if isinstance(module, _DropoutNd):
        return module.p > 0
    return isinstance(module, _NormBase) and module.track_running_stats


def _drops(module: nn.Module) -> bool:
    return module.training and _has_modes(module)


def _alive(root: _Root) -> Iterator[nn.Module]:
    return (one for held in root.layers if (one := held()) is not None)
