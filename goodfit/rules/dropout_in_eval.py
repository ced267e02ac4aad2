"""dropout-in-eval: dropout that goes on dropping in eval mode."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Dropout drops while the network is in eval mode, so the same input gives another answer each time.

    ``F.dropout(x)`` drops unless it is told ``training=self.training``; ``nn.Dropout()`` that is made inside
    ``forward`` is always in train mode. Certain after two such calls at one line.

    Look-alikes that do not count: ``training=True`` written out, and layers that were switched on by themselves, which
    are meant so (Tacotron's prenet, Monte Carlo dropout).

    Fix: ``F.dropout(x, p, training=self.training)``, or make the layer in ``__init__``.
    """
    found = [
        Finding(
            "dropout-in-eval",
            "error",
            f"dropout of {one.rate:g} drops in eval mode, {one.calls} times so far"
            + (": its layer is made inside forward" if one.fresh else ": F.dropout was not told the mode"),
            one.where,
            {"calls": one.calls, "p": one.rate},
            "make the layer in __init__" if one.fresh else "pass training=self.training",
            why="the same input gives another answer each time",
        )
        for one in log["mode.dropout"].values()
        if one.calls >= 2
    ]
    return found or "dropout rests in eval mode"


RULE = Rule("dropout-in-eval", check, ("mode.dropout",), status="stable")
