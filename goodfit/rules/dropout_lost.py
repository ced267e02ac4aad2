"""dropout-lost: dropout was on at first and is off for the rest of the training."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """A network trains in train mode, its dropout dropped at first, and none of its dropout layers drops any more.

    An evaluation switched the layers off one by one (``layer.eval()``, ``layer.p = 0``) and nobody switched them on
    again. Speaks after ten passes in a row.

    Look-alikes that do not count: networks in eval mode (see training-in-eval-mode); rates of zero from the start.

    Fix: ``model.train()`` after each evaluation, and leave ``p`` alone.
    """
    found = [
        Finding(
            "dropout-lost",
            "warning",
            f"dropout ({one.rate:g}) was on for {one.steps} passes and has been off for {one.off} although the network "
            "is in train mode",
            one.where,
            {"on": one.steps, "off": one.off},
            "call model.train() after the evaluation, and do not set p to 0",
            why="the rest of the training has no dropout",
        )
        for one in log["dropout.lost"].values()
        if one.steps >= 1 and one.off >= 10
    ]
    return found or "dropout stays on"


RULE = Rule("dropout-lost", check, ("dropout.lost",), status="stable")
