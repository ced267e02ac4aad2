"""broken-forward: the model does not take a batch, or gives something other than one tensor of finite values."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """The model does not take a batch of the data, or gives something other than one tensor of finite values.

    A copy is called with the first samples, in train mode and in eval mode. What it raises is told with the file and
    line in the user's own code. Infinite or NaN outputs of an untrained model mean weights or operations that overflow.

    Fix: make ``forward`` take what the data gives (``goodfit train --dry-run`` shows it) and return one tensor.
    """
    if log["forward.error"]:
        return Finding(
            "broken-forward", "error", f"the model fails on the first batch: {log['forward.error']}",
            log.get("forward.where", ""), {}, "make forward take these inputs and return one tensor",
        )  # fmt: skip
    bad = log["outputs.nonfinite"]
    if bad:
        return Finding(
            "broken-forward", "error", f"{bad:,} outputs of the untrained model are NaN or infinite", "model",
            {"not finite": bad}, "look at its initial weights, and for log, sqrt or division of zero",
        )  # fmt: skip
    return f"takes a batch and gives {log['outputs.shape']}"


RULE = Rule("broken-forward", check, ("forward.error",))
