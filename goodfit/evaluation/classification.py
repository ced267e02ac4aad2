"""How good are class predictions? Each function here is one metric, and its docstring is the metric's page.

Arguments everywhere: targets ``(samples,)`` class indices; probabilities ``(samples, classes)``, rows summing to 1;
weights as in `goodfit.evaluation.weighted`. The predicted class is the one with the largest probability (the first of
equals).
"""

from __future__ import annotations

import numpy as np

from goodfit.evaluation.weighted import (
    Array,
    NotAvailable,
    Value,
    average,
    columns,
    group_sums,
    mean_of_defined,
    ratio,
    settle,
)

BINS = 15
_SMALLEST = float(np.finfo(np.float64).tiny)


def accuracy(targets: Array, probabilities: Array, weights: Array | None = None) -> Value:
    """Share of samples whose most probable class is the right one.

    Formula: mean of [argmax p = target]. Range: 0 to 1, higher is better.
    Misleading: on imbalanced data; always naming the majority class scores its share. Compare with the majority
    baseline, and read balanced accuracy next to it.
    Source: the field's oldest; a proportion, so small counts of errors get Wilson's interval (1927).
    """
    return settle(average(np.argmax(probabilities, 1) == targets, weights), weights)


def balanced_accuracy(targets: Array, probabilities: Array, weights: Array | None = None) -> Value:
    """Mean over the classes of the share found of each: what accuracy would be if all classes were equally frequent.

    Formula: mean over classes of recall. Range: 0 to 1; guessing gives 1 / classes. Higher is better.
    Misleading: rare classes weigh as much as common ones, so a handful of samples can move it; see its interval.
    Classes that do not occur are left out of the mean.
    Source: Brodersen et al. 2010, "The balanced accuracy and its posterior distribution".
    """
    return settle(mean_of_defined(_recalls(targets, probabilities, weights)), weights)


def recall(targets: Array, probabilities: Array, weights: Array | None = None, *, positive: int = 1) -> Value:
    """Share of the samples of a class that are recognised as it (sensitivity).

    Formula: TP / (TP + FN). Range: 0 to 1, higher is better.
    Misleading: alone; calling everything positive has recall 1. Read it with precision.
    Not available where the class does not occur. Source: van Rijsbergen 1979.
    """
    values = _recalls(targets, probabilities, weights)[positive]
    return settle(values, weights, "no sample of this class occurs")


def precision(targets: Array, probabilities: Array, weights: Array | None = None, *, positive: int = 1) -> Value:
    """Share of the samples called a class that really are it.

    Formula: TP / (TP + FP). Range: 0 to 1, higher is better.
    Misleading: alone; one sure hit has precision 1. It also falls when the class is rarer in use than in this data.
    Not available where the class is never predicted. Source: van Rijsbergen 1979.
    """
    hit, _, said = _counts(targets, probabilities, weights)
    return settle(ratio(hit, said)[positive], weights, "the class is never predicted")


def f1(targets: Array, probabilities: Array, weights: Array | None = None, *, positive: int = 1) -> Value:
    """Harmonic mean of precision and recall of one class.

    Formula: 2 TP / (2 TP + FP + FN). Range: 0 to 1, higher is better.
    Misleading: it ignores true negatives, depends on the decision threshold, and cannot be compared between data with
    different shares of the class. Not available where the class neither occurs nor is predicted.
    Source: van Rijsbergen 1979; Chinchor 1992 (MUC-4).
    """
    return settle(_f1s(targets, probabilities, weights)[positive], weights, "the class neither occurs nor is predicted")


def macro_f1(targets: Array, probabilities: Array, weights: Array | None = None) -> Value:
    """Mean of the classes' F1, each class counting the same.

    Formula: mean over classes of 2 TP / (2 TP + FP + FN). Range: 0 to 1, higher is better.
    Misleading: rare classes decide it. Mean of F1s, not F1 of mean precision and recall, which is larger
    (Opitz and Burst 2019, "Macro F1 and Macro F1"). Classes that neither occur nor are predicted are left out.
    """
    return settle(mean_of_defined(_f1s(targets, probabilities, weights)), weights)


