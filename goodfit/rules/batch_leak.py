"""batch-leak: one sample's output depends on the other samples of its batch."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """In eval mode, one sample's output depends on the other samples of its batch.

    On a copy of the model in eval mode every other sample of a batch is exchanged, and the outputs of those that
    stayed are compared, in float32. A difference above a thousandth of the outputs' spread is a leak: a ``view`` or
    ``reshape`` where ``permute`` was meant, a softmax or normalisation over the batch axis, ``batch_first`` mixed up.
    Zero-initialised heads and branches, which hide such a leak at first, get values on the copy.

    Look-alikes that do not count: BatchNorm in train mode, contrastive losses (they mix in the loss, not in the model),
    models that draw random numbers in eval mode (not checked).
    """
    change, spread = log["leak.batch"], log["leak.spread"]
    if change > 1e-3 * max(spread, 1e-6):
        return Finding(
            "batch-leak", "error", f"a sample's output changes by {change:.2g} with its neighbours in the batch",
            log.get("leak.where", "model"), {"change": change, "spread": spread},
            "look for view where permute was meant, or a reduction over axis 0",
        )  # fmt: skip
    return f"outputs do not depend on neighbours (change {change:.1g})"


RULE = Rule("batch-leak", check, ("leak.batch", "leak.spread"), status="stable")
