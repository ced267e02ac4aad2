"""broken-targets: class indices outside the classes, values that are not finite, or shapes that do not fit."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """Targets that no loss can use: class indices outside the model's classes, NaN or infinity, or a shape unlike the outputs'.

    For classes the smallest and largest index are compared with the number of outputs (ignored tokens, -100, left out). For
    values the outputs' shape must equal the targets', or PyTorch broadcasts ``(batch, 1)`` against ``(batch,)`` to a square and
    the model learns the mean.
    """
    low, high, outputs = log["targets.low"], log["targets.high"], log["targets.outputs"]
    if log["targets.nonfinite"]:
        return Finding(
            "broken-targets", "error", f"{log['targets.nonfinite']:,} targets are NaN or infinite", "targets",
            {"not finite": log["targets.nonfinite"]}, "drop those rows",
        )  # fmt: skip
    if outputs and (low < 0 or high >= outputs):
        return Finding(
            "broken-targets", "error", f"class indices run from {low} to {high}, but the model has {outputs} outputs",
            "targets", {"low": low, "high": high, "outputs": outputs}, "number the classes from 0, or add outputs",
        )  # fmt: skip
    shape = log["targets.shape_problem"]
    if shape:
        return Finding(
            "broken-targets", "error", shape, "outputs", {}, "make the model's output shape equal the targets'"
        )
    return f"outputs {log['outputs.shape']}, targets {log['targets.range']}"


RULE = Rule("broken-targets", check, ("targets.low", "targets.high", "targets.outputs", "targets.nonfinite"))
