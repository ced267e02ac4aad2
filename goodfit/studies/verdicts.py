"""What an ablation answers: a finding for each arm, in figures and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from goodfit.studies import statistics


@dataclass(frozen=True)
class Finding:
    """What an ablation says of one arm against another.

    difference: arm minus reference, mean over seeds, with ``low`` to ``high`` around it at ``level``.
    seeds: pairs that finished. detectable: the smallest true difference that so many call with probability 0.8.
    gain: how many times more runs an unpaired study would have needed. rows: the second view, over judging rows.
    """

    arm: str
    against: str
    patch: Mapping[str, Any]
    verdict: str
    sentence: str
    difference: float | None
    low: float | None
    high: float | None
    level: float
    p: float
    seeds: int
    detectable: float | None
    gain: float | None
    rows: Mapping[str, float] | None
    notes: Sequence[str]
    seconds: float


@dataclass(frozen=True)
class Ablation:
    """The answer of a study: one finding for each arm. folder: the study. page: the picture and the figures."""

    findings: Sequence[Finding]
    metric: str
    larger_is_better: bool
    reference: float | None
    matters: float
    ended: str
    seconds: float
    folder: Path
    page: Path | None = None

    def __getitem__(self, arm: str) -> Finding:
        return next(one for one in self.findings if one.arm == arm)


def sentence_of(name: str, against: str, word: str, interval: statistics.Interval, metric: str) -> str:
    """A verdict in words with its figures."""
    title = metric.replace("_", " ")
    inside = f"{100 * interval.level:.3g} % interval {interval.low:+.4f} to {interval.high:+.4f}"
    span = f"{interval.mean:+.4f} {title} against {against}, {inside}"
    if word in ("helps", "hurts"):
        return f"{name} {word}: {span}"
    if word == "no difference":
        return f"{name} makes no difference larger than {interval.reach:.4f} {title}: {span}"
    if not np.isfinite(interval.reach):
        return f"{name}: inconclusive, {interval.mean:+.4f} {title} in {interval.pairs} pairs, too few for an interval"
    return f"{name}: inconclusive, {span}"
