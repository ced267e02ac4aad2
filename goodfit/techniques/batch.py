"""All techniques that change a batch before the model sees it; each is a pure function of the batch and the moment."""

from __future__ import annotations

from typing import Any

from goodfit.techniques.batch_images import Crop, Cutout, Erasing, Flip
from goodfit.techniques.batch_inputs import active
from goodfit.techniques.batch_mix import Cutmix, Mixup

ALL: tuple[type[Any], ...] = (Flip, Crop, Cutout, Erasing, Mixup, Cutmix)

__all__ = ["ALL", "Crop", "Cutmix", "Cutout", "Erasing", "Flip", "Mixup", "active"]
