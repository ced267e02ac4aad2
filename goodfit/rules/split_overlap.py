"""split-overlap: samples of the training part stand again in the validation or test part."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """Samples of the training part stand again, equal in every input, in the validation or test part.

    Whole inputs are hashed (as the model gets them, before augmentation). Inputs of 64 numbers or more hardly ever
    repeat by chance, so more than 1 % of the held-out samples is a warning. Tables of a few coarse columns repeat rows
    honestly, so there it takes more than 20 %. More than half is an error, unless rows of such a table repeat within
    the training part just as much.

    Why it matters: scores on samples that were trained on measure memory, not learning.
    Fix: remove duplicates before splitting, or split by a group column (``data.groups``).
    """
    shared, size = log["split.shared"], log["split.size"]
    share = shared / max(size, 1)
    text = f"{shared:,} of {size:,} held-out samples ({share:.1%}) also stand in train"
    rich = log.get("split.rich", True)
    if share <= (0.01 if rich else 0.2):
        return text
    certain = share > 0.5 and (rich or log.get("split.repeats", 0.0) < share / 2)
    return Finding(
        "split-overlap", "error" if certain else "warning", text, "splits", {"shared": shared, "held out": size},
        "remove duplicates before splitting, or set data.groups",
    )  # fmt: skip


RULE = Rule("split-overlap", check, ("split.shared", "split.size"))
