"""broken-targets: class indices outside the classes, values that are not finite, or shapes that do not fit."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """Targets that no loss can use: class indices outside the model's classes, NaN, infinity, or shapes that clash.

    For classes the smallest and largest index are compared with the number of outputs (ignored tokens, -100, left out).
    For values the outputs' shape must equal the targets', or PyTorch broadcasts ``(batch, 1)`` against ``(batch,)`` to
    a square and the model learns the mean. One logit for two classes is fine, and so are ``(batch, members, outputs)``
    of an ensemble.

    Fix: number the classes from 0, drop rows without a target, or give the last layer an output for each class.
    """
    low, high, nonfinite = log["targets.low"], log["targets.high"], log["targets.nonfinite"]
    if nonfinite:
        return Finding(
            "broken-targets", "error", f"{nonfinite:,} targets are NaN or infinite", "targets",
            {"not finite": nonfinite}, "drop those rows",
        )  # fmt: skip
    classes = log["targets.classes"]
    outputs = log.get("outputs.classes") or classes
    if classes and (low < 0 or high >= outputs):
        return Finding(
            "broken-targets", "error", f"class indices run from {low} to {high}, but the model has {outputs} outputs",
            "targets", {"low": low, "high": high, "outputs": outputs}, "number the classes from 0, or add outputs",
        )  # fmt: skip
    if log.get("outputs.problem"):
        return Finding(
            "broken-targets", "error", log["outputs.problem"], "outputs", {"outputs": log.get("outputs.shape", "")},
            "let the model's forward return that shape",
        )  # fmt: skip
    seen = f"outputs {log['outputs.shape']}, " if "outputs.shape" in log.values else ""
    return f"{seen}targets {log['targets.range']}"


RULE = Rule("broken-targets", check, ("targets.low", "targets.high", "targets.nonfinite", "targets.classes"))
