"""The images in a table's column, or in an array, as uint8 tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from goodfit.data.decode import Item, Layout, Seen, Unreadable, decode, look
from goodfit.errors import DataError

LARGEST_SIDE = 224
"""Images are brought to at most this side unless the recipe says more: what ImageNet models were trained on."""


class ColumnImages(NamedTuple):
    """A column's images.

    pixels: ``(rows, channels, height, width)`` uint8; middle gray where an image is missing or damaged.
    unreadable: row -> reason, for those.
    """

    pixels: Tensor
    unreadable: dict[int, str]
    layout: Layout


def images_from_column(values: Iterable[Any], root: Path | None, *, layout: Layout | None = None) -> ColumnImages:
    """Decode a column of images: bytes, ``{bytes, path}``, paths (relative ones from ``root``) or Pillow images.

    layout: the shape to bring them to; told from the images unless given.
    Raises DataError where more than half cannot be read.
    """
    items = column_items(values, root)
    seen: Sequence[Seen | Unreadable] = [] if layout else look(items)
    layout = layout or choose_layout(seen, None)
    pixels, failed = decoded(items, layout)
    check_readable(failed, len(items), "the column")
    pixels[list(failed)] = 127
    return ColumnImages(pixels, failed, layout)


def column_items(values: Iterable[Any], root: Path | None) -> list[Item]:
    """The cells of an image column as items; a missing cell becomes empty bytes, which count as unreadable."""
    items: list[Item] = []
    for cell in values:
        one = (cell.get("bytes") or cell.get("path")) if isinstance(cell, dict) else cell
        if isinstance(one, str | Path):
            items.append(Path(root or ".") / one)
        elif isinstance(one, np.ndarray):
            items.append(Image.fromarray(one))
        else:
            items.append(
                one if isinstance(one, bytes | Image.Image) else bytes(one) if isinstance(one, bytearray) else b""
            )
    return items


def choose_layout(seen: Sequence[Seen | Unreadable], size: int | None) -> Layout:
    """The shape all images get: as asked; else their common size; else a square of the median short side.

    The side is capped at 224 pixels; of mixed sizes it is rounded to a multiple of 32. One channel where no image has
    colour, three otherwise. Raises DataError where no image can be read.
    """
    good = [one for one in seen if isinstance(one, Seen)]
    if not good:
        reason = next((one.reason for one in seen if isinstance(one, Unreadable)), "there are none")
        raise DataError(f"no image can be read ({reason}); give images such as PNG or JPEG")
    channels = 1 if all(one.gray for one in good) else 3
    if size is not None:
        return Layout(channels, size, size)
    sizes = {(one.height, one.width) for one in good}
    if len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST_SIDE:
        return Layout(channels, *next(iter(sizes)))
    side = float(np.median([min(one.height, one.width) for one in good]))
    side = LARGEST_SIDE if side >= LARGEST_SIDE else max(32, 32 * round(side / 32))
    return Layout(channels, int(side), int(side))


def decoded(items: Sequence[Item], layout: Layout) -> tuple[Tensor, dict[int, str]]:
    """All images as one tensor, black where one cannot be read, and the reasons for those by position."""
    got = decode(items, layout)
    assert got is not None  # only a strict decoding gives up
    return got


def check_readable(failed: dict[int, str], count: int, where: str) -> None:
    """Refuse a source of which more than half cannot be read: something is wrong with all of it."""
    if 2 * len(failed) > count:
        row, reason = next(iter(failed.items()))
        raise DataError(
            f"{len(failed):,} of {count:,} images of {where} cannot be read (number {row + 1}: {reason}); "
            "these are hardly images, or the folder was damaged on its way: fetch it again"
        )


def as_images(array: Any) -> Tensor:
    """An array of images as ``(n, channels, height, width)`` uint8.

    ``(n, height, width)`` is gray. Floats in [0, 1] are stretched to [0, 255]. An alpha channel is laid over white.
    Raises DataError for other shapes, NaN and values outside.
    """
    values = as_tensor(array)
    values = values[:, None] if values.dim() == 3 else values
    if values.dim() != 4 or 0 in values.shape:
        raise DataError(f"images of shape {tuple(values.shape)}; give (n, height, width, channels)")
    if is_nhwc(tuple(values.shape)):
        values = values.permute(0, 3, 1, 2)
    if values.dtype != torch.uint8:
        values = values.float()
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 255):
            raise DataError(f"pixels from {low:g} to {high:g}; give 0 to 255 (or 0 to 1)")
        values = (values * (255 if high <= 1 else 1)).round().to(torch.uint8)
    if values.shape[1] == 4:
        alpha = values[:, 3:].float() / 255
        values = (values[:, :3] * alpha + 255 * (1 - alpha)).round().to(torch.uint8)
    return values.contiguous()


def as_tensor(array: Any) -> Tensor:
    """A NumPy array or a tensor as a tensor on the CPU; read-only memory and foreign byte orders are copied."""
    if isinstance(array, Tensor):
        return array.detach().cpu()
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=["C", "W"]))


def is_nhwc(shape: tuple[int, ...]) -> bool:
    """Whether four axes read as (n, height, width, channels) rather than (n, channels, height, width)."""
    return shape[3] in (1, 3, 4) and (shape[1] not in (1, 3, 4) or shape[1] > shape[3])


def to_layout(pixels: Tensor, layout: Layout) -> Tensor:
    """Images ``(n, channels, height, width)`` uint8 in another layout, as files would be brought to it."""
    if tuple(pixels.shape[1:]) == tuple(layout):
        return pixels
    if pixels.shape[1] not in (1, 3):
        raise DataError(f"images of {pixels.shape[1]} channels, where the model was trained on {layout.channels}")
    rows = pixels.permute(0, 2, 3, 1).numpy()
    return decoded([Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one) for one in rows], layout)[0]
