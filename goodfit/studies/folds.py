"""Which rows are held out together: folds by class, by group, by time or at random; always the same for a seed.

Every function returns ``(count,)`` int64 fold numbers from 0, so each row is in one fold. They agree with those of
scikit-learn in what they promise (`StratifiedKFold`, `GroupKFold`, `KFold`), not in the rows they draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from goodfit import keyed
from goodfit.data.language import Windows
from goodfit.data.windows import SeriesWindows
from goodfit.errors import DataError
from goodfit.types import Part

Numbers = NDArray[np.int64]


class Fold(NamedTuple):
    """Positions of one part: what is trained on and what is predicted; ``dropped`` are in neither."""

    train: Numbers
    held: Numbers
    dropped: int


def at_random(count: int, folds: int, *, seed: int) -> Numbers:
    """Folds whose sizes differ by at most one."""
    _check(count, folds)
    return _dealt(_draws(count, seed), folds)


def stratified(classes: NDArray[Any], folds: int, *, seed: int) -> Numbers:
    """Folds in which each class, and all together, differ by at most one sample.

    classes: ``(count,)`` class numbers. Rows are dealt like cards, class after class; a class with fewer samples than
    folds is missing in some of them, which is then never predicted by a model that saw fewer than it could.
    """
    _check(len(classes), folds)
    return _dealt(_draws(len(classes), seed), folds, np.asarray(classes))


def grouped(groups: NDArray[Any], folds: int, *, seed: int, classes: NDArray[Any] | None = None) -> Numbers:
    """Folds that tear no group apart; the largest groups are placed first, each where it evens out sizes most.

    With ``classes`` a fold's classes are evened out too: a group goes to the fold that keeps
    ``sum_fold sum_class (count / wanted)^2`` smallest. Raises DataError for fewer groups than folds.
    """
    _check(len(groups), folds)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    count = int(group.max()) + 1
    if count < folds:
        raise DataError(f"{count} groups cannot fill {folds} folds; ask for --folds {count} at most, or other groups")
    kinds = np.zeros(len(group), np.int64) if classes is None else np.unique(classes, return_inverse=True)[1]
    table = np.zeros((count, int(kinds.max()) + 1))
    np.add.at(table, (group, kinds), 1.0)
    share = table / table.sum(0)
    order = np.lexsort((_draws(count, seed), -table.sum(1)))
    held, sizes = np.zeros((folds, table.shape[1])), np.zeros(folds)
    chosen = np.zeros(count, np.int64)
    for place, one in enumerate(order):
        # An empty fold never stays empty: as many groups as there are empty folds are kept for them.
        empty = np.flatnonzero(sizes == 0)
        open_ = empty if len(empty) >= count - place else np.arange(folds)
        more = ((held[open_] + share[one]) ** 2 - held[open_] ** 2).sum(1)
        best = open_[np.lexsort((sizes[open_], np.round(more, 12)))[0]]
        chosen[one] = best
        held[best] += share[one]
        sizes[best] += table[one].sum()
    return np.asarray(chosen[group])


def contiguous(count: int, folds: int) -> Numbers:
    """Runs of neighbours in the order of positions, for what is in order of time; sizes differ by at most one."""
    _check(count, folds)
    sizes = [len(one) for one in np.array_split(np.arange(count), folds)]
    return np.repeat(np.arange(folds), sizes)


def folds_for(
    part: Part, folds: int, *, seed: int, classes: bool, groups: NDArray[Any] | None = None
) -> tuple[Numbers, str]:
    """The fold of each position of a part, and in words how it was chosen."""
    targets = part.targets.numpy() if classes else None
    if isinstance(part, SeriesWindows | Windows):
        if groups is not None:
            raise DataError("a series or a text is cut by time, not by --groups; leave it out")
        return contiguous(len(part), folds), "of neighbours in time"
    if groups is not None:
        return grouped(groups, folds, seed=seed, classes=targets), "whole groups" + (
            ", classes evened out" if classes else ""
        )
    if targets is not None:
        return stratified(targets, folds, seed=seed), "stratified by class"
    return at_random(len(part), folds, seed=seed), "at random"


def parted(part: Part, fold: Numbers) -> Iterator[Fold]:
    """Each fold's training rows and held rows.

    Of a series, windows whose inputs or targets touch a held target are trained on by nobody: a model that is judged
    there must not have seen it (an embargo on both sides; López de Prado 2018, "Advances in Financial Machine
    Learning", chapter 7).
    """
    for number in range(int(fold.max()) + 1):
        held = np.flatnonzero(fold == number)
        rest = np.flatnonzero(fold != number)
        kept = rest
        if isinstance(part, SeriesWindows):
            origins = part.origins.numpy()
            first, last = origins[held].min(), origins[held].max() + part.horizon
            touches = (origins[rest] + part.horizon > first) & (origins[rest] - part.lookback < last)
            kept = rest[~touches]
        if len(kept) == 0:
            raise DataError(
                "with this lookback and horizon no training window is left clear of the held ones; ask for more folds "
                "or a shorter --set data.lookback"
            )
        yield Fold(kept, held, len(rest) - len(kept))


def _check(count: int, folds: int) -> None:
    if folds < 2:
        raise DataError(
            f"--folds {folds}: a fold is held out while the others train; give 2 or more (5 and 10 are usual)"
        )
    if count < folds:
        raise DataError(f"{count} rows cannot fill {folds} folds")


def _draws(count: int, seed: int) -> Numbers:
    return np.asarray(keyed.bits(keyed.key(seed, "folds"), torch.arange(count))[:, 0].numpy())


def _dealt(draws: Numbers, folds: int, kinds: NDArray[Any] | None = None) -> Numbers:
    order = np.argsort(draws, kind="stable") if kinds is None else np.lexsort((draws, kinds))
    fold = np.empty(len(draws), np.int64)
    fold[order] = np.arange(len(draws)) % folds
    return fold
