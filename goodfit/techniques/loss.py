"""Losses: how wrong a batch of predictions is, as a weighted sum that adds up exactly over pieces of a batch.

A mean loss is ``loss(logits, targets, weight) / loss.weigh(targets, weight)``. Both parts are sums over samples (over
positions for language), so a batch cut into micro-batches, or spread over machines, gives the gradient of the whole
batch when each piece's sum is divided by the whole batch's weight. Averaging the means of unequal pieces does not,
and with class weights or ignored tokens hardly any two pieces weigh the same.

Shapes all losses take: logits ``(batch, outputs)``; ``(batch, members, outputs)`` from a model that is an ensemble
inside, where each sample's loss is the mean over its members' own losses; ``(batch, length, vocabulary)`` with targets
``(batch, length)`` for language, -100 ignored. Half-precision logits are computed in float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from goodfit.errors import DataError
from goodfit.technique import Chance, NotNegative, Positive, technique

IGNORED = -100
Weighting = Literal["none", "inverse", "effective"]
Weights = tuple[NotNegative, ...]


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
    Source: label smoothing: Szegedy et al., 2016; effective number of samples: Cui et al., 2019; logit adjustment:
        Menon et al., 2021.
    Ours: the mean over soft targets divides by their class weight, so that one-hot rows give what class indices give;
        PyTorch divides by the number of rows there. Elsewhere equal to ``torch.nn.functional.cross_entropy``.
    Keys: ``label_smoothing`` e; ``class_weight`` none, ``inverse`` (n / (K n_c)) or ``effective``
        ((1 - beta) / (1 - beta ** n_c)), from the counts of the training part; ``beta`` of the latter;
        ``logit_adjustment`` t adds ``t log(n_c / n)`` to the logits in training only (1 is the consistent choice for
        balanced error). ``weights`` and ``priors`` are filled from the data and need not be written.
    Helps: smoothing calibrates and often gains a little on many clean classes; class weights and logit adjustment
        raise the recall of rare classes.
    Hurts: smoothing spoils the ranking of probabilities (leave it off for ROC-AUC and log loss) and distillation from
        the smoothed model; class weights spoil calibration; together with balanced sampling they correct twice.
    Often wrong: the smoothed target is e / K for each wrong class and 1 - e + e / K for the true one
        ([.02, .92] for e = .1, K = 5), not e / (K - 1). Softmax before this loss is a mistake: ten classes then cannot
        go below 1.461. Softmax followed by log gives infinity at a logit gap of 110; log-sum-exp gives 110.
    """

    label_smoothing: Chance = 0.0
    class_weight: Weighting = "none"
    beta: Chance = 0.999
    logit_adjustment: NotNegative = 0.0
    weights: Weights | None = None
    priors: Weights | None = None

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor:
        """Sum of sample weight times class weight over what is not ignored."""
        return _weigh_classes(targets, weight, _fitted(self.class_weight, self.weights))

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        if self.logit_adjustment:
            logits = logits + self.logit_adjustment * _log_priors(self.priors, logits)
        classes = _fitted(self.class_weight, self.weights)
        return cross_entropy_sum(logits, targets, weight, class_weights=classes, label_smoothing=self.label_smoothing)

    def for_counts(self, counts: Sequence[int] | Tensor) -> CrossEntropy:
        """The same with what depends on the training part filled in: its number of samples of each class."""
        counts = [int(n) for n in counts]
        weights = None
        if self.class_weight != "none":
            weights = class_weights(counts, self.class_weight, beta=self.beta)
        # half a sample for an empty class keeps the logarithm finite
        priors = tuple(max(n, 0.5) / max(sum(counts), 1) for n in counts) if self.logit_adjustment else None
        return dataclasses.replace(self, weights=weights, priors=priors)


