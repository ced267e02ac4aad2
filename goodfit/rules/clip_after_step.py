"""clip-after-step: gradients are clipped after the step that used them."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Gradients are clipped after ``step()``: the clipping changes nothing.

    Certain after two clippings of gradients that a step has already used, with no backward pass in between.

    Fix: clip between ``backward()`` and ``step()``.
    """
    found = []
    for one in log["steps"].values():
        if one.late >= 2:
            found.append(
                Finding(
                    "clip-after-step",
                    "error",
                    f"gradients are clipped after the step that used them, {one.late} times so far",
                    one.clip_where,
                    {"clippings": one.late, "steps": one.steps},
                    "clip between backward() and step()",
                    why="the clipping has no effect",
                )
            )
    return found or "gradients are clipped before they are used"


RULE = Rule("clip-after-step", check, ("steps",), status="stable")
