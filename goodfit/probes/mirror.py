"""Whether a mirrored image still means the same: what the names of classes and the pixels say."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from goodfit.probes.record import Values

FEWEST = 60
"""Images below which the pixels are not asked."""
MOST = 2000
"""Images that are looked at."""

_NUMBERS = "zero one two three four five six seven eight nine ten"
_SYMBOL = re.compile(rf"((digit|letter|character|number)[ _-]?)?(\w|\d+|{'|'.join(_NUMBERS.split())})")
_SIDES = re.compile(r"(?<![a-z])(left|right)(?![a-z])|clockwise")
_SOURCES = re.compile(
    r"(?<![a-z])(digits?|[ek]?mnist|q?mnist|svhn|letters?|alphabet|chars?|characters?|ocr|captcha|handwriting|handwritten|"
    r"omniglot|words?|text|licen[cs]e.?plates?|road.?signs?|traffic.?signs?|gtsrb)(?![a-z])"
)


def symbols(names: Sequence[str]) -> str:
    """Why classes of these names may be symbols, whose mirror images mean something else; empty where they may not."""
    plain = [name.strip().lower() for name in names]
    if plain and all(_SYMBOL.fullmatch(name) for name in plain):
        return f"its classes are called {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    sides = [name for name, low in zip(names, plain, strict=True) if _SIDES.search(low)]
    return f"class '{sides[0]}' says a side" if sides else ""


def source_of_symbols(name: str) -> str:
    """The word in a source's name that says it holds symbols, or nothing."""
    found = _SOURCES.search(name.lower().replace("_", " "))
    return found[0] if found and "fashion" not in name.lower() else ""


def mirrored(by: Sequence[str], name: str, classes: Sequence[str], images: Tensor | None) -> Values:
    """What speaks against mirroring. by: the recipe's keys that mirror. name: the source's. images: a sample of it."""
    found: Values = {"mirror.by": list(by)}
    if by:
        found |= {"mirror.names": symbols(classes), "mirror.source": source_of_symbols(name)}
        if images is not None and len(images) >= FEWEST:
            found |= {"mirror.told_apart": told_apart(images), "mirror.ink": print_like(images)}
    return found


def told_apart(images: Tensor) -> float:
    """The share of new images that a linear look at the pixels tells from their mirror images: 0.5 is guessing.

    images: ``(batch, channels, height, width)``, at least `FEWEST`. Of photographs about 0.5; of digits, letters and
    whatever always faces one way near 1. The look is ridge regression on half of the images, judged on the other half.
    """
    grey = images.float().mean(1, keepdim=True)
    height, width = (min(16, side) for side in grey.shape[-2:])
    grey = F.adaptive_avg_pool2d(grey, (height, width))
    # Original minus mirror image changes its sign when mirrored, so that one side of a plane through zero is enough.
    one_way = (grey - grey.flip(-1))[..., : width // 2].flatten(1).double().round(decimals=3)
    first, second = one_way[::2], one_way[1::2]
    inner = first.T @ first
    ridge = 0.1 * torch.diagonal(inner).mean().clamp(min=1e-9) * torch.eye(len(inner), dtype=torch.float64)
    said = second @ torch.linalg.solve(inner + ridge, first.sum(0))
    return float(((said > 0).double() + 0.5 * (said == 0).double()).mean())


def print_like(images: Tensor) -> float:
    """The share of pixels close to an image's darkest or brightest value: ink on paper is near 1."""
    grey = images.float().mean(1).flatten(1)
    low, high = grey.amin(1, keepdim=True), grey.amax(1, keepdim=True)
    place = (grey - low) / (high - low).clamp(min=1)
    return float(((place < 0.15) | (place > 0.85)).double().mean())
