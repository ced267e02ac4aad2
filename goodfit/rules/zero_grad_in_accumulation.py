"""zero-grad-in-accumulation: gradients are cleared after each micro-batch, so a step uses the last one only."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Gradients of several micro-batches are to be summed, but are cleared between them: only the last one counts.

    Certain when, in each of the first three steps, backward passes at the very line whose gradient the step uses had
    been made since the step before and were cleared without being used, the same number each time.

    Look-alikes that do not count: gradients of another line that are thrown away (a discriminator's in a GAN, those of
    an adversarial example), closures, steps that a scaler leaves out, single batches that are skipped.

    Fix: call ``zero_grad()`` after ``step()`` only.
    """
    found = []
    for one in log["accumulation"].values():
        wasted = [window.wasted for window in one.windows]
        if len(wasted) >= 3 and wasted[1] >= 1 and len(set(wasted[1:])) == 1:
            found.append(
                Finding(
                    "zero-grad-in-accumulation",
                    "error",
                    f"of every {wasted[1] + 1} backward passes before a step of {one.name} the gradients of "
                    f"{wasted[1]} are cleared unused",
                    one.cleared_where,
                    {"steps": len(wasted), "cleared before each": wasted[1]},
                    "call zero_grad() right after step() only, not for each micro-batch",
                    why="the effective batch is one micro-batch",
                )
            )
    return found or "no gradient of a micro-batch is cleared before it is used"


RULE = Rule("zero-grad-in-accumulation", check, ("accumulation",), status="stable")
