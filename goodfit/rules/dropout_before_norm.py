"""dropout-before-norm: a batch norm is trained on the variance that dropout adds, and used without it."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """A batch norm is trained on the variance that dropout adds, and used without it.

    Dropout keeps the mean and raises the variance (by 1 / (1 - p) for values with mean zero). A batch norm behind it
    keeps that larger variance as its running one, and at prediction, when dropout is off, divides by too much: outputs
    shrink layer by layer. Measured: the variance that each batch norm is given on one batch with dropout on, over that
    with dropout off. At a ratio of 1.25 and more it is told.

    Look-alikes that do not count: dropout behind the last batch norm, dropout of 0.1 or so, dropout whose branch is
    added to a larger skip connection, layer and group norms (they have no running statistics).

    Fix: move dropout behind the last batch norm, lower it (0.2 and less), or use ``model.norm = "layer"``.
    Source: Li, Chen, Hu and Yang (2019), "Understanding the disharmony between dropout and batch normalization by
    variance shift".
    """
    ratio, where = log["shift.ratio"], log["shift.where"]
    if ratio >= 1.25:
        return Finding(
            "dropout-before-norm", "warning",
            f"dropout before batch norm '{where}' raises its variance {ratio:.2f}-fold in training; at prediction "
            "dropout is off", where, {"ratio": ratio},
            "move dropout behind the last batch norm, lower it to 0.2 or less, or use a layer norm",
        )  # fmt: skip
    if not log["shift.norms"] or not log["shift.dropouts"]:
        return "no dropout beside a batch norm"
    return f"dropout changes the variance that batch norms see {ratio:.2f}-fold at most"


RULE = Rule("dropout-before-norm", check, ("shift.ratio", "shift.where", "shift.norms", "shift.dropouts"))
