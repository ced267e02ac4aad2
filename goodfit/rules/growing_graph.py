"""growing-graph: the graphs of losses that were trained on are all kept."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The graph of every loss lives on after its step, because the program holds the loss or a state that comes of it.

    ``total += loss`` or ``history.append(loss)`` keeps each step's graph: memory grows with every step, and so does
    the time to free it. A mark is put on the last node of each loss's graph; the rule speaks when of the last 40 losses
    at one line that were stepped on all but a few are still alive.

    Look-alikes that do not count: several losses before one step; the last loss alone; ``loss.item()``,
    ``loss.detach()``.

    Fix: keep ``loss.item()`` or ``loss.detach()``; detach a hidden state that is carried on.
    """
    found = [
        Finding(
            "growing-graph",
            "warning",
            f"the graphs of {one.alive} of the last {one.of} losses are still held although their steps are made",
            one.where,
            {"alive": one.alive, "of": one.of},
            "keep loss.item() or loss.detach() instead of the loss; detach states that are carried on",
            why="memory grows with every step",
        )
        for one in log["graphs.kept"].values()
        if one.of >= 20 and one.alive >= 0.9 * one.of
    ]
    return found or "graphs are freed after their step"


RULE = Rule("growing-graph", check, ("graphs.kept",), status="stable")
