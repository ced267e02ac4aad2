"""Probes of the samples alone: inputs as the model gets them, training targets, overlap between parts."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from goodfit.probes.record import NotRecorded, Values
from goodfit.types import Inputs, Part, Task, Tensors

IGNORED = -100
"""The token that a language model's loss leaves out."""


def inputs(ready: Inputs) -> Values:
    """Mean, standard deviation and non-finite values of what the model gets; NotRecorded where all of it is integer."""
    values = ready.values() if isinstance(ready, dict) else [ready]
    floats = [v.float().flatten() for v in values if v.is_floating_point() and v.numel()]
    if not floats:
        raise NotRecorded("the inputs are whole numbers, such as tokens")
    flat = torch.cat(floats)
    finite = flat[torch.isfinite(flat)]
    return {
        "inputs.mean": float(finite.mean()) if len(finite) else math.nan,
        "inputs.std": float(finite.std(unbiased=False)) if len(finite) else math.nan,
        "inputs.nonfinite": int(len(flat) - len(finite)),
    }


def targets(task: Task, all_targets: Tensor) -> Values:
    """Range, distinct values and balance of the training targets; ignored tokens are left out."""
    finite = torch.isfinite(all_targets) if all_targets.is_floating_point() else all_targets != IGNORED
    counted = all_targets[finite if task.tokens or all_targets.is_floating_point() else slice(None)]
    broken = int(all_targets.numel() - finite.sum()) if all_targets.is_floating_point() else 0
    if not counted.numel():
        return {
            "targets.low": math.nan, "targets.high": math.nan, "targets.nonfinite": broken, "targets.classes": 0,
            "targets.distinct": 0, "targets.range": "none", "targets.balance": "none",
        }  # fmt: skip
    low, high = counted.min().item(), counted.max().item()
    indices = (task.kind == "classification" or task.tokens) and not all_targets.is_floating_point()
    distinct = int(torch.unique(counted).numel())
    values: Values = {
        "targets.low": low,
        "targets.high": high,
        "targets.nonfinite": broken,
        "targets.classes": task.outputs if task.tokens else len(task.classes) if indices else 0,
        "targets.distinct": distinct,
        "targets.range": f"{'classes ' if indices else ''}{low:.3g} to {high:.3g}",
        "targets.balance": f"{distinct:,} distinct values",
    }
    if indices and task.kind == "classification":
        counts = torch.bincount(counted.clamp(min=0).flatten(), minlength=len(task.classes)).tolist()
        values["targets.empty_classes"] = [c for c, n in zip(task.classes, counts, strict=False) if n == 0]
        values["targets.balance"] = f"{len(counts)} classes, {min(counts):,} to {max(counts):,} samples each"
    return values


def overlap(train: Part, *held_out: Part) -> Values:
    """How many held-out samples stand in the training part too, by the bytes of their inputs."""
    if not isinstance(train, Tensors) or not all(isinstance(p, Tensors) for p in held_out):
        raise NotRecorded("the data is streamed or cut from one sequence")
    known = set(_rows(train))
    shared = sum(row in known for part in held_out if isinstance(part, Tensors) for row in _rows(part))
    return {
        "split.shared": shared,
        "split.size": sum(map(len, held_out)),
        "split.repeats": 1 - len(known) / max(len(train), 1),
        "split.rich": not isinstance(train.inputs, dict) and train.inputs[0].numel() >= 64,
    }


def _rows(part: Tensors) -> Iterator[int]:
    """A 64-bit hash of each row's bytes."""
    tensors = list(part.inputs.values()) if isinstance(part.inputs, dict) else [part.inputs]
    blocks = [t.detach().reshape(len(t), -1).cpu().contiguous().view(torch.uint8).numpy() for t in tensors if t.numel()]
    for row in range(len(part)):
        yield hash(tuple(block[row].tobytes() for block in blocks))
