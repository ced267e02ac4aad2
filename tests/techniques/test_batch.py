from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pydantic
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from goodfit.errors import RecipeError
from goodfit.techniques import batch as module
from goodfit.techniques.batch import (
    ALL as EVERY,
)
from goodfit.techniques.batch import (
    ColourJitter,
    Crop,
    Cutmix,
    Cutout,
    Erasing,
    Flip,
    Grow,
    Mixup,
    Noise,
    RandomResizedCrop,
    Rotation,
    WordDrop,
    WordSwap,
    active,
)
from goodfit.techniques.batch_colour import recolour
from goodfit.techniques.batch_images import crop
from goodfit.techniques.batch_mix import symmetric_beta
from goodfit.techniques.batch_warp import warp
from goodfit.techniques.batch_words import drop_words
from goodfit.types import Batch, Moment

CLASSES = 5
MOMENT = Moment(seed=3, epoch=2, step=17, total=100, steps_per_epoch=8, classes=CLASSES)
MIXING = ("mixup", "cutmix")
# Settings under which a technique surely does something.
BUSY: dict[str, dict[str, Any]] = {
    "flip": {"p": 1.0},
    "erasing": {"p": 1.0},
    "cutmix": {"p": 1.0},
    "mixup": {"alpha": 1.0},
    "word_swap": {"p": 0.5},
}
# What mixes behind the embedding gives other inputs than it takes, and rewriting needs texts: see test_batch_table.py
# and test_batch_text.py; minority only steers the others: see test_batch_minority.py.
ELSEWHERE = ("embedding_mixup", "synonyms", "back_translation", "token_noise", "minority")
ALL = tuple(one for one in EVERY if one.name not in ELSEWHERE)
NAMES = [one.name for one in ALL]


def busy(cls: type[Any], **more: Any) -> Any:
    return cls(**{**BUSY.get(cls.name, {}), **more})


def images(count: int, dtype: torch.dtype = torch.uint8, *, side: int = 12, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    values = torch.randint(0, 256, (count, channels, side, side + 4), generator=generator, dtype=torch.uint8)
    return values.to(dtype)


def sample(cls: type[Any], count: int = 8, *, dtype: torch.dtype = torch.uint8, soft: bool = False) -> Batch:
    inputs = (
        images(count, dtype) if "image" in cls.kinds else torch.randn(count, 7) if dtype.is_floating_point else None
    )
    if inputs is None or cls.kinds[0] == "text":
        inputs = torch.randint(1, 50, (count, 9)) if cls.kinds[0] == "text" else torch.randn(count, 7)
    targets = torch.arange(count) % CLASSES
    shares = torch.nn.functional.one_hot(targets, CLASSES).float() * 0.8 + 0.2 / CLASSES
    return Batch(inputs, shares if soft else targets, torch.rand(count) + 0.5, torch.arange(count) * 7 + 3)


def rows(batch: Batch, positions: list[int]) -> Batch:
    assert isinstance(batch.inputs, Tensor)
    assert batch.weight is not None
    return Batch(batch.inputs[positions], batch.targets[positions], batch.weight[positions], batch.index[positions])


def test_growing_images_are_small_at_first_and_whole_at_the_end() -> None:
    batch = sample(Flip, 4)
    sides = [
        Grow(scales=(0.5, 0.75), until_shares=(0.4, 0.7))(batch, Moment(0, 0, step, 100)).inputs.shape[-2:]
        for step in (0, 39, 40, 69, 70, 99)
    ]
    assert sides == [(8, 8), (8, 8), (9, 12), (9, 12), (12, 16), (12, 16)]
    flat = Batch(torch.full((2, 3, 32, 32), 77, dtype=torch.uint8), torch.zeros(2), None, torch.arange(2))
    assert torch.equal(Grow()(flat, MOMENT).inputs, torch.full((2, 3, 20, 20), 77, dtype=torch.uint8))


@pytest.mark.parametrize("cls", [one for one in ALL if one is not Grow], ids=lambda c: c.name)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("count", [1, 8])
def test_shapes_stay_and_targets_sum_to_one(cls: type[Any], soft: bool, count: int) -> None:
    batch = sample(cls, count, soft=soft)
    after = busy(cls)(batch, MOMENT)
    assert after.inputs.shape == batch.inputs.shape
    assert torch.equal(after.index, batch.index)
    assert after.weight.shape == (count,)
    if after.targets.is_floating_point():
        assert after.targets.shape == (count, CLASSES)
        assert (after.targets.double().sum(1) - 1).abs().max() < 1e-6
    else:
        assert torch.equal(after.targets, batch.targets)


@pytest.mark.parametrize("cls", ALL, ids=NAMES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16], ids=str)
def test_dtypes_stay_except_that_mixup_of_bytes_gives_floats(cls: type[Any], dtype: torch.dtype) -> None:
    if "image" not in cls.kinds:
        pytest.skip("no images")
    after = busy(cls)(sample(cls, dtype=dtype), MOMENT)
    assert after.inputs.dtype == (torch.float32 if cls is Mixup and dtype == torch.uint8 else dtype)
    assert after.inputs.min() >= 0
    assert after.inputs.max() <= 255


