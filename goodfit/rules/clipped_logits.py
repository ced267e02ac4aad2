"""clipped-logits: the last layer's activation cuts negative logits off."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Logits are never negative and often exactly zero: a ReLU behind the last layer.

    A class whose logit is cut off gets no gradient from that sample, and no sample can say "surely not". Certain after
    ten calls at one line without one negative logit, of which at least a twentieth is exactly zero.

    Look-alikes that do not count: logits that are positive by chance (not exactly zero); masks of minus infinity.

    Fix: no activation behind the last layer.
    """
    found = [
        Finding(
            "clipped-logits",
            "error",
            f"of {one.numbers:,} logits given to {one.name} none is negative and {one.zeros / one.numbers:.0%} are "
            "exactly 0: an activation cuts them off",
            one.where,
            {"calls": one.calls, "zeros": one.zeros, "numbers": one.numbers, "loss": one.value},
            "remove the activation behind the last layer",
            why="a logit that is cut off gets no gradient",
        )
        for one in log["loss.facts"].values()
        if one.name in ("cross_entropy", "binary_cross_entropy_with_logits")
        and one.calls >= 10
        and one.negative == 0
        and one.zeros >= one.numbers / 20
        and one.summing < one.calls
    ]
    return found or "logits have both signs"


RULE = Rule("clipped-logits", check, ("loss.facts",), status="stable")