@technique("loss")
class Bce:
    """Binary cross-entropy: each output is a yes or no of its own.

    Formula: per sample the mean over outputs of ``-[v t log s(z) + (1 - t) log(1 - s(z))]``, s the sigmoid,
        v the positive weight, t the target; smoothing e makes it ``(1 - e) t + e / K``, K = 2 for one output.
    Source: Wightman et al., 2021 (ResNet strikes back) for its use with many classes.
    Ours: equal to ``torch.nn.functional.binary_cross_entropy_with_logits`` on one-hot targets; takes class indices
        with one logit (binary) or with one logit a class.
    Keys: ``pos_weight`` a number, or ``balanced`` (negatives / positives of the training part, per output);
        ``label_smoothing``; ``weights`` is filled from the data.
    Helps: strong mixing augmentation (a mixed image is both classes at once); binary tasks with one output.
    Hurts: with many classes and few epochs it learns more slowly than cross-entropy; ``pos_weight`` shifts the
        probabilities, so tune the threshold or calibrate afterwards.
    Often wrong: sigmoid before this loss. The weight of a batch stays its number of samples, ``pos_weight`` or not.
    """

    label_smoothing: Chance = 0.0
    pos_weight: Positive | Literal["balanced"] = 1.0
    weights: Weights | None = None

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor | float:
        """Number of samples, or the sum of their weights."""
        return _weigh_samples(targets, weight)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        if self.pos_weight == "balanced":
            positive: float | Weights | None = _fitted("pos_weight = 'balanced'", self.weights)
        else:
            positive = None if self.pos_weight == 1 else self.pos_weight
        each = binary_cross_entropy(logits, targets, pos_weight=positive, label_smoothing=self.label_smoothing)
        return _total(each, weight)

    def for_counts(self, counts: Sequence[int] | Tensor) -> Bce:
        """The same with ``balanced`` worked out from the number of training samples of each class."""
        counts = [int(n) for n in counts]
        if self.pos_weight != "balanced":
            return self
        return dataclasses.replace(self, weights=tuple((sum(counts) - n) / n if n else 1.0 for n in counts))


@technique("loss")
class Mse:
    """Mean squared error: the usual loss of regression.

    Formula: per sample the mean over outputs of ``(prediction - target)²``.
    Ours: targets are standardised while training, so the loss of a constant guess is about 1 whatever the unit.
    Helps: estimates the mean; smooth, so it ends precisely. Hurts: outliers weigh by their square; use ``huber``.
    Often wrong: called "L2 loss" it is a sum in some texts and a mean in others; here a mean. Its gradient has a
        factor 2.
    """

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor | float:
        """Number of samples, or the sum of their weights."""
        return _weigh_samples(targets, weight)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        return _total(_per_sample(_residual(logits, targets).square()), weight)


@technique("loss")
class Mae:
    """Mean absolute error: estimates the median, and an outlier weighs no more than its distance.

    Formula: per sample the mean over outputs of ``|prediction - target|``; the gradient at 0 is 0.
    Helps: heavy-tailed targets, or when the score is MAE.
    Hurts: the gradient does not shrink near the optimum; decay the learning rate.
    """

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor | float:
        """Number of samples, or the sum of their weights."""
        return _weigh_samples(targets, weight)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        return _total(_per_sample(_residual(logits, targets).abs()), weight)


@technique("loss")
class Huber:
    """Squared error near the target, absolute error far from it.

    Formula: per sample the mean over outputs of ``e² / 2`` where ``|e| <= delta``, else ``delta (|e| - delta / 2)``.
    Source: Huber, 1964.
    Ours: equal to ``torch.nn.functional.huber_loss``; ``delta`` is in standard deviations of the target, since targets
        are standardised while training.
    Helps: regression with some outliers. Hurts: it estimates neither mean nor median of a skewed target.
    """

    delta: Positive = 1.0

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor | float:
        """Number of samples, or the sum of their weights."""
        return _weigh_samples(targets, weight)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        error = _residual(logits, targets)
        each = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.delta)
        return _total(_per_sample(each), weight)


@technique("loss")
class Focal:
    """Cross-entropy that turns down what is already right, so that hard and rare samples lead.

    Formula: ``-a_y (1 - p_y)^gamma log p_y``; soft targets q: ``sum_c q_c a_c (1 - p_c)^gamma (-log p_c)``. With one
        output, ``p`` is the sigmoid and its complement.
    Source: Lin et al., 2017.
    Ours: alpha stays outside ``p`` and is brought to mean 1 (over the training samples where their counts are known,
        over the classes otherwise), so that it moves weight between classes and not the learning rate. Several
        classes as well as two; a batch's weight is its number of samples.
    Keys: ``gamma`` 0 is cross-entropy; ``alpha`` one weight a class, or ``class_weight`` as in ``cross_entropy``.
    Helps: many easy negatives (detection, rare events). Hurts: probabilities are under-confident (calibrate); noisy
        labels look hard and lead.
    Often wrong: raw 1 / count weights shrink this loss hundreds of times, which they do not in a weighted
        cross-entropy, whose weights cancel; alpha inside the power changes the loss's shape.
    """

    gamma: Annotated[float, Field(ge=0, le=20)] = 2.0
    alpha: Annotated[tuple[Positive, ...], Field(min_length=2)] | None = None
    class_weight: Weighting = "none"
    beta: Chance = 0.999
    weights: Weights | None = None

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor:
        """Number of samples (positions) that are not ignored, or the sum of their weights."""
        return _weigh_classes(targets, weight, None)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        alpha = self.weights
        if alpha is None and self.alpha is not None:
            alpha = tuple(len(self.alpha) * a / sum(self.alpha) for a in self.alpha)
        elif alpha is None:
            alpha = _fitted(self.class_weight, None)
        return _total(focal(logits, targets, gamma=self.gamma, alpha=alpha), weight)

    def for_counts(self, counts: Sequence[int] | Tensor) -> Focal:
        """The same with alpha brought to mean 1 over the training samples. DataError for a wrong number of them."""
        counts = [int(n) for n in counts]
        if self.alpha is None:
            made = class_weights(counts, self.class_weight, beta=self.beta) if self.class_weight != "none" else None
            return dataclasses.replace(self, weights=made)
        if len(self.alpha) != len(counts):
            raise DataError(
                f"loss.alpha has {len(self.alpha)} weights for {len(counts)} classes; give one weight a class"
            )
        return dataclasses.replace(self, weights=_mean_one(self.alpha, counts))


