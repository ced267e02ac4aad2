"""step-without-gradient: an optimizer steps while its gradients are gone."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """An optimizer steps without any gradient, although a backward pass has come since its last step.

    Gradients were cleared between ``backward()`` and ``step()``, or the backward pass reached none of its parameters.
    Certain after two such steps (all gradients None or exactly zero).

    Look-alikes that do not count: optimizers that step inside the backward pass; steps without a backward pass before.

    Fix: the order is ``zero_grad()``, forward, ``backward()``, ``step()``.
    """
    found = []
    for one in log["steps"].values():
        if one.empty >= 2:
            where = one.cleared_where or one.where
            how = ": they are cleared after backward()" if one.cleared_where else ""
            found.append(
                Finding(
                    "step-without-gradient",
                    "error",
                    f"{one.name} steps without gradients, in {one.empty} of {one.steps} steps{how}",
                    where,
                    {"steps without": one.empty, "steps": one.steps},
                    "call zero_grad() before backward() or after step(), never between them",
                    why="nothing is learned",
                )
            )
    return found or "steps have gradients"


RULE = Rule(
    "step-without-gradient",
    check,
    ("steps",),
    follows=("optimizer-of-another-model", "impossible-targets"),
    status="stable",
)
