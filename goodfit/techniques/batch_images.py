"""Everyday changes of whole batches of images: flip, crop, cutout and random erasing."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from goodfit import keyed
from goodfit.errors import RecipeError
from goodfit.technique import Count, Share, Until, technique
from goodfit.techniques.batch_inputs import active, choose, like, on_images, rising
from goodfit.types import Batch, Moment

Fill = Literal["mean", "black", "noise"]
Ratio = Annotated[float, Field(gt=0, le=1)]


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen images left to right.

    images: ``(batch, channels, height, width)`` of any dtype. chosen: ``(batch,)`` bool.
    """
    return choose(images.flip(-1), chosen[:, None, None, None], images)


@technique("batch")
class Flip:
    """Mirror images left to right, each with probability ``p``.

    A mirrored photograph is as good a photograph, so the model sees twice as many. With ``alternate`` an image is
    mirrored or not at random in the first epoch, and from then on the other way round in every following epoch, so
    that any two epochs in a row show both sides: less repetition than drawing anew.

    Formula: ``x[c, h, w] -> x[c, h, W - 1 - w]``.
    Source: Krizhevsky et al. 2012; alternating: Jordan 2024 (airbench). Ours draws per sample and epoch by a key, so
    any batch size and order gives the same images; alternating keeps no list of past flips.
    Helps: almost always on photographs. Hurts: where the mirror image means something else (digits, text, road signs,
    left and right hands): there the default leaves it out, and pre-flight warns who asks for it (mirrored-symbols).

    p: share of images mirrored in an epoch; with ``alternate`` it is one half whatever p says.
    alternate: mirror every image in every other epoch.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    p: Share = 0.5
    alternate: bool = False
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with some images mirrored."""
        if not active(self, moment):
            return batch
        if self.alternate:
            first = keyed.uniform(keyed.key(moment.seed, "flip"), batch.index)[:, 0] < 0.5
            chosen = first ^ bool(moment.epoch % 2)
        else:
            chosen = keyed.uniform(keyed.key(moment.seed, "flip", moment.epoch), batch.index)[:, 0] < self.p
        return on_images("flip", batch, lambda images: flip(images, chosen))


def crop(images: Tensor, down: Tensor, right: Tensor, *, padding: int, mode: str = "reflect") -> Tensor:
    """Cut a window of the original size out of each padded image.

    images: ``(batch, channels, height, width)`` of any dtype. down, right: ``(batch,)`` int64 in [0, 2 padding]: the
    window's upper left corner; ``padding`` is the image as it was. mode: ``reflect`` (without repeating the edge) or
    ``zeros``. One gather for the whole batch.
    """
    height, width = images.shape[-2:]
    windows = _padded(images, padding, mode).unfold(2, height, 1).unfold(3, width, 1)
    every = torch.arange(len(images), device=images.device)
    if images.device.type == "cpu" and images.dtype != torch.bfloat16:
        # NumPy copies whole rows here, five times as fast as the same indexing in PyTorch.
        return torch.from_numpy(np.ascontiguousarray(windows.numpy()[every.numpy(), :, down.numpy(), right.numpy()]))
    return windows[every, :, down, right]


@technique("batch")
class Crop:
    """Pad images and cut a window of the original size out of each at a random place.

    The content moves by up to ``padding`` pixels, which teaches the model that place does not matter. It has to learn
    that: a convolution only moves its output along with its input, and pooling makes it indifferent to small shifts.

    Formula: ``x[c, h, w] -> padded(x)[c, h + dy, w + dx]``, dy and dx uniform on 0 ... 2 padding.
    Source: Krizhevsky 2009, He et al. 2016 (zeros, 4 pixels on 32x32); reflecting: airbench, 2024. Ours draws per
    sample and epoch by a key and moves the whole batch at once.
    Helps: almost always on photographs. Hurts: where the place carries the meaning, or content at the edge is cut off.

    padding: pixels on each side; must be smaller than the image for ``reflect``. mode: what lies outside the image.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    padding: Count = 4
    mode: Literal["reflect", "zeros"] = "reflect"
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with every image cut anew."""
        if not active(self, moment):
            return batch
        place = keyed.key(moment.seed, "crop", moment.epoch)
        down, right = keyed.integers(place, batch.index, 0, 2 * self.padding + 1, 2).unbind(1)
        return on_images("crop", batch, lambda images: crop(images, down, right, padding=self.padding, mode=self.mode))


def cutout(images: Tensor, inside: Tensor, fill: Tensor) -> Tensor:
    """Replace pixels by a filling.

    images: ``(batch, channels, height, width)``. inside: ``(batch, height, width)`` bool. fill: broadcastable to the
    images, same dtype.
    """
    return choose(fill, inside[:, None], images)


