"""A linear probe: how much a frozen model's features tell a linear model about the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from goodfit.evaluation.linear import logistic, ridge
from goodfit.evaluation.weighted import Array
from goodfit.types import Task

FROZEN, UNTRAINED = "linear probe on frozen features", "linear probe on the same net, untrained"


class Probe(NamedTuple):
    """Features of some training samples ``(samples, width)`` with their targets, features of the samples to score on
    in their order, and a note."""

    train: Array
    targets: Array
    other: Array
    note: str = ""


def linear_probe(probe: Probe, task: Task, *, seed: int = 0) -> tuple[Array, str]:
    """Class probabilities (logistic regression) or values (ridge regression) for ``other``, and a note.

    Each feature is standardised by the training samples; how much to shrink is chosen on a fifth of them. Source:
    Alain and Bengio, 2016.
    """
    level, spread = probe.train.mean(0), probe.train.std(0)
    spread = np.where(spread < 1e-9, 1.0, spread)
    x, z = (probe.train - level) / spread, (probe.other - level) / spread
    if task.kind == "classification":
        answer, how = logistic(x, probe.targets, z, classes=len(task.classes), seed=seed)
    else:
        answer, how = ridge(x, probe.targets, z)
    return answer, "; ".join(filter(None, [probe.note, how]))


def close_enough(rows: Sequence[Mapping[str, Any]], metric: str, *, larger_is_better: bool = True) -> str:
    """Whether the pretrained features fit this data, in a sentence, from the baselines' rows; empty without a probe.

    The probe is compared with the same net untrained, where that could be had, and the best model trained from nothing.

    >>> rows = [{"name": "logistic regression", "metrics": {"accuracy": 0.7}}]
    >>> rows += [{"name": FROZEN, "metrics": {"accuracy": 0.9}}, {"name": UNTRAINED, "metrics": {"accuracy": 0.6}}]
    >>> close_enough(rows, "accuracy")
    'better by 0.3 than untrained, better by 0.2 than logistic regression: what was learned before fits this data'
    """
    found = {str(row["name"]): row["metrics"].get(metric) for row in rows}
    mine, drawn = found.pop(FROZEN, None), found.pop(UNTRAINED, None)
    scratch = {name: value for name, value in found.items() if value is not None}
    if mine is None or not scratch:
        return ""
    sign = 1.0 if larger_is_better else -1.0
    best = max(scratch, key=lambda name: sign * scratch[name])
    above, beyond = None if drawn is None else sign * (mine - drawn), sign * (mine - scratch[best])
    if above is not None and above <= 0:
        return (
            "no better than untrained: what was learned before does not fit this data; choose another model, or set "
            "transfer.name = full"
        )
    beside = "" if above is None else f"better by {above:.2g} than untrained, "
    if beyond <= 0:
        return f"{beside}worse by {-beyond:.2g} than {best}: the features must change; set transfer.name = full"
    return f"{beside}better by {beyond:.2g} than {best}: what was learned before fits this data"
