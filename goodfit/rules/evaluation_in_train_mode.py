"""evaluation-in-train-mode: data is evaluated while dropout drops and batch norm learns."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The network is evaluated in train mode: dropout adds noise, and batch norm takes statistics from what it sees.

    Certain after two forward passes without gradients, of a network that is being trained and whose dropout or batch
    norm is in train mode, on batches of a loader that is never trained on, or followed by a loss without gradients.

    Look-alikes that do not count: dropout switched on by itself in an evaluated network (Monte Carlo dropout);
    statistics taken anew after averaging (``update_bn``); samples drawn from a generator; acting in an environment.

    Fix: ``model.eval()`` before the evaluation, and ``model.train()`` after it.
    """
    found = [
        Finding(
            "evaluation-in-train-mode",
            "error",
            f"{one.name} is evaluated in train mode, {one.train_evals} times so far",
            one.train_where,
            {"forward passes": one.train_evals, "layers": list(one.layers[:4])},
            "call model.eval() before the evaluation, and model.train() after it",
            why="dropout makes the result noisy, and batch norm learns from the data it is judged on",
        )
        for one in log["mode.networks"].values()
        if one.train_evals >= 2
    ]
    return found or "evaluations run in eval mode"


RULE = Rule("evaluation-in-train-mode", check, ("mode.networks",), status="stable")
