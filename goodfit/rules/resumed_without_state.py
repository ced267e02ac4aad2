"""resumed-without-state: training goes on from a checkpoint's weights, but not from its optimizer."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """Weights of a checkpoint were loaded and trained on, and the optimizer's state in it was left behind.

    Moments start at zero and the rate at its first value, so the loss jumps. A warning, because a new training that
    starts from these weights (fine-tuning) looks the same.

    Fix: ``optimizer.load_state_dict(checkpoint["optimizer"])``, and the scheduler's likewise, before the loop.
    """
    one = log["resumption"]
    left = [part for part in one.held if part in ("optimizer", "scheduler") and part not in one.used]
    if "optimizer" not in left:
        return "what the checkpoint holds was put back"
    return Finding(
        "resumed-without-state",
        "warning",
        f"the checkpoint holds the state of the {' and the '.join(left)}, which was not loaded before training",
        one.where,
        {"held": list(one.held), "loaded": list(one.used)},
        "call optimizer.load_state_dict(...) too, unless a new training is meant to start from these weights",
        why="moments start at zero and the rate at its first value",
    )


RULE = Rule("resumed-without-state", check, ("resumption",))
