"""incomplete-accumulation-window: the last micro-batches of an epoch are dropped, or weighted too little."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The batches of an epoch are no multiple of the accumulation window, and the rest is lost or weighted too little.

    Lost: gradients of fewer micro-batches than a window has are cleared, unused, after the loader has run out, in two
    epochs. Weighted too little: a step uses fewer micro-batches than each loss is divided by, twice; the divisor is
    read from the graph of the loss.

    Look-alikes that do not count: windows that fit; a divisor that follows the window.

    Fix: step at the last batch too, and divide by the number of micro-batches that the window really has.
    """
    found = []
    for one in log["accumulation"].values():
        usual = one.usual
        lost = [size for size in one.tails if size < usual]
        short = [w for w in one.windows if w.size < usual and set(w.divisors) == {float(usual)}]
        if usual >= 2 and len(lost) >= 2:
            found.append(
                Finding(
                    "incomplete-accumulation-window",
                    "warning",
                    f"the last {lost[0]} batches of every epoch never reach a step of {one.name}: their gradients are "
                    f"cleared, because the window of {usual} is not full",
                    one.cleared_where,
                    {"epochs": len(lost), "window": usual, "batches lost": lost[0]},
                    "step after the last batch of the epoch too",
                )
            )
        if usual >= 2 and len(short) >= 2:
            found.append(
                Finding(
                    "incomplete-accumulation-window",
                    "warning",
                    f"steps of {one.name} with {short[0].size} micro-batches divide each loss by {usual}: their "
                    f"gradient is {short[0].size / usual:.2g} of what it should be",
                    short[0].where,
                    {"steps": len(short), "micro-batches": short[0].size, "divisor": usual},
                    "divide by the number of micro-batches that the window really has",
                )
            )
    return found or "windows of micro-batches are whole"


RULE = Rule("incomplete-accumulation-window", check, ("accumulation",), status="stable")