ALL = (CrossEntropy, Bce, Mse, Mae, Huber, Focal)


def class_weights(counts: Sequence[int], kind: Weighting, *, beta: float = 0.999) -> tuple[float, ...]:
    """A weight for each class, with mean 1 over the samples; 0 for a class without samples.

    inverse: ``n / (K n_c)``, K the classes present. effective: proportional to ``(1 - beta) / (1 - beta ** n_c)``.

    >>> class_weights([9000, 1000], "inverse")
    (0.5555555555555556, 5.0)
    """
    if kind == "inverse":
        raw = [1 / n if n else 0.0 for n in counts]
    elif kind == "effective":
        raw = [(1 - beta) / (1 - beta**n) if n else 0.0 for n in counts]
    else:
        raw = [1.0 if n else 0.0 for n in counts]
    return _mean_one(raw, counts)


def smoothed(targets: Tensor, classes: int, *, label_smoothing: float) -> Tensor:
    """The target rows that label smoothing means: ``(1 - e) q + e / K``; for class indices or soft rows.

    >>> smoothed(torch.tensor([1]), 5, label_smoothing=0.1)
    tensor([[0.0200, 0.9200, 0.0200, 0.0200, 0.0200]])
    """
    rows = targets if targets.is_floating_point() else F.one_hot(targets, classes).float()
    return rows * (1 - label_smoothing) + label_smoothing / classes


