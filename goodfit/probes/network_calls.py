"""How networks are called: hooks that are passed by, and an output that loses its batch axis."""

from __future__ import annotations

import sys
import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live
from goodfit.observer.source import line_of

DEPTH = 12
"""Frames above a call that are searched for a ``forward`` that was called by itself."""
PASSES = 20


@dataclass
class Bypassed:
    """A module with hooks whose ``forward`` was called instead of the module. calls: how often."""

    name: str
    where: str
    hooks: int
    calls: int = 0


@dataclass(frozen=True)
class LostAxis:
    """The output of a batch of one sample has fewer axes than that of other batches."""

    network: str
    where: str
    usual: tuple[int, ...]
    single: tuple[int, ...]


@dataclass
class UnsettledNorm:
    """A spectral norm that was first used in eval mode, before one pass in train mode has estimated its vectors."""

    name: str
    where: str
    calls: int = 0


class NetworkCalls(Listener):
    """Records ``calls.bypassed``, ``calls.lost_axis`` and ``calls.unsettled``."""

    signals = ("calls.bypassed", "calls.lost_axis", "calls.unsettled")
    absent = "saw no network"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.passes = 0
        self.shapes: MutableMapping[nn.Module, tuple[int, ...]] = weakref.WeakKeyDictionary()
        self.settled: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.restored = False

    @override
    def state_loaded(self, owner: Any, state: Any) -> None:
        self.restored = self.restored or isinstance(owner, nn.Module)

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        for signal in self.signals:
            self.live.values.setdefault(signal, {})
        if depth == 0 and self.passes < PASSES and torch.is_grad_enabled():
            self.passes += 1
            self._direct(module)
        if module._forward_pre_hooks and module not in self.settled:
            self._norm(module)

    def _direct(self, module: nn.Module) -> None:
        frame = sys._getframe(1)
        for _ in range(DEPTH):
            if frame.f_back is None:
                return
            frame = frame.f_back
            if frame.f_code.co_name != "forward":
                continue
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module) and owner is not module:
                hooks = len(owner._forward_hooks) + len(owner._forward_pre_hooks)
                if hooks:
                    name = type(owner).__name__
                    held = self.live.values["calls.bypassed"]
                    one = held.setdefault(name, Bypassed(name, str(line_of(frame.f_back)), hooks))
                    one.calls += 1
                return

    def _norm(self, module: nn.Module) -> None:
        if not any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values()):
            return
        if module.training or self.restored:
            self.settled.add(module)
            return
        held = self.live.values["calls.unsettled"]
        where = str(self.live.where())
        one = held.setdefault(where, UnsettledNorm(self.live.names.module(module), where))
        one.calls += 1

    @override
    def forward(self, module: nn.Module, inputs: tuple[Any, ...], output: Any, depth: int) -> None:
        given = inputs[0] if inputs else None
        if depth or not isinstance(output, Tensor) or not isinstance(given, Tensor) or not given.dim():
            return
        if next(module.parameters(), None) is None:
            return
        if len(given) > 1:
            if output.shape[:1] == given.shape[:1]:
                self.shapes.setdefault(module, tuple(output.shape))
        elif (usual := self.shapes.get(module)) is not None and tuple(output.shape) == usual[1:]:
            lost = LostAxis(type(module).__name__, str(self.live.where()), usual, tuple(output.shape))
            self.live.values["calls.lost_axis"].setdefault(type(module).__name__, lost)
