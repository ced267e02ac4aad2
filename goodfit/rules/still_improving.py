"""still-improving: training ends while the validation loss still falls."""

from __future__ import annotations

import random
import statistics

from goodfit.check import Log, Rule
from goodfit.types import Finding

DRAWS = 1000


def check(log: Log) -> list[Finding] | str:
    """The validation loss still falls when the run ends: more epochs would lower it further. Advice.

    The last third of the evaluations is drawn with replacement a thousand times, a straight line is fitted to each
    draw, and 97.5 % of the lines must fall, by a twentieth of the loss over the stretch at least; the last evaluation
    must be among the best three.

    Fix: twice the epochs.
    """
    one = log["run.course"]
    late = list(zip(one.epochs, one.judged, strict=True))[-max(6, len(one.judged) // 3) :]
    if len(late) < 6 or one.judged[-1] > sorted(one.judged)[2]:
        return "the validation loss has reached its minimum"
    draw = random.Random(0)
    slopes = sorted(_slope(draw.choices(late, k=len(late))) for _ in range(DRAWS))
    fall = -slopes[int(0.975 * DRAWS)] * (late[-1][0] - late[0][0])
    if fall < 0.05 * abs(late[-1][1]):
        return "the validation loss is level at the end"
    return [
        Finding(
            "still-improving",
            "advice",
            f"the validation loss fell from {late[0][1]:.3g} to {late[-1][1]:.3g} in {len(late)} validations",
            one.where,
            {"fall, at least (97.5 %)": fall, "epochs": one.planned},
            "train for twice the epochs",
            patch={"epochs": max(1, round(2 * one.planned))},
        )
    ]


def _slope(points: list[tuple[float, float]]) -> float:
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope


RULE = Rule("still-improving", check, ("run.course",), follows=("overfitting",))