def cross_entropy_sum(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    *,
    class_weights: Weights | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The sum of cross-entropies that ``CrossEntropy`` describes, a scalar. Shapes as at the head of this file."""
    logits = _full(logits)
    row = None if class_weights is None else _row(class_weights, logits.device, logits.dtype)
    flat, aligned, members = _align(logits, targets)
    reduction = "sum" if weight is None else "none"
    loss = F.cross_entropy(
        flat, aligned, weight=row, ignore_index=IGNORED, reduction=reduction, label_smoothing=label_smoothing
    )
    if weight is None:
        return loss / members if members > 1 else loss
    return torch.dot(loss.view(len(logits), -1).sum(1), weight.to(loss.dtype)) / members


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    pos_weight: float | Weights | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Each sample's binary cross-entropy, ``(batch,)``.

    targets: class indices ``(batch,)``, soft rows ``(batch, classes)`` or, with one output, the probability of the
    second class ``(batch,)``. One logit stands for two classes.
    """
    logits = _full(logits)
    outputs = logits.shape[-1]
    if outputs == 1:
        wanted = targets[:, 1] if targets.dim() == 2 and targets.shape[1] == 2 else targets
        rows = wanted.reshape(-1, 1).to(logits.dtype)
    else:
        rows = (targets if targets.is_floating_point() else F.one_hot(targets, outputs)).to(logits.dtype)
    if label_smoothing:
        rows = rows * (1 - label_smoothing) + label_smoothing / max(outputs, 2)
    if logits.dim() == 3:
        rows = rows[:, None].expand_as(logits)
    positive = None
    if isinstance(pos_weight, tuple):
        positive = _row(pos_weight[-outputs:], logits.device, logits.dtype)
    elif pos_weight is not None:
        positive = _row((pos_weight,), logits.device, logits.dtype)
    return _per_sample(F.binary_cross_entropy_with_logits(logits, rows, pos_weight=positive, reduction="none"))


def focal(logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: Weights | None = None) -> Tensor:
    """Each sample's focal loss ``(batch,)``, for language the sum over its positions; ``alpha`` is used as given."""
    logits = _full(logits)
    if logits.shape[-1] == 1:  # a sigmoid is the softmax of (0, z)
        logits = torch.cat([torch.zeros_like(logits), logits], -1)
        if targets.is_floating_point() and targets.dim() == 1:
            targets = torch.stack([1 - targets, targets], 1)
    flat, aligned, members = _align(logits, targets)
    log_p = F.log_softmax(flat, -1)
    row = None if alpha is None else _row(alpha, logits.device, logits.dtype)
    if aligned.is_floating_point():
        each = (aligned * _modulated(log_p, gamma) * (1 if row is None else row)).sum(-1)
    else:
        true = aligned.clamp_min(0)
        each = _modulated(log_p.gather(1, true[:, None])[:, 0], gamma)
        each = each if row is None else each * row[true]
        each = each.masked_fill(aligned == IGNORED, 0.0)
    return each.view(len(logits), -1).sum(1) / members


def _modulated(log_p: Tensor, gamma: float) -> Tensor:
    if gamma == 0:
        return -log_p
    # 1 - p as -expm1(log p): exact for p near 1; kept above 0 because its power has no slope there for gamma < 1
    return -log_p * (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny) ** gamma


def _full(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _align(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, int]:
    """Logits as ``(rows, classes)``, targets row by row, and how many rows a sample's members make."""
    if logits.dim() == 2:
        return logits, targets if not targets.is_floating_point() else targets.to(logits.dtype), 1
    flat = logits.reshape(-1, logits.shape[-1])
    if targets.is_floating_point():
        members = logits.shape[1]
        return flat, targets.to(logits.dtype)[:, None].expand_as(logits).reshape_as(flat), members
    if targets.dim() == 2:
        return flat, targets.reshape(-1), 1
    return flat, targets[:, None].expand(logits.shape[:2]).reshape(-1), logits.shape[1]


def _residual(predictions: Tensor, targets: Tensor) -> Tensor:
    """Prediction minus target, ``(batch, [members,] outputs)``."""
    predictions = _full(predictions)
    targets = targets.to(predictions.dtype)
    if targets.dim() == 1:
        targets = targets[:, None]
    if predictions.dim() == 1:
        predictions = predictions[:, None]
    return predictions - (targets[:, None] if predictions.dim() == 3 else targets)


def _per_sample(each: Tensor) -> Tensor:
    return each.view(-1) if each.dim() == 2 and each.shape[1] == 1 else each.flatten(1).mean(1)


def _total(each: Tensor, weight: Tensor | None) -> Tensor:
    return each.sum() if weight is None else torch.dot(each, weight.to(each.dtype))


def _weigh_samples(targets: Tensor, weight: Tensor | None) -> Tensor | float:
    return float(len(targets)) if weight is None else weight.sum()


def _weigh_classes(targets: Tensor, weight: Tensor | None, classes: Weights | None) -> Tensor:
    if targets.is_floating_point():
        if classes is None:
            return targets.new_tensor(len(targets)) if weight is None else weight.sum()
        share = targets @ _row(classes, targets.device, targets.dtype)
        return share.sum() if weight is None else torch.dot(share, weight.to(share.dtype))
    kept = targets != IGNORED
    if classes is None and weight is None:
        return kept.sum()
    kind = torch.float32 if weight is None else weight.dtype
    share = kept.to(kind)
    if classes is not None:
        share = share * _row(classes, targets.device, kind)[targets.clamp_min(0)]
    share = share.view(len(targets), -1).sum(1)
    return share.sum() if weight is None else torch.dot(share, weight)


def _fitted(kind: str, weights: Weights | None) -> Weights | None:
    if weights is None and kind != "none":
        raise ValueError(f"{kind} weights depend on the data: call loss.for_counts(counts) first")
    return weights


def _log_priors(priors: Weights | None, logits: Tensor) -> Tensor:
    if priors is None:
        raise ValueError("logit adjustment depends on the data: call loss.for_counts(counts) first")
    return _row(priors, logits.device, torch.float32).log()


def _mean_one(raw: Sequence[float], counts: Sequence[int]) -> tuple[float, ...]:
    total = sum(r * n for r, n in zip(raw, counts, strict=True))
    return tuple(r * sum(counts) / total if total else 1.0 for r in raw)


@lru_cache(maxsize=16)
def _row(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The values as a tensor, made once: a copy to the GPU at each step would wait for it."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype)
