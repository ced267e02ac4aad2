"""Augmentation policies, whole batches at once and another operation for each image: AutoAugment and its heirs."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from goodfit import keyed
from goodfit.errors import RecipeError
from goodfit.technique import Count, Until, technique
from goodfit.techniques.batch_inputs import active, like, on_images
from goodfit.techniques.batch_operations import operate
from goodfit.techniques.batch_policies import NAMES, SIGNED, Name, found, strengths
from goodfit.types import Batch, Moment

BINS = 31
"""Strengths of RandAugment and TrivialAugment: 0 (nothing) to 30."""


def by_policy(images: Tensor, which: Tensor, level: Tensor, negative: Tensor, *, bins: int, wide: bool) -> Tensor:
    """Do to each image the operation drawn for it.

    images: ``(batch, 1 or 3, height, width)`` in [0, 255]; floats are rounded to bytes, which the operations are
    defined on, and keep their dtype. which: ``(batch,)`` int64, places in `batch_policies.NAMES`. level: ``(batch,)``
    int64 below ``bins``. negative: ``(batch,)`` bool, whether a signed amount is taken negative.
    wide: the space of strengths that TrivialAugment draws from.
    """
    height, width = images.shape[-2:]
    table, signed = _amounts(height, width, bins, wide, images.device)
    amount = table[which, level]
    amount = torch.where(negative & signed[which], -amount, amount)
    changed = operate(images if images.dtype == torch.uint8 else like(images, _BYTES), NAMES, which, amount)
    return changed.to(images.dtype)


@technique("batch")
class AutoAugment:
    """Change each image by one of 25 pairs of operations, which were found by search on a known data set.

    Formula: one of the 25 sub-policies, uniform; each of its two operations with its own probability and strength.
    Source: Cubuk et al. 2019, the policies of their appendix; operations as in torchvision, nearest pixel and black
    outside. Ours draws per sample and epoch by a key, and each operation works on all its images at once.
    Helps: photographs and long training: 0.4 to 1.5 points of top-1 on ImageNet, 0.5 on CIFAR-10 by the authors; the
    found policy is no better than drawing at random (see ``rand_augment``). Hurts: short training and small models;
    where colour or brightness is the class; digits and letters beyond ``svhn``.

    policy: the data set it was found on.
    until: off from here on, such as ``"80%"`` or ``"-5 epochs"``, the last five.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    policy: Name = "imagenet"
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with each image changed by its own sub-policy."""
        if not active(self, moment):
            return batch
        which, share, level = _policy(self.policy, batch.index.device)
        place = keyed.key(moment.seed, "auto_augment", moment.epoch)
        draw = keyed.uniform(place, batch.index, 5)
        row = (draw[:, 0] * len(which)).long()

        def change(images: Tensor) -> Tensor:
            _one_or_three("auto_augment", images)
            for turn in range(2):
                happens = draw[:, 1 + turn] < share[row, turn]
                mine = torch.where(happens, which[row, turn], 0)
                negative = draw[:, 3 + turn] < 0.5
                images = by_policy(images, mine, level[row, turn], negative, bins=10, wide=False)
            return images

        return on_images("auto_augment", batch, change)


@technique("batch")
class RandAugment:
    """Change each image by a few operations drawn at random, all of the same strength.

    Formula: ``ops`` times: one of 14 operations (one of which does nothing), uniform, at strength ``magnitude`` of 30;
    signs by the toss of a coin.
    Source: Cubuk et al. 2020 (2 operations at 9 for ResNet-50). Ours draws per sample and epoch by a key; operations
    and strengths are torchvision's.
    Helps: photographs, long training, large models; two numbers to tune in place of a searched policy. Hurts: short
    training and small models; where colour or brightness is the class.

    ops: operations one after the other. magnitude: their strength, of 30.
    until: off from here on, such as ``"80%"`` or ``"-5 epochs"``, the last five.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    ops: Annotated[Count, Field(le=8)] = 2
    magnitude: Annotated[int, Field(ge=0, lt=BINS)] = 9
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with each image changed by its own operations."""
        if not active(self, moment):
            return batch
        place = keyed.key(moment.seed, "rand_augment", moment.epoch)
        which = keyed.integers(place, batch.index, 0, len(NAMES) - 1, self.ops)
        negative = keyed.uniform(keyed.key(place, "sign"), batch.index, self.ops) < 0.5
        level = torch.full_like(batch.index, self.magnitude)

        def change(images: Tensor) -> Tensor:
            _one_or_three("rand_augment", images)
            for turn in range(self.ops):
                images = by_policy(images, which[:, turn], level, negative[:, turn], bins=BINS, wide=False)
            return images

        return on_images("rand_augment", batch, change)


@technique("batch")
class TrivialAugment:
    """Change each image by one operation of random kind and random strength; nothing to tune.

    Formula: one of 14 operations (one of which does nothing), uniform; strength uniform on 0 ... 30 of a wide space
    (shears to 0.99, turns to 135 degrees, shifts to 32 pixels, factors from 0.01 to 1.99); signs by the toss of a coin.
    Source: Müller and Hutter 2021 (TA, wide). Ours draws per sample and epoch by a key; operations and strengths are
    torchvision's, but images below 32 pixels are shifted by their side at most.
    Helps: photographs and long training, as much as searched policies; in torchvision's ResNet-50 recipe. Hurts: short
    training and small models; where colour or brightness is the class; small objects near the edge.

    until: off from here on, such as ``"80%"`` or ``"-5 epochs"``, the last five.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with each image changed by its own operation."""
        if not active(self, moment):
            return batch
        place = keyed.key(moment.seed, "trivial_augment", moment.epoch)
        which = keyed.integers(place, batch.index, 0, len(NAMES) - 1)[:, 0]
        level = keyed.integers(keyed.key(place, "level"), batch.index, 0, BINS)[:, 0]
        negative = keyed.uniform(keyed.key(place, "sign"), batch.index)[:, 0] < 0.5

        def change(images: Tensor) -> Tensor:
            _one_or_three("trivial_augment", images)
            return by_policy(images, which, level, negative, bins=BINS, wide=True)

        return on_images("trivial_augment", batch, change)


_BYTES = torch.empty(0, dtype=torch.uint8)


def _one_or_three(name: str, images: Tensor) -> None:
    if images.shape[1] not in (1, 3):
        raise RecipeError(
            [f"'batch.{name}' knows grey and colour images, and these have {images.shape[1]} channels; remove it"]
        )


# Tables are kept on the device: making them anew for each batch would synchronise it.
@lru_cache(maxsize=16)
def _amounts(height: int, width: int, bins: int, wide: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    table = strengths(height, width, bins=bins, wide=wide)
    return table.to(device), torch.tensor(SIGNED).to(device)


@lru_cache(maxsize=16)
def _policy(name: Any, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    which, share, level = found(name)
    return which.to(device), share.to(device), level.to(device)
