"""empty-loader: an epoch has no batch."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """A loader gives no batch although its dataset has samples: ``drop_last`` with a batch size above their number.

    Certain at the first empty epoch.

    Fix: a smaller batch size, or ``drop_last=False``.
    """
    found = []
    for one in log["loaders"].values():
        if one.empty and one.size:
            found.append(
                Finding(
                    "empty-loader",
                    "error",
                    f"the loader gives no batch, though its dataset has {one.size:,} samples",
                    one.where,
                    {"samples": one.size, "empty epochs": one.empty},
                    "take a smaller batch size, or drop_last=False",
                    why="nothing is trained or judged",
                )
            )
    return found or "loaders give batches"


RULE = Rule("empty-loader", check, ("loaders",), status="stable")
