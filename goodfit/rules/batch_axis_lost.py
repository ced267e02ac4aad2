"""batch-axis-lost: a batch of one sample comes out without its batch axis."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """For a batch of one sample the network's output has an axis less than for others: a ``squeeze()`` took it.

    The last batch of an epoch may hold a single sample; its output then meets the targets in another shape. Decided by
    comparing shapes: ``(B, C)`` for other batches and ``(C,)`` for one.

    Look-alikes that do not count: networks that give one axis less for every batch.

    Fix: ``squeeze(1)`` or ``squeeze(-1)``, which name the axis.
    """
    found = [
        Finding(
            "batch-axis-lost",
            "error",
            f"{one.network} gives {one.usual} for a batch of {one.usual[0]} and {one.single} for a batch of one",
            one.where,
            {"usual": one.usual, "single": one.single},
            "name the axis that is to go: squeeze(-1) instead of squeeze()",
            why="the single sample is compared with its target in another shape, or the program stops there",
        )
        for one in log["calls.lost_axis"].values()
    ]
    return found or "outputs keep their batch axis"


RULE = Rule("batch-axis-lost", check, ("calls.lost_axis",))
