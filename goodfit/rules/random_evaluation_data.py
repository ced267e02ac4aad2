"""random-evaluation-data: what the network is judged on changes from epoch to epoch."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The same place of an evaluation loader gives other numbers in each epoch: random augmentation is left on.

    Compared are the first three batches of a loader that goes through a data set in order, is only used without
    gradients, and was begun three times.

    Look-alikes that do not count: shuffled loaders, streams, training data.

    Fix: evaluation data without random transforms; draw noise that belongs to the task from a fixed seed.
    """
    found = [
        Finding(
            "random-evaluation-data",
            "warning",
            f"the first batches of the evaluation loader were different in {len(one.orders)} of {len(one.orders)} "
            "epochs although it goes through its data in order: something random is applied to them",
            one.where,
            {"epochs": len(one.orders)},
            "use the transforms without random parts for evaluation",
            why="the measured quality depends on chance, and is that of distorted samples",
        )
        for one in log["loaders"].values()
        if one.judged
        and not one.trains
        and one.sequential
        and len(one.orders) >= 3
        and all(one.orders)
        and len({order[0] for order in one.orders}) == len(one.orders)
    ]
    return found or "evaluation data stays the same"


RULE = Rule("random-evaluation-data", check, ("loaders",), status="stable")
