"""norms-decayed: weight decay pulls on the scales and shifts of norm layers."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Weight decay also pulls the scales and shifts of norm layers towards zero, where it regularises nothing.

    Advice.
    Fix: a parameter group without decay for norms and biases.
    """
    return [
        Finding(
            "norms-decayed",
            "advice",
            f"{name} decays the weights of {count} norm layers too",
            where,
            {"norm layers": count},
            "put norms and biases into a group with weight_decay=0",
        )
        for where, (count, name) in log["speed.decayed"].items()
    ] or "norms are not decayed"


RULE = Rule("norms-decayed", check, ("speed.decayed",))
