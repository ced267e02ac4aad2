"""step-without-effect: updates are smaller than the numbers can hold."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The optimizer steps, and the weights keep their bits: each update is below their resolution, or nothing at all.

    Weights (tensors of two dimensions or more) are compared before and after a step. Certain after three steps in which
    at least 98 % of the numbers with a gradient kept their bits although the rate was above zero. Weights in bfloat16
    or float16 lose updates below 1/256 or 1/2048 of their size; a rate of 1e-10 does it in float32.

    Look-alikes that do not count: a rate of zero at the first step of a warm-up; steps that a scaler leaves out.

    Fix: keep the weights in float32 and use autocast, or raise the rate.
    """
    found = []
    for one in log["steps"].values():
        if one.idle >= 3 and one.idle == one.looked:
            half = one.dtype in ("bfloat16", "float16")
            fix = "keep the weights in float32 and use autocast" if half else "raise the learning rate"
            found.append(
                Finding(
                    "step-without-effect",
                    "error",
                    f"{one.name} changes almost no bit of the {one.dtype} weights, in {one.idle} of {one.looked} steps "
                    f"(lr {one.lr:g})",
                    one.where,
                    {"steps": one.idle, "lr": one.lr, "dtype": one.dtype},
                    fix,
                    why="nothing is learned",
                )
            )
    return found or "steps change the weights"


RULE = Rule(
    "step-without-effect",
    check,
    ("steps",),
    follows=("optimizer-of-another-model", "step-without-gradient", "impossible-targets"),
    status="stable",
)