@pytest.mark.parametrize("cls", ALL, ids=NAMES)
def test_the_given_batch_is_left_alone_and_the_result_differs(cls: type[Any]) -> None:
    batch = sample(cls, 16)
    before = batch.inputs.clone()  # type: ignore[union-attr]
    after = busy(cls)(batch, MOMENT)
    assert torch.equal(batch.inputs, before)  # type: ignore[arg-type]
    assert not torch.equal(after.inputs.float(), before.float())


@pytest.mark.parametrize("cls", [one for one in ALL if one is not Grow], ids=lambda c: c.name)
def test_the_same_moment_gives_the_same_batch_and_another_one_a_different_batch(cls: type[Any]) -> None:
    batch, made = sample(cls, 16), busy(cls, **({"p": 0.5} if cls is Flip else {}))
    first, second = made(batch, MOMENT), made(batch, MOMENT)
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.targets, second.targets)
    other = made(batch, Moment(seed=3, epoch=3, step=25, total=100, steps_per_epoch=8, classes=CLASSES))
    assert not torch.equal(first.inputs, other.inputs)


@pytest.mark.parametrize("cls", [one for one in ALL if one.name not in MIXING], ids=lambda c: c.name)
def test_a_sample_is_changed_alike_in_any_batch_and_order(cls: type[Any]) -> None:
    batch, made = sample(cls, 12), cls()
    whole = made(batch, MOMENT).inputs
    order = [5, 0, 11, 3]
    assert torch.equal(made(rows(batch, order), MOMENT).inputs, whole[order])
    for one in range(12):
        assert torch.equal(made(rows(batch, [one]), MOMENT).inputs[0], whole[one])


@pytest.mark.parametrize("cls", ALL, ids=NAMES)
def test_until_switches_a_technique_off(cls: type[Any]) -> None:
    batch, made = sample(cls), busy(cls, until="50%")
    late = Moment(seed=3, epoch=6, step=50, total=100, steps_per_epoch=8, classes=CLASSES)
    assert active(made, MOMENT)
    assert not active(made, late)
    assert made(batch, late) is batch
    assert active(cls(), late)


@pytest.mark.parametrize(("first", "second"), list(permutations(ALL, 2)), ids=lambda c: c.name)
def test_every_pair_composes(first: type[Any], second: type[Any]) -> None:
    shared = set(first.kinds) & set(second.kinds)
    if not shared or ({first, second} & {WordDrop, WordSwap} and Mixup in (first, second)):
        pytest.skip("they work on different inputs")
    batch = sample(Flip if "image" in shared else first, 8)
    if {first, second} & {WordDrop, WordSwap}:
        tokens = torch.randint(1, 50, (8, 9))
        batch = batch._replace(inputs={"numeric": torch.randn(8, 3), "tokens": tokens})
    after = busy(second)(busy(first)(batch, MOMENT), MOMENT)
    if isinstance(batch.inputs, dict):
        assert {k: v.shape for k, v in after.inputs.items()} == {k: v.shape for k, v in batch.inputs.items()}
        return
    whole = Grow not in (first, second)
    assert after.inputs.shape == (batch.inputs.shape if whole else (8, 3, 8, 10))
    if after.targets.is_floating_point():
        assert (after.targets.double().sum(1) - 1).abs().max() < 1e-6


