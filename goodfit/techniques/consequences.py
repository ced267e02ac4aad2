"""What the numbers of a plan come to: the scaled rate, how fast weights decay, when phases begin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from goodfit.techniques.groups import half_life, scaled_lr
from goodfit.techniques.schedule import Schedule
from goodfit.types import Moment

POINTS = 2000
"""Steps of a run that are looked at; longer runs are looked at in equal strides."""


def rate(optimizer: Any, batch_size: int) -> tuple[float, str]:
    """The learning rate at this batch size and, where a rule was asked for, a clause that says how it came about."""
    lr, said = scaled_lr(optimizer.lr, batch_size, optimizer.base_batch, optimizer.lr_scaling)
    return lr, said if optimizer.lr_scaling != "none" else ""


def decay(optimizer: Any, lr: float, factors: Sequence[float], stride: float = 1.0) -> str:
    """A clause about what ``weight_decay`` does in a step and over the run; empty where there is none.

    lr: at this batch size. factors: the schedule's, every ``stride`` steps.
    """
    strength = float(optimizer.weight_decay)
    if not strength or not lr:
        return ""
    if optimizer.name in ("adam", "rmsprop"):
        return "L2 in the gradient, which is divided by the gradient's size: no fixed half-life; adamw decays outright"
    if optimizer.name == "lamb":
        return "part of a step whose length is fixed by the layer's weights: no half-life of its own"
    share, through = strength, ""
    if optimizer.name == "sgd" and optimizer.momentum:
        share = strength * (1 - optimizer.dampening) / (1 - optimizer.momentum)
        through = f" ({lr * share:.3g} through momentum {optimizer.momentum:g})"
    steps = half_life(lr, share)
    left = math.exp(sum(math.log1p(-min(lr * share * f, 1 - 1e-12)) * stride for f in factors))
    return (
        f"lr x weight_decay = {lr * strength:.3g} a step at the full rate{through}, a half-life of "
        f"{math.ceil(steps):,} steps; it alone leaves {left:.2g} of a weight at the end"
    )


def factors(schedule: Schedule, total: int, steps_per_epoch: int, *, points: int = POINTS) -> dict[int, float]:
    """The schedule's factor at evenly spread steps of a run, by step."""
    count = min(total, points)
    steps = [round(k * (total - 1) / max(count - 1, 1)) for k in range(count)]
    return {step: schedule.factor(at(step, total, steps_per_epoch)) for step in steps}


def rates(
    schedule: Schedule, lrs: Sequence[tuple[int, float]], total: int, steps_per_epoch: int, *, points: int = POINTS
) -> tuple[list[float], list[float]]:
    """The learning rate at evenly spread steps of a run, and the momentum where the schedule cycles it (else empty).

    lrs: ``(first step, learning rate)`` of each phase, the first of them at step 0.
    """
    curve = factors(schedule, total, steps_per_epoch, points=points)
    made = [[lr for start, lr in lrs if start <= step][-1] * factor for step, factor in curve.items()]
    momenta = [schedule.momentum(at(step, total, steps_per_epoch)) for step in curve]
    return made, [m for m in momenta if m is not None]


def at(step: int, total: int, steps_per_epoch: int) -> Moment:
    """The moment of a step, for asking a schedule before a run."""
    return Moment(seed=0, epoch=step // steps_per_epoch, step=step, total=total, steps_per_epoch=steps_per_epoch)
