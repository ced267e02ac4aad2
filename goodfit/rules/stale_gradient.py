"""stale-gradient: an optimizer consumes the same gradient twice, because it is never cleared."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """An optimizer steps with gradients that it has consumed before: ``zero_grad()`` is missing.

    Each backward pass adds to ``.grad``. Without clearing, every step uses the sum of all gradients so far, which acts
    like a learning rate that grows, with momentum that nobody asked for. Certain when, in at least two steps, the
    values a step has used are still there when the next backward pass adds to them and the same optimizer steps again.

    Look-alikes that do not count: accumulating over several backward passes before a step; gradients of a network that
    another one's backward pass reaches and that are cleared before they are used (GANs); ``p.grad = None``; closures.

    Fix: call ``optimizer.zero_grad()`` once for each step, before ``loss.backward()``.
    """
    found = [
        Finding(
            "stale-gradient",
            "error",
            f"{use.optimizer} consumes gradients a second time: they are not cleared between steps",
            use.where,
            {"parameters": use.count, "with gradient": use.of, "steps": list(use.steps), "such as": list(use.names)},
            "call optimizer.zero_grad() once for each step, before loss.backward()",
            why="every step uses the sum of all gradients so far",
        )
        for use in log["gradient.stale"].values()
        if len(use.steps) >= 2
    ]
    return found or "every step consumes fresh gradients"


RULE = Rule("stale-gradient", check, ("gradient.stale",), status="stable")
