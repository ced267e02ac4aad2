"""spectral-norm-unsettled: a spectral norm is used in eval mode before it was ever estimated."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """``nn.utils.spectral_norm`` runs in eval mode first: its vectors are still random, and so is the weight.

    The vectors are only improved by passes in train mode. Certain at the first such pass of a network for which no
    state was loaded.

    Look-alikes that do not count: networks loaded from a checkpoint; ``nn.utils.parametrizations.spectral_norm``,
    which settles its vectors when it is made.

    Fix: one pass in train mode first, or the parametrization.
    """
    found = [
        Finding(
            "spectral-norm-unsettled",
            "error",
            f"{one.name} is used in eval mode before one pass in train mode: its spectral norm is a random number",
            one.where,
            {"calls": one.calls},
            "use nn.utils.parametrizations.spectral_norm, or make a pass in train mode first",
            why="outputs are off by a random factor",
        )
        for one in log["calls.unsettled"].values()
    ]
    return found or "spectral norms are estimated before they are used"


RULE = Rule("spectral-norm-unsettled", check, ("calls.unsettled",))
