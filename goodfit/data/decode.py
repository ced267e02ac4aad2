"""One image, of whatever format, mode and size, as uint8 pixels of a fixed shape; and many of them at once.

Formats are those that Pillow reads, without those that start other programs or hold video. A photograph is turned as
its EXIF orientation says. Transparency is laid over white. Sixteen-bit gray is scaled down to eight. Of an animation
or a document with several pages, the first is read.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Pixels = NDArray[np.uint8]
Item = Path | bytes | Image.Image
"""Where an image is: a file, a file's bytes, or already open."""
A = TypeVar("A")
B = TypeVar("B")

_COMMON = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_REFUSED = ("EPS", "MPEG", "HDF5", "GRIB", "BUFR", "WMF")
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_GRAY = ("1", "L", "LA", "La", *_DEEP)
_CHUNK = 64
_TURNED = (5, 6, 7, 8)
_ORIENTATION = 0x0112


class Layout(NamedTuple):
    """The shape that every image gets: short side resized, then cut at the centre."""

    channels: int
    height: int
    width: int


class Seen(NamedTuple):
    """What an image's header says, turned upright: size in pixels, and whether it has no colour."""

    width: int
    height: int
    gray: bool


class Unreadable(NamedTuple):
    """Why an image cannot be read, in a few words."""

    reason: str


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read; the common ones first, since they are tried in this order."""
    Image.init()
    return _COMMON + tuple(sorted(set(Image.OPEN) - {*_COMMON, *_REFUSED}))


@cache
def suffixes() -> frozenset[str]:
    """Endings of file names that are taken for images, with the dot, in lower case."""
    return frozenset(end for end, name in Image.registered_extensions().items() if name in formats())


def look(items: Sequence[Item]) -> list[Seen | Unreadable]:
    """Each image's header; no pixels are decoded."""
    return _in_threads(lambda item: _guarded(_look, item), items)


def decode(items: Sequence[Item], layout: Layout, *, strict: bool = False) -> tuple[Tensor, dict[int, str]] | None:
    """All images as one tensor, and the positions that could not be read with the reason; those are left black.

    strict: give up, with None, at the first image that is not of this layout already.
    Returns ``(images, channels, height, width)`` uint8.
    """
    pixels = np.zeros((len(items), *layout), np.uint8)
    stop = False

    def one(position: int) -> Unreadable | None:
        nonlocal stop
        if stop:
            return None
        got = _guarded(lambda item: _pixels(item, layout, strict), items[position])
        if isinstance(got, Unreadable):
            return got
        stop = stop or got is None
        if got is not None:
            pixels[position] = got
        return None

    failed = _in_threads(one, range(len(items)))
    if stop:
        return None
    return torch.from_numpy(pixels), {n: why.reason for n, why in enumerate(failed) if why is not None}


def _in_threads(work: Callable[[A], B], items: Sequence[A]) -> list[B]:
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    with warnings.catch_warnings():
        # Pillow only warns up to twice its limit; here both are refused. Other warnings are about harmless metadata.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if len(chunks) < 2:
            return [work(one) for chunk in chunks for one in chunk]
        with ThreadPoolExecutor(min(len(chunks), os.cpu_count() or 1)) as pool:
            return [done for chunk in pool.map(lambda chunk: [work(one) for one in chunk], chunks) for done in chunk]


def _guarded(work: Callable[[Item], A], item: Item) -> A | Unreadable:
    """Damaged files make the format readers raise nearly anything; whatever it is becomes the reason."""
    try:
        return work(item)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return Unreadable(f"more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels; scale it down first")
    except UnidentifiedImageError:
        return Unreadable("the file is empty" if _is_empty(item) else "not an image, or damaged at its start")
    except Exception as error:
        return Unreadable(str(error).splitlines()[0][:120] if str(error) else type(error).__name__)


def _is_empty(item: Item) -> bool:
    return not item if isinstance(item, bytes) else isinstance(item, Path) and item.stat().st_size == 0


def _open(item: Item) -> Image.Image:
    if isinstance(item, Image.Image):
        return item
    if isinstance(item, Path) and item.exists() and not item.is_file():
        raise OSError("no plain file")
    return Image.open(io.BytesIO(item) if isinstance(item, bytes) else item, formats=formats())


def _look(item: Item) -> Seen:
    image = _open(item)
    try:
        width, height = image.size
        gray = image.mode in _GRAY
        if image.getexif().get(_ORIENTATION) in _TURNED:
            width, height = height, width
    finally:
        if image is not item:
            image.close()
    return Seen(width, height, gray)


def _pixels(item: Item, layout: Layout, strict: bool) -> Pixels | None:
    """``(channels, height, width)``; None where ``strict`` and the image has another size or colour."""
    image = _open(item)
    try:
        channels, height, width = layout
        gray = image.mode in _GRAY
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        fits = image.size == (width, height) and not turned
        if strict and (not fits or gray != (channels == 1)):
            return None
        if not fits:
            # JPEG decodes at an eighth, a quarter or a half of its size at a fraction of the cost.
            side = 2 * max(height, width)
            image.draft(None, (side, side))
        upright = ImageOps.exif_transpose(image) if turned else image
        plain = _plain(upright, "L" if channels == 1 else "RGB")
        if plain.size != (width, height):
            plain = _cut(plain, height, width)
        array = np.asarray(plain, np.uint8)
    finally:
        if image is not item:
            image.close()
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """The image as 8-bit gray (``L``) or colour (``RGB``)."""
    if image.mode in _DEEP:
        image = _shallow(image)
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        paint = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), paint)
    return image if image.mode == mode else image.convert(mode)


def _shallow(image: Image.Image) -> Image.Image:
    """Gray of 16 or 32 bits as 8 bits: 0 ... 65535, 0 ... 255 or 0 ... 1, told by the mode and the largest value."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("its pixels hold NaN or infinity")
    most = values.max(initial=0.0)
    if image.mode not in ("I", "F") or most > 255:
        values = values / 257
    elif image.mode == "F" and most <= 1:
        values = values * 255
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def _cut(image: Image.Image, height: int, width: int) -> Image.Image:
    """Scaled until it just covers the layout, cut at the centre."""
    scale = max(height / image.height, width / image.width)
    across, down = width / scale, height / scale
    left, top = (image.width - across) / 2, (image.height - down) / 2
    box = (left, top, left + across, top + down)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)
