"""calibration-drift: the validation loss rises while the accuracy does not fall."""

from __future__ import annotations

import statistics

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The accuracy has not fallen since the validation loss was lowest, and the loss has risen: too sure of itself.

    The mean loss of the latest six evaluations must lie a quarter above the minimum and more than three times the
    spread of neighbouring evaluations above it, with at least six evaluations since; the accuracy at most half a per
    cent lower. A temperature is fitted at the end in any case. Advice.

    Look-alikes that do not count: an accuracy that falls too (see overfitting).

    Fix: label smoothing, or fewer epochs.
    """
    one = log["run.course"]
    if len(one.judged) < 12 or len(one.accuracy) != len(one.judged):
        return "too few evaluations with an accuracy"
    place = min(range(len(one.judged)), key=lambda k: one.judged[k])
    if len(one.judged) - place <= 6:
        return "the validation loss has not risen for long"
    steps = [abs(b - a) for a, b in zip(one.judged[place:], one.judged[place + 1 :], strict=False)]
    rise = statistics.fmean(one.judged[-6:]) - one.judged[place]
    kept = statistics.fmean(one.accuracy[-6:]) - one.accuracy[place]
    if rise < max(0.25 * one.judged[place], 3 * statistics.median(steps)) or kept < -0.005:
        return "loss and accuracy go together"
    return [
        Finding(
            "calibration-drift",
            "advice",
            f"since step {one.steps[place]:,} the validation loss rose by {rise:.3g}, and the accuracy changed by "
            f"{kept:+.2%}: the predictions became too sure",
            one.where,
            {"lowest loss": one.judged[place], "rise": rise, "accuracy, change": kept},
            "train for fewer epochs, or smooth the labels",
            patch={"epochs": max(1, round(one.epochs[place]))},
        )
    ]


RULE = Rule("calibration-drift", check, ("run.course",), follows=("overfitting",))