def coloured(count: int) -> Batch:
    """Images that are white in the channel of their class: the pixels say what the targets must be."""
    targets = torch.arange(count) % CLASSES
    pixels = torch.zeros(count, CLASSES, 10, 14, dtype=torch.uint8)
    pixels[torch.arange(count), targets] = 255
    return Batch(pixels, targets, None, torch.arange(count))


MOVING: list[Any] = [busy(Flip), Crop(padding=3)]
BLENDING: list[Any] = [Mixup(alpha=1.0), Mixup(alpha=0.3, per="sample")]
PASTING: list[Any] = [Cutmix(p=1.0), Cutmix(p=1.0, per="sample")]
PAIRS = [
    *permutations(MOVING + BLENDING, 2),
    *product(MOVING + BLENDING, PASTING),
    *product(PASTING, BLENDING + MOVING[:1]),
]


def test_pixels_are_moved_and_covered_before_they_are_pasted() -> None:
    # After CutMix, moving or covering pixels would make the shares of its labels untrue.
    assert NAMES[-1] == "cutmix"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p[0].name}-{p[1].name}")
def test_the_share_of_a_label_is_the_share_of_its_pixels(pair: tuple[Any, Any]) -> None:
    for step in range(4):
        moment = Moment(seed=1, epoch=0, step=step, total=4, classes=CLASSES)
        after = pair[1](pair[0](coloured(9), moment), moment)
        if not after.targets.is_floating_point():
            continue
        shown = after.inputs.double().mean((2, 3)) / 255
        assert (shown - after.targets.double()).abs().max() < 1e-6


def test_flip_mirrors_half_of_the_samples() -> None:
    batch = sample(Flip, 400)
    after = Flip()(batch, MOMENT)
    mirrored = np.asarray(
        [np.array_equal(a, b[..., ::-1]) for a, b in zip(after.inputs.numpy(), batch.inputs.numpy(), strict=True)]
    )  # type: ignore[union-attr]
    same = np.asarray([np.array_equal(a, b) for a, b in zip(after.inputs.numpy(), batch.inputs.numpy(), strict=True)])  # type: ignore[union-attr]
    assert (mirrored ^ same).all()
    assert 150 < mirrored.sum() < 250


def test_alternating_flip_shows_both_sides_in_two_epochs_and_repeats_after_that() -> None:
    batch = sample(Flip, 32)
    seen = [
        Flip(alternate=True)(batch, Moment(seed=0, epoch=epoch, step=epoch, total=3)).inputs.clone()  # type: ignore[union-attr]
        for epoch in range(3)
    ]
    assert torch.equal(seen[0], seen[1].flip(-1))
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], batch.inputs)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    padding=st.integers(1, 5),
    mode=st.sampled_from(["reflect", "zeros"]),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.bfloat16]),
    data=st.data(),
)
def test_crop_equals_padding_and_slicing_each_image_in_numpy(
    padding: int, mode: str, dtype: torch.dtype, data: Any
) -> None:
    given_ = images(4, dtype, side=6)
    places = st.lists(st.integers(0, 2 * padding), min_size=4, max_size=4)
    down, right = data.draw(places), data.draw(places)
    after = crop(given_, torch.tensor(down), torch.tensor(right), padding=padding, mode=mode)
    around = [(0, 0), (padding, padding), (padding, padding)]
    for one, image, y, x in zip(after, given_, down, right, strict=True):
        padded = np.pad(image.float().numpy(), around, mode="reflect" if mode == "reflect" else "constant")
        assert np.array_equal(one.float().numpy(), padded[:, y : y + 6, x : x + 10])


