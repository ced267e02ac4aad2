"""target-in-inputs: a column of the inputs is the target."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """One column of the inputs equals the class to predict, up to shift and scale, in every sample that was looked at.

    Compared in the first ten batches, at least 64 samples, of tables with two columns or more.

    Look-alikes that do not count: autoencoders, whose targets are all columns; a column that is close but not equal.

    Fix: leave the column out.
    """
    found = [
        Finding(
            "target-in-inputs",
            "error",
            f"input column {one.columns[0]} of {one.width} equals the target in all of {one.rows:,} samples",
            one.where,
            {"column": one.columns[0], "samples": one.rows},
            "leave that column out of the inputs",
            why="the network reads the answer, and will not have it in use",
        )
        for one in log["targets.facts"].values()
        if one.columns and one.rows >= 64
    ]
    return found or "no input column equals the target"


RULE = Rule("target-in-inputs", check, ("targets.facts",), status="stable")
