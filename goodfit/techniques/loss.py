"""Losses: how wrong a batch of predictions is, as a weighted sum that adds up exactly over pieces of a batch.

A mean loss is ``loss(logits, targets, weight) / loss.weigh(targets, weight)``. Both parts are sums over samples (over
positions for language), so a batch cut into micro-batches, or spread over machines, gives the gradient of the whole
batch when each piece's sum is divided by the whole batch's weight. Averaging the means of unequal pieces does not,
and with class weights or ignored tokens hardly any two pieces weigh the same.

The shapes that all of them take stand in ``goodfit.techniques.loss_sums``, with the plain functions; the losses of
values in ``loss_values``; learning from another model in ``distill``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from goodfit.errors import DataError
from goodfit.technique import Chance, NotNegative, Positive, technique
from goodfit.techniques.distill import Distill
from goodfit.techniques.loss_sums import (
    IGNORED,
    Weights,
    binary_cross_entropy,
    class_weights,
    cross_entropy_sum,
    focal,
    row_of,
    smoothed,
    total,
    two_outputs,
    weigh_classes,
    weigh_samples,
)
from goodfit.techniques.loss_values import Huber, Mae, Mse

__all__ = [
    "ALL",
    "IGNORED",
    "Bce",
    "CrossEntropy",
    "Distill",
    "Focal",
    "Huber",
    "Loss",
    "Mae",
    "Mse",
    "binary_cross_entropy",
    "class_weights",
    "cross_entropy_sum",
    "focal",
    "plain",
    "smoothed",
]

Named = Literal["inverse", "effective"]
Own = Annotated[tuple[Positive, ...], Field(min_length=2)]
"""Weights of one's own, one a class."""
Filled = tuple[NotNegative, ...]
"""What is read from the training part."""


