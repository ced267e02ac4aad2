from __future__ import annotations

from typing import Any

import pydantic
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from goodfit.errors import RecipeError
from goodfit.techniques import batch_operations as operations
from goodfit.techniques.batch import AutoAugment, RandAugment, TrivialAugment
from goodfit.techniques.batch_inputs import choose
from goodfit.techniques.batch_operations import MOVING, OPERATIONS, operate
from goodfit.techniques.batch_policies import NAMES, SIGNED, found, strengths
from goodfit.techniques.batch_policy import by_policy
from goodfit.types import Batch, Moment

MOMENT = Moment(seed=3, epoch=2, step=17, total=100, steps_per_epoch=8, classes=5)
# What torchvision calls our operations.
THEIRS = {"colour": "Color", "autocontrast": "AutoContrast"} | {
    name: "".join(part.capitalize() for part in name.split("_"))
    for name in NAMES
    if name not in ("colour", "autocontrast")
}
SPACES = [
    pytest.param(v2.AutoAugment(), 10, False, id="autoaugment"),
    pytest.param(v2.RandAugment(), 31, False, id="randaugment"),
    pytest.param(v2.TrivialAugmentWide(), 31, True, id="trivialaugment"),
]


def images(count: int = 6, *, channels: int = 3, height: int = 32, width: int = 40) -> Tensor:
    """Noise, a smooth image, a dark one, one of a single value and one with an empty channel."""
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)
    ramp = torch.linspace(0, 255, width).expand(height, width) * torch.linspace(0.4, 1, height)[:, None]
    pixels[1] = ramp.to(torch.uint8)
    pixels[2] = pixels[2] // 4 + 20
    pixels[3] = 77
    pixels[4, 0] = 0
    return pixels


def theirs(transform: Any, pixels: Tensor, name: str, amount: float) -> Tensor:
    made: Tensor = transform._apply_image_or_video_transform(
        pixels, THEIRS[name], amount, interpolation=v2.InterpolationMode.NEAREST, fill={Tensor: None}
    )
    return made


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("space", "bins", "wide"), SPACES)
@pytest.mark.parametrize("name", NAMES)
def test_every_operation_at_every_strength_is_torchvision_s(
    name: str, space: Any, bins: int, wide: bool, channels: int
) -> None:
    if THEIRS[name] not in space._AUGMENTATION_SPACE:
        assert name == ("invert" if bins == 31 else "identity")
        return
    pixels, number = images(channels=channels), NAMES.index(name)
    table = strengths(32, 40, bins=bins, wide=wide)[number]
    amounts, signed = space._AUGMENTATION_SPACE[THEIRS[name]]
    expected = amounts(bins, 32, 40)
    assert torch.equal(table, torch.zeros(bins) if expected is None else expected.double())
    assert SIGNED[number] == signed
    for amount in (table if expected is not None else table[:1]).tolist()[:: 1 if channels == 3 else 3]:
        for turned in (amount, -amount) if signed else (amount,):
            given = int(turned) if name == "posterize" else turned
            which, much = torch.full((6,), number), torch.full((6,), turned, dtype=torch.float64)
            ours, reference = operate(pixels, NAMES, which, much), theirs(space, pixels, name, given)
            # A place right between two pixels may be rounded either way: whole rows (columns) of a shear.
            away = turned * (torch.arange(32 if name == "shear_x" else 40) + 0.5)
            clear = (away - away.floor() - 0.5).abs() > 1e-4
            if name == "shear_x":
                ours, reference = ours[..., clear, :], reference[..., clear, :]
            if name == "shear_y":
                ours, reference = ours[..., clear], reference[..., clear]
            assert torch.equal(ours, reference), f"{name} by {turned}"


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_the_policies_are_the_published_ones(policy: Any) -> None:
    reference = v2.AutoAugment()._get_policies(v2.AutoAugmentPolicy(policy))
    which, share, level = found(policy)
    assert len(reference) == 25
    for row, pair in enumerate(reference):
        for turn, (name, probability, strength) in enumerate(pair):
            assert THEIRS[NAMES[int(which[row, turn])]] == name
            assert float(share[row, turn]) == pytest.approx(probability)
            assert int(level[row, turn]) == (strength or 0)


def test_images_of_one_batch_get_each_their_own_operation() -> None:
    pixels = images(30).roll(1, 0)
    which = torch.arange(30) % len(NAMES)
    amount = torch.linspace(-0.5, 0.8, 30, dtype=torch.float64).clamp(min=-0.5)
    amount[which == NAMES.index("posterize")] = 3
    whole = operate(pixels, NAMES, which, amount)
    for one in range(30):
        alone = operate(pixels[one : one + 1], NAMES, which[one : one + 1], amount[one : one + 1])
        assert torch.equal(alone[0], whole[one]), NAMES[int(which[one])]


