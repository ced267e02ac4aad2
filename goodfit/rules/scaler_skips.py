"""scaler-skips: a loss scaler leaves out one step after the other."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """A ``GradScaler`` leaves out every step: it finds infinite gradients again and again.

    At the start one to four left-out steps are normal, while the scale falls from 65,536. Certain after eight in a row.

    Fix: look for what makes the gradients infinite (a loss that is divided by zero, logarithms of zero), or use bf16.
    """
    found = []
    for one in log["steps"].values():
        if one.skips >= 8:
            found.append(
                Finding(
                    "scaler-skips",
                    "error",
                    f"the scaler left out {one.skips} steps of {one.name} in a row: infinite gradients each time",
                    one.where,
                    {"left out in a row": one.skips, "steps that ran": one.steps},
                    "find the first module whose output is not finite, or use bf16, which needs no scaler",
                    why="nothing is learned",
                )
            )
    return found or "the scaler lets steps through"


RULE = Rule("scaler-skips", check, ("steps",), status="stable")
