from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goodfit.errors import DataError
from goodfit.techniques.sampling import ALL, Balanced, Sequential, Shuffle, balanced, class_quotas, shuffled
from goodfit.types import Tensors


def part(targets, start=0):
    targets = torch.as_tensor(targets)
    index = torch.arange(start, start + len(targets))
    return Tensors(index.float()[:, None], targets, index)


@pytest.mark.parametrize("technique", [cls() for cls in ALL], ids=lambda t: t.name)
def test_the_order_is_a_function_of_seed_and_epoch(technique):
    data = part([0, 1, 2] * 30)
    order = technique.order(data, seed=1, epoch=2)
    assert order.dtype == torch.int64
    assert len(order) == 90
    assert torch.equal(order, technique.order(data, seed=1, epoch=2))
    if technique.name not in ("sequential", "streams"):
        assert not torch.equal(order, technique.order(data, seed=1, epoch=3))
        assert not torch.equal(order, technique.order(data, seed=2, epoch=2))


@given(st.integers(0, 200), st.integers(0, 10), st.integers(0, 5))
def test_shuffle_shows_every_sample_once(count, seed, epoch):
    order = Shuffle().order(part([0] * count), seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(count))


def test_the_order_hangs_on_the_samples_numbers_and_not_on_their_positions():
    index = torch.arange(50)
    turned = index.flip(0)
    one = index[shuffled(index, seed=0, epoch=0)]
    assert torch.equal(one, turned[shuffled(turned, seed=0, epoch=0)])
    fewer = index[index != 17]
    assert fewer[shuffled(fewer, seed=0, epoch=0)].tolist() == [i for i in one.tolist() if i != 17]


def test_every_place_is_as_likely_for_every_sample():
    index = torch.arange(10)
    first = torch.stack([shuffled(index, seed=0, epoch=e) for e in range(4000)])[:, 0]
    counts = torch.bincount(first, minlength=10).double()
    assert float(((counts - 400) ** 2 / 400).sum()) < 27.9  # chi-squared with 9 degrees of freedom, p = 0.001


def test_sequential_is_the_order_of_the_source():
    assert Sequential().order(part([3, 1, 2]), seed=5, epoch=5).tolist() == [0, 1, 2]


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.floats(0, 1), st.integers(0, 3))
def test_balanced_counts_are_exact_and_even_within_a_class(targets, power, epoch):
    labels = torch.tensor(targets)
    order = balanced(labels, torch.arange(len(labels)), seed=0, epoch=epoch, power=power)
    assert len(order) == len(labels)
    counts = torch.bincount(labels)
    assert torch.equal(torch.bincount(labels[order], minlength=len(counts)), class_quotas(counts, power=power))
    shown = torch.bincount(order, minlength=len(labels))
    for kind in set(targets):
        own = shown[labels == kind]
        assert int(own.max() - own.min()) <= 1


def test_power_moves_from_as_it_is_to_even():
    counts = torch.tensor([90, 10, 0])
    assert class_quotas(counts, power=0.0).tolist() == [90, 10, 0]
    assert class_quotas(counts, power=1.0).tolist() == [50, 50, 0]
    assert class_quotas(counts, power=0.5).tolist() == [75, 25, 0]


def test_power_zero_shows_every_sample_once():
    order = Balanced(power=0.0).order(part([0] * 9 + [1]), seed=0, epoch=0)
    assert sorted(order.tolist()) == list(range(10))


def test_every_sample_of_a_common_class_is_seen_over_the_epochs():
    labels = torch.tensor([0] * 90 + [1] * 10)
    seen = torch.cat([balanced(labels, torch.arange(100), seed=0, epoch=e) for e in range(12)])
    assert len(seen.unique()) == 100


def test_rare_samples_are_spread_over_the_epoch():
    labels = torch.tensor([0] * 90 + [1] * 10)
    order = labels[balanced(labels, torch.arange(100), seed=0, epoch=0)]
    assert 10 <= int(order[:50].sum()) <= 40


@pytest.mark.parametrize("targets", [torch.rand(5), torch.rand(5, 3), torch.zeros(5, 4, dtype=torch.int64)])
def test_balanced_without_classes_says_what_to_do(targets):
    with pytest.raises(DataError, match="sampling = 'shuffle'"):
        Balanced().order(part(targets), seed=0, epoch=0)


def test_a_power_out_of_range_is_refused_with_the_range():
    with pytest.raises(ValueError, match="less than or equal to 1"):
        Balanced(power=1.5)
