"""Every pair of image techniques, in the recipe's order: the targets say what the pixels show, to 1e-6."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from goodfit.techniques.batch import ALL
from goodfit.types import Batch, Moment

COUNT, CLASSES = 8, 5
IMAGE = [one for one in ALL if "image" in one.kinds and one.name != "minority"]
BUSY: dict[str, dict[str, Any]] = {
    "flip": {"p": 1.0},
    "erasing": {"p": 1.0},
    "cutmix": {"p": 1.0},
    "mixup": {"alpha": 1.0},
}
PAIRS = [
    (per, first, second)
    for first, second in combinations(IMAGE, 2)
    for per in (("batch", "sample") if any(getattr(one, "mixes", False) for one in (first, second)) else ("",))
]


def batch(*, soft: bool) -> Batch:
    generator = torch.Generator().manual_seed(7)
    pixels = torch.randint(0, 256, (COUNT, 3, 16, 20), generator=generator, dtype=torch.uint8)
    shares = torch.rand(COUNT, CLASSES, generator=generator, dtype=torch.float64)
    shares = (shares / shares.sum(1, keepdim=True)).float()
    return Batch(pixels, shares if soft else torch.arange(COUNT) % CLASSES, None, torch.arange(COUNT))


def shares_of(targets: Tensor) -> np.ndarray[Any, Any]:
    return (
        targets.double() if targets.is_floating_point() else torch.eye(CLASSES, dtype=torch.float64)[targets]
    ).numpy()


def witness(made: Any, moment: Moment, sides: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Which share of each pixel of a sample came from which sample: ``(samples, samples, height, width)``.

    Read off images that are white in a channel of their own: what mixes does not look at pixels when it draws.
    """
    own = torch.zeros(COUNT, COUNT, *sides)
    own[torch.arange(COUNT), torch.arange(COUNT)] = 255.0
    mixed = made(Batch(own, torch.arange(COUNT) % CLASSES, None, torch.arange(COUNT)), moment).inputs
    assert isinstance(mixed, Tensor)
    return mixed.double().numpy() / 255


def check(before: Batch, after: Batch, made: Any, moment: Moment) -> None:
    """The pixels and the targets of ``after`` against those of ``before``."""
    was, now = shares_of(before.targets), shares_of(after.targets)
    assert np.abs(now.sum(1) - 1).max() < 1e-6
    if not getattr(made, "mixes", False):
        assert after.targets is before.targets
        return
    assert isinstance(before.inputs, Tensor)
    assert isinstance(after.inputs, Tensor)
    came = witness(made, moment, before.inputs.shape[-2:])
    shown = np.einsum("sohw,ochw->schw", came, before.inputs.double().numpy())
    assert np.abs(after.inputs.double().numpy() - shown).max() < 1e-3
    assert np.abs(now - came.mean((2, 3)) @ was).max() < 1e-6


@pytest.mark.parametrize(("per", "first", "second"), PAIRS, ids=lambda p: getattr(p, "name", p))
@pytest.mark.parametrize("soft", [True, False], ids=["soft", "hard"])
def test_the_targets_of_every_pair_say_what_its_pixels_show(
    per: str, first: type[Any], second: type[Any], soft: bool
) -> None:
    made = [
        one(**BUSY.get(one.name, {}), **({"per": per} if getattr(one, "mixes", False) else {}))
        for one in (first, second)
    ]
    for step in range(3):
        moment = Moment(seed=5, epoch=step, step=step, total=40, classes=CLASSES)
        start = batch(soft=soft)
        middle = made[0](start, moment)
        end = made[1](middle, moment)
        check(start, middle, made[0], moment)
        check(middle, end, made[1], moment)
        assert torch.equal(end.index, start.index)


def test_the_oracle_sees_a_wrong_share() -> None:
    moment = Moment(seed=5, epoch=0, step=0, total=40, classes=CLASSES)
    for cls in (one for one in IMAGE if getattr(one, "mixes", False)):
        start = batch(soft=True)
        made = cls(**BUSY[cls.name])
        after = made(start, moment)
        check(start, after, made, moment)
        with pytest.raises(AssertionError):
            check(start, after._replace(targets=after.targets.roll(1, 0)), made, moment)
        with pytest.raises(AssertionError):
            check(start, after._replace(inputs=after.inputs.roll(1, -1)), made, moment)