def test_where_images_cannot_be_picked_out_all_operations_on_all_images_give_the_same() -> None:
    pixels, which = images(30), torch.arange(30) % len(NAMES)
    amount = torch.linspace(-0.5, 0.8, 30, dtype=torch.float64)
    amount[which == NAMES.index("posterize")] = 3
    expected = operate(pixels, NAMES, which, amount)
    group, kind = operations._numbers(NAMES, which.device)
    result = pixels
    for number, work in operations._WORK.items():
        changed = work(pixels, kind[which], amount)
        assert changed.shape == pixels.shape
        result = choose(changed, (group[which] == number)[:, None, None, None], result)
    assert torch.equal(result, expected)


def test_every_name_is_an_operation() -> None:
    assert set(NAMES) == {"identity", *MOVING, *OPERATIONS}


@pytest.mark.parametrize("cls", [AutoAugment, RandAugment, TrivialAugment], ids=lambda c: c.name)
def test_a_policy_changes_most_images_and_keeps_bytes(cls: type[Any]) -> None:
    pixels = images(200)
    batch = Batch(pixels, torch.arange(200) % 5, None, torch.arange(200))
    after = cls()(batch, MOMENT).inputs
    assert isinstance(after, Tensor)
    assert after.dtype == torch.uint8
    changed = (after != pixels).flatten(1).any(1)
    assert int(changed.sum()) > 120
    # The smallest brightness of one value is a value; nothing else leaves the range, and no two epochs are alike.
    other = cls()(batch, Moment(seed=3, epoch=3, step=25, total=100, steps_per_epoch=8, classes=5)).inputs
    assert not torch.equal(other, after)


def test_rand_augment_draws_every_operation_about_as_often() -> None:
    draws = 3000
    index = torch.arange(draws)
    pixels = torch.arange(256, dtype=torch.uint8).repeat(4).reshape(1, 1, 32, 32).expand(draws, 1, 32, 32).contiguous()
    after = RandAugment(ops=1, magnitude=30)(Batch(pixels, index * 0, None, index), MOMENT).inputs
    assert isinstance(after, Tensor)
    kinds = len({tuple(row.tolist()) for row in after.flatten(1)[:, ::17]})
    # Of 14 operations, nine have two signs; of a grey ramp, colour (both signs), equalize and autocontrast change
    # nothing, like identity and the mildest posterize.
    assert 14 <= kinds <= 22
    same = float((after == pixels).flatten(1).all(1).float().mean())
    assert 2 / 14 < same < 6 / 14


def test_magnitude_zero_of_rand_augment_changes_nothing_that_has_a_strength() -> None:
    pixels = images(8)
    for name in ("shear_x", "translate_y", "rotate", "brightness", "colour", "contrast", "sharpness", "posterize"):
        which = torch.full((8,), NAMES.index(name))
        after = by_policy(pixels, which, torch.zeros(8, dtype=torch.int64), torch.zeros(8).bool(), bins=31, wide=True)
        assert torch.equal(after, pixels), name


def test_float_images_are_rounded_to_bytes() -> None:
    pixels = images(8).float() + 0.3
    which, level = torch.full((8,), NAMES.index("invert")), torch.zeros(8, dtype=torch.int64)
    after = by_policy(pixels, which, level, level.bool(), bins=10, wide=False)
    assert after.dtype == torch.float32
    assert torch.equal(after, 255 - images(8).float())


def test_small_images_are_not_shifted_out_of_sight_by_more_than_their_side() -> None:
    assert strengths(8, 12, bins=31, wide=True)[NAMES.index("translate_x")].max() == 12
    assert strengths(8, 12, bins=31, wide=True)[NAMES.index("translate_y")].max() == 8


@pytest.mark.parametrize("cls", [AutoAugment, RandAugment, TrivialAugment], ids=lambda c: c.name)
def test_other_than_grey_and_colour_images_are_refused(cls: type[Any]) -> None:
    batch = Batch(torch.zeros(4, 5, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), None, torch.arange(4))
    with pytest.raises(RecipeError, match=rf"batch.{cls.name}.*5 channels; remove it"):
        cls()(batch, MOMENT)


@pytest.mark.parametrize(
    ("cls", "wrong", "range_"),
    [
        (AutoAugment, {"policy": "mnist"}, "'imagenet', 'cifar10' or 'svhn'"),
        (RandAugment, {"magnitude": 31}, "less than 31"),
        (RandAugment, {"ops": 0}, "greater than or equal to 1"),
        (TrivialAugment, {"until": "-0 epochs"}, "leave it out"),
    ],
)
def test_settings_out_of_range_are_refused(cls: type[Any], wrong: dict[str, Any], range_: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=range_):
        cls(**wrong)
