"""epsilon-lost: an optimizer divides by zero, since its epsilon is lost in the number format."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The ``eps`` of an optimizer is zero in the number format of its parameters: a gradient of zero divides by zero.

    ``1e-8`` is below the smallest float16, so Adam computes 0 / 0 wherever a gradient has always been zero. Decided
    by converting the number; float32 and bfloat16 hold 1e-8.

    Look-alikes that do not count: float32 weights under autocast; optimizers without an epsilon.

    Fix: keep the weights in float32 and use autocast, or ``eps=1e-4`` for float16.
    """
    found = [
        Finding(
            "epsilon-lost",
            "error",
            f"{one.name}'s eps of {one.epsilon:g} is zero in {one.dtype}, the format of {one.parameters} parameters",
            one.where,
            {"eps": one.epsilon, "format": one.dtype, "parameters": one.parameters},
            "keep the weights in float32 and use autocast, or give float16 an eps of 1e-4",
            why="a gradient of zero makes the weight NaN",
        )
        for one in log["precision.epsilon"]
    ]
    return found or "every epsilon is above zero in its format"


RULE = Rule("epsilon-lost", check, ("precision.epsilon",))
