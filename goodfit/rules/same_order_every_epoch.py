"""same-order-every-epoch: a loader that shuffles gives the same order in each epoch."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """A loader whose sampler says it shuffles gives the same batches in the same order in each epoch.

    Usual causes: ``sampler.set_epoch(epoch)`` missing with ``DistributedSampler``; a generator that is seeded anew, or
    ``torch.manual_seed`` called, at the start of each epoch. Certain when the first three batches of two epochs are the
    same, of a loader that has more than three.

    Fix: ``sampler.set_epoch(epoch)``; seed once, before the loop.
    """
    found = []
    for one in log["loaders"].values():
        if one.shuffles and one.trains and one.batches >= 3 and len(one.orders) >= 2 and one.orders[0] == one.orders[1]:
            found.append(
                Finding(
                    "same-order-every-epoch",
                    "error",
                    f"the loader shuffles, and its order is the same in each epoch ({len(one.orders)} seen)",
                    one.where,
                    {"epochs": len(one.orders), "batches": one.batches},
                    "call sampler.set_epoch(epoch) in each epoch; seed generators once, before the loop",
                    why="batches of the same samples come again and again",
                )
            )
    return found or "the order differs between epochs"


RULE = Rule("same-order-every-epoch", check, ("loaders",), status="stable")
