"""clip-before-unscale: gradients are clipped while a loss scaler still has them multiplied."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Gradients are clipped while they are still multiplied by the loss scale, so the limit is far too low.

    Certain after two steps through a ``GradScaler`` whose gradients were clipped without ``scaler.unscale_(optimizer)``
    before.

    Look-alikes that do not count: a scaler that is switched off.

    Fix: ``scaler.unscale_(optimizer)`` after ``backward()`` and before the clipping.
    """
    found = []
    for one in log["steps"].values():
        if one.unscaled >= 2:
            found.append(
                Finding(
                    "clip-before-unscale",
                    "error",
                    f"gradients of {one.name} are clipped while multiplied by the scaler, in {one.unscaled} steps",
                    one.clip_where,
                    {"steps": one.unscaled, "of": one.steps},
                    "call scaler.unscale_(optimizer) before clipping",
                    why="every gradient is clipped to almost nothing",
                )
            )
    return found or "gradients are unscaled before they are clipped"


RULE = Rule("clip-before-unscale", check, ("steps",), status="stable")
