from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits
from torch import Tensor

from goodfit.check import Log
from goodfit.probes.mirror import mirrored, print_like, source_of_symbols, symbols, told_apart
from goodfit.rules.mirrored_symbols import check
from goodfit.types import Finding

ANIMALS = ("cat", "dog", "horse")


def photographs(count: int = 400, *, channels: int = 3) -> Tensor:
    """Smooth noise: no side is preferred."""
    coarse = torch.rand(count, channels, 5, 5, generator=torch.Generator().manual_seed(0)) * 255
    images = torch.nn.functional.interpolate(coarse, size=(24, 24), mode="bicubic").clamp(0, 255)
    return images.to(torch.uint8)


def digits() -> Tensor:
    return torch.from_numpy((load_digits().images * 15).astype(np.uint8))[:, None]


def text(count: int = 200) -> Tensor:
    """Words in black on white, left-aligned."""
    draw, made = np.random.default_rng(1), []
    for _ in range(count):
        page = Image.new("L", (48, 24), 255)
        word = "".join(draw.choice(list("abcdefghijklmnop"), int(draw.integers(3, 7))))
        ImageDraw.Draw(page).text((3, 6), word, fill=0)
        made.append(np.asarray(page))
    return torch.from_numpy(np.stack(made))[:, None]


def shoes(count: int = 300) -> Tensor:
    """Grey shapes that all face one way."""
    ramp = torch.linspace(0, 200, 20).expand(count, 1, 20, 20)
    return (ramp + torch.rand(count, 1, 20, 20, generator=torch.Generator().manual_seed(2)) * 50).to(torch.uint8)


def said(by: tuple[str, ...], name: str, classes: tuple[str, ...], images: Tensor | None) -> Finding | str:
    return check(Log(mirrored(by, name, classes, images)))


def test_a_linear_look_guesses_on_photographs_and_knows_digits_and_text() -> None:
    assert abs(told_apart(photographs(2000)) - 0.5) < 0.06
    assert told_apart(digits()) > 0.75
    assert told_apart(text()) > 0.9
    assert told_apart(shoes()) > 0.95
    assert print_like(text()) > 0.8
    assert print_like(photographs()) < 0.5


def test_symmetric_images_are_a_guess() -> None:
    half = photographs(200)[..., :12]
    assert told_apart(torch.cat([half, half.flip(-1)], -1)) == 0.5
    assert told_apart(torch.full((200, 1, 8, 8), 7, dtype=torch.uint8)) == 0.5


@pytest.mark.parametrize(
    ("names", "suspect"),
    [
        (("0", "1", "10"), True),
        (("a", "B", "ß"), True),
        (("one", "two"), True),
        (("digit 3", "digit_4"), True),
        (("letter-a", "letter-b"), True),
        (("turn left", "turn right", "stop"), True),
        (("left_hand", "foot"), True),
        (ANIMALS, False),
        (("bright", "leftover"), False),
        (("class a", "cat"), False),
        ((), False),
    ],
    ids=str,
)
def test_names_of_classes_speak_of_symbols_or_sides(names: tuple[str, ...], suspect: bool) -> None:
    assert bool(symbols(names)) == suspect


@pytest.mark.parametrize(
    ("name", "suspect"),
    [
        ("digits", True),
        ("mnist", True),
        ("my_ocr_crops", True),
        ("EMNIST-letters", True),
        ("traffic_signs", True),
        ("fashion-mnist", False),
        ("cifar10", False),
        ("context", False),
        ("swords", False),
    ],
)
def test_names_of_sources_speak_of_symbols(name: str, suspect: bool) -> None:
    assert bool(source_of_symbols(name)) == suspect


FLIP = ("batch.flip",)


@pytest.mark.parametrize(
    ("by", "name", "classes", "images", "severity"),
    [
        pytest.param(FLIP, "digits", ("0", "1"), digits(), "warning", id="digits by every sign"),
        pytest.param(("tta",), "scans", ("0", "1"), digits(), "warning", id="digits by classes and pixels"),
        pytest.param(FLIP, "svhn", ("0", "1"), photographs(), "warning", id="digits among much else, by the source"),
        pytest.param(FLIP, "pages", ("letter", "invoice"), text(), "warning", id="text by its pixels"),
        pytest.param(FLIP, "hands", ("left", "right"), digits(), "warning", id="sides"),
        pytest.param(FLIP, "mine", ("0", "1"), photographs(), "advice", id="numbered photographs"),
        pytest.param(FLIP, "mine", ("0", "1"), None, "warning", id="classes alone"),
        pytest.param(FLIP, "mine", ("0", "1"), digits()[:20], "warning", id="too few images to ask the pixels"),
        pytest.param(FLIP, "mine", ANIMALS, photographs(), "", id="photographs"),
        pytest.param(FLIP, "catalogue", ("shoe", "bag"), shoes(), "", id="what always faces one way"),
        pytest.param((), "digits", ("0", "1"), digits(), "", id="nothing mirrors"),
    ],
)
def test_the_rule_weighs_names_and_pixels(
    by: tuple[str, ...], name: str, classes: tuple[str, ...], images: Tensor | None, severity: str
) -> None:
    found = said(by, name, classes, images)
    if not severity:
        assert isinstance(found, str)
        return
    assert isinstance(found, Finding)
    assert found.severity == severity
    assert found.evidence["mirrored_by"] == list(by)
    assert ("told_apart" in found.evidence) == (images is not None and len(images) >= 60)
    assert all(key in found.fix for key in by)
    assert set(found.patch) == set(by)


def test_what_was_found_says_who_and_why() -> None:
    found: Any = said(("batch.flip", "tta"), "scans", ("0", "1", "2", "3"), digits())
    assert "batch.flip and tta mirror images" in found.message
    assert "0, 1, 2, ..." in found.message
    assert "% of images can be told from their mirror images" in found.message
