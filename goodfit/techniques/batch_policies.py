"""The numbers of the published augmentation policies: which operations, how often and how strong."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Name = Literal["imagenet", "cifar10", "svhn"]

# Cubuk et al. 2019 (AutoAugment), appendix. Each line is a sub-policy, two operations one after the other: name, tenths
# of its probability, strength from 0 to 9 ("-" where it has none). A line that stands twice was found twice.
_FOUND: dict[Name, str] = {
    "imagenet": """
        posterize 4 8, rotate 6 9
        solarize 6 5, autocontrast 6 -
        equalize 8 -, equalize 6 -
        posterize 6 7, posterize 6 6
        equalize 4 -, solarize 2 4
        equalize 4 -, rotate 8 8
        solarize 6 3, equalize 6 -
        posterize 8 5, equalize 10 -
        rotate 2 3, solarize 6 8
        equalize 6 -, posterize 4 6
        rotate 8 8, colour 4 0
        rotate 4 9, equalize 6 -
        equalize 0 -, equalize 8 -
        invert 6 -, equalize 10 -
        colour 6 4, contrast 10 8
        rotate 8 8, colour 10 2
        colour 8 8, solarize 8 7
        sharpness 4 7, invert 6 -
        shear_x 6 5, equalize 10 -
        colour 4 0, equalize 6 -
        equalize 4 -, solarize 2 4
        solarize 6 5, autocontrast 6 -
        invert 6 -, equalize 10 -
        colour 6 4, contrast 10 8
        equalize 8 -, equalize 6 -
    """,
    "cifar10": """
        invert 1 -, contrast 2 6
        rotate 7 2, translate_x 3 9
        sharpness 8 1, sharpness 9 3
        shear_y 5 8, translate_y 7 9
        autocontrast 5 -, equalize 9 -
        shear_y 2 7, posterize 3 7
        colour 4 3, brightness 6 7
        sharpness 3 9, brightness 7 9
        equalize 6 -, equalize 5 -
        contrast 6 7, sharpness 6 5
        colour 7 7, translate_x 5 8
        equalize 3 -, autocontrast 4 -
        translate_y 4 3, sharpness 2 6
        brightness 9 6, colour 2 8
        solarize 5 2, invert 0 -
        equalize 2 -, autocontrast 6 -
        equalize 2 -, equalize 6 -
        colour 9 9, equalize 6 -
        autocontrast 8 -, solarize 2 8
        brightness 1 3, colour 7 0
        solarize 4 5, autocontrast 9 -
        translate_y 9 9, translate_y 7 9
        autocontrast 9 -, solarize 8 3
        equalize 8 -, invert 1 -
        translate_y 7 9, autocontrast 9 -
    """,
    "svhn": """
        shear_x 9 4, invert 2 -
        shear_y 9 8, invert 7 -
        equalize 6 -, solarize 6 6
        invert 9 -, equalize 6 -
        equalize 6 -, rotate 9 3
        shear_x 9 4, autocontrast 8 -
        shear_y 9 8, invert 4 -
        shear_y 9 5, solarize 2 6
        invert 9 -, autocontrast 8 -
        equalize 6 -, rotate 9 3
        shear_x 9 4, solarize 3 3
        shear_y 8 8, invert 7 -
        equalize 9 -, translate_y 6 6
        invert 9 -, equalize 6 -
        contrast 3 3, rotate 8 4
        invert 8 -, translate_y 0 2
        shear_y 7 6, solarize 4 8
        invert 6 -, rotate 8 4
        shear_y 3 7, translate_x 9 3
        shear_x 1 6, invert 6 -
        solarize 7 2, translate_y 6 7
        shear_y 8 4, invert 8 -
        shear_x 7 9, translate_y 8 3
        shear_y 8 5, autocontrast 7 -
        shear_x 7 2, invert 1 -
    """,
}

NAMES = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "colour",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
    "invert",
)
"""Operations by number. RandAugment and TrivialAugment draw among all but the last."""
SIGNED = tuple(name in NAMES[1:10] for name in NAMES)
"""Operations whose amount is taken positive or negative by the toss of a coin."""


def strengths(height: int, width: int, *, bins: int, wide: bool) -> Tensor:
    """The amount of each operation at each strength, ``(operations, bins)`` float64; 0 where it has none.

    Rounded to float32 as in torchvision, where a last bit decides which way a shift of 16 pixels is truncated.
    wide: the wide space of TrivialAugment (Müller and Hutter 2021) in place of that of AutoAugment (Cubuk et al. 2019),
    whose shifts are shares of 331 pixels, the side of the images they were found on. Shifts of the wide space go to 32
    pixels, but never further than the image.
    """
    amounts = torch.zeros(len(NAMES), bins, dtype=torch.float64)
    highest = {
        "shear_x": 0.99 if wide else 0.3,
        "shear_y": 0.99 if wide else 0.3,
        "translate_x": min(32.0, width) if wide else 150 / 331 * width,
        "translate_y": min(32.0, height) if wide else 150 / 331 * height,
        "rotate": 135.0 if wide else 30.0,
        **dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), 0.99 if wide else 0.9),
    }
    for name, most in highest.items():
        amounts[NAMES.index(name)] = torch.linspace(0, most, bins)
    amounts[NAMES.index("posterize")] = (8 - torch.arange(bins) / ((bins - 1) / (6 if wide else 4))).round()
    amounts[NAMES.index("solarize")] = torch.linspace(1, 0, bins)
    return amounts


def found(policy: Name) -> tuple[Tensor, Tensor, Tensor]:
    """A policy of AutoAugment: operations, probabilities and strengths, ``(25, 2)`` each."""
    rows = [[one.split() for one in line.split(",")] for line in _FOUND[policy].strip().splitlines()]
    which = torch.tensor([[NAMES.index(name) for name, _, _ in row] for row in rows])
    share = torch.tensor([[int(tenths) for _, tenths, _ in row] for row in rows]) / 10
    level = torch.tensor([[0 if level == "-" else int(level) for _, _, level in row] for row in rows])
    return which, share, level