@technique("batch")
class Cutout:
    """Cover one square of each image.

    The model cannot lean on a single part of the object.

    Formula: centre uniform over the pixels, side ``size`` of the image's shorter side (rounded), parts outside are cut.
    Source: DeVries and Taylor 2017 (16 of 32 pixels on CIFAR-10, 8 on CIFAR-100). Theirs fills with the mean of
    the data set (zero after normalisation), ours with the image's own mean unless told otherwise.
    Helps: small images and long training. Hurts: small objects, which it may cover whole; short training.

    size: side as a share of the shorter side. p: share of images covered.
    fill: ``mean`` of the image per channel, ``black``, or ``noise`` (uniform per pixel).
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    size: Ratio = 0.25
    p: Share = 1.0
    fill: Fill = "mean"
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with squares covered."""
        if not active(self, moment):
            return batch
        place = keyed.key(moment.seed, "cutout", moment.epoch)
        draw = keyed.uniform(place, batch.index, 3)

        def change(images: Tensor) -> Tensor:
            height, width = images.shape[-2:]
            side = max(1, round(self.size * min(height, width)))
            top = (draw[:, 0] * height).long() - side // 2
            left = (draw[:, 1] * width).long() - side // 2
            inside = box(top, left, side, side, height=height, width=width) & (draw[:, 2] < self.p)[:, None, None]
            return cutout(images, inside, _filling(images, batch.index, place, self.fill))

        return on_images("cutout", batch, change)


@technique("batch")
class Erasing:
    """Cover a rectangle of random area and shape in some of the images (random erasing).

    Formula: area uniform in the range ``area``, aspect log-uniform in [0.3, 1/0.3], place uniform among those
    that fit; sides are shortened to the image where the shape does not fit.
    Source: Zhong et al. 2017 (p 0.5, area 0.02 to 0.4, noise). Theirs draws again until a shape fits, ours shortens.
    Helps: like cutout, on larger images too. Hurts: small objects, short training.

    p: share of images covered. area: smallest and largest, as shares of the image. fill: as in cutout.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    p: Share = 0.5
    area: Annotated[tuple[Ratio, Ratio], AfterValidator(rising)] = (0.02, 0.4)
    fill: Fill = "noise"
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with rectangles covered."""
        if not active(self, moment):
            return batch
        place = keyed.key(moment.seed, "erasing", moment.epoch)
        draw = keyed.uniform(place, batch.index, 5)

        def change(images: Tensor) -> Tensor:
            height, width = images.shape[-2:]
            least, most = self.area
            area = (least + (most - least) * draw[:, 0]) * height * width
            aspect = torch.exp((2 * draw[:, 1] - 1) * math.log(1 / 0.3))
            tall = torch.sqrt(area * aspect).round().clamp(1, height).long()
            wide = torch.sqrt(area / aspect).round().clamp(1, width).long()
            top = (draw[:, 2] * (height - tall + 1)).long()
            left = (draw[:, 3] * (width - wide + 1)).long()
            inside = box(top, left, tall, wide, height=height, width=width) & (draw[:, 4] < self.p)[:, None, None]
            return cutout(images, inside, _filling(images, batch.index, place, self.fill))

        return on_images("erasing", batch, change)


def box(top: Tensor, left: Tensor, tall: Tensor | int, wide: Tensor | int, *, height: int, width: int) -> Tensor:
    """Which pixels lie in each sample's rectangle: ``(batch, height, width)`` bool, clipped to the image."""
    rows = torch.arange(height, device=top.device) - top[:, None]
    columns = torch.arange(width, device=top.device) - left[:, None]
    tall = tall[:, None] if isinstance(tall, Tensor) else tall
    wide = wide[:, None] if isinstance(wide, Tensor) else wide
    return ((rows >= 0) & (rows < tall))[:, :, None] & ((columns >= 0) & (columns < wide))[:, None, :]


def _filling(images: Tensor, index: Tensor, place: int, fill: Fill) -> Tensor:
    if fill == "black":
        return images.new_zeros(())
    if fill == "mean":
        return like(images.mean((2, 3), keepdim=True, dtype=torch.float32), images)
    size = images[0].numel()
    # One 64-bit draw gives eight pixels.
    noise = keyed.bits(keyed.key(place, "noise"), index, -(-size // 8)).view(torch.uint8)[:, :size]
    return noise.reshape(images.shape).to(images.dtype)


def _padded(images: Tensor, padding: int, mode: str) -> Tensor:
    batch, channels, height, width = images.shape
    if mode == "reflect" and padding >= min(height, width):
        raise RecipeError(
            [f"'batch.crop.padding': {padding} must be below the images' side ({height} x {width}) to reflect them"]
        )
    shape = (batch, channels, height + 2 * padding, width + 2 * padding)
    rows, columns = slice(padding, padding + height), slice(padding, padding + width)
    if mode == "zeros":
        out = images.new_zeros(shape)
        out[:, :, rows, columns] = images
        return out
    # PyTorch's own reflection knows no uint8.
    out = images.new_empty(shape)
    out[:, :, rows, columns] = images
    out[:, :, rows, :padding] = images[..., 1 : padding + 1].flip(3)
    out[:, :, rows, padding + width :] = images[..., width - padding - 1 : width - 1].flip(3)
    out[:, :, :padding] = out[:, :, padding + 1 : 2 * padding + 1].flip(2)
    out[:, :, padding + height :] = out[:, :, height - 1 : height + padding - 1].flip(2)
    return out
