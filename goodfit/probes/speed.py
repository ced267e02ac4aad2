"""What costs time and teaches nothing: waiting for data, padding, float32 on an accelerator, decay of norms."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live

BATCHES = 20


@dataclass
class Waiting:
    """Of ``seconds`` over ``batches`` batches, ``waited`` passed inside the loader; workers: that it has."""

    where: str
    workers: int
    batches: int = 0
    seconds: float = 0.0
    waited: float = 0.0


@dataclass
class Padding:
    """Of ``tokens`` tokens that a network was given, ``pads`` are padding."""

    where: str
    batches: int = 0
    tokens: int = 0
    pads: int = 0


@dataclass(frozen=True)
class Work:
    """How an accelerator is used. odd: linear layers whose sizes are no multiple of 8, and their number in all.

    plain_images: whether convolutions get images in the ordinary memory format.
    """

    where: str
    half: bool
    odd: int
    layers: int
    plain_images: bool


class Speed(Listener):
    """Records ``speed.waiting``, ``speed.padding``, ``speed.work`` and ``speed.decayed``."""

    signals = ("speed.waiting", "speed.padding", "speed.work", "speed.decayed")
    absent = "saw nothing that could be faster"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.asked: weakref.WeakSet[Any] = weakref.WeakSet()
        self.passes = 0

    @override
    def waited(self, loader: Any, began: float, ended: float) -> None:
        one = self.live.values.get("speed.waiting")
        if one is None:
            one = Waiting(str(self.live.where()), int(getattr(loader, "num_workers", 0)))
            self.live.values["speed.waiting"] = one
            self.last = ended
            return
        if one.batches < 10 * BATCHES:
            one.batches += 1
            one.seconds += ended - self.last
            one.waited += ended - began
        self.last = ended

    @override
    def loader_begins(self, loader: Any) -> None:
        self.last = time.perf_counter()  # what lies between two epochs counts for neither

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth or self.passes > BATCHES or not torch.is_grad_enabled() or not inputs:
            return
        given = inputs[0]
        if not isinstance(given, Tensor):
            return
        self.passes += 1
        if given.dtype == torch.int64 and given.dim() == 2:
            pads = {m.padding_idx for m in module.modules() if isinstance(m, nn.Embedding)} - {None}
            if len(pads) == 1:
                one = self.live.values.setdefault("speed.padding", Padding(str(self.live.where())))
                one.batches += 1
                one.tokens += given.numel()
                one.pads += int(torch.eq(given, int(pads.pop() or 0)).sum())
        if self.passes == BATCHES and given.device.type == "cuda":
            self._work(module, given)

    def _work(self, module: nn.Module, given: Tensor) -> None:
        linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
        odd = sum(bool(m.in_features % 8 or m.out_features % 8) for m in linear)
        narrow = any(p.dtype in (torch.float16, torch.bfloat16) for p in module.parameters())
        images = given.dim() == 4 and any(isinstance(m, nn.Conv2d) for m in module.modules())
        plain = images and not given.is_contiguous(memory_format=torch.channels_last)
        half = narrow or torch.is_autocast_enabled()
        self.live.values["speed.work"] = Work(str(self.live.where()), half, odd, len(linear), plain)

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        if optimizer in self.asked:
            return
        self.asked.add(optimizer)
        held = self.live.values.setdefault("speed.decayed", {})
        groups = [group for group in optimizer.param_groups if float(group.get("weight_decay") or 0) > 0]
        decayed = {id(p) for group in groups for p in group["params"]}
        kinds = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
        norms = [
            m
            for root in self.live.names.roots
            for m in root.modules()
            if isinstance(m, kinds) and any(id(p) in decayed for p in m.parameters(recurse=False))
        ]
        if norms:
            held[str(self.live.where())] = (len(norms), type(optimizer).__name__)
