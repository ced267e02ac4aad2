"""forward-called-directly: ``forward`` of a module with hooks is called instead of the module."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """A module has hooks, and its ``forward`` is called by itself: none of its hooks runs.

    Hooks hold what spectral and weight norm, pruning, parallel wrappers and feature extractors do. Certain at the
    second such call in training.

    Look-alikes that do not count: modules without hooks, where it makes no difference.

    Fix: ``module(x)`` instead of ``module.forward(x)``.
    """
    found = [
        Finding(
            "forward-called-directly",
            "error",
            f"{one.name}.forward is called by itself ({one.calls} times), past the module's {one.hooks} hooks",
            one.where,
            {"calls": one.calls, "hooks": one.hooks},
            "call the module, not its forward",
            why="what the hooks are to do (spectral norm, wrappers, features) is left out",
        )
        for one in log["calls.bypassed"].values()
        if one.calls >= 2
    ]
    return found or "modules with hooks are called as modules"


RULE = Rule("forward-called-directly", check, ("calls.bypassed",))
