"""parameter-without-effect: an optimizer holds a parameter that no loss depends on."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """A parameter that is to be trained never enters the loss's graph, though its module is run.

    Counted after ten steps of the optimizer that holds it, while its other parameters are in the graph. What a module
    computed is cut off on the way to the loss: ``detach()``, ``no_grad``, ``.data``, ``.item()``, a round trip through
    NumPy, or an ``argmax``.

    Look-alikes that do not count: parameters of modules that are not run (experts that were not chosen, heads of other
    tasks); frozen parameters. Features cut off on purpose (a linear probe) are best kept out of the optimizer.

    Fix: remove what cuts the graph, or take the parameters out of the optimizer with ``requires_grad_(False)``.
    """
    found = []
    for one in log["ownership.holdings"].values():
        cut = [idle for idle in one.idle if idle.called]
        if cut:
            names = ", ".join(idle.name for idle in cut[:3])
            found.append(
                Finding(
                    "parameter-without-effect",
                    "warning",
                    f"{len(cut)} parameters that {one.name} holds never reach the loss, though their modules are run: "
                    f"{names}{' ...' if len(cut) > 3 else ''}",
                    one.where,
                    {"parameters": len(cut), "held": one.held, "steps": one.steps},
                    "look for detach(), no_grad, .data or NumPy between these modules and the loss",
                    why="they stay as they were initialised",
                )
            )
    return found or "what optimizers hold reaches the loss"


RULE = Rule(
    "parameter-without-effect", check, ("ownership.holdings",), follows=("optimizer-of-another-model",), status="stable"
)
