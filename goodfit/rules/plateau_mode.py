"""plateau-mode: ReduceLROnPlateau lowers the rate while its metric gets better."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """``ReduceLROnPlateau`` takes a metric that gets better for one that gets worse, and lowers the learning rate.

    Its ``mode`` says "min" while the metric lies in [0, 1], began at its lowest value and stands above all but a few
    earlier ones: a score that rises. Or it says "max" while the metric fell in the same way along with the training
    loss. Speaks when the rate has been lowered, or every call but the first counted as bad, and the training loss fell
    meanwhile.

    Look-alikes that do not count: a validation loss that rises at the end; a metric that stands still.

    Fix: ``mode="max"`` for accuracy, AUC and the like, ``"min"`` for losses.
    """
    found = []
    falling = [one for one in log.get("targets.facts", {}).values() if one.latest < one.first]
    for one in log["schedules"].values():
        values = one.metrics
        if len(values) < 4 or not falling:
            continue
        half = len(values) // 2
        early, late = values[: len(values) - half], values[half:]
        better = sum(late) / len(late) - sum(early) / len(early)
        rose = values[0] < min(values[1:]) and better > 0
        fell = values[0] > max(values[1:]) and better < 0
        share = all(0 <= v <= 1 for v in values)
        loss = any(abs(values[0] - f.first) < 0.5 * f.first for f in falling)
        if (one.mode == "min" and rose and share) or (one.mode == "max" and fell and loss):
            goes = "rises" if rose else "falls"
            right = "max" if rose else "min"
            found.append(
                Finding(
                    "plateau-mode",
                    "warning",
                    f"ReduceLROnPlateau(mode='{one.mode}') counts {len(values) - 1} calls as bad while its metric "
                    f"{goes} from {values[0]:.4g} to {values[-1]:.4g} and the training loss falls",
                    one.where,
                    {"metric": [round(v, 4) for v in values[:10]], "rate": one.lr},
                    f"mode='{right}' if that metric is better when it {goes}",
                    why="the learning rate is lowered because training goes well",
                )
            )
    return found or "plateaus are plateaus"


RULE = Rule("plateau-mode", check, ("schedules",), status="stable")
