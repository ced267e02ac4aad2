"""uphill-steps: the optimizer makes the loss larger."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The updates go along the gradient of the loss, not against it, or the loss is negated before back-propagation.

    Certain when a cross-entropy or squared error has risen since the first step, and either ``sum g * change`` over the
    weights is positive at each of the first eight steps (``maximize=True``, or ``weight += lr * gradient``), or the
    very loss was back-propagated with its sign changed at each of five steps.

    Look-alikes that do not count: programs with several optimizers (adversaries), reversed gradients of one branch,
    rewards and log-likelihoods that are maximised through a minus sign.

    Fix: minimise the loss: no minus sign, no ``maximize=True``.
    """
    risen = [one for one in log["targets.facts"].values() if one.guess > 0 and one.latest > one.first]
    steps = list(log["steps"].values())
    if not risen or len(steps) != 1:
        return "no loss is maximised"
    loss, one = risen[0], steps[0]
    evidence = {"first": loss.first, "latest": loss.latest, "steps": one.steps}
    rising = f"{loss.name} rises from {loss.first:.4g} to {loss.latest:.4g}"
    if loss.negated >= 5:
        return [
            Finding(
                "uphill-steps", "error", f"{rising}: it is negated before back-propagation", loss.negated_where,
                evidence, "back-propagate the loss as it is", why="every step makes the network worse",
            )
        ]  # fmt: skip
    if one.compared >= 8 and one.uphill == one.compared:
        return [
            Finding(
                "uphill-steps", "error",
                f"{rising}: {one.uphill} of {one.compared} steps of {one.name} went along the gradient",
                one.where, evidence, "take maximize=True or the sign away", why="every step makes the network worse",
            )
        ]  # fmt: skip
    return "steps go against the gradient"


RULE = Rule("uphill-steps", check, ("steps", "targets.facts"), status="stable")
