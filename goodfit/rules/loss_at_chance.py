"""loss-at-chance: after hundreds of steps the loss is still that of a guess that ignores the input."""

from __future__ import annotations

import math
import statistics

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """After 200 calls the cross-entropy is no lower than the entropy of the class shares: nothing of the input is used.

    A guess by class shares loses ``H = -sum p ln p``. The mean of the latest hundred losses is compared with it, with
    twice its standard error; the hundred before must not have been lower either. Labels that do not belong to their
    inputs look like this, and so do inputs that say nothing and networks that no gradient reaches.

    Look-alikes that do not count: weighted and smoothed losses; a loss that still falls.

    Fix: look at a few inputs beside their labels; try to learn one batch by heart.
    """
    found = []
    for one in log["targets.facts"].values():
        if one.calls < 200 or not one.counts or not one.plain or len(one.losses) < 100:
            continue
        total = sum(one.counts.values())
        entropy = -sum(n / total * math.log(n / total) for n in one.counts.values())
        mean = statistics.fmean(one.losses)
        error = statistics.stdev(one.losses) / math.sqrt(len(one.losses))
        half = len(one.losses) // 2
        falling = statistics.fmean(list(one.losses)[:half]) - statistics.fmean(list(one.losses)[half:]) > 2 * error
        if len(one.counts) >= 2 and entropy > 0.1 and mean >= entropy - max(error, 0.005 * entropy) and not falling:
            found.append(
                Finding(
                    "loss-at-chance",
                    "warning",
                    f"after {one.calls:,} calls {one.name} is {mean:.4g} ± {error:.2g}, and a guess by the class "
                    f"shares alone loses {entropy:.4g}",
                    one.where,
                    {"loss": mean, "entropy of the classes": entropy, "classes": len(one.counts)},
                    "see whether labels belong to their inputs, and whether one batch can be learned by heart",
                    why="the network has learned nothing from its inputs",
                )
            )
    return found or "no loss stays at that of a guess"


RULE = Rule(
    "loss-at-chance",
    check,
    ("targets.facts",),
    follows=(
        "optimizer-of-another-model", "step-without-gradient", "step-without-effect", "softmax-before-cross-entropy",
        "double-softmax", "softmax-over-batch", "scheduler-unit", "equal-units", "dead-layers", "uphill-steps",
        "worse-than-guessing", "scaler-skips", "clipped-logits", "parameter-without-effect",
    ), status="stable")  # fmt: skip
