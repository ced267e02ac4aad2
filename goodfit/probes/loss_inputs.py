"""What loss functions are given: shapes, ranges, and whether the rows are probabilities already."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import torch
from typing_extensions import override

from goodfit.observer.events import Listener, LossCall
from goodfit.observer.live import Live

THOROUGH = 20
"""Calls at each line that are looked at; after them every 100th."""


@dataclass(frozen=True)
class ClassLoss:
    """What the calls of ``cross_entropy`` at one line were given.

    calls: looked at. probabilities: calls whose rows all sum to one within 1e-3 and lie in [0, 1].
    classes: of the last call. value: the last loss. error: the largest departure of a row's sum from one.
    """

    where: str
    calls: int
    probabilities: int
    classes: int
    value: float
    error: float


class LossInputs(Listener):
    """Records ``loss.classes``: for each line that calls ``cross_entropy`` with class indices, what it is given."""

    signals = ("loss.classes",)
    absent = "saw no call of cross_entropy"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.calls: Counter[str] = Counter()

    @override
    def loss(self, call: LossCall) -> None:
        if call.name != "cross_entropy" or not call.input.requires_grad or call.input.dim() < 2:
            return
        where = str(self.live.where())
        self.calls[where] += 1
        if self.calls[where] > THOROUGH and self.calls[where] % 100:
            return
        with torch.no_grad():
            rows = call.input.detach().float()
            error = float((rows.sum(1) - 1).abs().max())
            inside = float(rows.min()) >= 0 and float(rows.max()) <= 1 + 1e-6
        held = self.live.values.setdefault("loss.classes", {})
        one = held.get(where, ClassLoss(where, 0, 0, 0, 0.0, 0.0))
        held[where] = replace(
            one,
            calls=one.calls + 1,
            probabilities=one.probabilities + (inside and error < 1e-3),
            classes=rows.shape[1],
            value=float(call.output.detach().mean()),
            error=max(one.error, error),
        )
