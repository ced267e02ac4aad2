"""padding-in-loss: places that are only padding count as targets."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Padding counts in the loss: every place that is padding in the input has the padding number as its target.

    The padding number is that of an ``nn.Embedding(padding_idx=...)`` of the network that is trained, and the loss has
    another ``ignore_index``. Seen in three calls, at one place in twenty or more.

    Look-alikes that do not count: ``ignore_index``; a real class of that number; embeddings without ``padding_idx``.

    Fix: ``ignore_index=`` the padding number, or targets of -100 there.
    """
    found = [
        Finding(
            "padding-in-loss",
            "warning",
            f"{one.padding:.0%} of the targets are padding ({one.pad}) and count in the loss",
            one.where,
            {"share": one.padding, "calls": one.padded},
            f"give the loss ignore_index={one.pad}",
            why="predicting padding is easy: the loss looks low and the gradient of real targets is thinned",
        )
        for one in log["targets.facts"].values()
        if one.padded >= 3
    ]
    return found or "no padding counts in a loss"


RULE = Rule("padding-in-loss", check, ("targets.facts",), status="stable")
