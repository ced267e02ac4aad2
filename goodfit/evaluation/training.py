"""The one quick metric of each validation during training, computed on the device without waiting for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from goodfit.evaluation.language import IGNORED, token_losses
from goodfit.evaluation.metrics import headline
from goodfit.types import Task


@dataclass(frozen=True)
class TrainingMetric:
    """A metric for learning curves and for picking the best weights.

    function: ``(logits, targets) -> 0-d tensor`` on their device, over a whole validation part.
    pieces, finish: the same for parts that come in batches: add up ``pieces(logits, targets)``, ``(k,)`` float64
        (float32 on devices without it), and give the sum to ``finish``. Both are None for a metric that needs all
        samples at once.
    """

    name: str
    larger_is_better: bool
    function: Callable[[Tensor, Tensor], Tensor]
    pieces: Callable[[Tensor, Tensor], Tensor] | None = None
    finish: Callable[[Tensor], Tensor] | None = None


def training_metric(task: Task, *, positive_share: float | None = None, target_std: float = 1.0) -> TrainingMetric:
    """The metric shown while training: the headline metric where it is quick.

    Accuracy; average precision where the headline is that; RMSE in original units (targets and outputs are
    standardised during training, ``target_std`` undoes it); nats per token; exact match for sequences.
    """
    name = headline(task, positive_share=positive_share)
    if name == "accuracy":
        return _added("accuracy", True, _hits, _mean)
    if name == "average_precision":
        return TrainingMetric(name, True, _average_precision)
    if name == "rmse":
        return _added("rmse", False, _squares, lambda sums: torch.sqrt(sums[0] / sums[1]) * target_std)
    if name == "exact_match":
        return _added("exact_match", True, _rows_right, _mean)
    return _added("nats_per_token", False, _nats, _mean)


def selection_metric(task: Task, *, positive_share: float | None = None, target_std: float = 1.0) -> TrainingMetric:
    """The metric by which the best weights are picked.

    As `training_metric`, but for accuracy and exact match equal counts of hits are decided by the log loss: the value
    is (hits + 1 / (1 + log loss)) / samples, which never lets log loss outweigh one sample. On small validation parts
    accuracy is full of ties, and the first of them is seldom the best model.
    """
    shown = training_metric(task, positive_share=positive_share, target_std=target_std)
    if shown.name == "exact_match":
        return _added(
            "exact_match_then_loss", True, _rows_right, lambda sums: (sums[0] + 1 / (1 + sums[2] / sums[3])) / sums[1]
        )
    if shown.name != "accuracy":
        return shown

    def finish(sums: Tensor) -> Tensor:
        return (sums[0] + 1 / (1 + sums[2] / sums[1])) / sums[1]

    return _added("accuracy_then_log_loss", True, _hits_and_loss, finish)


def _added(
    name: str, larger_is_better: bool, pieces: Callable[[Tensor, Tensor], Tensor], finish: Callable[[Tensor], Tensor]
) -> TrainingMetric:
    return TrainingMetric(name, larger_is_better, lambda z, y: finish(pieces(z, y)), pieces, finish)


def _exact(values: Tensor) -> Tensor:
    """float64 where the device has it: sums over many batches must not lose digits."""
    return values.float() if values.device.type == "mps" else values.double()


def _log_probabilities(logits: Tensor) -> Tensor:
    """``(samples, classes)`` float32 from any form of logits; members' probabilities are averaged."""
    z = logits.detach().float()
    z = z[:, None] if z.ndim == 1 else z
    if z.shape[-1] == 1:
        z = torch.cat([torch.zeros_like(z), z], -1)
    log_p = torch.log_softmax(z, -1)
    return log_p if log_p.ndim == 2 else torch.logsumexp(log_p, 1) - math.log(log_p.shape[1])


def _mean(sums: Tensor) -> Tensor:
    return sums[0] / sums[1]


def _hits(logits: Tensor, targets: Tensor) -> Tensor:
    right = _log_probabilities(logits).argmax(-1) == targets
    return torch.stack([_exact(right).sum(), _exact(torch.ones_like(right)).sum()])


def _hits_and_loss(logits: Tensor, targets: Tensor) -> Tensor:
    log_p = _log_probabilities(logits)
    loss = _exact(functional.nll_loss(log_p, targets, reduction="none")).sum()
    right = log_p.argmax(-1) == targets
    return torch.stack([_exact(right).sum(), _exact(torch.ones_like(right)).sum(), loss])


def rows_right(nats: Tensor, hits: Tensor, targets: Tensor) -> Tensor:
    """How many rows had all their tokens foreseen, rows, nats and tokens: ``(4,)``.

    Where every token is the likeliest one after the true ones before it, writing the likeliest tokens gives the very
    same row: so this is the exact match of greedy writing, without writing.
    """
    kept = targets != IGNORED
    right = (hits | ~kept).all(1)
    return torch.stack([_exact(one).sum() for one in (right, torch.ones_like(right), nats, kept)])


def _rows_right(logits: Tensor, targets: Tensor) -> Tensor:
    return rows_right(token_losses(logits.detach(), targets), logits.detach().argmax(-1) == targets, targets)


def _squares(logits: Tensor, targets: Tensor) -> Tensor:
    z = logits.detach()
    z = z.mean(1) if z.ndim == 3 else z
    errors = _exact(z.reshape(targets.shape).float() - targets.float())
    return torch.stack([errors.square().sum(), _exact(torch.ones_like(errors)).sum()])


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.stack([_exact(token_losses(logits.detach(), targets)).sum(), _exact(targets != IGNORED).sum()])


def _average_precision(logits: Tensor, targets: Tensor) -> Tensor:
    """As `goodfit.evaluation.ranking.average_precision` on the device; NaN where no positive occurs."""
    z = logits.detach().float()
    z = z[:, None] if z.ndim == 1 else z
    z = _log_probabilities(z) if z.ndim == 3 else z
    score = z[:, 0] if z.shape[1] == 1 else z[:, 1] - z[:, 0]
    order = torch.argsort(-score, stable=True)
    falling, hit = -score[order], _exact(targets[order] == 1)
    # Samples of equal score share the last one's counts: each one's group end is found by search, not by a loop.
    end = torch.searchsorted(falling, falling, right=True)
    precision = hit.cumsum(0)[end - 1] / end
    return (precision * hit).sum() / hit.sum()
