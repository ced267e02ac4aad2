"""Batch techniques that read something from the training part once, before the first step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from goodfit import keyed
from goodfit.types import Batch, InputSpec, Moment, Part, to_device


@dataclass(frozen=True)
class Fitted:
    """A batch technique with what it read from the training part: called like any other.

    A technique that wants to know its data has two methods more: ``read(part, spec, device)`` says what it wants to
    keep, and ``change(batch, moment, known)`` is its call with that at hand. Without, it works by plain assumptions.
    """

    technique: Any
    known: Any

    @property
    def name(self) -> str:
        """The technique's name."""
        return str(self.technique.name)

    @property
    def until(self) -> Any:
        """The technique's end."""
        return self.technique.until

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch, changed."""
        changed: Batch = self.technique.change(batch, moment, self.known)
        return changed


def fit_batch(techniques: Iterable[Any], part: Part, spec: InputSpec, *, device: torch.device) -> tuple[Any, ...]:
    """These batch techniques; those that want to have read the training part."""
    return tuple(Fitted(one, one.read(part, spec, device)) if hasattr(one, "read") else one for one in techniques)


def some_of(part: Part, device: torch.device, most: int = 4096) -> Batch:
    """A keyed draw of at most ``most`` samples of a part."""
    order = keyed.permutation(keyed.key(0, "some_of"), len(part))
    return to_device(part.take(order[:most]), device)
