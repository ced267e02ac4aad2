"""How well do scores order the samples, whatever the threshold? ROC-AUC and average precision.

Arguments as in `goodfit.evaluation.classification`. With two classes the scores are those of class 1; with more, the
metric is the mean over the classes, each against the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from goodfit.evaluation.weighted import (
    Array,
    NotAvailable,
    Value,
    columns,
    group_sums,
    mean_of_defined,
    ratio,
    settle,
)


def roc_auc(targets: Array, probabilities: Array, weights: Array | None = None) -> Value:
    """Chance that a sample of the class scores higher than one of another class (ties count half).

    Formula: the area under recall against false-positive rate; computed as the Mann-Whitney statistic. With more than
    two classes the mean over the classes that occur, one against the rest. Range: 0 to 1; 0.5 is guessing. Higher is
    better.
    Misleading: with rare classes; thousands of easy negatives make it look good. Read average precision then.
    Not available where only one class occurs.
    Source: Hanley and McNeil 1982; Provost and Domingos 2000 for one against the rest.
    """
    return settle(_each_class([_auc], targets, probabilities, weights)[0], weights)


def average_precision(targets: Array, probabilities: Array, weights: Array | None = None) -> Value:
    """Precision averaged over the recall levels: how pure the top of the ranking is.

    Formula: sum over distinct scores, from the top, of (recall gained) x precision there; no interpolation. With more
    than two classes the mean over the classes that occur. Range: 0 to 1; guessing gives the class's share. Higher is
    better.
    Misleading: across data with different shares of the class, since its floor moves with them.
    Not available where only one class occurs.
    Source: Salton and McGill 1983; Davis and Goadrich 2006 for why it is not interpolated.
    """
    return settle(_each_class([_precision], targets, probabilities, weights)[0], weights)


class Curve(NamedTuple):
    """What both metrics are made of, for the positives in rising order of score.

    own: their weights ``(positives, resamples)``. lower, upto: weight of all samples that score lower; that score
    lower or the same.
    starts: position of the first positive of each distinct score. total: weight of all samples ``(resamples,)``.
    """

    own: Array
    lower: Array
    upto: Array
    starts: Array
    total: Array


def both_curves(targets: Array, probabilities: Array, weights: Array | None) -> Array:
    """ROC-AUC and average precision in one pass over the scores: ``(2, resamples)``."""
    return _each_class([_auc, _precision], targets, probabilities, weights)


def _each_class(
    scores: list[Callable[[Curve], Array]], targets: Array, probabilities: Array, weights: Array | None
) -> Array:
    w = columns(weights, len(targets))
    here = np.unique(targets)
    if len(here) < 2:
        raise NotAvailable("only one class occurs, so there is nothing to order")
    asked = [1] if probabilities.shape[1] == 2 else here
    curves = [_curve(probabilities[:, k], targets == k, w) for k in asked]
    return np.stack([mean_of_defined(np.stack([score(one) for one in curves])) for score in scores])


def _curve(scores: Array, positive: Array, w: Array) -> Curve:
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    found = np.flatnonzero(positive[order])
    group = np.searchsorted(starts, found, side="right") - 1
    first, after = starts[group], np.append(starts[1:], len(ordered))[group]
    # Weights are summed between the places where a positive's group begins or ends, then cumulated over those few.
    edges = np.unique(np.concatenate(([0, len(ordered)], first, after)))
    segment = np.empty(len(ordered), dtype=np.int64)
    segment[order] = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    cumulated = np.zeros((len(edges), w.shape[1]), dtype=w.dtype)
    np.cumsum(group_sums(segment, w, groups=len(edges) - 1), axis=0, out=cumulated[1:])
    lower, upto = cumulated[np.searchsorted(edges, first)], cumulated[np.searchsorted(edges, after)]
    own_starts = np.flatnonzero(np.concatenate(([True], group[1:] != group[:-1])))
    # float32 counts are exact up to 16.7 million.
    return Curve(w[order[found]], lower, upto, own_starts, cumulated[-1].astype(np.float64))


def _auc(curve: Curve) -> Array:
    found = curve.own.sum(0, dtype=np.float64)
    below = np.einsum("ij,ij->j", curve.own, (curve.lower + curve.upto) / 2, dtype=np.float64)
    # Pairs of two positives came along; by symmetry they are half of all pairs of positives.
    return ratio(below - found**2 / 2, found * (curve.total - found))


def _precision(curve: Curve) -> Array:
    found = curve.own.sum(0, dtype=np.float64)
    gained = np.add.reduceat(curve.own, curve.starts, axis=0, dtype=np.float64)
    true_above = np.cumsum(gained[::-1], axis=0)[::-1]
    all_above = curve.total - curve.lower[curve.starts]
    area = np.where(gained > 0, gained * ratio(true_above, all_above), 0.0).sum(0)
    return ratio(np.where(found < curve.total, area, np.nan), found)
