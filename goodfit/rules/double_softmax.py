"""double-softmax: cross_entropy is given probabilities where it wants logits."""

from __future__ import annotations

import math

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """``cross_entropy`` is given rows that sum to one: it applies a softmax itself, so there are two.

    Of probabilities in [0, 1] a second softmax can make at most ``e / (e + C - 1)``, so the loss of C classes cannot
    fall below ``ln(1 + (C - 1) / e)`` (1.461 for ten), and gradients are small. Certain after two calls at one line in
    which all rows sum to one within 0.001 and lie in [0, 1], and no call there was otherwise.

    Look-alikes that do not count: ``log_softmax`` before ``cross_entropy``, which changes nothing; soft targets.

    Fix: give it the logits; apply ``softmax`` only where probabilities are shown.
    """
    found = []
    for one in log["loss.facts"].values():
        if one.name != "cross_entropy" or one.calls < 2 or one.summing != one.calls or one.classes < 2:
            continue
        floor = math.log(1 + (one.classes - 1) / math.e)
        found.append(
            Finding(
                "double-softmax",
                "error",
                f"rows given to cross_entropy sum to 1.000 in {one.summing} of {one.calls} calls: the loss "
                f"cannot fall below {floor:.3f} for {one.classes} classes, yours is {one.value:.3f}",
                one.where,
                {"calls": one.calls, "floor": floor, "loss": one.value, "largest error of a sum": one.error},
                "remove the softmax: cross_entropy wants logits",
                why="a second softmax flattens the probabilities and their gradients",
            )
        )
    return found or "cross_entropy is given logits"


RULE = Rule("double-softmax", check, ("loss.facts",), status="stable")
