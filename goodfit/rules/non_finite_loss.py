"""non-finite-loss: a backward pass from a loss that is NaN or infinite."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """A loss that is NaN or infinite is back-propagated: the update makes every weight NaN.

    Told once, with the first module whose output was not finite and whether its inputs or the weights were not already.

    Look-alikes that do not count: losses under a ``GradScaler``, which leaves such steps out; losses that the program
    tests and skips before ``backward()``.

    Fix: look for the logarithm or square root of zero, a division by a count that can be zero, an exponential of large
    numbers, a rate that is too high; NaN in the data.
    """
    one = log["finite.first"]
    if one is None:
        return "every loss was finite"
    if one.inputs:
        cause, fix = (
            "the inputs are not finite already",
            "look for NaN in the data, or a division by 0 when it is normalised",
        )
    elif one.weights and one.step:
        cause = f"the weights are not finite any more, first {one.weights}"
        fix = "lower the learning rate, or clip gradients"
    elif one.module:
        cause = f"the first output that is not finite is that of {one.module}"
        fix = "look there for log or sqrt of 0, a division by 0, or exp of large numbers"
    else:
        cause = "all outputs of modules are finite, so the loss itself makes it"
        fix = "look for log or sqrt of 0, or a division by a count that can be 0, in the loss"
    return Finding(
        "non-finite-loss",
        "error",
        f"the loss is {one.loss:g} after {one.step:,} updates; {cause}",
        one.where,
        {"updates before": one.step, "module": one.module or "none"},
        fix,
        why="its gradients make every weight NaN",
        step=one.step,
    )


RULE = Rule(
    "non-finite-loss",
    check,
    ("finite.first",),
    follows=(
        "epsilon-lost",
        "impossible-targets",
    ),
    status="stable",
)
