"""training-in-eval-mode: steps are computed from forward passes in eval mode."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The network is trained in eval mode: dropout rests, and batch norm uses and keeps its old statistics.

    Certain after two updates in a row from forward passes of the whole network in eval mode, after updates in train
    mode: ``model.train()`` is missing after an evaluation. Where train mode was never seen in ten updates it is a
    warning: a network that was loaded in eval mode, or ``eval()`` called before the loop.

    Look-alikes that do not count: batch norm put in eval mode by itself while the network is in train mode; networks
    without dropout and batch norm; another network that is only passed through in eval mode.

    Fix: call ``model.train()`` at the start of each epoch, after every evaluation.
    """
    found = []
    for one in log["mode.networks"].values():
        numbers = {"layers": list(one.layers[:4]), "updates in train mode": one.steps}
        if one.eval_steps >= 2:
            found.append(
                Finding(
                    "training-in-eval-mode",
                    "error",
                    f"{one.name} is trained in eval mode: {one.eval_steps} updates in a row, after train mode was seen",
                    one.eval_where,
                    {**numbers, "updates in eval mode": one.eval_steps},
                    "call model.train() after the evaluation, at the start of each epoch",
                    why=f"{len(one.layers)} layers (dropout, batch norm) behave as if nothing were learned",
                )
            )
        elif one.never >= 10 and one.steps == 0:
            found.append(
                Finding(
                    "training-in-eval-mode",
                    "warning",
                    f"{one.name} has been in eval mode in all {one.never} updates",
                    one.never_where,
                    numbers,
                    "call model.train() before the loop, unless dropout and batch norm are meant to rest",
                    why="dropout rests and batch norm keeps its statistics",
                )
            )
    return found or "updates come from forward passes in train mode"


RULE = Rule("training-in-eval-mode", check, ("mode.networks",), status="stable")