def test_crop_refuses_to_reflect_more_than_the_image_holds() -> None:
    with pytest.raises(RecipeError, match=r"batch.crop.padding.*12 x 16"):
        Crop(padding=12)(sample(Crop), MOMENT)


def test_cutout_covers_one_square_with_the_image_s_mean() -> None:
    batch = sample(Cutout, 30)
    after = Cutout(size=0.5)(batch, MOMENT)
    for one, image in zip(after.inputs.numpy(), batch.inputs.numpy(), strict=True):  # type: ignore[union-attr]
        mean = np.round(image.mean((1, 2))).astype(np.uint8)
        covered = (one == mean[:, None, None]).all(0)
        tall, wide = covered.any(1).sum(), covered.any(0).sum()
        assert 3 <= tall <= 6
        assert 3 <= wide <= 6
        assert covered.sum() == tall * wide
        assert np.array_equal(one[:, ~covered], image[:, ~covered])


def test_erasing_covers_an_area_within_its_range() -> None:
    batch = Batch(
        torch.full((300, 1, 40, 40), 255, dtype=torch.uint8), torch.zeros(300).long(), None, torch.arange(300)
    )
    after = Erasing(p=1.0, area=(0.1, 0.3), fill="black")(batch, MOMENT)
    area = (after.inputs == 0).float().mean((1, 2, 3))  # type: ignore[union-attr]
    assert area.min() > 0.08
    assert area.max() < 0.33
    assert abs(float(area.mean()) - 0.2) < 0.01
    kept = Erasing(p=0.5, fill="black")(batch, MOMENT).inputs.flatten(1).min(1).values == 255  # type: ignore[union-attr]
    assert 110 < int(kept.sum()) < 190


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_the_symmetric_beta_has_the_distribution_of_scipy_s(alpha: float) -> None:
    place = torch.rand(2, 20_000, generator=torch.Generator().manual_seed(1))
    drawn = symmetric_beta(place[0], place[1], alpha)
    assert torch.isfinite(drawn).all()
    assert scipy.stats.kstest(drawn.numpy(), scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_the_symmetric_beta_of_a_tiny_alpha_has_scipy_s_shares() -> None:
    place = torch.rand(2, 40_000, generator=torch.Generator().manual_seed(2))
    edges = np.asarray([-1.0, 1e-9, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0])
    found = np.histogram(symmetric_beta(place[0], place[1], 0.05).numpy(), edges)[0] / 40_000
    assert np.abs(found - np.diff(scipy.stats.beta(0.05, 0.05).cdf(edges))).max() < 0.01


def test_the_symmetric_beta_is_finite_at_the_ends_of_its_draws() -> None:
    ends = torch.tensor([0.0, 1 - 2**-24, 0.25, 0.75])
    first, second = torch.meshgrid(ends, ends, indexing="ij")
    for alpha in (1e-3, 0.2, 100.0):
        drawn = symmetric_beta(first, second, alpha)
        assert ((drawn >= 0) & (drawn <= 1)).all()


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_mixup_is_the_formula_in_float64(per: Any) -> None:
    batch = sample(Mixup, 8)
    after = Mixup(alpha=1.0, per=per)(batch, MOMENT)
    hot = np.eye(CLASSES)[batch.targets.numpy()]
    pixels = batch.inputs.double().numpy()  # type: ignore[union-attr]
    for row in range(8):
        # Which partner and share it was can be told from the pixels.
        fits = []
        for partner in range(8):
            difference = pixels[row] - pixels[partner]
            if partner == row:
                continue
            share = float(
                ((after.inputs[row].double().numpy() - pixels[partner]) * difference).sum() / (difference**2).sum()
            )
            mixed = share * pixels[row] + (1 - share) * pixels[partner]
            fits.append((np.abs(mixed - after.inputs[row].double().numpy()).max(), partner, share))
        error, partner, share = min(fits)
        if error > 1e-3:  # its own partner
            assert torch.equal(after.inputs[row], batch.inputs[row].float())  # type: ignore[union-attr]
            continue
        assert np.allclose(after.targets[row].numpy(), share * hot[row] + (1 - share) * hot[partner], atol=1e-5)
        assert batch.weight is not None
        weight = share * float(batch.weight[row]) + (1 - share) * float(batch.weight[partner])
        assert float(after.weight[row]) == pytest.approx(weight, abs=1e-5)


def test_mixup_draws_one_share_per_sample_where_asked() -> None:
    batch = coloured(20)
    one = Mixup(alpha=1.0)(batch, MOMENT).targets.max(1).values
    many = Mixup(alpha=1.0, per="sample")(batch, MOMENT).targets.max(1).values
    assert len({round(float(v), 5) for v in one} - {1.0}) == 1
    assert len({round(float(v), 5) for v in many}) > 8


def test_mixup_mixes_regression_targets_and_series() -> None:
    batch = Batch(torch.randn(6, 10, 2), torch.arange(6.0), None, torch.arange(6))
    after = Mixup(alpha=1.0)(batch, Moment(seed=0, epoch=0, step=0, total=1))
    assert after.targets.shape == (6,)
    # A mixture keeps the mean of the batch, since the partners are a permutation.
    assert float(after.targets.mean()) == pytest.approx(2.5)
    assert torch.allclose(after.inputs.mean(0), batch.inputs.mean(0), atol=1e-6)  # type: ignore[union-attr]


def test_mixup_of_a_table_takes_codes_from_either_sample() -> None:
    inputs = {"numeric": torch.randn(200, 3), "category": torch.arange(200)[:, None].expand(200, 2).contiguous()}
    batch = Batch(inputs, torch.arange(200) % 2, None, torch.arange(200))
    after = Mixup(alpha=1.0)(batch, MOMENT)
    assert isinstance(after.inputs, dict)
    own = after.inputs["category"] == inputs["category"]
    share = float(after.targets[0].max())
    assert min(abs(float(own.float().mean()) - s) for s in (share, 1 - share)) < 0.1
    assert after.inputs["category"].dtype == torch.int64


def test_cutmix_pastes_a_box_of_the_partner() -> None:
    batch = Batch(
        torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 1, 9, 11).contiguous(),
        torch.arange(6) % CLASSES,
        None,
        torch.arange(6),
    )
    for step in range(20):
        after = Cutmix(p=1.0)(batch, Moment(seed=0, epoch=0, step=step, total=20, classes=CLASSES))
        foreign = (after.inputs != batch.inputs)[:, 0].numpy()  # type: ignore[union-attr]
        for row, mask in enumerate(foreign):
            assert mask.sum() == mask.any(1).sum() * mask.any(0).sum()
            assert len(np.unique(after.inputs[row].numpy()[0][mask])) <= 1


