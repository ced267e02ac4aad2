"""learning-rate-far-off: replays with other learning rates lose clearly less on batches that were not replayed."""

from __future__ import annotations

import math
import statistics

from goodfit.check import Log, Rule
from goodfit.types import Finding

PAIRS = (("high", 0.1, 0.01), ("low", 10.0, 100.0), ("high", 0.01, 0.001), ("low", 100.0, 1000.0))
"""Two neighbouring rates must both do better, so that chance does not decide."""


def check(log: Log) -> list[Finding] | str:
    """From one and the same moment, steps with a tenth and a hundredth of the learning rate both lose clearly less, or
    steps with ten and a hundred times as much do (or the next power of ten), while the program's own change nothing.

    Asked once, after 100 steps and with ``--prove`` only: 40 steps are replayed on copies from half of eight batches,
    and judged on the other half. Clear is a tenth of the loss, and less on three batches of four; the
    program's own rate changes nothing where it moves the loss by less than two hundredths.

    Look-alikes that do not count: programs with a scheduler, whose rate is meant to change; a network that has learned
    what it can, for which no rate does better.

    Fix: ten times more, or less; ``goodfit lr`` sweeps rates for goodfit's own runs.
    """
    rates = log["rates"]
    if log.get("schedules"):
        return "a scheduler sets the rate"
    first, own = statistics.fmean(rates.first), statistics.fmean(rates.after[1.0])
    if not math.isfinite(first) or (math.isfinite(own) and first - own > 0.02 * abs(first)):
        return f"the loss falls with the program's own rate: {first:.3g} to {own:.3g} in {rates.steps} replayed steps"
    for words, near, far in PAIRS:
        if _better(rates.after[near], rates.after[1.0]) and _better(rates.after[far], rates.after[1.0]):
            other = statistics.fmean(rates.after[near])
            return [
                Finding(
                    "learning-rate-far-off",
                    "warning",
                    f"the learning rate {rates.lr:g} is far too {words}: in {rates.steps} replayed steps the loss goes "
                    f"from {first:.4g} to {own:.4g} with it, to {other:.4g} with {near:g} times as much",
                    rates.where,
                    {f"{factor:g} x": statistics.fmean(losses) for factor, losses in sorted(rates.after.items())},
                    f"try {rates.lr * near:.1g}",
                    why="updates are too large to learn" if words == "high" else "updates are too small to learn",
                )
            ]
    return "no other rate does clearly better"


def _better(one: tuple[float, ...], own: tuple[float, ...]) -> bool:
    if not all(math.isfinite(v) for v in one):
        return False
    if not all(math.isfinite(v) for v in own):
        return True
    gained = statistics.fmean(own) - statistics.fmean(one)
    return gained > 0.1 * abs(statistics.fmean(own)) and sum(
        a < b for a, b in zip(one, own, strict=True)
    ) >= 0.75 * len(own)


RULE = Rule(
    "learning-rate-far-off",
    check,
    ("rates",),
    follows=(
        "step-without-effect", "worse-than-guessing", "uphill-steps", "stale-gradient", "parameters-not-in-optimizer",
        "optimizer-of-another-model", "double-softmax", "dead-layers", "equal-units", "broadcast-loss",
    ),
)  # fmt: skip
