"""resumed-without-state: training goes on from a checkpoint's weights, but not from its optimizer."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """A checkpoint's weights were loaded and trained on, and its optimizer's or scheduler's state was left behind.

    Moments start at zero and the rate at its first value, so the loss jumps. A warning, because a new training that
    starts from these weights (fine-tuning) looks the same.

    Fix: ``optimizer.load_state_dict(checkpoint["optimizer"])``, and the scheduler's likewise, before the loop.
    """
    one = log["resumption"]
    left = [part for part in one.held if part in ("optimizer", "scheduler") and part not in one.used]
    if "scheduler" in left and not any(used.steps for used in log.get("schedules", {}).values()):
        left.remove("scheduler")  # the new training has none
    if not left or not one.steps:
        return "what the checkpoint holds was put back"
    return Finding(
        "resumed-without-state",
        "warning",
        f"the checkpoint holds the state of the {' and the '.join(left)}, which was not loaded before training",
        one.where,
        {"held": list(one.held), "loaded": list(one.used)},
        f"call {left[0]}.load_state_dict(...) too, unless a new training is meant to start from these weights",
        why="moments start at zero and the rate at its first value",
    )


RULE = Rule("resumed-without-state", check, ("resumption",))
