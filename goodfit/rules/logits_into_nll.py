"""logits-into-nll: nll_loss or kl_div is given something that is no logarithm of a probability."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """``nll_loss`` (or ``kl_div``) is given values above zero: logits or probabilities instead of log-probabilities.

    The logarithm of a probability is never above zero. ``nll_loss`` only picks and negates, so with logits the loss
    falls without end and nothing is normalised. Certain after two calls at one line with values above zero.

    Fix: ``log_softmax`` before ``nll_loss``, or ``cross_entropy`` on the logits.
    """
    found = [
        Finding(
            "logits-into-nll",
            "error",
            f"{one.name} is given values up to {one.high:.3g}; the logarithm of a probability is never above 0",
            one.where,
            {"calls": one.positive, "of": one.calls, "largest": one.high, "loss": one.value},
            "use cross_entropy on the logits, or log_softmax before nll_loss",
            why="the loss falls without end and nothing is normalised",
        )
        for one in log["loss.facts"].values()
        if one.positive >= 2
    ]
    return found or "log-probabilities where they are wanted"


RULE = Rule("logits-into-nll", check, ("loss.facts",), status="stable")
