from __future__ import annotations

import dataclasses
from typing import Any

import pydantic
import pytest
import torch
from torch import Tensor

from goodfit.technique import Duration
from goodfit.techniques.batch import ALL, Cutmix, Flip, Grow, Minority, Mixup, Noise, WordDrop, by_rarity
from goodfit.techniques.batch_minority import Graded, chances
from goodfit.types import Batch, Moment

COUNTS = torch.tensor([900, 90, 10, 0])
MOMENT = Moment(seed=3, epoch=2, step=17, total=100, steps_per_epoch=8, classes=4)


def numbers(count: int = 2000, *, soft: bool = False) -> Batch:
    targets = torch.arange(count) % 4
    shares = torch.nn.functional.one_hot(targets, 4).float()
    return Batch(torch.zeros(count, 3), shares if soft else targets, None, torch.arange(count) * 3 + 1)


def pixels_of(batch: Batch) -> Tensor:
    assert isinstance(batch.inputs, Tensor)
    return batch.inputs


def changed(before: Batch, after: Batch) -> Tensor:
    return (pixels_of(before) != pixels_of(after)).flatten(1).any(1)


@pytest.mark.parametrize(
    ("strength", "expected"),
    [(1.0, [10 / 900, 10 / 90, 1, 1]), (0.5, [(1 / 90) ** 0.5, (1 / 9) ** 0.5, 1, 1]), (0.0, [1, 1, 1, 1])],
)
def test_the_chance_of_a_class_is_the_formula(strength: float, expected: list[float]) -> None:
    assert chances(COUNTS, strength).tolist() == pytest.approx(expected)


def test_a_class_without_samples_is_no_measure_for_the_others() -> None:
    assert chances(torch.tensor([0, 5, 5]), 1.0).tolist() == [1, 1, 1]
    assert chances(torch.zeros(3, dtype=torch.int64), 1.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_each_class_is_changed_as_often_as_its_chance_says(soft: bool) -> None:
    batch = numbers(soft=soft)
    (graded,) = by_rarity([Minority(strength=0.5), Noise(std=1.0)], COUNTS)
    hit = changed(batch, graded(batch, MOMENT))
    share = [float(hit[k::4].float().mean()) for k in range(4)]
    assert share == pytest.approx(chances(COUNTS, 0.5).tolist(), abs=0.05)


def test_a_changed_sample_is_changed_as_without_it_and_the_others_not_at_all() -> None:
    batch, plain = numbers(), Noise(std=1.0)
    (graded,) = by_rarity([Minority(), plain], COUNTS)
    start, whole, some = pixels_of(batch), pixels_of(plain(batch, MOMENT)), pixels_of(graded(batch, MOMENT))
    hit = changed(batch, graded(batch, MOMENT))
    assert torch.equal(some[hit], whole[hit])
    assert torch.equal(some[~hit], start[~hit])


def test_a_sample_is_changed_alike_in_any_batch_and_order_and_otherwise_in_another_epoch() -> None:
    batch = numbers(40)
    (graded,) = by_rarity([Minority(), Noise(std=1.0)], COUNTS)
    whole, order = pixels_of(graded(batch, MOMENT)), [5, 0, 39, 3]
    part = Batch(pixels_of(batch)[order], batch.targets[order], None, batch.index[order])
    assert torch.equal(pixels_of(graded(part, MOMENT)), whole[order])
    other = dataclasses.replace(MOMENT, epoch=3)
    assert not torch.equal(changed(batch, graded(batch, other)), changed(batch, graded(batch, MOMENT)))


def test_all_techniques_spare_the_same_samples() -> None:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (400, 1, 6, 6), generator=generator, dtype=torch.uint8)
    batch = Batch(pixels, torch.arange(400) % 4, None, torch.arange(400))
    for one in ("flip", "crop", "cutout", "rotation", "rand_augment"):
        cls = next(c for c in ALL if c.name == one)
        (graded,) = by_rarity([Minority(strength=1.0), cls(p=1.0) if one == "flip" else cls()], COUNTS)
        (flipped,) = by_rarity([Minority(strength=1.0), Flip(p=1.0)], COUNTS)
        spared = ~changed(batch, flipped(batch, MOMENT))
        assert not changed(batch, graded(batch, MOMENT))[spared].any(), one
    assert spared[::4].float().mean() > 0.9


def test_texts_and_tables_are_graded_too() -> None:
    tokens = torch.randint(1, 50, (400, 9), generator=torch.Generator().manual_seed(2))
    table = {"numeric": torch.zeros(400, 2), "tokens": tokens}
    batch = Batch(table, torch.arange(400) % 4, None, torch.arange(400))
    (graded,) = by_rarity([Minority(strength=1.0), WordDrop(p=0.5)], COUNTS)
    after = graded(batch, MOMENT).inputs
    assert isinstance(after, dict)
    assert after["numeric"] is table["numeric"]
    hit = (after["tokens"] != tokens).any(1)
    assert hit[::4].float().mean() < 0.1
    assert hit[2::4].float().mean() > 0.9


@pytest.mark.parametrize("made", [Mixup(alpha=1.0), Cutmix(p=1.0), Grow()], ids=lambda one: one.name)
def test_what_works_on_the_whole_batch_is_left_as_it_is(made: Any) -> None:
    pixels = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8)
    batch = Batch(pixels, torch.arange(8) % 4, None, torch.arange(8))
    (graded,) = by_rarity([Minority(strength=4.0), made], COUNTS)
    expected, after = made(batch, MOMENT), graded(batch, MOMENT)
    assert torch.equal(pixels_of(after), pixels_of(expected))
    assert torch.equal(after.targets, expected.targets)


def test_without_it_and_at_strength_0_and_after_its_end_nothing_changes() -> None:
    batch, plain = numbers(40), Noise(std=1.0)
    assert by_rarity([plain], COUNTS) == (plain,)
    expected = pixels_of(plain(batch, MOMENT))
    ended = Duration(amount=10, unit="percent")
    for minority in (Minority(strength=0.0), Minority(strength=4.0, until=ended)):
        (graded,) = by_rarity([minority, plain], COUNTS)
        assert torch.equal(pixels_of(graded(batch, MOMENT)), expected)
    assert Minority()(batch, MOMENT) is batch


def test_a_graded_technique_keeps_its_name_and_its_end() -> None:
    (graded,) = by_rarity([Minority(), Noise(until=Duration(amount=50, unit="percent"))], COUNTS)
    assert isinstance(graded, Graded)
    assert graded.name == "noise"
    assert str(graded.until) == "50%"


def test_a_strength_out_of_range_is_refused_with_the_range() -> None:
    with pytest.raises(pydantic.ValidationError, match="less than or equal to 4"):
        Minority(strength=5)
    with pytest.raises(pydantic.ValidationError, match="greater than or equal to 0"):
        Minority(strength=-1)
