"""padding-waste: most of what a network computes is padding."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """More than half of the tokens that a network is given are padding. Advice.

    Counted over the first batches, by the ``padding_idx`` of the network's embedding.

    Fix: batches of samples of similar length, and padding to the longest of the batch.
    """
    one = log["speed.padding"]
    if one.batches < 10 or one.pads < 0.5 * one.tokens:
        return "less than half is padding"
    return [
        Finding(
            "padding-waste",
            "advice",
            f"{one.pads / one.tokens:.0%} of the tokens are padding",
            one.where,
            {"tokens": one.tokens, "padding": one.pads},
            "put samples of similar length together, and pad to the longest of the batch",
        )
    ]


RULE = Rule("padding-waste", check, ("speed.padding",))
