"""scaler-without-autocast: a GradScaler scales losses that were computed in full precision."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """A ``GradScaler`` multiplies losses, but no module gave an output in half precision: autocast is not applied.

    Loss scaling keeps small float16 gradients from becoming zero. In float32 there is nothing to keep, and the run has
    none of the speed that mixed precision was to bring: the ``autocast`` context is missing, ends too early, or names
    another device. Speaks after five scaled losses.

    Look-alikes that do not count: a scaler that is disabled; autocast around a part of the network.

    Fix: put forward pass and loss into ``torch.autocast(device_type, dtype=torch.float16)``.
    """
    mixed = log["precision.mixed"]
    if mixed.scaled >= 5 and not mixed.half:
        return Finding(
            "scaler-without-autocast",
            "warning",
            f"{mixed.scaled} losses were scaled, and no module gave an output in half precision",
            mixed.where,
            {"scaled": mixed.scaled, "outputs in half precision": 0},
            "put the forward pass and the loss into torch.autocast, or leave the scaler out",
            why="it is neither faster nor smaller than float32",
        )
    return "scaled losses come from half precision"


RULE = Rule("scaler-without-autocast", check, ("precision.mixed",))
