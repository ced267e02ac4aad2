"""scheduler-before-optimizer: the scheduler steps before the first update."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The scheduler steps before the optimizer has: the first rate of the schedule is never used.

    Certain at the first step of the scheduler, if the optimizer has made no update and no loss scaler may have left it
    out.

    Fix: ``optimizer.step()`` first, then ``scheduler.step()``.
    """
    found = []
    for one in log["schedules"].values():
        if one.early and one.updates >= 1:
            found.append(
                Finding(
                    "scheduler-before-optimizer",
                    "error",
                    f"{one.kind} steps before the first optimizer.step()",
                    one.where,
                    {"scheduler steps": one.steps, "updates": one.updates},
                    "call optimizer.step() first, then scheduler.step()",
                    why="the first rate of the schedule is never used",
                )
            )
    return found or "schedulers step after optimizers"


RULE = Rule("scheduler-before-optimizer", check, ("schedules",), status="stable")
