"""wrong-gradient: the gradient from back-propagation differs from the one measured numerically."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """The gradient from back-propagation differs from the numerical one, in float64, along sampled directions.

    For each of several parameter tensors the central difference ``(L(w + h d) - L(w - h d)) / 2h`` along a random unit
    direction d is compared with the inner product of d and the gradient, in float64 with h = 1e-5. Agreement to 1e-5
    relative is expected where the loss is smooth. Tensors at a kink (ReLU at zero, equal values under a maximum), seen
    by slopes that differ between the two sides, are left out.

    A difference means a custom backward, an in-place change or a ``detach`` that is wrong.
    """
    worst, tensor, count = log["gradient.error"], log["gradient.worst"], log["gradient.sampled"]
    if worst > 1e-3:
        return Finding(
            "wrong-gradient", "warning", f"back-propagation and numerical gradient differ by {worst:.1%} in {tensor}",
            tensor, {"relative difference": worst}, "look for detach, .data or a custom backward above this tensor",
        )  # fmt: skip
    return f"back-propagation agrees with numerical gradients of {count} tensors (worst {worst:.0e} relative)"


RULE = Rule("wrong-gradient", check, ("gradient.error", "gradient.worst", "gradient.sampled"))
