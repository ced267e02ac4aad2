"""Losses of regression and forecasting: how far predicted values are from the true ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from goodfit.technique import Positive, technique
from goodfit.techniques.loss_sums import full, per_sample, total, weigh_samples


@technique("loss")
class Mse:
    """Mean squared error: the usual loss of regression.

    Formula: per sample the mean over outputs of ``(prediction - target)²``.
    Ours: targets are standardised while training, so the loss of a constant guess is about 1 whatever the unit;
        predictions come back in the target's own unit.
    Helps: estimates the mean; smooth, so it ends precisely. Hurts: outliers weigh by their square; use ``huber``.
    Often wrong: called "L2 loss" it is a sum in some texts and a mean in others; here a mean. Its gradient has a
        factor 2.
    """

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor | float:
        """Number of samples, or the sum of their weights."""
        return weigh_samples(targets, weight)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        return total(per_sample(_residual(logits, targets).square()), weight)


@technique("loss")
class Mae:
    """Mean absolute error: estimates the median, and an outlier weighs no more than its distance.

    Formula: per sample the mean over outputs of ``|prediction - target|``; the gradient at 0 is 0.
    Helps: heavy-tailed targets, or when the score is MAE.
    Hurts: the gradient does not shrink near the optimum; decay the learning rate.
    """

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor | float:
        """Number of samples, or the sum of their weights."""
        return weigh_samples(targets, weight)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        return total(per_sample(_residual(logits, targets).abs()), weight)


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
        return weigh_samples(targets, weight)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the losses."""
        error = _residual(logits, targets)
        each = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.delta)
        return total(per_sample(each), weight)


def _residual(predictions: Tensor, targets: Tensor) -> Tensor:
    """Prediction minus target, ``(batch, [members,] outputs)``."""
    predictions = full(predictions)
    targets = targets.to(predictions.dtype)
    if targets.dim() == 1:
        targets = targets[:, None]
    if predictions.dim() == 1:
        predictions = predictions[:, None]
    return predictions - (targets[:, None] if predictions.dim() == 3 else targets)
