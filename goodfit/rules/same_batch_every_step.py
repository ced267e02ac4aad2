"""same-batch-every-step: every step sees the same batch."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Each step takes the first batch of the loader, and it is the same one: ``next(iter(loader))`` inside the loop.

    Certain after five steps in which the loader was begun anew, only its first batch was taken, and all of these were
    equal.

    Look-alikes that do not count: full-batch training (the loader has one batch); a shuffling loader, which gives
    another batch each time; overfitting one batch that was taken once, before the loop.

    Fix: ``for batch in loader``, or make the iterator once.
    """
    found = []
    for one in log["loaders"].values():
        if one.trains and one.single_steps >= 5 and len(set(one.single_prints)) == 1:
            found.append(
                Finding(
                    "same-batch-every-step",
                    "error",
                    f"each of {one.single_steps} steps took the first batch of {one.batches}, and it was the same",
                    one.where,
                    {"steps": one.single_steps, "batches": one.batches},
                    "write for batch in loader, or make the iterator once, before the loop",
                    why="the network sees one batch only",
                )
            )
    return found or "steps see different batches"


RULE = Rule("same-batch-every-step", check, ("loaders",), status="stable")
