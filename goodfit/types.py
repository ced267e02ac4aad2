"""The nouns of goodfit. They carry values and do no work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

Inputs = Tensor | dict[str, Tensor]
Severity = Literal["error", "warning", "advice"]
TaskKind = Literal["classification", "regression", "language", "sequence", "forecast"]
InputKind = Literal["image", "table", "text", "language", "sequence", "series", "tensor"]


class Batch(NamedTuple):
    """Some samples on their way to the model.

    inputs: a tensor, or a dict of tensors, whose first axis is the sample. Images are uint8 or float in
        [0, 255], ``(batch, channels, height, width)``: normalisation is the last thing before the model.
    targets: class indices ``(batch,)`` int64, class probabilities ``(batch, classes)`` float, values ``(batch,)`` or
        ``(batch, horizon)`` float, or token ids ``(batch, length)`` int64 in which -100 is ignored.
    weight: ``(batch,)`` float, or None where every sample counts the same.
    index: ``(batch,)`` int64, the samples' own numbers in their source; all randomness of a sample is keyed by it.
    """

    inputs: Inputs
    targets: Tensor
    weight: Tensor | None
    index: Tensor  # type: ignore[assignment]  # takes the place of tuple.index, which no batch needs


@dataclass(frozen=True)
class Moment:
    """Where a run stands: everything a schedule or a random choice may depend on.

    Step counts optimizer updates from 0; ``total`` is the number the run will make. ``classes`` is the number of
    classes that targets name, 0 where targets are something else.
    """

    seed: int
    epoch: int
    step: int
    total: int
    steps_per_epoch: int = 1
    classes: int = 0

    @property
    def fraction(self) -> float:
        """Share of the run that lies behind this step, in [0, 1)."""
        return self.step / max(self.total, 1)


@dataclass(frozen=True)
class Task:
    """What is to be predicted.

    classes: names in index order (classification) or the tokens' names (language and sequence, may be empty for large
        ones).
    outputs: numbers the model gives per sample (per position for language and sequence).
    """

    kind: TaskKind
    target: str
    outputs: int
    classes: tuple[str, ...] = ()
    horizon: int = 0

    @property
    def binary(self) -> bool:
        """True for classification between two classes."""
        return self.kind == "classification" and len(self.classes) == 2

    @property
    def tokens(self) -> bool:
        """True where a target is a row of token ids: language, and sequences from sequences."""
        return self.kind in ("language", "sequence")


@dataclass(frozen=True)
class InputSpec:
    """What a model's input looks like, without the batch axis.

    shape: image ``(channels, height, width)``; text and language ``(length,)``; sequence ``(source length, target
        length)``; series ``(lookback, channels)``; tensor: the feature shape; table: ``()``.
    numeric, cardinalities: of a table: how many numeric columns, and how many codes each category column has
        (code 0 is "missing or never seen").
    vocabulary: number of token ids (0 is padding) of text, language, a sequence's source, or a table's text columns;
        ``cardinalities`` of a sequence are those of source and target.
    length: tokens of a table's text columns, 0 without them.
    image: shape of a table's image column, or ``()``.
    shift: of text: its token ids are the tokenizer's own plus this, where that one's 0 is no padding.
    """

    kind: InputKind
    shape: tuple[int, ...] = ()
    numeric: int = 0
    cardinalities: tuple[int, ...] = ()
    vocabulary: int = 0
    length: int = 0
    image: tuple[int, ...] = ()
    shift: int = 0


@dataclass(frozen=True)
class Finding:
    """Something a check or an audit found: true, located, explained and curable.

    where: a file and row, a column, a module, a parameter, or a source line.
    evidence: numbers a reader can verify.
    patch: a change of the recipe that is expected to cure it, such as ``{"optimizer.lr": 3e-4}``.
    why: what it does to the training, where that does not go without saying.
    step: the optimizer update at which it was certain; None where it was found without training.
    folded: what follows from it and is therefore not a finding of its own.
    proof: what a replay with the fix has shown, or why there was none; empty where none was asked for.
    """

    rule: str
    severity: Severity
    message: str
    where: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    fix: str = ""
    patch: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    step: int | None = None
    folded: tuple[str, ...] = ()
    proof: str = ""


class Part(Protocol):
    """One part of the data (train, valid or test): all targets at hand, inputs by position or as a stream."""

    @property
    def targets(self) -> Tensor:
        """All targets, in the order of positions."""

    @property
    def index(self) -> Tensor:
        """``(n,)`` int64: each position's own sample number in the source."""

    def __len__(self) -> int: ...

    def take(self, positions: Tensor) -> Batch:
        """The samples at these positions, decoded."""

    def batches(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        """One batch for each tensor of positions, in order."""


@dataclass(frozen=True)
class Tensors:
    """A part that lies in memory as whole tensors. texts: what its token numbers were made from, by position."""

    inputs: Inputs
    targets: Tensor
    index: Tensor
    weight: Tensor | None = None
    texts: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def take(self, positions: Tensor) -> Batch:
        """Gather the samples at ``positions`` ``(batch,)`` int64."""
        positions = positions.to(self.index.device)
        inputs = (
            {name: value.index_select(0, positions) for name, value in self.inputs.items()}
            if isinstance(self.inputs, dict)
            else self.inputs.index_select(0, positions)
        )
        weight = None if self.weight is None else self.weight.index_select(0, positions)
        return Batch(inputs, self.targets.index_select(0, positions), weight, self.index.index_select(0, positions))

    def batches(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        """One gathered batch for each tensor of positions."""
        for positions in plan:
            yield self.take(positions)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on ``device``; no copy where it already is."""
    if batch.index.device == device:
        return batch

    def move(value: Tensor) -> Tensor:
        return value.to(device, non_blocking=True)

    inputs = {k: move(v) for k, v in batch.inputs.items()} if isinstance(batch.inputs, dict) else move(batch.inputs)
    weight = None if batch.weight is None else move(batch.weight)
    return Batch(inputs, move(batch.targets), weight, move(batch.index))
