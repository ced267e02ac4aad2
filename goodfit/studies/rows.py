"""Some rows of a part, as a part: what learning curves, folds and the rows that judge a study are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from goodfit import keyed
from goodfit.data.language import Windows
from goodfit.data.loaders import LoaderPart
from goodfit.data.pairs import Pairs
from goodfit.errors import DataError
from goodfit.types import Batch, Part, Tensors

PICKS = 1 / 3
"""Share of the validation part that picks the best weights in a study; the rest judges. Picking one of some twenty
checkpoints of one run, with the log loss to decide ties, needs fewer rows than telling two techniques apart."""


def subset(part: Part, positions: Tensor) -> Part:
    """The samples of a part at these positions, in this order; a position may come several times.

    Sample numbers (and with them all draws that are keyed by them) stay those of the source. Raises DataError for a
    DataLoader, whose samples have no positions.
    """
    if isinstance(part, LoaderPart):
        raise DataError("the samples of a DataLoader cannot be chosen by position; give its dataset")
    if isinstance(part, Tensors):
        batch = part.take(positions)
        texts = None if part.texts is None else [part.texts[n] for n in positions.tolist()]
        return Tensors(batch.inputs, batch.targets, batch.index, batch.weight, texts)
    if isinstance(part, Pairs):
        chosen: dict[str, Any] = {}
        for one in fields(part):
            value = getattr(part, one.name)
            chosen[one.name] = value[positions] if isinstance(value, Tensor) else tuple(value[n] for n in positions)
        return Pairs(**chosen)
    if hasattr(part, "origins"):  # windows of a series: each is its time in one shared track
        return replace(part, origins=part.origins[positions], index=part.index[positions])  # type: ignore[type-var]
    return View(part, positions)


@dataclass(frozen=True)
class View:
    """Some positions of another part, read through it."""

    part: Part
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def targets(self) -> Tensor:
        """The chosen samples' targets."""
        return self.part.targets[self.positions]

    @property
    def index(self) -> Tensor:
        """The chosen samples' numbers in the source."""
        return self.part.index[self.positions]

    @property
    def characters(self) -> int:
        """Of a language: the share of the whole part's characters that these windows stand for."""
        return round(getattr(self.part, "characters", 0) * len(self.positions) / max(len(self.part), 1))

    def take(self, positions: Tensor) -> Batch:
        """The samples at these positions of the view."""
        return self.part.take(self.positions[positions.cpu()])

    def batches(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        """One batch for each tensor of positions of the view."""
        return self.part.batches([self.positions[positions.cpu()] for positions in plan])


def halves(valid: Part, *, seed: int) -> tuple[Part, Part]:
    """``(picks, judges)``: the validation part cut by a keyed permutation; what is in order of time is cut once."""
    count = len(valid)
    if count < 3:
        raise DataError(f"a study needs validation rows that pick weights and others that judge, and there are {count}")
    first = max(1, round(PICKS * count))
    timed = isinstance(valid, Windows) or hasattr(valid, "origins")
    order = torch.arange(count) if timed else keyed.permutation(keyed.key(seed, "judges"), count)
    pick, judge = order[:first].sort().values, order[first:].sort().values
    if hasattr(valid, "origins"):  # targets of neighbouring windows overlap: what lies between them belongs to neither
        judge = judge[min(int(valid.horizon) - 1, len(judge) - 1) :]  # type: ignore[attr-defined]
    return subset(valid, pick), subset(valid, judge)
