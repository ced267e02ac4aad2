"""equal-units: units of a hidden layer start equal and nothing ever tells them apart."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """Units of a hidden layer start equal and nothing ever tells them apart.

    Units with equal weights in and out get equal gradients and stay equal: a layer of 64 of them is a layer of one.
    With all weights zero they get none at all. On a copy three steps are made in float64 towards random outputs; rows
    of a weight that were equal before and are equal after are counted.

    Look-alikes that do not count: a head or the last layer of a residual branch that starts at zero (its units are told
    apart by what they feed), embeddings, norms, frozen layers, equal units with different weights behind them.

    Fix: draw the weights at random, as PyTorch's layers do by themselves; ``init.name = "auto"`` for goodfit's models.
    """
    layers = log["equal.layers"]
    if layers:
        name = next(iter(layers))
        count, total = layers[name]
        more = f" (and in {len(layers) - 1} more layers)" if len(layers) > 1 else ""
        return Finding(
            "equal-units", "error", f"{count:,} of {total:,} units of '{name}' start equal and stay equal{more}", name,
            {"layers": {key: list(value) for key, value in layers.items()}},
            "draw its initial weights at random; zeros are for biases, heads and the ends of residual branches",
        )  # fmt: skip
    return f"no equal units in {log['equal.checked']} weights"


RULE = Rule("equal-units", check, ("equal.layers", "equal.checked"), status="stable")
