"""Train on smaller images first: a step costs as many pixels as it sees."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor

from goodfit.technique import Share, Until, technique
from goodfit.techniques.batch_inputs import active, like, on_images
from goodfit.types import Batch, Moment


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError("must rise from stage to stage")
    return values


def shrink(images: Tensor, height: int, width: int) -> Tensor:
    """Images ``(batch, channels, H, W)`` at ``(height, width)``, bilinear with anti-aliasing; the dtype stays."""
    return like(F.interpolate(images.float(), size=(height, width), mode="bilinear", antialias=True), images)


@technique("batch")
class Grow:
    """Train on smaller images first and on full ones at the end.

    Until the share ``until_shares[k]`` of the run, images have ``scales[k]`` times their side; after the last stage
    they have
    their full size. A step's cost goes with the number of pixels, so the same time buys more steps; a convolutional
    net carries over what it learned, and the last stage adapts it to the full size.

    Formula: side ``max(8, round(scale * side))``, bilinear with anti-aliasing, after every other change of pixels.
    Source: progressive resizing, Howard 2018 (fast.ai's DAWNBench entry); Tan and Le 2021 study it for EfficientNetV2.
    Ours: whole batches at once, stages in shares of the run.
    Helps: where time is short: convolutional nets that end in a mean or maximum over positions. Hurts: models with one
    size only (position embeddings, flattened heads); details that only full images show are learned late.

    scales: sides of the stages, as shares of the full side. until_shares: of the run at which each stage ends.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    scales: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], AfterValidator(_ascending)] = (0.625, 0.75)
    until_shares: Annotated[tuple[Share, ...], AfterValidator(_ascending)] = (0.4, 0.7)
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch at this stage's size."""
        scale = next((s for s, end in zip(self.scales, self.until_shares, strict=False) if moment.fraction < end), 1.0)
        if scale == 1.0 or not active(self, moment):
            return batch

        def change(images: Tensor) -> Tensor:
            height, width = images.shape[-2:]
            return shrink(images, max(8, round(scale * height)), max(8, round(scale * width)))

        return on_images("grow", batch, change)
