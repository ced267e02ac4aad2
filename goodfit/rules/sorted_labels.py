"""sorted-labels: training data comes sorted by class."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Training batches hold one class each, one class after the other: sorted data without shuffling.

    Certain after five batches of at least four labels that hold one class each, with at least two classes among them,
    from a loader with PyTorch's sequential sampler.

    Look-alikes that do not count: unshuffled data whose classes are mixed anyway; samplers of one's own.

    Fix: ``DataLoader(..., shuffle=True)``.
    """
    found = []
    for one in log["loaders"].values():
        if one.trains and one.sequential and one.pure >= 5 and one.classes >= 2 and one.pure >= 0.8 * one.labelled:
            found.append(
                Finding(
                    "sorted-labels",
                    "error",
                    f"{one.pure} of {one.labelled} training batches hold one class, and the loader does not shuffle",
                    one.where,
                    {"batches of one class": one.pure, "of": one.labelled, "classes": one.classes},
                    "pass shuffle=True to the training loader",
                    why="the network forgets each class while it sees the next",
                )
            )
    return found or "training batches mix the classes"


RULE = Rule("sorted-labels", check, ("loaders",), status="stable")
