"""initial-loss: the untrained model's loss is far above that of a guess that ignores the input."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """The untrained model's loss is far above that of a guess that ignores the input.

    The expected loss at the start is ln C for C equally likely classes (2.303 for 10), the entropy of the class shares
    at the best, and for standardised values the variance, 1. A start at more than 1.5 times ln C (or 3 times the
    variance) plus 0.5 means that the first steps only undo the initialisation. Zeroing the head gives exactly ln C.

    Fix: scale the last layer down, or normalise inputs or targets.
    Source: Karpathy, "A recipe for training neural networks" (2019).
    """
    loss, expected = log["loss.initial"], log["loss.expected"]
    evidence = {"loss": loss, "expected": expected}
    what = log["loss.expected_name"]
    live = "loss.where" in log.values  # read from a running program, whose network may be meant to begin so
    if not loss < expected * (1.5 if "ln" in what and not live else 3.0) + 0.5:
        return Finding(
            "initial-loss", "warning", f"the loss begins at {loss:.3f}; {what} is {expected:.3f}",
            log.get("loss.where", "last layer"), evidence, "initialise the last layer smaller, or normalise the inputs",
        )  # fmt: skip
    return f"begins at {loss:.3f}; {what} is {expected:.3f}"


RULE = Rule(
    "initial-loss",
    check,
    ("loss.initial", "loss.expected", "loss.expected_name"),
    follows=("unnormalised-inputs",),
    status="stable",
)
