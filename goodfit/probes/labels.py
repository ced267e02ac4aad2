"""Whether a sample keeps its label from one epoch to the next."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live

ROWS = 512
FIRST = 16
"""Batches at the start of each of three epochs whose rows are compared; larger batches are left alone."""


@dataclass
class LabelFacts:
    """Samples of one loader that came again with exactly the same inputs (``again``), and of them with another label
    (``changed``). Inputs that several samples share do not count."""

    where: str
    again: int = 0
    changed: int = 0
    first: dict[float, int] = field(default_factory=dict)
    double: set[float] = field(default_factory=set)
    seen: set[float] = field(default_factory=set)
    begins: int = 0


class Labels(Listener):
    """Records ``labels.changed``: ``LabelFacts`` for each loader of inputs and class numbers."""

    signals = ("labels.changed",)
    absent = "saw no DataLoader of inputs and class numbers"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.facts: dict[str, LabelFacts] = {}
        self.now: MutableMapping[Any, LabelFacts] = weakref.WeakKeyDictionary()

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("batch",) if any(0 < one.begins <= 2 for one in self.facts.values()) else ())

    @override
    def loader_begins(self, loader: Any) -> None:
        where = str(self.live.where())  # a program may make a new loader for each epoch
        facts = self.now[loader] = self.facts.setdefault(where, LabelFacts(where))
        facts.begins += 1
        facts.seen.clear()
        if facts.begins > 3:
            facts.first.clear()

    @override
    def batch(self, loader: Any, number: int, batch: Any) -> None:
        facts = self.now.get(loader)
        if facts is None or facts.begins > 3 or not isinstance(batch, list | tuple) or len(batch) != 2:
            return
        given, labels = batch
        if not isinstance(given, Tensor) or not isinstance(labels, Tensor) or labels.dtype != torch.int64:
            return
        if not given.is_floating_point() or given.dim() < 2 or labels.shape != given.shape[:1]:
            return
        if number >= FIRST or len(given) > ROWS:
            return
        self.live.values.setdefault("labels.changed", {})[facts.where] = facts
        flat = given.detach().reshape(len(given), -1)[:, :512].double()
        marks = (flat @ torch.arange(1, flat.shape[1] + 1, dtype=torch.float64, device=flat.device).sqrt()).tolist()
        for mark, label in zip(marks, labels.tolist(), strict=True):
            if mark in facts.seen:
                facts.double.add(mark)
            facts.seen.add(mark)
            if facts.begins == 1:
                facts.first[mark] = label
            elif mark in facts.first and mark not in facts.double:
                facts.again += 1
                facts.changed += facts.first[mark] != label
