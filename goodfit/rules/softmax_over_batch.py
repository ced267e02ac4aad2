"""softmax-over-batch: probabilities sum to one over the samples of a batch instead of over the classes."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """What a class loss is given sums to one down each column: the softmax ran over the batch axis.

    Every sample's answer then depends on the others in its batch. Certain after two calls at one line whose columns
    sum to one within 0.001 and whose rows do not.

    Fix: ``softmax(dim=1)`` (or ``dim=-1``), and none at all before ``cross_entropy``.
    """
    found = [
        Finding(
            "softmax-over-batch",
            "error",
            f"the columns given to {one.name} sum to 1.000 in {one.by_batch} of {one.calls} calls: the softmax runs "
            "over the batch",
            one.where,
            {"calls": one.by_batch, "of": one.calls, "classes": one.classes, "loss": one.value},
            "use dim=1 (or -1), and no softmax at all before cross_entropy",
            why="every answer depends on the other samples of its batch",
        )
        for one in log["loss.facts"].values()
        if one.by_batch >= 2 and one.summing < one.by_batch
    ]
    return found or "no softmax over the batch"


RULE = Rule("softmax-over-batch", check, ("loss.facts",), status="stable")