def test_p_is_the_share_of_batches_that_are_mixed() -> None:
    batch = coloured(4)
    mixed = [
        Cutmix(p=0.3)(batch, Moment(seed=0, epoch=0, step=step, total=300, classes=CLASSES)) is not batch
        for step in range(300)
    ]
    assert 60 < sum(mixed) < 120


def test_text_cannot_be_mixed() -> None:
    tokens = Batch(torch.randint(1, 9, (4, 5)), torch.arange(4), None, torch.arange(4))
    with pytest.raises(RecipeError, match=r"batch.mixup.*token"):
        Mixup()(tokens, MOMENT)
    table = Batch({"numeric": torch.randn(4, 2), "tokens": tokens.inputs}, torch.arange(4), None, torch.arange(4))  # type: ignore[dict-item]
    with pytest.raises(RecipeError, match=r"batch.mixup.*text"):
        Mixup()(table, MOMENT)
    with pytest.raises(RecipeError, match=r"batch\.cutmix"):
        Cutmix(p=1.0)(tokens, MOMENT)


def test_images_are_asked_for_by_name() -> None:
    with pytest.raises(RecipeError, match=r"'batch.flip' changes images"):
        Flip()(Batch(torch.randn(4, 5), torch.arange(4), None, torch.arange(4)), MOMENT)


