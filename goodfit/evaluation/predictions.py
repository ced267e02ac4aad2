"""From a model's raw outputs to what people read: class probabilities, or values in original units."""

from __future__ import annotations

import torch
from torch import Tensor

from goodfit.errors import ModelError
from goodfit.types import Task


def probabilities(logits: Tensor, task: Task | None = None, *, temperature: float = 1.0) -> Tensor:
    """Class probabilities ``(samples, classes)``, float64 on the CPU; each row sums to 1.

    logits: ``(samples, classes)``; ``(samples, 1)`` or ``(samples,)`` from a two-class model with one logit, whose
    sigmoid is the second class's probability; or ``(samples, members, outputs)``, whose members' probabilities are
    averaged.
    temperature: logits are divided by it (see `goodfit.evaluation.calibration`).
    Raises ModelError for NaN or infinite logits and for a number of outputs that does not fit the task's classes.
    """
    p = torch.softmax(members(logits, task) / temperature, -1).mean(1)
    refuse_non_finite(p, "probabilities")
    return p


def point(logits: Tensor, *, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Predicted values in original units, float64 on the CPU: ``(samples,)``, or ``(samples, horizon)``.

    logits: ``(samples, outputs)`` or ``(samples, members, outputs)``, whose members are averaged; one output loses
    its axis.
    mean, std: what the targets were standardised with in training. Raises ModelError for NaN or infinite outputs.
    """
    values = logits.detach().cpu().double()
    if values.ndim == 3:
        values = values.mean(1)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    refuse_non_finite(values, "predictions")
    return values * std + mean


def members(logits: Tensor, task: Task | None = None) -> Tensor:
    """Logits as ``(samples, members, classes)`` float64 on the CPU; one logit ``z`` becomes the pair ``(0, z)``."""
    z = logits.detach().cpu().double()
    if z.ndim == 1:
        z = z[:, None]
    if z.ndim == 2:
        z = z[:, None, :]
    if z.ndim != 3:
        raise ModelError(f"logits for classes have 2 or 3 axes, these have the shape {tuple(logits.shape)}")
    if z.shape[2] == 1:
        z = torch.cat([torch.zeros_like(z), z], 2)
    if task is not None and task.classes and z.shape[2] != len(task.classes):
        raise ModelError(
            f"the model gives {z.shape[2]} outputs for {len(task.classes)} classes; "
            f"its last layer must give {len(task.classes)}"
        )
    return z


def refuse_non_finite(values: Tensor, what: str) -> None:
    """Raise ModelError, with how many and the first one's position, where ``values`` hold NaN or infinity."""
    if not values.numel():
        return
    bad = ~torch.isfinite(values.reshape(len(values), -1)).all(1)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise ModelError(
            f"the model's {what} are NaN or infinite for {int(bad.sum()):,} of {len(values):,} samples "
            f"(first: position {first}); lower optimizer.lr, or look for extreme inputs in those samples"
        )
