"""More augmentation for rare classes: each sample gets the others' work with a chance that its class's rarity sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from goodfit import keyed
from goodfit.technique import Until, technique
from goodfit.techniques.batch_inputs import active, choose, one_by_one
from goodfit.types import Batch, Inputs, Moment


def chances(counts: Tensor, strength: float) -> Tensor:
    """The chance of each class's samples to be augmented: ``(smallest / count) ** strength``, float32.

    counts: ``(classes,)`` samples of each class. A class without samples gets 1 and is no measure for the others.
    """
    smallest = counts[counts > 0].min() if bool((counts > 0).any()) else torch.ones_like(counts[:1]).squeeze()
    return (smallest / counts.clamp(min=1).double()).clamp(max=1).pow(strength).float()


def keep_some(before: Batch, after: Batch, changed: Tensor) -> Batch:
    """``after`` for the samples that are ``changed`` (``(batch,)`` bool), ``before`` for the others.

    Where inputs have got another shape or targets were mixed, that is no work on single samples: all of ``after``.
    """
    if after.targets is not before.targets or after.inputs is before.inputs:
        return after

    def pick(new: Tensor, old: Tensor) -> Tensor:
        return new if new is old else choose(new, one_by_one(changed, new), old)

    if isinstance(after.inputs, dict) and isinstance(before.inputs, dict):
        pairs = {key: (value, before.inputs[key]) for key, value in after.inputs.items()}
    else:
        assert isinstance(after.inputs, Tensor)
        assert isinstance(before.inputs, Tensor)
        pairs = {"": (after.inputs, before.inputs)}
    if any(new.shape != old.shape or new.dtype != old.dtype for new, old in pairs.values()):
        return after
    picked: dict[str, Tensor] = {key: pick(new, old) for key, (new, old) in pairs.items()}
    inputs: Inputs = picked if isinstance(after.inputs, dict) else picked[""]
    return after._replace(inputs=inputs)


@technique("batch")
class Minority:
    """Augment rare classes more: leave many samples of common classes as they are.

    It changes nothing by itself. Every other batch technique that works on single samples (flips, crops, noise, left
    out words, ...; not those that mix samples) is applied to a sample only with the chance of its class, all of them
    or none in one epoch. The rarest class is always augmented, so that its few samples look different each time.

    Formula: chance of class c: ``(n_min / n_c) ** strength``, with the training part's counts; of mixed or soft
    targets the mean of their classes' chances.
    Source: augmentation of different strength for each class: Ahn et al. 2023 (CUDA), who find the strength while
    training. Ours sets it by the counts, and draws per sample and epoch by a key.
    Helps: imbalance with augmentation that costs common classes something (strong policies, noise), beside balanced
    sampling, which shows the same few samples again and again. Hurts: where augmentation is good for every class; and
    the changed look itself becomes a sign of the rare class, so look at its precision.

    strength: 0 treats all classes alike, 1 augments in inverse proportion to the counts.
    until: from here on all classes alike, such as ``"80%"`` or ``"-5 epochs"``, the last five.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "table", "text", "series", "tensor")

    strength: Annotated[float, Field(ge=0, le=4)] = 0.5
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch as it is: the work is done where the others are, see `by_rarity`."""
        return batch


@dataclass(frozen=True)
class Graded:
    """A batch technique that works on some samples only, more often on those of rare classes."""

    technique: Any
    minority: Minority
    chances: Tensor

    @property
    def name(self) -> str:
        """The technique's name."""
        return str(self.technique.name)

    @property
    def until(self) -> Any:
        """The technique's end."""
        return self.technique.until

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch, with some of its samples changed."""
        after: Batch = self.technique(batch, moment)
        if not active(self.minority, moment):
            return after
        targets = batch.targets
        chance = targets.float() @ self.chances if targets.is_floating_point() else self.chances[targets]
        draw = keyed.uniform(keyed.key(moment.seed, "minority", moment.epoch), batch.index)[:, 0]
        return keep_some(batch, after, draw < chance)


def by_rarity(techniques: Sequence[Any], counts: Tensor) -> tuple[Any, ...]:
    """These batch techniques; with `Minority` among them, the others graded by the rarity of each sample's class.

    counts: ``(classes,)`` samples of each class in the training part, on the device of the batches.
    """
    found = next((one for one in techniques if isinstance(one, Minority)), None)
    if found is None:
        return tuple(techniques)
    shares = chances(counts, found.strength)
    rest = [one for one in techniques if one is not found]
    return tuple(one if getattr(one, "mixes", False) else Graded(one, found, shares) for one in rest)
