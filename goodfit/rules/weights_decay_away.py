"""weights-decay-away: weight decay shrinks the weights to nothing."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The norm of the weights has fallen below a twentieth of what it was: regularisation outweighs the data.

    Weights without a task to hold them shrink by ``1 - lr * decay`` at each step. Speaks where an optimizer has weight
    decay and its weights, matrices and kernels, are almost gone.

    Look-alikes that do not count: weights that shrink by a half or a fifth, as with grokking; optimizers without decay.

    Fix: a weight decay of 1e-4 to 0.1 (AdamW), or none for a small network.
    """
    found = [
        Finding(
            "weights-decay-away",
            "warning",
            f"the norm of {one.name}'s weights fell from {one.first:.3g} to {one.now:.3g} in {one.steps} steps, with a "
            f"weight decay of {one.decay:g}",
            one.where,
            {"first": one.first, "now": one.now, "weight decay": one.decay, "steps": one.steps},
            "lower weight_decay: 1e-4 for SGD, 0.01 to 0.1 for AdamW are usual",
            why="the network unlearns faster than it learns",
        )
        for one in log["decay"].values()
        if one.first > 0 and one.now < 0.05 * one.first
    ]
    return found or "weights are held by the data"


RULE = Rule("weights-decay-away", check, ("decay",))