class Loss(Protocol):
    """What fills the slot ``loss``."""

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor | float:
        """The total weight of a batch: what its loss sum is divided by."""

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses, a scalar."""


@technique("loss")
class CrossEntropy:
    """The usual loss of classification: minus the log-probability of the true class.

    Formula: ``sum_i v_i w_y [(1 - e) (-log p_iy)] + sum_i v_i (e / K) sum_c w_c (-log p_ic)`` over
        ``sum_i v_i w_y``, with ``log p = logits - logsumexp(logits)``, sample weights v, class weights w, smoothing e
        and K classes. Soft targets q take the place of the one-hot ones, with ``w_y`` read as ``sum_c w_c q_c``.
        For language the sums run over tokens, so long texts count for what they hold.
    Source: label smoothing: Szegedy et al., 2016; effective number of samples: Cui et al., 2019; logit adjustment:
        Menon et al., 2021.
    Ours: the mean over soft targets divides by their class weight, so that one-hot rows give what class indices give;
        PyTorch divides by the number of rows there. Elsewhere equal to ``torch.nn.functional.cross_entropy``. With
        smoothing, class weights or logit adjustment the plain loss is logged beside it (``train_plain_loss``), because
        only that can be compared with the validation loss, which is always plain.
    Keys: ``label_smoothing`` e; ``class_weight`` none, ``inverse`` (n / (K n_c)), ``effective``
        ((1 - beta) / (1 - beta ** n_c)), from the counts of the training part, or a list of your own, all brought to
        mean 1 over the samples; ``beta`` of ``effective``; ``logit_adjustment`` t adds ``t log(n_c / n)`` to the
        logits in training only (1 is the consistent choice for balanced error). ``weights`` and ``priors`` are filled
        in by the plan and need not be written.
    Helps: smoothing calibrates and often gains a little on many clean classes; class weights and logit adjustment
        raise the recall of rare classes.
    Hurts: smoothing spoils the ranking of probabilities (leave it off for ROC-AUC and log loss) and distillation from
        the smoothed model; class weights and logit adjustment shift the probabilities towards rare classes; together
        with balanced sampling they correct twice.
    Often wrong: the smoothed target is e / K for each wrong class and 1 - e + e / K for the true one
        ([.02, .92, .02, .02, .02] for e = .1, K = 5), not e / (K - 1), which would be .025 and .9. Softmax before this
        loss is a mistake: ten classes then cannot go below 1.461. Softmax followed by log gives infinity at a logit gap
        of 110; log-sum-exp gives 110. With class weights the means of two micro-batches do not average to the batch's:
        .948 in place of 1.165 in the tests' example of four samples; sums and weights added up apart do.
    """

    label_smoothing: Chance = 0.0
    class_weight: Literal["none", "inverse", "effective"] | Own = "none"
    beta: Chance = 0.999
    logit_adjustment: NotNegative = 0.0
    weights: Filled | None = None
    priors: Filled | None = None

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor | float:
        """Sum of sample weight times class weight over what is not ignored."""
        return weigh_classes(targets, weight, _classes(self.class_weight, self.weights))

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        if logits.shape[-1] == 1:
            logits, targets = two_outputs(logits, targets)
        if self.logit_adjustment:
            logits = logits + self.logit_adjustment * _log_priors(self.priors, logits)
        classes = _classes(self.class_weight, self.weights)
        return cross_entropy_sum(logits, targets, weight, class_weights=classes, label_smoothing=self.label_smoothing)

    def for_counts(self, counts: Sequence[int] | Tensor) -> CrossEntropy:
        """The same with what depends on the training part filled in: its number of samples of each class.

        Raises DataError for weights of one's own that are too many or too few, and for ``weights`` or ``priors``
        written by hand that are not this part's.
        """
        counts = [int(n) for n in counts]
        weights = None
        if self.class_weight != "none":
            weights = _weights_for(counts, self.class_weight, beta=self.beta, key="class_weight")
        # half a sample for an empty class keeps the logarithm finite
        priors = tuple(max(n, 0.5) / max(sum(counts), 1) for n in counts) if self.logit_adjustment else None
        _unchanged("weights", self.weights, weights, instead="class_weight = [...]")
        _unchanged("priors", self.priors, priors, instead="logit_adjustment")
        return dataclasses.replace(self, weights=weights, priors=priors)

    def plain(self) -> CrossEntropy | None:
        """The loss without smoothing, weights and adjustment, to be logged beside this one; None if that is this."""
        changed = self.label_smoothing or self.logit_adjustment or self.class_weight != "none"
        return CrossEntropy() if changed else None


@technique("loss")
class Bce:
    """Binary cross-entropy: each output is a yes or no of its own.

    Formula: per sample the mean over outputs of ``-[v t log s(z) + (1 - t) log(1 - s(z))]``, s the sigmoid,
        v the positive weight, t the target; smoothing e makes it ``(1 - e) t + e / K``, K = 2 for one output.
    Source: Wightman et al., 2021 (ResNet strikes back) for its use with many classes.
    Ours: equal to ``torch.nn.functional.binary_cross_entropy_with_logits`` on one-hot targets; takes class indices
        with one logit (binary) or with one logit a class.
    Keys: ``pos_weight`` a number, ``balanced`` (negatives / positives of the training part, per output) or a list, one
        number a class; ``label_smoothing``; ``weights`` is filled in by the plan.
    Helps: strong mixing augmentation (a mixed image is both classes at once); binary tasks with one output.
    Hurts: with many classes and few epochs it learns more slowly than cross-entropy; ``pos_weight`` shifts the
        probabilities, so tune the threshold or calibrate afterwards.
    Often wrong: sigmoid before this loss. The weight of a batch stays its number of samples, ``pos_weight`` or not.
    """

    label_smoothing: Chance = 0.0
    pos_weight: Literal["balanced"] | Positive | Own = 1.0
    weights: Filled | None = None

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor | float:
        """Number of samples, or the sum of their weights."""
        return weigh_samples(targets, weight)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        positive: float | Weights | None
        if self.pos_weight == "balanced":
            positive = _filled("pos_weight = 'balanced'", self.weights)
        else:
            positive = None if self.pos_weight == 1 else self.pos_weight
        each = binary_cross_entropy(logits, targets, pos_weight=positive, label_smoothing=self.label_smoothing)
        return total(each, weight)

    def for_counts(self, counts: Sequence[int] | Tensor) -> Bce:
        """The same with ``balanced`` worked out from the number of training samples of each class.

        Raises DataError for a list of another length, and for ``weights`` written by hand.
        """
        counts = [int(n) for n in counts]
        made = None
        if self.pos_weight == "balanced":
            made = tuple((sum(counts) - n) / n if n else 1.0 for n in counts)
        elif isinstance(self.pos_weight, tuple):
            _one_a_class("pos_weight", self.pos_weight, counts)
        _unchanged("weights", self.weights, made, instead="pos_weight")
        return dataclasses.replace(self, weights=made)

    def plain(self) -> Bce | None:
        """The loss without smoothing and weights, to be logged beside this one; None if that is this."""
        return Bce() if self.label_smoothing or self.pos_weight != 1 else None


@technique("loss")
class Focal:
    """Cross-entropy that turns down what is already right, so that hard and rare samples lead.

    Formula: ``-a_y (1 - p_y)^gamma log p_y``; soft targets q: ``sum_c q_c a_c (1 - p_c)^gamma (-log p_c)``. With one
        output, ``p`` is the sigmoid and its complement.
    Source: Lin et al., 2017.
    Ours: alpha stays outside ``p`` and is brought to mean 1 (over the training samples where their counts are known,
        over the classes otherwise), so that it moves weight between classes and not the learning rate. Several
        classes as well as two; a batch's weight is its number of samples. The plain cross-entropy is logged beside it
        (``train_plain_loss``).
    Keys: ``gamma`` 0 is cross-entropy; ``alpha``: one weight a class, or for two classes the second one's share of the
        weight (.25 in the paper), or ``inverse`` or ``effective`` as in ``cross_entropy``; ``beta`` of the latter;
        ``weights`` is filled in by the plan.
    Helps: many easy negatives (detection, rare events). Hurts: probabilities are under-confident (calibrate); noisy
        labels look hard and lead.
    Often wrong: raw 1 / count weights shrink this loss hundreds of times (900 and 100 samples: 500 times at p = .5,
        towards 900 where the common class bears the loss), and the learning rate with it. In a weighted cross-entropy
        they do not, because its mean divides by them. Alpha inside the power changes the loss's shape.
    """

    gamma: Annotated[float, Field(ge=0, le=20)] = 2.0
    alpha: Named | Annotated[float, Field(gt=0, lt=1)] | Own | None = None
    beta: Chance = 0.999
    weights: Filled | None = None

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor | float:
        """Number of samples (positions) that are not ignored, or the sum of their weights."""
        return weigh_classes(targets, weight)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        alpha: Weights | None = self.weights
        if alpha is None and self.alpha is not None:
            own = self._own()
            alpha = class_weights([1] * len(own), own)
        return total(focal(logits, targets, gamma=self.gamma, alpha=alpha), weight)

    def for_counts(self, counts: Sequence[int] | Tensor) -> Focal:
        """The same with alpha brought to mean 1 over the training samples.

        Raises DataError for another number of weights than classes, and for ``weights`` written by hand.
        """
        counts = [int(n) for n in counts]
        made = None
        if isinstance(self.alpha, str):
            made = class_weights(counts, self.alpha, beta=self.beta)
        elif self.alpha is not None:
            made = _weights_for(counts, self._own(), key="alpha")
        _unchanged("weights", self.weights, made, instead="alpha")
        return dataclasses.replace(self, weights=made)

    def plain(self) -> CrossEntropy:
        """Cross-entropy, to be logged beside this loss."""
        return CrossEntropy()

    def _own(self) -> Weights:
        if isinstance(self.alpha, tuple):
            return self.alpha
        if isinstance(self.alpha, float):
            return (1 - self.alpha, self.alpha)
        return _filled(f"alpha = {self.alpha!r}", None)


ALL = (CrossEntropy, Bce, Mse, Mae, Huber, Focal, Distill)


def plain(loss: Any) -> Any:
    """The loss that is logged beside one that cannot be compared with the validation loss; None where it can be."""
    if isinstance(loss, Distill):
        return CrossEntropy()
    return loss.plain() if isinstance(loss, CrossEntropy | Bce | Focal) else None


def _classes(kind: str | Weights, weights: Weights | None) -> Weights | None:
    if weights is not None or kind == "none":
        return weights
    return kind if isinstance(kind, tuple) else _filled(kind, None)


def _filled(what: str, weights: Weights | None) -> Weights:
    if weights is None:
        raise ValueError(f"{what} weights depend on the data: call loss.for_counts(counts) first")
    return weights


def _log_priors(priors: Weights | None, logits: Tensor) -> Tensor:
    if priors is None:
        raise ValueError("logit adjustment depends on the data: call loss.for_counts(counts) first")
    return row_of(priors, logits.device, torch.float32).log()


def _weights_for(counts: Sequence[int], kind: Named | Weights, *, key: str, beta: float = 0.999) -> Weights:
    if isinstance(kind, tuple):
        _one_a_class(key, kind, counts)
    return class_weights(counts, kind, beta=beta)


def _one_a_class(key: str, given: Weights, counts: Sequence[int]) -> None:
    if len(given) != len(counts):
        raise DataError(f"loss.{key} has {len(given)} weights for {len(counts)} classes; give one weight a class")


def _unchanged(key: str, given: Weights | None, made: Weights | None, *, instead: str) -> None:
    """A plan read back brings what was filled in; anything else was written by hand, and would count for nothing."""
    same = made is not None and given is not None and len(given) == len(made)
    if given is not None and not (same and all(map(math.isclose, given, made or ()))):
        raise DataError(f"loss.{key} is filled in from the training part; take it out, or write loss.{instead}")
