"""Changes that move the pixels of whole batches of images by interpolation: random-resized crop and rotation."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor

from goodfit import keyed
from goodfit.technique import Share, Until, technique
from goodfit.techniques.batch_inputs import active, choose, like, on_images, rising
from goodfit.types import Batch, Moment

Ratio = Annotated[float, Field(gt=0, le=1)]
Aspect = Annotated[float, Field(gt=0, le=10)]


def warp(
    images: Tensor,
    matrices: Tensor,
    *,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    outside: Literal["reflection", "zeros"] = "reflection",
) -> Tensor:
    """Sample each image at places moved by its own affine map.

    images: ``(batch, channels, height, width)``, uint8 or float. matrices: ``(batch, 2, 3)`` float32: from the result's
    pixels to the image's, both counted in pixels from the centre. The result has the images' shape and dtype.
    outside: what lies beyond the edge: the image mirrored, or black.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) - (height - 1) / 2
    columns = torch.arange(width, device=images.device) - (width - 1) / 2
    # One complex number is one place x + iy, so that a single addition writes the whole grid as it must lie in memory:
    # a fifth of the time of two planes stacked, and a tenth of affine_grid's.
    unit = torch.stack([matrices[:, 0] * (2 / width), matrices[:, 1] * (2 / height)], -1)
    along_x, along_y, shift = torch.view_as_complex(unit)[:, :, None].unbind(1)
    grid = torch.view_as_real((along_x * columns)[:, None] + (along_y * rows + shift)[:, :, None])
    moved = F.grid_sample(images.float(), grid, mode=mode, padding_mode=outside, align_corners=False)
    return like(moved, images)


@technique("batch")
class RandomResizedCrop:
    """Cut a rectangle of random area and shape out of each image and enlarge it to the full size.

    The model sees objects at many sizes and places; the standard augmentation of ImageNet training.

    Formula: area uniform in the range ``area`` of the image, width to height log-uniform in ``aspect`` times the
    image's own, place uniform among those that fit; bilinear.
    Source: Szegedy et al. 2014 (area 0.08 to 1, aspect 3/4 to 4/3). Theirs draws again until a shape fits, ours
    shortens its longer side; and ours samples bilinearly without averaging, since crops are enlarged.
    Helps: photographs of 64 pixels and more, trained for long. Hurts: small images, where ``crop`` does better, and
    short training: most of the object may be cut away.

    area: smallest and largest share of the image. aspect: narrowest and widest shape.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    area: Annotated[tuple[Ratio, Ratio], AfterValidator(rising)] = (0.08, 1.0)
    aspect: Annotated[tuple[Aspect, Aspect], AfterValidator(rising)] = (0.75, 1.3333)
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with a part of each image, enlarged."""
        if not active(self, moment):
            return batch
        draw = keyed.uniform(keyed.key(moment.seed, "random_resized_crop", moment.epoch), batch.index, 4)

        def change(images: Tensor) -> Tensor:
            height, width = images.shape[-2:]
            area = self.area[0] + (self.area[1] - self.area[0]) * draw[:, 0]
            low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
            aspect = torch.exp(low + (high - low) * draw[:, 1])
            wide, tall = torch.sqrt(area * aspect).clamp(max=1), torch.sqrt(area / aspect).clamp(max=1)
            right = (draw[:, 2] - 0.5) * (1 - wide) * width
            down = (draw[:, 3] - 0.5) * (1 - tall) * height
            zero = torch.zeros_like(wide)
            return warp(images, torch.stack([wide, zero, right, zero, tall, down], 1).reshape(-1, 2, 3))

        return on_images("random_resized_crop", batch, change)


@technique("batch")
class Rotation:
    """Turn each image by a random angle.

    Formula: angle uniform in [-degrees, degrees] around the centre, bilinear, reflected outside.
    Source: Simard et al. 2003, for digits. Ours reflects at the edge where others fill with black.
    Helps: where up is not always up (microscopes, satellites: ``degrees = 180``), a little on scanned text and digits.
    Hurts: where the angle carries meaning (6 and 9), and small images, which bilinear sampling blurs.

    degrees: largest angle. p: share of images turned. until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    degrees: Annotated[float, Field(gt=0, le=180)] = 15.0
    p: Share = 1.0
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with images turned."""
        if not active(self, moment):
            return batch
        draw = keyed.uniform(keyed.key(moment.seed, "rotation", moment.epoch), batch.index, 2)
        angle = (2 * draw[:, 0] - 1) * math.radians(self.degrees)
        cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
        matrices = torch.stack([cos, sin, zero, -sin, cos, zero], 1).reshape(-1, 2, 3)
        chosen = (draw[:, 1] < self.p)[:, None, None, None]

        def change(images: Tensor) -> Tensor:
            turned = warp(images, matrices)
            return turned if self.p >= 1 else choose(turned, chosen, images)

        return on_images("rotation", batch, change)
