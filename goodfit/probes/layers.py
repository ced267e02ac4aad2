"""Layers at work in the first steps: what a batch norm averages over, and linear layers right behind each other."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live

CALLS = 12
FEW = 4
"""Numbers per channel below which a batch norm of a running program is told of: two or three say nothing."""


class Layers(Listener):
    """Records ``statistic.*`` (the batch norm with the fewest numbers) and ``linear.pairs``, ``linear.count``."""

    signals = (
        "statistic.norms", "statistic.samples", "statistic.numbers", "statistic.where", "linear.pairs", "linear.count",
    )  # fmt: skip
    absent = "saw no batch norm or linear layer at work"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.passes = 0
        self.asks = False
        self.where = ""
        self.last: tuple[weakref.ref[Tensor], weakref.ref[nn.Module]] | None = None
        self.pairs: dict[tuple[str, str], int] = {}
        self.linear: set[str] = set()
        self.numbers: list[tuple[int, int]] = []

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth == 0:
            self.asks = self.passes < CALLS and torch.is_grad_enabled()
            self.passes += self.asks
            if self.asks:
                self.where = str(self.live.where())
            self.last = None
        if not self.asks or not isinstance(module, nn.Linear) or not inputs or self.last is None:
            return
        if inputs[0] is self.last[0]():
            first = self.last[1]()
            if isinstance(first, nn.Linear) and first is not module:
                middle = first.out_features
                if middle >= min(first.in_features, module.out_features):  # narrower: a factorisation
                    pair = (self.live.names.module(first), self.live.names.module(module))
                    self.pairs[pair] = self.pairs.get(pair, 0) + 1

    @override
    def forward(self, module: nn.Module, inputs: tuple[Any, ...], output: Any, depth: int) -> None:
        if not self.asks:
            return
        if isinstance(module, nn.Linear) and isinstance(output, Tensor):
            self.last = (weakref.ref(output), weakref.ref(module))
            self.linear.add(self.live.names.module(module))
        if isinstance(module, _BatchNorm) and module.training and isinstance(output, Tensor) and module.affine:
            self.numbers.append((len(output), output.numel() // max(1, output.shape[1])))
        if depth == 0:
            self._tell()

    def _tell(self) -> None:
        values = self.live.values
        if self.linear:
            values["linear.count"] = len(self.linear)
            values["linear.pairs"] = [pair for pair, seen in self.pairs.items() if seen >= 3]
        if self.numbers and self.passes >= 3:
            # The largest batch counts: the last one of an epoch may be small. Large maps make up for few samples.
            samples, numbers = max(self.numbers, key=lambda one: one[1])
            values["statistic.norms"] = len(self.numbers)
            values["statistic.samples"] = samples if numbers < FEW else max(samples, 16)
            values["statistic.numbers"] = numbers
            values["statistic.where"] = self.where
