"""train-validation-overlap: samples that are trained on are judged on."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Samples of the training data are also in the data that the network is judged on.

    Two ``Subset`` of one dataset are compared by their indices; other loaders by fingerprints of up to 512 samples.
    Certain where indices are shared; where fingerprints are compared, from a fifth of the samples on.

    Look-alikes that do not count: a loader over the training dataset itself, which is said openly; graphs, where all
    nodes are in one sample.

    Fix: split by index, once, before the loaders are made.
    """
    found = []
    for one in log["loaders"].values():
        exact = one.by_index and one.shared > 0 and one.judged
        if exact or (not one.by_index and one.compared >= 20 and one.shared >= 0.2 * one.compared):
            found.append(
                Finding(
                    "train-validation-overlap",
                    "error",
                    f"{one.shared:,} of {one.compared:,} samples that are judged on are trained on too",
                    one.where,
                    {"shared": one.shared, "of": one.compared},
                    "split by index, once, before the loaders are made",
                    why="the result is better than it will be on new data",
                )
            )
    return found or "training and evaluation use different samples"


RULE = Rule("train-validation-overlap", check, ("loaders",), status="stable")
