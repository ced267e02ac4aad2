"""parameters-not-in-optimizer: parameters get gradients, and no optimizer holds them."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Parameters that the loss depends on belong to no optimizer, so they stay as they were initialised.

    The leaves of the loss's graph are compared with what all optimizers hold. A parameter counts that got a gradient
    in at least two steps and whose values nobody changed in between. Usual causes: a parameter group that was
    forgotten; layers kept in a Python list or dict instead of ``nn.ModuleList`` (no module holds them, and
    ``state_dict`` misses them too); a layer replaced after the optimizer was built, which still holds the old one.

    Look-alikes that do not count: frozen parameters (they get no gradient); the other network of a GAN (its own
    optimizer holds it); updates written by hand (the values change); inputs that want gradients.

    Fix: build the optimizer from ``model.parameters()`` after the model is complete, or add the group.
    """
    lost = list(log["ownership.orphans"].values())
    if not lost:
        return "optimizers hold all parameters that get gradients"
    optimizers = sorted(log["ownership.holdings"].values(), key=lambda one: -one.steps)
    where = optimizers[0].where if optimizers else ""
    names = [one.name for one in lost]
    loose = [one for one in lost if not one.registered]
    if loose:
        message = f"{len(loose)} parameters get gradients, but no module and no optimizer holds them"
        fix = "keep layers in nn.ModuleList or nn.ModuleDict, not in a Python list or dict"
    elif any(one.stands_for for one in lost):
        message = f"{len(lost)} parameters are not in the optimizer, which still holds the layer that they replaced"
        fix = "build the optimizer after the layer is replaced"
    else:
        message = f"{len(lost)} parameters get gradients, but no optimizer holds them"
        fix = "build the optimizer from model.parameters(), or add_param_group"
    return [
        Finding(
            "parameters-not-in-optimizer",
            "error",
            f"{message}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}",
            where,
            {"parameters": len(lost), "shapes": [list(one.shape) for one in lost[:3]], "steps": lost[0].steps + 1},
            fix,
            why="they stay as they were initialised",
        )
    ]


RULE = Rule(
    "parameters-not-in-optimizer",
    check,
    ("ownership.orphans",),
    follows=("optimizer-of-another-model",),
    status="stable",
)