def test_a_table_s_image_column_is_changed() -> None:
    inputs = {"numeric": torch.randn(4, 2), "image": images(4)}
    after = busy(Flip)(Batch(inputs, torch.arange(4), None, torch.arange(4)), MOMENT)
    assert isinstance(after.inputs, dict)
    assert torch.equal(after.inputs["image"], inputs["image"].flip(-1))
    assert after.inputs["numeric"] is inputs["numeric"]


@pytest.mark.parametrize(
    ("cls", "wrong", "range_"),
    [
        (Flip, {"p": 1.5}, "less than or equal to 1"),
        (Flip, {"p": -0.1}, "greater than or equal to 0"),
        (Crop, {"padding": 0}, "greater than or equal to 1"),
        (Crop, {"mode": "wrap"}, "'reflect' or 'zeros'"),
        (Cutout, {"size": 0.0}, "greater than 0"),
        (Erasing, {"area": (0.5, 0.2)}, "lower end 0.5 is above"),
        (Erasing, {"area": (0.5, 1.2)}, "less than or equal to 1"),
        (Mixup, {"alpha": 0.0}, "greater than 0"),
        (Mixup, {"alpha": float("nan")}, "less than or equal to 100"),
        (Mixup, {"per": "epoch"}, "'batch' or 'sample'"),
        (Cutmix, {"alpha": -1.0}, "greater than 0"),
        (Cutmix, {"until": "5"}, "no duration"),
        (RandomResizedCrop, {"area": (0.0, 1.0)}, "greater than 0"),
        (RandomResizedCrop, {"aspect": (2.0, 1.0)}, "lower end 2 is above"),
        (Rotation, {"degrees": 200}, "less than or equal to 180"),
        (ColourJitter, {"hue": 0.6}, "less than or equal to 0.5"),
        (Noise, {"std": 0.0}, "greater than 0"),
        (WordDrop, {"p": 1.0}, "less than 1"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_range(cls: type[Any], wrong: dict[str, Any], range_: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=range_):
        cls(**wrong)


def test_a_random_resized_crop_of_the_whole_image_is_the_image() -> None:
    batch = sample(RandomResizedCrop)
    after = RandomResizedCrop(area=(1.0, 1.0), aspect=(1.0, 1.0))(batch, MOMENT)
    assert torch.equal(after.inputs, batch.inputs)  # type: ignore[arg-type]


def test_a_random_resized_crop_shows_a_part_of_the_right_size() -> None:
    # The values are the places, so the crop can be read off the result.
    ramp = torch.linspace(0, 255, 64).expand(50, 1, 64, 64).contiguous()
    batch = Batch(ramp, torch.zeros(50).long(), None, torch.arange(50))
    after = RandomResizedCrop(area=(0.25, 0.25), aspect=(1.0, 1.0))(batch, MOMENT).inputs
    width = (after[:, 0, 0, -1] - after[:, 0, 0, 0]) / (ramp[0, 0, 0, -1] - ramp[0, 0, 0, 0])  # type: ignore[index, call-overload]
    assert torch.allclose(width, torch.full((50,), 31.5 / 63), atol=0.02)


def test_warping_by_quarter_turns_and_shifts_moves_whole_pixels() -> None:
    square = images(2)[..., :12].contiguous()
    quarter = torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]]).expand(2, 2, 3)
    assert torch.equal(warp(square, quarter), torch.rot90(square, -1, (2, 3))) or torch.equal(
        warp(square, quarter), torch.rot90(square, 1, (2, 3))
    )
    shift = torch.tensor([[[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]]).expand(2, 2, 3)
    assert torch.equal(warp(square, shift)[:, :, 1:, :-2], square[:, :, :-1, 2:])


def test_rotation_turns_a_point_by_at_most_the_angle_asked_for() -> None:
    pixels = torch.zeros(200, 1, 41, 41)
    pixels[:, :, 20, 38] = 255.0
    after = Rotation(degrees=30)(Batch(pixels, torch.zeros(200).long(), None, torch.arange(200)), MOMENT).inputs
    rows, columns = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="ij")
    mass = after[:, 0].sum((1, 2))  # type: ignore[index, call-overload]
    angle = torch.rad2deg(
        torch.atan2((after[:, 0] * rows).sum((1, 2)) / mass, (after[:, 0] * columns).sum((1, 2)) / mass)
    )  # type: ignore[index, call-overload]
    assert angle.abs().max() < 31
    assert angle.std() > 12


