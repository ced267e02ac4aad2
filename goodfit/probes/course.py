"""The course of a training of goodfit's, from the lines of its metrics: what rules about a finished run read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from goodfit.probes.evaluations import Course


@dataclass
class RunCourse(Course):
    """A `Course` with the epoch of each evaluation, the epochs planned, and the accuracy where there is one."""

    epochs: list[float] = field(default_factory=list)
    planned: float = 0.0
    accuracy: list[float] = field(default_factory=list)


def course(rows: Sequence[Mapping[str, Any]], planned: float) -> dict[str, Any]:
    """Signals of a run: ``evaluations`` and ``run.course``; nothing where it has no validation loss."""
    kept = [row for row in rows if isinstance(row.get("valid_loss"), int | float)]
    if not kept:
        return {}
    one = RunCourse(
        "valid_loss",
        "metrics.jsonl",
        [int(row["step"]) for row in kept],
        [float(row["valid_loss"]) for row in kept],
        [float("nan") if row.get("train_loss") is None else float(row["train_loss"]) for row in kept],
        epochs=[float(row["epoch"]) for row in kept],
        planned=planned,
        accuracy=[float(row["valid_accuracy"]) for row in kept if row.get("valid_accuracy") is not None],
    )
    return {"evaluations": {"valid": one}, "run.course": one}
