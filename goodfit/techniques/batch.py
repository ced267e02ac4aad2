"""All techniques that change a batch before the model sees it; each is a pure function of the batch and the moment."""

from __future__ import annotations

from typing import Any

from goodfit.techniques.batch_colour import ColourJitter
from goodfit.techniques.batch_grow import Grow
from goodfit.techniques.batch_images import Crop, Cutout, Erasing, Flip
from goodfit.techniques.batch_inputs import active
from goodfit.techniques.batch_mix import Cutmix, Mixup
from goodfit.techniques.batch_noise import Noise, WordDrop
from goodfit.techniques.batch_warp import RandomResizedCrop, Rotation

# In the order of their use: what moves, colours or covers, then what mixes, CutMix last. Moved or covered afterwards,
# the pixels of its boxes would no longer be the shares that its targets say.
ALL: tuple[type[Any], ...] = (
    Flip,
    RandomResizedCrop,
    Rotation,
    Crop,
    ColourJitter,
    Cutout,
    Erasing,
    Noise,
    WordDrop,
    Grow,
    Mixup,
    Cutmix,
)

__all__ = [
    "ALL",
    "ColourJitter",
    "Crop",
    "Cutmix",
    "Cutout",
    "Erasing",
    "Flip",
    "Grow",
    "Mixup",
    "Noise",
    "RandomResizedCrop",
    "Rotation",
    "WordDrop",
    "active",
]
