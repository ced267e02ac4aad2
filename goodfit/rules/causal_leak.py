"""causal-leak: a language model sees the tokens that it is to predict."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """A language model's output at a position depends on later tokens, which are what it is to predict.

    The last third of the tokens is changed on a copy in eval mode; outputs before it must stay as they are. A causal
    mask that is missing or too weak gives a training loss near zero and samples that make no sense. Zero-initialised
    branches, which hide such a leak at first, get values on the copy.

    Fix: ``is_causal=True``, or a mask of minus infinity above the diagonal.
    """
    change, spread = log["leak.future"], log["leak.future_spread"]
    if change > 1e-3 * max(spread, 1e-6):
        return Finding(
            "causal-leak", "error", f"outputs change by {change:.2g} when later tokens change",
            log.get("leak.where", "model"),
            {"change": change, "spread": spread}, "mask the future in every attention (is_causal=True)",
        )  # fmt: skip
    return f"outputs do not see the future (change {change:.1g})"


RULE = Rule(
    "causal-leak", check, ("leak.future", "leak.future_spread"), tasks=("language", "sequence"), status="stable"
)
