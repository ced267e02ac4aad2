"""constant-labels: every training target is the same, so there is nothing to learn."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """Every training target is the same, so there is nothing to learn; or a class has no training sample.

    Counts distinct targets of the whole training part. A class that occurs only in validation or test can never be
    predicted, which is a warning.
    """
    distinct = log["targets.distinct"]
    if distinct < 2:
        return Finding(
            "constant-labels", "error", "all training targets are equal", log.get("targets.where", "targets"),
            {"distinct": distinct},
            "check the target column and how the data was filtered",
        )  # fmt: skip
    empty = log.get("targets.empty_classes", [])
    if empty:
        names = ", ".join(map(str, empty[:5]))
        return Finding(
            "constant-labels", "warning", f"no training sample of class {names}", "targets", {"empty": len(empty)},
            "collect samples of it, or leave the class out",
        )  # fmt: skip
    return str(log["targets.balance"])


RULE = Rule("constant-labels", check, ("targets.distinct",), status="stable")