def test_recolouring_equals_the_formulas_in_float64() -> None:
    batch = images(6).double().numpy() / 4 + 90  # far from the ends, where nothing is clipped
    factors = np.random.default_rng(0).uniform(0.8, 1.2, (3, 6))
    luma = np.asarray([0.299, 0.587, 0.114])
    b, c, s = factors[:, :, None, None, None]
    expected = batch * b
    expected = (
        c * expected + (1 - c) * np.einsum("c,bchw->b", luma, expected)[:, None, None, None] / expected[0, 0].size
    )
    expected = s * expected + (1 - s) * np.einsum("c,bchw->bhw", luma, expected)[:, None]
    got = recolour(
        torch.from_numpy(batch).float(),
        *torch.from_numpy(factors[:2]),
        saturation=torch.from_numpy(factors[2]),
        hue=torch.zeros(6),
    )
    # The chroma axes of YIQ are known to four digits.
    assert np.abs(got.numpy() - expected).max() < 0.02


def test_a_whole_turn_of_hue_changes_nothing_and_part_of_one_keeps_luma() -> None:
    pixels = images(3).float() / 8 + 110
    ones = torch.ones(3, dtype=torch.float64)
    for turn, same in ((1.0, True), (0.3, False)):
        got = recolour(pixels, ones, ones, saturation=ones, hue=ones * turn)
        luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        assert torch.allclose((got * luma).sum(1), (pixels * luma).sum(1), atol=1e-2)
        assert torch.allclose(got, pixels, atol=1e-2) == same


def test_colour_jitter_of_gray_images_changes_light_only() -> None:
    gray = Batch(images(4, channels=1), torch.arange(4), None, torch.arange(4))
    assert ColourJitter(saturation=1.0, hue=0.5, brightness=0, contrast=0)(gray, MOMENT).inputs.equal(gray.inputs)  # type: ignore[union-attr, arg-type]


def test_noise_has_the_deviation_asked_for_and_spares_codes() -> None:
    inputs = {"numeric": torch.zeros(500, 20), "category": torch.ones(500, 3, dtype=torch.int64)}
    after = Noise(std=0.3)(Batch(inputs, torch.zeros(500).long(), None, torch.arange(500)), MOMENT).inputs
    assert isinstance(after, dict)
    assert scipy.stats.kstest(after["numeric"].flatten().numpy() / 0.3, "norm").pvalue > 1e-3
    assert after["category"] is inputs["category"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 99)), min_size=1, max_size=6), st.floats(0, 0.9))
def test_word_drop_keeps_the_order_of_the_words_that_stay(texts: list[tuple[int, int]], p: float) -> None:
    tokens = torch.zeros(len(texts), 7, dtype=torch.int64)
    for row, (length, _) in enumerate(texts):
        tokens[row, :length] = torch.arange(1, length + 1)
    dropped = torch.from_numpy(np.random.default_rng([n for _, n in texts]).uniform(size=tokens.shape) < p)
    after = drop_words(tokens, dropped)
    for row in range(len(texts)):
        kept = [int(t) for t, gone in zip(tokens[row], dropped[row], strict=True) if t and not gone]
        kept = kept or [int(tokens[row, 0])]
        assert after[row].tolist() == kept + [0] * (7 - len(kept))


def test_every_technique_has_a_page() -> None:
    for one in ALL:
        assert all(word in (one.__doc__ or "") for word in ("Formula:", "Source:", "Helps:", "Hurts:", "until:")), (
            one.name
        )
    assert sorted(module.__all__) == module.__all__
