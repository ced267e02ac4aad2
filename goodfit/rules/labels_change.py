"""labels-change: the same sample has another label in the next epoch."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Samples come again with exactly the same inputs and with another label: it is drawn or shuffled at each access.

    Only inputs that one sample alone has are compared, over the first epochs. Speaks from a twentieth of 40 samples on.

    Look-alikes that do not count: samples with equal inputs and different labels; augmented inputs; soft labels.

    Fix: make labels once, before the dataset; shuffle inputs and labels by the same permutation.
    """
    found = [
        Finding(
            "labels-change",
            "error",
            f"{one.changed:,} of {one.again:,} samples that came again had another label",
            one.where,
            {"changed": one.changed, "of": one.again},
            "make the labels once, before the dataset, and shuffle them together with their inputs",
            why="no network can learn labels that change",
        )
        for one in log["labels.changed"].values()
        if one.again >= 40 and one.changed >= 0.05 * one.again
    ]
    return found or "samples keep their labels"


RULE = Rule("labels-change", check, ("labels.changed",))
