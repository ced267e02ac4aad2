"""What networks are given: the scale of training inputs, that of evaluation inputs, and the layout of images."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live

CALLS = 10


@dataclass
class Moments:
    """Sums over samples of each column or channel. where: the line; calls: how many batches were looked at."""

    where: str = ""
    calls: int = 0
    count: int = 0
    rows: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, given: Tensor) -> None:
        """Take a batch in: ``(B, C)`` or ``(B, C, H, W)``."""
        flat = given.detach().double().transpose(0, 1).flatten(1)
        self.calls += 1
        self.rows += len(given)
        self.count += flat.shape[1]
        self.total = self.total + flat.sum(1).cpu()
        self.squares = self.squares + flat.square().sum(1).cpu()

    def read(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each column or channel."""
        mean = torch.as_tensor(self.total) / max(self.count, 1)
        spread = (torch.as_tensor(self.squares) / max(self.count, 1) - mean.square()).clamp_min(0).sqrt()
        return mean.tolist(), spread.tolist()


@dataclass(frozen=True)
class Differing:
    """Columns whose evaluation inputs lie elsewhere than the training inputs, ``count`` of ``of``; the widest gap."""

    network: str
    where: str
    count: int
    of: int
    trained: tuple[float, float]
    judged: tuple[float, float]
    rows: int


@dataclass(frozen=True)
class Layout:
    """Images whose channels stand last in front of a convolution that takes their height for channels."""

    where: str
    shape: tuple[int, ...]
    layer: str


@dataclass
class _Seen:
    train: Moments = field(default_factory=Moments)
    judge: Moments = field(default_factory=Moments)
    shape: tuple[int, ...] = ()
    pixels: bool = True
    first: str = ""


class NetworkInputs(Listener):
    """Records ``inputs.mean``, ``inputs.std``, ``inputs.nonfinite``, ``inputs.where`` of image inputs that reach a
    convolution or linear layer first, ``inputs.differing`` and ``inputs.layout``."""

    signals = ("inputs.mean", "inputs.std", "inputs.nonfinite", "inputs.differing", "inputs.layout")
    absent = "saw no image or table go into a network"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.seen: MutableMapping[nn.Module, _Seen] = weakref.WeakKeyDictionary()
        self.now: _Seen | None = None

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth:
            if self.now is not None and not self.now.first and next(module.children(), None) is None:
                self._first(self.now, module, inputs)
            return
        self.now = None
        given = inputs[0] if inputs else None
        if not isinstance(given, Tensor) or not given.is_floating_point() or given.dim() not in (2, 4):
            return
        if given.layout != torch.strided or given.requires_grad or given.shape[1] > 4096 or not given.numel():
            return
        seen = self.seen.setdefault(module, _Seen())
        training = torch.is_grad_enabled()
        if training and not seen.shape:
            seen.shape = tuple(given.shape)
        if seen.shape[1:] != tuple(given.shape[1:]):
            return
        moments = seen.train if training else seen.judge
        if moments.calls >= CALLS or (not training and (not seen.train.calls or len(given) < 8)):
            return
        if not moments.calls:
            moments.where = str(self.live.where())
        moments.add(given)
        if training:
            if seen.pixels and moments.calls <= 3:
                low, high = float(given.min()), float(given.max())
                whole = bool((given == given.round()).all())
                seen.pixels = whole and low >= 0 and 100 < high <= 255 and given[0].numel() >= 48
            self.now = seen
            if depth == 0 and next(module.children(), None) is None and not seen.first:
                self._first(seen, module, inputs)
        elif moments.rows >= 50:
            self._differ(module, seen)

    def _first(self, seen: _Seen, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """The first layer that does something."""
        if isinstance(module, (nn.Flatten, nn.Identity, nn.Unflatten)):
            return
        seen.first = type(module).__name__
        given = inputs[0] if inputs else None
        shape = seen.shape
        if (
            isinstance(module, nn.Conv2d)
            and isinstance(given, Tensor)
            and tuple(given.shape) == shape
            and shape[3] in (1, 3, 4)
            and shape[1] == module.in_channels
            and shape[2] == shape[1] > 8
        ):
            held = self.live.values.setdefault("inputs.layout", [])
            held.append(Layout(seen.train.where, shape, self.live.names.module(module)))

    @override
    def forward(self, module: nn.Module, inputs: tuple[Any, ...], output: Any, depth: int) -> None:
        seen, self.now = (self.now, None) if depth == 0 else (None, self.now)
        if seen is None or seen.train.calls != 3:
            return
        values = self.live.values
        values.setdefault("inputs.layout", [])
        image = len(seen.shape) == 4 and seen.shape[1] <= 4
        if (image or seen.pixels) and seen.first.startswith(("Conv", "Linear")) and "inputs.mean" not in values:
            mean, spread = seen.train.read()
            centre = sum(mean) / len(mean)
            between = sum((one - centre) ** 2 for one in mean) / len(mean)
            values["inputs.mean"] = centre
            values["inputs.std"] = (sum(one * one for one in spread) / len(spread) + between) ** 0.5
            values["inputs.nonfinite"] = 0
            values["inputs.where"] = seen.train.where

    def _differ(self, module: nn.Module, seen: _Seen) -> None:
        if seen.train.rows < 50:
            return
        held: dict[int, Differing] = self.live.values.setdefault("inputs.differing", {})
        (mean, spread), (other, width) = seen.train.read(), seen.judge.read()
        wrong = [
            k
            for k in range(len(mean))
            if spread[k] > 0
            and (abs(other[k] - mean[k]) > 2 * spread[k] or not spread[k] / 2.5 <= width[k] <= 2.5 * spread[k])
        ]
        moving = sum(one > 0 for one in spread)
        held.pop(id(module), None)
        if wrong and len(wrong) >= 0.5 * moving:
            k = max(wrong, key=lambda k: abs(other[k] - mean[k]) / spread[k])
            held[id(module)] = Differing(
                self.live.names.module(module),
                seen.judge.where,
                len(wrong),
                moving,
                (mean[k], spread[k]),
                (other[k], width[k]),
                seen.judge.rows,
            )
