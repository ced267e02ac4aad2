"""worse-than-guessing: the loss has risen far above that of a guess and stays there."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The loss has risen above its first value and far above that of a guess that ignores the input, and stays there.

    For cross-entropy a guess loses ln C of C classes, for squared errors the mean square of the targets. Speaks when
    ten calls in a row lose more than at the first call and more than three times the guess (ten times for squared
    errors): training goes the wrong way. The usual cause is a learning rate that is too high.

    Look-alikes that do not count: a first loss that is high and falls; losses of adversaries and of reinforcement
    learning, which have no such guess.

    Fix: divide the learning rate by ten, warm it up, or clip gradients.
    """
    found = [
        Finding(
            "worse-than-guessing",
            "warning",
            f"{one.name} is {one.latest:.4g} after {one.calls:,} calls and was {one.first:.4g}; a guess that ignores "
            f"the input loses {one.guess:.3g}",
            one.where,
            {"loss": one.latest, "first": one.first, "guess": one.guess, "calls in a row": one.above},
            "divide the learning rate by ten, or warm it up",
            why="the updates make the network worse",
        )
        for one in log["targets.facts"].values()
        if one.above >= 10 and one.guess > 0
    ]
    return found or "no loss has risen far above a guess"


RULE = Rule(
    "worse-than-guessing",
    check,
    ("targets.facts",),
    follows=("uphill-steps", "non-finite-loss", "stale-gradient", "impossible-targets"),
    status="stable",
)
