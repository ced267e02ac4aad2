"""Changes of colour of whole batches of images: brightness, contrast, saturation and hue, as one matrix per image."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from goodfit import keyed
from goodfit.technique import Share, Until, technique
from goodfit.techniques.batch_inputs import active, choose, like, on_images
from goodfit.types import Batch, Moment

# Rec. 601 luma, as in torchvision and Pillow, and the two chroma axes of YIQ.
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def recolour(images: Tensor, brightness: Tensor, contrast: Tensor, *, saturation: Tensor, hue: Tensor) -> Tensor:
    """Change the light and colour of each image by its own factors.

    images: ``(batch, channels, height, width)``, uint8 or float in [0, 255]; only three channels have saturation and
    hue. brightness, contrast, saturation: ``(batch,)``, 1 changes nothing. hue: ``(batch,)`` in turns of the circle.
    The three factors and the turn are linear in the pixels, so together they are one matrix and one offset per image.
    """
    channels = images.shape[1]
    count, device = len(images), images.device
    luma = torch.tensor(_YIQ[0] if channels == 3 else [1 / channels] * channels, dtype=torch.float64, device=device)
    colour = torch.eye(channels, dtype=torch.float64, device=device).expand(count, -1, -1)
    if channels == 3:
        basis = torch.tensor(_YIQ, dtype=torch.float64)
        # Inverted on the CPU: on a GPU this would wait for it.
        back = torch.linalg.inv(basis).to(device)
        cos, sin = torch.cos(2 * math.pi * hue.double()), torch.sin(2 * math.pi * hue.double())
        inner = torch.zeros(count, 3, 3, dtype=torch.float64, device=device)
        inner[:, 0, 0] = 1.0
        inner[:, 1, 1] = inner[:, 2, 2] = cos * saturation
        inner[:, 2, 1], inner[:, 1, 2] = sin * saturation, -sin * saturation
        colour = back @ inner @ basis.to(device)
    flat = images.float().flatten(2)
    level = (flat.mean(2).double() @ luma) * brightness
    # Gray is where the colour matrix changes nothing, so the offset of the contrast passes through it.
    offset = ((1 - contrast) * level)[:, None, None].float()
    matrix = ((contrast * brightness)[:, None, None] * colour).float()
    return like((matrix @ flat + offset).reshape(images.shape), images)


@technique("batch")
class ColourJitter:
    """Change brightness, contrast, saturation and hue of each image at random.

    The model cannot lean on the light and the camera.

    Formula: brightness ``f x``; contrast ``f x + (1 - f) mean luma``; saturation: the two chroma axes of YIQ times f,
    which is ``f x + (1 - f) luma``; hue: these axes turned; each f uniform in [1 - setting, 1 + setting], the turn in
    [-hue, hue] of the full circle; then clipped to [0, 255].
    Source: Krizhevsky et al. 2012 and Howard 2013; the form is torchvision's. Ours keeps this order where torchvision
    shuffles it, clips once at the end, and turns hue in YIQ, which keeps luma, where torchvision uses HSV.
    Helps: photographs from changing light. Hurts: where colour is the class (ripeness, stains, flowers).

    brightness, contrast, saturation: largest change of the factor. hue: largest turn, of the circle (0.5 is half).
    p: share of images changed. until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    p: Share = 1.0
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with images in another light."""
        if not active(self, moment):
            return batch
        draw = keyed.uniform(keyed.key(moment.seed, "colour_jitter", moment.epoch), batch.index, 5).double()
        sizes = (self.brightness, self.contrast, self.saturation, self.hue)
        light, contrast, saturation, hue = (size * (2 * draw[:, n] - 1) for n, size in enumerate(sizes))
        chosen = (draw[:, 4] < self.p)[:, None, None, None]

        def change(images: Tensor) -> Tensor:
            changed = recolour(images, 1 + light, 1 + contrast, saturation=1 + saturation, hue=hue)
            return choose(changed, chosen, images)

        return on_images("colour_jitter", batch, change)
