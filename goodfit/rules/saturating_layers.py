"""saturating-layers: gradients fade on their way through hidden sigmoid or tanh layers."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """Gradients fade on their way through three or more hidden sigmoid or tanh layers.

    The sigmoid's slope lies in (0, 0.25], so n layers of it scale a gradient by at most 0.25^n times their weights (0.4
    % for four); tanh's slope lies in (0, 1] and is one only at zero. On a copy, gradients are sent back from the
    outputs, and the root mean square at the first layer's output is compared with that at the last hidden one's. Below
    a tenth, along three hidden layers or more, the first layers hardly learn.

    Look-alikes that do not count: a sigmoid or tanh at the output, gates (a sigmoid that multiplies), recurrent nets
    (the same weights again), layers with a skip connection around them, and chains whose weights or norms keep the
    gradient up, such as tanh with Xavier weights.

    Fix: relu or gelu (``model.activation``), a norm between the layers, or ``init.name = "xavier_uniform"`` for tanh.
    Source: Glorot and Bengio (2010).
    """
    length, shrink = log["saturating.length"], log["saturating.shrink"]
    kinds = " and ".join(log["saturating.kinds"])
    if length >= 3 and not shrink >= 0.1:
        return Finding(
            "saturating-layers", "warning",
            f"gradients shrink to {100 * shrink:.2g} % on their way through {length} hidden {kinds} layers",
            log["saturating.first"], {"layers": length, "shrink": shrink},
            "use relu or gelu as activation, put a norm between the layers, or initialise by xavier_uniform",
        )  # fmt: skip
    if length >= 3:
        return f"gradients keep {100 * shrink:.0f} % of their size through {length} hidden {kinds} layers"
    return "no line of three or more hidden sigmoid or tanh layers"


RULE = Rule(
    "saturating-layers", check, ("saturating.length", "saturating.shrink", "saturating.kinds", "saturating.first")
)
