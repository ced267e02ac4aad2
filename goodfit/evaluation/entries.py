"""Metrics as entries of results.json: a value, its interval, its unit, and the reason where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from goodfit.evaluation.intervals import Interval, interval
from goodfit.evaluation.metrics import METRICS, SHOWN, names_for
from goodfit.evaluation.weighted import Array, NotAvailable
from goodfit.types import Task

WORK = 1.5e8
"""Samples x resamples x curves that are affordable: about a second."""

Draw = Callable[..., dict[str, Array]]
Metric = Callable[[Array | None], Any]


def points(task: Task, targets: Array, answers: Array, **more: float | None) -> dict[str, float | None]:
    """The task's metrics as bare numbers, None where not available: what the baselines' rows hold.

    answers: probabilities ``(samples, classes)``; values in original units; or for language the windows' summed nats,
    with targets the number of tokens. more: ``scale`` for MASE, ``characters_per_token`` for language.
    """
    values: dict[str, float | None] = {}
    for name, metric in metrics_of(task, targets, answers, more).items():
        try:
            values[name] = float(metric(None))
        except NotAvailable:
            values[name] = None
    return values


def metrics_of(task: Task, targets: Array, answers: Array, more: Mapping[str, float | None]) -> dict[str, Metric]:
    """Each metric of the task as a function of the weights alone."""
    made: dict[str, Metric] = {}
    for name in names_for(task):
        function: Callable[..., Any] = METRICS[name]
        if name == "mase":
            function = partial(function, scale=more.get("scale"))
        if name in ("nats_per_character", "bits_per_character"):
            function = partial(function, characters_per_token=more.get("characters_per_token"))
        first, second = (answers, targets) if task.kind == "language" else (targets, answers)
        made[name] = partial(function, first, second)
    return made


def entry(name: str, value: float | None, bounds: Interval, note: str = "") -> dict[str, Any]:
    """A metric as the screen and the report show it."""
    shown = SHOWN[name]
    return {
        "title": shown.title,
        "value": value,
        "low": bounds.low,
        "high": bounds.high,
        "better": shown.better,
        "unit": shown.unit,
        "method": bounds.method,
        "note": note or bounds.note,
    }


def entries_of(
    metrics: Mapping[str, Metric], draws: Mapping[str, Array], samples: int, confidence: float
) -> dict[str, dict[str, Any]]:
    """The entry of each metric: its value, and its interval from its resamples."""
    made = {}
    for name, metric in metrics.items():
        try:
            value = float(metric(None))
            made[name] = entry(
                name, value, interval(value, draws.get(name), samples, confidence=confidence, basic=name == "ece")
            )
        except NotAvailable as reason:
            made[name] = entry(name, None, Interval(None, None, ""), str(reason))
    return made
