"""Changes that mix each sample with another one of the batch, targets included: mixup and CutMix."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from goodfit import keyed
from goodfit.errors import RecipeError
from goodfit.technique import Share, Until, technique
from goodfit.techniques.batch_images import box
from goodfit.techniques.batch_inputs import active, choose, mixed, on_images, one_by_one, soft_targets
from goodfit.types import Batch, Moment

Alpha = Annotated[float, Field(gt=0, le=100)]
Per = Literal["batch", "sample"]


def symmetric_beta(first: Tensor, second: Tensor, alpha: float) -> Tensor:
    """Numbers of the distribution Beta(alpha, alpha) from two uniform numbers each in [0, 1).

    Formula: ``1/2 + sign(c) / 2 / sqrt(1 + 1 / ((u ** (-1 / alpha) - 1) c ** 2))`` with ``c = cos(2 pi v)``: exact for
    every alpha > 0 (Devroye 1996, from Bailey's Student t, 1994). Float64 in and out.
    """
    u, c = 1.0 - first.double(), torch.cos(2 * math.pi * second.double())
    square = (u.pow(-1.0 / alpha) - 1.0) * c.square()
    return (0.5 + 0.5 * torch.sign(c) / torch.sqrt(1.0 + 1.0 / square)).clamp(0.0, 1.0)


def mix(values: Tensor, share: Tensor, partner: Tensor) -> Tensor:
    """``share x + (1 - share) x[partner]``; integers become float32.

    values: ``(batch, ...)``. share: ``()`` or ``(batch,)``. partner: ``(batch,)`` int64 positions.
    """
    values = values if values.is_floating_point() else values.float()
    share = share.to(values.dtype)
    return torch.lerp(values.index_select(0, partner), values, one_by_one(share, values) if share.dim() else share)


def mixup(batch: Batch, share: Tensor, partner: Tensor, *, classes: int, place: int = 0) -> Batch:
    """Mix inputs, targets and weights of a batch with its partners'.

    share: ``()`` or ``(batch,)`` in [0, 1], the part that stays. partner: ``(batch,)`` int64 positions.
    Class indices become class shares ``(batch, classes)``; uint8 images become float32 on the same scale. Of a
    table's codes, which have no mean, each is kept with probability ``share`` (keyed by ``place``).
    Raises RecipeError for tokens and for targets that cannot be mixed.
    """
    targets = soft_targets("mixup", batch.targets, classes)

    def change(key: str, values: Tensor) -> Tensor:
        if values.is_floating_point() or values.dtype == torch.uint8:
            return mix(values, share, partner)
        position = torch.arange(len(values), device=values.device)
        kept = keyed.uniform(keyed.key(place, key), position, values.shape[1]) < share.reshape(-1, 1)
        return torch.where(kept, values, values.index_select(0, partner))

    inputs = mixed("mixup", batch.inputs, change)
    weight = None if batch.weight is None else mix(batch.weight, share, partner)
    return Batch(inputs, mix(targets, share, partner), weight, batch.index)


@technique("batch")
class Mixup:
    """Train on the weighted mean of two samples, and ask for the same mean of their targets.

    The model learns to pass straight from one class to another, trusts itself less where it knows nothing and
    remembers wrong labels less easily.

    Formula: ``x = l x_i + (1 - l) x_j``, ``y = l y_i + (1 - l) y_j``, l of Beta(alpha, alpha); j is a random
    permutation of the batch.
    Source: Zhang et al. 2018 (alpha 0.1 to 0.4 on ImageNet, 1 on CIFAR-10, one l per batch). Ours offers one l per
    sample too, and mixes numbers, images, series and regression targets alike; categories are taken from either.
    Helps: image nets that overfit; about 0.1 points beside other techniques (torchvision's ResNet-50 recipe), rarely
    the 1 to 2 points that are often quoted. Hurts: short training and small models; calibration with a large alpha.
    The training loss of mixed targets cannot reach zero, not even on one batch: pre-flight learns its one batch by
    heart without augmentation, and the two losses of a learning curve are not on equal terms.

    alpha: strength: 0.2 mixes lightly, 1 draws l uniformly.
    p: probability that a batch is mixed at all. per: one share for the ``batch`` or for each ``sample``.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "table", "series", "tensor")
    mixes: ClassVar[bool] = True

    alpha: Alpha = 0.2
    p: Share = 1.0
    per: Per = "batch"
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch mixed with a permutation of itself."""
        place = keyed.key(moment.seed, "mixup", moment.step)
        if not active(self, moment) or not _happens(place, self.p):
            return batch
        share, partner = draw(place, batch.index, self.alpha, self.per)
        return mixup(batch, share, partner, classes=moment.classes, place=place)


def cutmix(batch: Batch, inside: Tensor, partner: Tensor, *, classes: int) -> Batch:
    """Replace the pixels inside a box by the partner's, and the same share of the targets and weights.

    inside: ``(1 or batch, height, width)`` bool. partner: ``(batch,)`` int64 positions. Images keep their dtype.
    """
    targets = soft_targets("cutmix", batch.targets, classes)
    share = 1.0 - inside.mean((1, 2), dtype=torch.float64).expand(len(batch.index))
    weight = None if batch.weight is None else mix(batch.weight, share, partner)
    changed = on_images(
        "cutmix", batch, lambda images: choose(images.index_select(0, partner), inside[:, None], images)
    )
    return Batch(changed.inputs, mix(targets, share, partner), weight, batch.index)


@technique("batch")
class Cutmix:
    """Paste a rectangle of one image into another, and share the target by area.

    Every pixel stays natural, and no part of the image is wasted as in cutout.

    Formula: a box of ``(1 - l)`` of the area, the image's own aspect, centre uniform, clipped to the image; ``y = l'
    y_i + (1 - l') y_j`` where l' is the share of pixels that really stayed.
    Source: Yun et al. 2019 (alpha 1, p 0.5 on CIFAR). Ours offers one box per sample too. A box that reaches over the
    edge covers less than was drawn, so the share is counted again from the pixels.
    Helps: large image nets and long training, about 0.3 points in torchvision's ResNet-50 recipe. Hurts: where the
    class hangs on a small part of the image, which the box may miss; short training.

    alpha: of Beta(alpha, alpha) for l; 1 draws it uniformly.
    p: probability that a batch is mixed at all. per: one box for the ``batch`` or for each ``sample``.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    mixes: ClassVar[bool] = True

    alpha: Alpha = 1.0
    p: Share = 0.5
    per: Per = "batch"
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with a box of each image from another."""
        place = keyed.key(moment.seed, "cutmix", moment.step)
        if not active(self, moment) or not _happens(place, self.p):
            return batch
        if not isinstance(batch.inputs, Tensor) or batch.inputs.dim() != 4:
            raise RecipeError(
                ["'batch.cutmix' pastes one image into another, and these samples are more or other; remove it"]
            )
        height, width = batch.inputs.shape[-2:]
        share, partner = draw(place, batch.index, self.alpha, self.per)
        cut = torch.sqrt(1.0 - share.reshape(-1))
        centre = keyed.uniform(keyed.key(place, "centre"), torch.arange(len(cut)), 2).to(cut.device)
        tall, wide = (cut * height).round().long(), (cut * width).round().long()
        top, left = (centre[:, 0] * height).long() - tall // 2, (centre[:, 1] * width).long() - wide // 2
        return cutmix(batch, box(top, left, tall, wide, height=height, width=width), partner, classes=moment.classes)


def draw(place: int, index: Tensor, alpha: float, per: Per) -> tuple[Tensor, Tensor]:
    """The share that stays, float64 ``()`` or ``(batch,)``, and each sample's partner ``(batch,)``, from a key."""
    count = 1 if per == "batch" else len(index)
    first, second = keyed.uniform(keyed.key(place, "share"), torch.arange(count), 2).unbind(1)
    share = symmetric_beta(first, second, alpha)
    partner = keyed.permutation(keyed.key(place, "partner"), len(index))
    return (share[0] if per == "batch" else share).to(index.device), partner.to(index.device)


def _happens(place: int, p: float) -> bool:
    return p >= 1 or float(keyed.uniform(keyed.key(place, "p"), torch.zeros(1, dtype=torch.int64))) < p