def log_loss(targets: Array, probabilities: Array, weights: Array | None = None) -> Value:
    """How surprised the probabilities are by what happened, in nats (cross-entropy, negative log-likelihood).

    Formula: mean of -ln p(target). Range: 0 to infinity, lower is better; guessing gives ln(classes), knowing only
    the class shares gives their entropy.
    Misleading: one confident mistake can outweigh a thousand right answers; compare before and after calibration.
    Source: Good 1952, "Rational decisions"; a strictly proper score. Probabilities below 2e-308 count as that.
    """
    return settle(average(losses(targets, probabilities), weights), weights)


def brier(targets: Array, probabilities: Array, weights: Array | None = None) -> Value:
    """Mean squared distance between the probabilities and what happened.

    Formula: mean over samples of the sum over classes of (p - [class = target])^2; for two classes half of it, the
    square for one class, as is usual. Range: 0 to 2 (two classes: 0 to 1), lower is better.
    Misleading: for rare classes; a small value may come from their rarity alone. Compare with the prior's score
    (the majority baseline in the report).
    Source: Brier 1950, "Verification of forecasts expressed in terms of probability"; a strictly proper score.
    """
    rows = np.arange(len(targets))
    hit = probabilities[rows, targets]
    squared = np.square(probabilities).sum(1) - 2 * hit + 1
    return settle(average(squared / 2 if probabilities.shape[1] == 2 else squared, weights), weights)


def ece(targets: Array, probabilities: Array, weights: Array | None = None) -> Value:
    """Expected calibration error: how far confidence and accuracy are apart, on average.

    Formula: samples are put by their largest probability into 15 bins of equal width; the sum over bins of
    |correct - confidence| summed, over all samples. Range: 0 to 1, lower is better.
    Misleading: it is biased upward, most on small data (noise in each bin counts as error), it looks only at the
    largest probability, and always naming the class shares scores 0. Log loss and Brier do not have these faults.
    Its interval is the basic bootstrap one, which corrects the bias.
    Source: Naeini et al. 2015; Guo et al. 2017, whose 15 equal-width bins these are.
    """
    w = columns(weights, len(targets))
    confidence = probabilities.max(1)
    gap = (np.argmax(probabilities, 1) == targets) - confidence
    spread = np.zeros((BINS, len(targets)), dtype=w.dtype)
    spread[bin_of(confidence), np.arange(len(targets))] = gap
    apart = np.abs(np.asarray(spread @ w, dtype=np.float64)).sum(0)
    return settle(ratio(apart, w.sum(0, dtype=np.float64)), weights)


def confusion(targets: Array, predicted: Array, *, classes: int) -> Array:
    """How often each class (row) was called each class (column): ``(classes, classes)`` int64.

    targets, predicted: class indices ``(samples,)``.
    """
    counts = np.bincount(targets * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def losses(targets: Array, probabilities: Array) -> Array:
    """Each sample's -ln p(target), ``(samples,)`` in nats."""
    found = np.maximum(probabilities[np.arange(len(targets)), targets], _SMALLEST)
    return np.asarray(-np.log(found))


def bin_of(confidence: Array) -> Array:
    """The calibration bin (of 15, equal width, upper edge included) of each confidence in [0, 1]."""
    return np.asarray(np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1))


def class_counts(targets: Array, probabilities: Array, weights: Array | None = None) -> tuple[Array, Array, Array]:
    """For each class: hits, samples of it, samples called it; each ``(classes, resamples)``."""
    if len(targets) == 0:
        raise NotAvailable("there are no samples")
    classes = probabilities.shape[1]
    said = np.argmax(probabilities, 1)
    right = said == targets
    kept = None if weights is None else weights[right]
    if right.any():
        hit = group_sums(targets[right], kept, groups=classes)
    else:
        hit = np.zeros((classes, 1 if weights is None else weights.shape[1]))
    return hit, group_sums(targets, weights, groups=classes), group_sums(said, weights, groups=classes)


_counts = class_counts


def _recalls(targets: Array, probabilities: Array, weights: Array | None) -> Array:
    hit, there, _ = _counts(targets, probabilities, weights)
    return ratio(hit, there)


def _f1s(targets: Array, probabilities: Array, weights: Array | None) -> Array:
    hit, there, said = _counts(targets, probabilities, weights)
    return ratio(2 * hit, there + said)
