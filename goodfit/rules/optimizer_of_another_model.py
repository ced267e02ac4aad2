"""optimizer-of-another-model: an optimizer holds no parameter that the loss depends on."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """None of the parameters that an optimizer holds ever gets a gradient: it belongs to another model, or a copy.

    Certain after three steps of an optimizer that holds parameters, none of which was a leaf of any loss's graph
    while other parameters were. Usual causes: the model was copied, wrapped or replaced after the optimizer was built;
    everything the optimizer holds is frozen.

    Look-alikes that do not count: optimizers that step inside the backward pass; an optimizer that has not had its
    turn yet.

    Fix: build the optimizer from the parameters of the model that is trained.
    """
    found = []
    for one in log["ownership.holdings"].values():
        if one.steps >= 3 and one.used == 0 and one.leaves > 0:
            what = "only frozen parameters" if one.held == 0 else "no parameter that the loss depends on"
            found.append(
                Finding(
                    "optimizer-of-another-model",
                    "error",
                    f"{one.name} holds {what}: its steps change nothing that is trained",
                    one.where,
                    {"held": one.held, "frozen": one.frozen, "in the graph": one.leaves, "steps": one.steps},
                    "build the optimizer from the parameters of the model that is trained, after it is complete",
                    why="the network that makes the loss is never updated",
                )
            )
    return found or "every optimizer holds parameters that get gradients"


RULE = Rule("optimizer-of-another-model", check, ("ownership.holdings",), status="stable")
