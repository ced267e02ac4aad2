"""The arithmetic of classification losses: plain functions for any training loop.

Each takes logits of any of these shapes: ``(batch, outputs)``; ``(batch, members, outputs)`` from a model that is an
ensemble inside, where each sample's loss is the mean over its members' own losses; ``(batch, length, vocabulary)``
with targets ``(batch, length)`` for language, in which -100 is ignored. Half-precision logits are computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
Weights = tuple[float, ...]
_HALF = (torch.float16, torch.bfloat16)


def class_weights(
    counts: Sequence[int], kind: Literal["none", "inverse", "effective"] | Weights, *, beta: float = 0.999
) -> Weights:
    """A weight for each class, with mean 1 over the samples; 0 for a class without samples.

    inverse: ``n / (K n_c)``, K the classes present. effective: proportional to ``(1 - beta) / (1 - beta ** n_c)``.
    Numbers of your own are brought to mean 1 too.

    >>> class_weights([9000, 1000], "inverse")
    (0.5555555555555556, 5.0)
    """
    if kind == "inverse":
        raw = [1 / n if n else 0.0 for n in counts]
    elif kind == "effective":
        raw = [(1 - beta) / (1 - beta**n) if n else 0.0 for n in counts]
    elif kind == "none":
        raw = [1.0 if n else 0.0 for n in counts]
    else:
        raw = list(kind)
    total = sum(r * n for r, n in zip(raw, counts, strict=True))
    return tuple(r * sum(counts) / total if total else 1.0 for r in raw)


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
    if logits.dtype in _HALF:
        logits = logits.float()
    row = None if class_weights is None else row_of(class_weights, logits.device, logits.dtype)
    if logits.dim() == 2 and weight is None and not targets.is_floating_point():  # nearly always
        return F.cross_entropy(logits, targets, weight=row, reduction="sum", label_smoothing=label_smoothing)
    flat, aligned, members = align(logits, targets)
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
    logits = full(logits)
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
        positive = row_of(pos_weight[-outputs:], logits.device, logits.dtype)
    elif pos_weight is not None:
        positive = row_of((pos_weight,), logits.device, logits.dtype)
    return per_sample(F.binary_cross_entropy_with_logits(logits, rows, pos_weight=positive, reduction="none"))


def focal(logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: Weights | None = None) -> Tensor:
    """Each sample's focal loss ``(batch,)``, for language the sum over its positions; ``alpha`` is used as given."""
    logits, targets = two_outputs(full(logits), targets)
    flat, aligned, members = align(logits, targets)
    log_p = F.log_softmax(flat, -1)
    row = None if alpha is None else row_of(alpha, logits.device, logits.dtype)
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


def weigh_samples(targets: Tensor, weight: Tensor | None) -> Tensor | float:
    """Number of samples, or the sum of their weights."""
    return float(len(targets)) if weight is None else weight.sum()


def weigh_classes(targets: Tensor, weight: Tensor | None, classes: Weights | None = None) -> Tensor | float:
    """The sum of sample weight times class weight over what is not ignored.

    -100 is looked for in token targets ``(batch, length)`` only: a class index ``(batch,)`` always counts, and the
    plain batch of a training step then costs no tensor operation.
    """
    if weight is None and classes is None and (targets.dim() == 1 or targets.is_floating_point()):
        return float(len(targets))
    if targets.is_floating_point():
        if classes is None:
            return weigh_samples(targets, weight)
        share = targets @ row_of(classes, targets.device, targets.dtype)
        return share.sum() if weight is None else torch.dot(share, weight.to(share.dtype))
    kept = targets != IGNORED
    if classes is None and weight is None:
        return kept.sum()
    kind = torch.float32 if weight is None else weight.dtype
    share = kept.to(kind)
    if classes is not None:
        share = share * row_of(classes, targets.device, kind)[targets.clamp_min(0)]
    share = share.view(len(targets), -1).sum(1)
    return share.sum() if weight is None else torch.dot(share, weight)


def total(each: Tensor, weight: Tensor | None) -> Tensor:
    """The weighted sum of samples' losses ``(batch,)``."""
    return each.sum() if weight is None else torch.dot(each, weight.to(each.dtype))


def per_sample(each: Tensor) -> Tensor:
    """Losses ``(batch, ...)`` averaged over everything but the batch."""
    return each.view(-1) if each.dim() == 2 and each.shape[1] == 1 else each.flatten(1).mean(1)


def full(logits: Tensor) -> Tensor:
    """Logits in float32 where they were half precision."""
    return logits.float() if logits.dtype in _HALF else logits


def two_outputs(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """One logit ``z`` as the pair ``(0, z)``, whose softmax is its sigmoid; the probability of class 1 as a pair."""
    if logits.shape[-1] != 1:
        return logits, targets
    if targets.is_floating_point() and targets.dim() == 1:
        targets = torch.stack([1 - targets, targets], 1)
    return torch.cat([torch.zeros_like(logits), logits], -1), targets


def align(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, int]:
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


@lru_cache(maxsize=16)
def row_of(values: Weights, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The values as a tensor, made once: a copy to the GPU at each step would wait for it."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype)
