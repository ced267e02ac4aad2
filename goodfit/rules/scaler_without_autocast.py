"""scaler-without-autocast: losses are scaled for 16 bits, and everything is computed in 32."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """A ``GradScaler`` multiplies the losses, but no forward pass runs under ``autocast`` and no weight has 16 bits.

    Certain after five scaled losses with forward passes before them, none of which, to the innermost layer, was cast.

    Look-alikes that do not count: autocast inside the network's own forward; 16-bit weights; a scaler that is off.

    Fix: ``with torch.autocast(device):`` around forward pass and loss.
    """
    one = log["precision.scaling"]
    if one is None or one.half or one.cast or one.scaled < 5:
        return "losses are scaled where passes are cast"
    return [
        Finding(
            "scaler-without-autocast",
            "advice",
            f"a GradScaler scaled {one.scaled} losses, and none of the {one.passes} forward passes ran under autocast",
            one.where,
            {"losses": one.scaled, "passes": one.passes, "under autocast": one.cast},
            "run forward pass and loss under torch.autocast, or leave the scaler out",
            why="the network is trained in float32, at its full cost",
        )
    ]


RULE = Rule("scaler-without-autocast", check, ("precision.scaling",))
