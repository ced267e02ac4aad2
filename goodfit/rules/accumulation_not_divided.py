"""accumulation-not-divided: mean losses of several micro-batches are summed."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Mean losses of several micro-batches are added up and not divided by their number.

    The gradient is as many times too large: clipping bites, and the learning rate means something else than without
    accumulation. Certain when each of three steps uses the same number of backward passes at one line, each from a new
    batch of a loader and one call of a loss that takes a mean, whose output is back-propagated as it is, and nobody
    scales the gradients before the step.

    Look-alikes that do not count: losses that are sums; several losses of one batch; gradients divided by hand.

    Fix: ``(loss / micro_batches).backward()``.
    """
    found = []
    for one in log["accumulation"].values():
        usual = one.usual
        plain = [
            w
            for w in one.windows
            if w.size == usual and w.mean and w.fresh and set(w.divisors) == {1.0} and not w.scaled_later
        ]
        if usual >= 2 and len(plain) >= 2 and len(plain) >= 0.8 * len(one.windows):
            found.append(
                Finding(
                    "accumulation-not-divided",
                    "warning",
                    f"each step of {one.name} adds up {usual} mean losses, so its gradient is {usual} times that of "
                    "one batch as large",
                    plain[0].where,
                    {"steps": len(plain), "micro-batches": usual},
                    f"back-propagate loss / {usual}",
                    why="clipping and the learning rate see a gradient that grows with the number of micro-batches",
                )
            )
    return found or "losses of micro-batches are divided or sums"


RULE = Rule("accumulation-not-divided", check, ("accumulation",), follows=("unequal-micro-batches",), status="stable")
