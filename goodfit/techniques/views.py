"""Test-time augmentation: a prediction as the mean over several views of one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from goodfit.types import Inputs

View = Literal["none", "flip", "shift", "flip_shift"]


def averaged(model: Callable[[Any], Tensor], images: Inputs, views: View) -> Tensor:
    """The model's outputs (logits, not probabilities), averaged over views of each image.

    images: ``(batch, channels, height, width)``, float, as the model takes them; others (tables, texts) have one view.
    Formula: ``flip`` is ``(f(x) + f(mirrored x)) / 2``; ``shift`` is ``f(x) / 2 + f(up) / 4 + f(down) / 4``, moved by
    one pixel up and left, and down and right, the edge mirrored; ``flip_shift`` is both, six views.
    Source: Jordan 2024 (airbench), there over mirror images too, on 32x32 pixels.
    """
    if views == "none" or not isinstance(images, Tensor) or images.dim() != 4:
        return model(images)

    def mirrored(one: Tensor) -> Tensor:
        return (model(one) + model(one.flip(-1))) / 2 if views in ("flip", "flip_shift") else model(one)

    outputs = mirrored(images)
    height, width = images.shape[-2:]
    if views == "flip" or min(height, width) < 2:
        return outputs
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    moved = [padded[:, :, :height, :width], padded[:, :, 2:, 2:]]
    layout = torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return outputs / 2 + sum(mirrored(one.contiguous(memory_format=layout)) for one in moved) / 4
