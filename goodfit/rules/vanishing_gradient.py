"""vanishing-gradient: weights have gradients so small that the updates leave them as they are, to the last bit."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """Weights have a gradient and a learning rate, and yet are bit by bit the same after fifty steps; others move.

    The gradient has become so small on its way back that each update is below the resolution of the weight's number
    format. Usual in deep stacks of sigmoids or tanh, and behind tiny scales. A sample of 64 numbers of each weight is
    compared between step 10 and step 60.

    Look-alikes that do not count: gradients that are exactly zero (see dead-layers); groups with rate zero; weights of
    which some numbers move.

    Fix: ReLU-like activations, normalisation or residual connections, He or Xavier initialisation.
    """
    still = log["still.weights"]
    if still:
        more = f" (and {len(still) - 1} more weights)" if len(still) > 1 else ""
        return Finding(
            "vanishing-gradient",
            "warning",
            f"'{still[0]}'{more} has not changed by a bit in 50 steps although it has a gradient",
            still[0],
            {"weights": still[:20], "steps": 50},
            "use ReLU-like activations, normalisation or residual connections",
            why="the first layers stay random",
        )
    return "all weights with a gradient move"


RULE = Rule(
    "vanishing-gradient",
    check,
    ("still.weights",),
    follows=("step-without-effect", "equal-units", "dead-layers", "scheduler-unit"),
    status="stable",
)
