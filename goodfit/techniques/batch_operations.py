"""The operations that augmentation policies are made of, each on a whole batch with one amount per image.

They are those of Pillow as torchvision writes them for tensors, to the last bit: truncation instead of rounding after
a blend, grey by 0.2989 R + 0.587 G + 0.114 B, nearest pixel and black outside where pixels move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import torch
from torch import Tensor

from goodfit.techniques.batch_inputs import choose
from goodfit.techniques.batch_warp import warp

Operation = Callable[[Tensor, Tensor], Tensor]
"""From bytes ``(batch, channels, height, width)`` and amounts ``(batch,)`` float64 to bytes of the same shape."""

MOVING = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
"""Operations that move pixels: one affine map each, so that all of them together are one `move`."""


def brightness(images: Tensor, amount: Tensor) -> Tensor:
    """``(1 + amount) x``."""
    return _bytes(images * _each(1 + amount))


def colour(images: Tensor, amount: Tensor) -> Tensor:
    """``(1 + amount) x - amount grey``; images of one channel stay."""
    return images if images.shape[1] == 1 else _blend(images, grey(images), amount)


def contrast(images: Tensor, amount: Tensor) -> Tensor:
    """``(1 + amount) x - amount mean(grey)``."""
    return _blend(images, grey(images).mean((1, 2, 3), keepdim=True), amount)


def sharpness(images: Tensor, amount: Tensor) -> Tensor:
    """``(1 + amount) x - amount blurred``, blurred by ``[[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13``; the border stays."""
    height, width = images.shape[-2:]
    if height <= 2 or width <= 2:
        return images
    whole = images.to(torch.int16)
    rows = whole[..., :-2, :] + whole[..., 1:-1, :] + whole[..., 2:, :]
    inner = whole[..., 1:-1, 1:-1]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner
    blurred = (total / 13).round_()
    changed = images.clone()
    sharp = torch.addcmul(inner.float(), blurred.sub_(inner), _each(-amount))
    changed[..., 1:-1, 1:-1] = _bytes(sharp)
    return changed


def posterize(images: Tensor, amount: Tensor) -> Tensor:
    """Keep the highest ``amount`` bits of each byte."""
    low = (1 << (8 - amount.clamp(0, 8).long())) - 1
    return images & (255 - low).to(torch.uint8)[:, None, None, None]


def solarize(images: Tensor, amount: Tensor) -> Tensor:
    """Invert what is at least ``255 amount``."""
    # A byte is at least a number where it is at least that number rounded up.
    threshold = (255 * amount).float().ceil().clamp(0, 255).to(torch.uint8)[:, None, None, None]
    return images ^ (images >= threshold).to(torch.uint8).neg()


def autocontrast(images: Tensor, amount: Tensor) -> Tensor:
    """Stretch each channel from its darkest and brightest value to 0 and 255."""
    low, high = images.amin((2, 3), keepdim=True).float(), images.amax((2, 3), keepdim=True).float()
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low) * (1 / 255))
    return _bytes((images - torch.where(flat, 0.0, low)).div_(scale))


def equalize(images: Tensor, amount: Tensor) -> Tensor:
    """Spread each channel's values so that all are about as frequent (Pillow's way of counting)."""
    batch, channels, height, width = images.shape
    flat = images.reshape(batch * channels, height * width).long()
    counts = torch.zeros(len(flat), 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, flat, torch.ones(1, 1, dtype=torch.int64, device=images.device).expand_as(flat))
    below = counts.cumsum(1)
    # The brightest value that occurs does not count.
    brightest = counts.gather(1, below.argmax(1, keepdim=True))
    step = (height * width - brightest) // 255
    table = torch.zeros_like(counts)
    table[:, 1:] = ((below[:, :-1] + step // 2) // step.clamp(min=1)).clamp(0, 255)
    even = table.to(torch.uint8).gather(1, flat).view_as(images)
    return choose(even, (step > 0).view(batch, channels, 1, 1), images)


def invert(images: Tensor, amount: Tensor) -> Tensor:
    """``255 - x``."""
    return ~images


def grey(images: Tensor) -> Tensor:
    """Brightness of bytes ``(batch, 1 or 3, height, width)`` as the eye weighs colours: whole numbers, float32."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def move(images: Tensor, kind: Tensor, amount: Tensor) -> Tensor:
    """Move the pixels of each image in one of the five ways of `MOVING`; the nearest pixel, black outside.

    kind: ``(batch,)`` int64, the place in `MOVING`. amount: shears as slopes around the upper left corner, shifts in
    pixels to the right and down (truncated to whole ones), turns in degrees against the clock.
    """
    height, width = images.shape[-2:]
    across, down, right, below, turn = (amount * (kind == k) for k in range(len(MOVING)))
    cos, sin = torch.cos(torch.deg2rad(turn)), torch.sin(torch.deg2rad(turn))
    first = (cos, across - sin, across * (height / 2) - right.trunc())
    second = (down + sin, cos, down * (width / 2) - below.trunc())
    return warp(images, torch.stack([*first, *second], 1).view(-1, 2, 3).float(), mode="nearest", outside="zeros")


OPERATIONS: Mapping[str, Operation] = {
    "brightness": brightness,
    "colour": colour,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
    "invert": invert,
}


def _without_kind(work: Operation, images: Tensor, kind: Tensor, amount: Tensor) -> Tensor:
    return work(images, amount)


def operate(images: Tensor, names: tuple[str, ...], which: Tensor, amount: Tensor) -> Tensor:
    """Do to each image its own operation.

    images: bytes ``(batch, 1 or 3, height, width)``. names: operations by number, of `MOVING`, `OPERATIONS` or
    ``identity``. which: ``(batch,)`` int64, the number of each image's operation. amount: ``(batch,)`` float64.
    Each operation works on its images as one tensor: on a CPU on these alone, sorted; elsewhere on all of them, since
    picking them out would wait for the device.
    """
    group, kind = (table[which] for table in _numbers(names, which.device))
    if images.device.type != "cpu":
        result = images
        for number, work in _WORK.items():
            changed = work(images, kind, amount)
            result = choose(changed, (group == number)[:, None, None, None], result)
        return result
    order = torch.argsort(group, stable=True)
    sizes = torch.bincount(group, minlength=len(_WORK) + 1).tolist()
    sorted_ = (torch.split(one.index_select(0, order), sizes) for one in (images, kind, amount))
    groups = enumerate(zip(*sorted_, strict=True))
    done = [_WORK[number](*its) if number and len(its[0]) else its[0] for number, its in groups]
    return torch.cat(done).index_select(0, torch.argsort(order))


# Groups of operations that are one piece of work, from 1; group 0 stays as it is.
_WORK: Mapping[int, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    1: move,
    **{n: partial(_without_kind, work) for n, work in enumerate(OPERATIONS.values(), 2)},
}


@lru_cache(maxsize=16)
def _numbers(names: tuple[str, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Each name's group in `_WORK` and place in `MOVING`; kept, since making them anew would synchronise a device."""
    known = ["", "", *OPERATIONS]
    group = [1 if name in MOVING else known.index(name) if name in OPERATIONS else 0 for name in names]
    kind = [MOVING.index(name) if name in MOVING else -1 for name in names]
    return torch.tensor(group, device=device), torch.tensor(kind, device=device)


def _each(values: Tensor) -> Tensor:
    return values.float()[:, None, None, None]


def _blend(images: Tensor, other: Tensor, amount: Tensor) -> Tensor:
    return _bytes(torch.addcmul(images * _each(1 + amount), other, _each(-amount)))


def _bytes(values: Tensor) -> Tensor:
    # By way of int16, since float to bytes is not vectorised on a CPU; both truncate.
    return values.clamp_(0, 255).to(torch.int16).to(torch.uint8)
