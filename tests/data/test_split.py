"""Splits: nothing lost, nothing twice, shares kept, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodfit.data import split as splits
from goodfit.data.split import Split
from goodfit.errors import DataError

SHARES = st.sampled_from([(0.15, 0.15), (0.1, 0.3), (0.2, 0.0), (0.0, 0.2), (0.05, 0.05)])


def is_partition(split: Split, count: int) -> bool:
    return sorted(np.concatenate(split).tolist()) == list(range(count)) and all((np.diff(p) > 0).all() for p in split)


@given(count=st.integers(10, 400), shares=SHARES, seed=st.integers(0, 5))
def test_a_random_split_is_a_partition_with_the_asked_shares(count, shares, seed):
    valid, test = shares
    split = splits.at_random(count, valid, test=test, seed=seed)
    assert is_partition(split, count)
    assert abs(len(split.valid) - count * valid) < 1
    assert abs(len(split.test) - count * test) < 1


@given(sizes=st.lists(st.integers(2, 60), min_size=2, max_size=8), shares=SHARES, seed=st.integers(0, 3))
@settings(deadline=None)
def test_a_stratified_split_is_a_partition_and_every_class_keeps_its_share(sizes, shares, seed):
    valid, test = shares
    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    if len(classes) < 10:
        return
    split = splits.stratified(classes, valid, test=test, seed=seed)
    assert is_partition(split, len(classes))
    for number, size in enumerate(sizes):
        in_train, in_valid, in_test = (int((classes[part] == number).sum()) for part in split)
        assert in_train >= 1
        assert abs(in_test - size * test) <= 2
        assert abs(in_valid - size * valid) <= 2
        if size >= 3 and valid:
            assert in_valid >= 1
        if test:
            assert in_test >= 1


@given(
    sizes=st.lists(st.integers(1, 40), min_size=4, max_size=12),
    shares=st.sampled_from([(0.15, 0.15), (0.2, 0.0)]),
    seed=st.integers(0, 3),
)
@settings(deadline=None)
def test_a_grouped_split_tears_no_group_apart_and_leaves_no_part_empty(sizes, shares, seed):
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    if len(groups) < 10:
        return
    valid, test = shares
    split = splits.grouped(groups, valid, test=test, seed=seed)
    assert is_partition(split, len(groups))
    owners = [set(groups[part].tolist()) for part in split]
    assert sum(map(len, owners)) == len(set.union(*owners))
    assert len(split.train)
    assert len(split.valid)
    assert bool(len(split.test)) == (test > 0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=10, max_size=100), SHARES)
def test_a_split_by_time_has_the_newest_in_the_test_part(times, shares):
    order = np.asarray(times)
    split = splits.by_time(order, shares[0], test=shares[1])
    assert is_partition(split, len(order))
    past = order[split.train].max()
    assert all((order[part] >= past).all() for part in split[1:])


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    first, again, other = (splits.at_random(200, 0.2, test=0.2, seed=seed) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first.test != other.test).any()


def test_a_given_split_keeps_its_parts_when_train_is_split_further():
    given_ = splits.by_label(np.asarray([0] * 20 + [2] * 5))
    whole = splits.refill(given_, splits.at_random(20, 0.25, test=0.0, seed=0))
    assert is_partition(whole, 25)
    assert whole.test.tolist() == [20, 21, 22, 23, 24]
    assert len(whole.valid) == 5


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.zeros(20, int), "only one class, 'a'"),
        (np.r_[np.zeros(20, int), 1], r"class 'b' \(sample 20\) has one sample only"),
        (np.asarray([0, 1] * 4), "8 samples are too few"),
    ],
)
def test_what_cannot_be_stratified_is_said_in_one_line(classes, message):
    with pytest.raises(DataError, match=message):
        splits.stratified(classes, 0.15, test=0.15, seed=0, names=["a", "b"])


def test_shares_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(DataError, match="leave nothing to train on"):
        splits.at_random(100, 0.5, test=0.5, seed=0)


def test_fewer_groups_than_parts_are_refused():
    with pytest.raises(DataError, match="2 groups cannot fill 3 parts"):
        splits.grouped(np.asarray([0, 1] * 10), 0.15, test=0.15, seed=0)
