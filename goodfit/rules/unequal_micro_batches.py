"""unequal-micro-batches: micro-batches with different numbers of targets weigh the same."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Micro-batches of one step have different numbers of targets that count, and each one's mean weighs the same.

    A token of a short micro-batch then counts several times as much as one of a long one, and the result is not that of
    the whole batch. Certain when in two steps the losses are means over targets of which some are ignored, their
    numbers differ by more than a tenth, and all are divided by the same number.

    Look-alikes that do not count: equal numbers; losses that are sums divided by the targets of the whole window.

    Fix: ``reduction="sum"``, divided by the number of targets of all micro-batches of the step.
    """
    found = []
    for one in log["accumulation"].values():
        uneven = [
            w
            for w in one.windows
            if w.size >= 2
            and w.mean
            and min(w.valid) > 0
            and any(v < g for v, g in zip(w.valid, w.given, strict=True))
            and max(w.valid) > 1.1 * min(w.valid)
            and len(set(w.divisors)) == 1
            and w.divisors[0] != 0
            and not w.scaled_later
        ]
        if len(uneven) >= 2:
            w = max(uneven, key=lambda w: max(w.valid) / min(w.valid))
            found.append(
                Finding(
                    "unequal-micro-batches",
                    "warning",
                    f"micro-batches with {min(w.valid):,} and {max(w.valid):,} targets weigh the same in one step: a "
                    f"target of the one counts {max(w.valid) / min(w.valid):.1f} times as much",
                    w.where,
                    {"steps": len(uneven), "targets": list(w.valid)},
                    'use reduction="sum" and divide by the targets of all micro-batches of the step',
                )
            )
    return found or "micro-batches of a step weigh what they hold"


RULE = Rule("unequal-micro-batches", check, ("accumulation",), status="stable")
