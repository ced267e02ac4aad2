"""Which sample goes into which part: by class, by group, by time, or at random; always the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from goodfit import keyed
from goodfit.errors import DataError
from goodfit.recipe import DataSettings

Numbers = NDArray[np.int64]
FEWEST_ROWS = 10
"""Below this no split says anything: one sample would be more than a tenth of all."""


ENOUGH = 5_000
"""Validation samples that the default share takes at most: 5,000 tell a share to within 1.4 points, and training
wants the rest."""


class Split(NamedTuple):
    """The sample numbers of each part, ascending, int64. Together they are ``range(count)``, each number once."""

    train: Numbers
    valid: Numbers
    test: Numbers


def at_random(count: int, valid: float, *, test: float, seed: int) -> Split:
    """``count`` samples in three parts, shares ``valid`` and ``test`` rounded to the nearest sample.

    Raises DataError where a part that was asked for would be empty.
    """
    _check(count, valid, test)
    draws = _draws(count, seed)
    sizes = _sizes(count, valid, test)
    return _cut(np.argsort(draws, kind="stable"), sizes)


def stratified(classes: NDArray[Any], valid: float, *, test: float, seed: int, names: Sequence[str] = ()) -> Split:
    """Every class in the same shares, with the parts' total sizes as in a random split.

    classes: ``(count,)`` class numbers from 0. names: their names, for messages.

    Each class gives ``floor(share * size)`` samples to a part; what is left goes to the classes with the largest
    remainders. A class with three samples or more is in every part, one with two in train and test.

    Raises DataError for one class only, a class with one sample, or too few rows.
    """
    classes = np.asarray(classes, np.int64)
    count = len(classes)
    _check(count, valid, test)
    sizes = np.bincount(classes)
    present = np.flatnonzero(sizes)
    named = list(names) if len(names) else [str(number) for number in range(len(sizes))]
    if len(present) == 1:
        raise DataError(
            f"there is only one class, '{named[present[0]]}' ({count:,} rows); two are needed to learn the difference: "
            "check the target, or give data that holds the other classes too"
        )
    lonely = [number for number in present if sizes[number] == 1]
    if lonely and (valid > 0 or test > 0):
        shown = ", ".join(f"'{named[n]}' (sample {int(np.flatnonzero(classes == n)[0]):,})" for n in lonely[:5])
        more = f" and {len(lonely) - 5} more" if len(lonely) > 5 else ""
        one = len(lonely) == 1
        raise DataError(
            f"{'class' if one else 'classes'} {shown}{more} {'has' if one else 'have'} one sample only, which "
            f"cannot be in "
            "both train and test; add samples, merge the class with another, or remove it"
        )
    wanted = _sizes(count, valid, test)
    kept = 1 + ((sizes >= 3) & (wanted.valid > 0))  # for train, and for valid where that has a right to one
    taken = _apportion(sizes, wanted.test / count, total=wanted.test, room=sizes - kept, least=sizes >= 2)
    chosen = _apportion(sizes, wanted.valid / count, total=wanted.valid, room=sizes - 1 - taken, least=sizes >= 3)
    by_class = np.lexsort((_draws(count, seed), classes))
    rank = np.empty(count, np.int64)
    rank[by_class] = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    in_test = rank < taken[classes]
    in_valid = ~in_test & (rank < (taken + chosen)[classes])
    return Split(np.flatnonzero(~in_test & ~in_valid), np.flatnonzero(in_valid), np.flatnonzero(in_test))


def grouped(groups: NDArray[Any], valid: float, *, test: float, seed: int) -> Split:
    """Whole groups in one part each, so that no group is both learned from and tested on.

    groups: ``(count,)`` group numbers from 0. Groups in keyed random order fill test, then valid, then train; a part
    ends at the group that brings it nearest to its share. Raises DataError for fewer groups than parts.
    """
    groups = np.asarray(groups, np.int64)
    _check(len(groups), valid, test)
    sizes = np.bincount(groups)
    present = np.flatnonzero(sizes)
    parts = 1 + (valid > 0) + (test > 0)
    if len(present) < parts:
        raise DataError(f"{len(present)} groups cannot fill {parts} parts; give more groups, or split without them")
    order = present[np.argsort(_draws(int(present[-1]) + 1, seed)[present], kind="stable")]
    ends = np.cumsum(sizes[order])
    wanted = _sizes(len(groups), valid, test)
    last_test = _nearest(ends, wanted.test, low=1, high=len(order) - parts + 1) if test > 0 else 0
    aim = (ends[last_test - 1] if last_test else 0) + wanted.valid
    last_valid = _nearest(ends, aim, low=last_test + 1, high=len(order) - 1) if valid > 0 else last_test
    part = np.zeros(len(sizes), np.int64)
    part[order[:last_test]] = 2
    part[order[last_test:last_valid]] = 1
    return by_label(part[groups])


def by_time(order: NDArray[Any], valid: float, *, test: float) -> Split:
    """The oldest samples for train, then valid, the newest for test. ``order``: ``(count,)`` times."""
    _check(len(order), valid, test)
    sorted_ = np.argsort(order, kind="stable")
    sizes = _sizes(len(order), valid, test)
    return Split(
        np.sort(sorted_[: sizes.train]),
        np.sort(sorted_[sizes.train : sizes.train + sizes.valid]),
        np.sort(sorted_[sizes.train + sizes.valid :]),
    )


def by_label(part: NDArray[Any]) -> Split:
    """The split that the source brings with it. ``part``: ``(count,)`` with 0 train, 1 valid, 2 test."""
    return Split(*(np.flatnonzero(np.asarray(part) == number) for number in range(3)))


def refill(given: Split, inner: Split) -> Split:
    """A given split with ``inner``, a split of its train part by position, put in place of that train part."""
    parts = [given.train[inner.train], given.train[inner.valid], given.train[inner.test]]
    return Split(parts[0], np.sort(np.r_[given.valid, parts[1]]), np.sort(np.r_[given.test, parts[2]]))


class _Sizes(NamedTuple):
    train: int
    valid: int
    test: int


def _check(count: int, valid: float, test: float) -> None:
    if not (0 <= valid < 1 and 0 <= test < 1 and valid + test < 1):
        raise DataError(
            f"data.valid = {valid:g} and data.test = {test:g} leave nothing to train on; they must add up to less "
            f"than 1"
        )
    if count < FEWEST_ROWS:
        raise DataError(f"{count} samples are too few to train, validate and test on; give at least {FEWEST_ROWS}")


def _sizes(count: int, valid: float, test: float) -> _Sizes:
    in_test = max(1, round(count * test)) if test > 0 else 0
    in_valid = max(1, round(count * valid)) if valid > 0 else 0
    if valid == DataSettings().valid:
        in_valid = min(in_valid, ENOUGH)
    return _Sizes(count - in_valid - in_test, in_valid, in_test)


def _draws(count: int, seed: int) -> Numbers:
    return np.asarray(keyed.bits(keyed.key(seed, "split"), torch.arange(count))[:, 0].numpy())


def _cut(order: Numbers, sizes: _Sizes) -> Split:
    test, valid, train = np.split(order, [sizes.test, sizes.test + sizes.valid])
    return Split(np.sort(train), np.sort(valid), np.sort(test))


def _apportion(sizes: Numbers, share: float, *, total: int, room: Numbers, least: NDArray[np.bool_]) -> Numbers:
    """``total`` samples from classes of these sizes by largest remainder; one where ``least``, at most ``room``."""
    if total == 0:
        return np.zeros(len(sizes), np.int64)
    ideal = sizes * share
    taken = np.minimum(np.maximum(np.floor(ideal).astype(np.int64), least), np.maximum(room, 0))
    while (missing := total - int(taken.sum())) > 0:
        open_ = np.flatnonzero(taken < room)
        if not len(open_):
            break
        best = open_[np.argsort(taken[open_] - ideal[open_], kind="stable")]
        taken[best[:missing]] += 1
    return np.asarray(taken)


def _nearest(ends: Numbers, aim: int, *, low: int, high: int) -> int:
    """How many groups, between ``low`` and ``high``, bring the total nearest to ``aim``."""
    return low + int(np.argmin(np.abs(ends[low - 1 : high] - aim)))
