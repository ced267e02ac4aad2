"""sigmoid-before-logits-loss: binary_cross_entropy_with_logits is given probabilities."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding

CALLS, NUMBERS = 3, 48


def check(log: Log) -> list[Finding] | str:
    """``binary_cross_entropy_with_logits`` is given values in [0, 1]: it applies a sigmoid itself, so there are two.

    Of probabilities a second sigmoid makes 0.5 to 0.731, so the loss cannot fall below 0.313 for positives and 0.693
    for negatives. Certain after three calls at one line with at least 48 values, all of them in [0, 1]: logits of a
    network that learns do not all stay there.

    Look-alikes that do not count: logits that happen to lie in [0, 1], which the graph tells: they come right out of a
    linear layer or a sum.

    Fix: give it the logits, or use ``binary_cross_entropy`` on the probabilities (the former is safer numerically).
    """
    found = [
        Finding(
            "sigmoid-before-logits-loss",
            "error",
            f"all {one.numbers:,} values given to binary_cross_entropy_with_logits in {one.calls} calls lie in [0, 1]: "
            "they are probabilities, and a second sigmoid leaves 0.5 to 0.731",
            one.where,
            {"calls": one.inside, "lowest": one.low, "highest": one.high, "loss": one.value},
            "remove the sigmoid: this loss wants logits",
            why="the loss of negatives cannot fall below 0.693",
        )
        for one in log["loss.facts"].values()
        if one.name == "binary_cross_entropy_with_logits"
        and one.calls >= CALLS
        and one.inside == one.calls
        and one.open == 0
        and one.numbers >= NUMBERS
        and one.high > one.low
    ]
    return found or "logits where they are wanted"


RULE = Rule("sigmoid-before-logits-loss", check, ("loss.facts",), status="stable")
