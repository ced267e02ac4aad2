"""label-shift: a language model's targets are its inputs, unshifted or shifted twice."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The targets of a language model are its inputs shifted by none or by several places instead of one.

    Targets are compared with the tokens that went into the network, at each of the first calls. Shifted by none they
    are what the network sees at the same place, which a causal network can copy; that is a fault only where a probe
    on a copy has shown that the network does not see later tokens. Shifted by two, mostly because both the data and
    the model shift, it skips a token.

    Look-alikes that do not count: autoencoders and masked models, which see both sides; several heads that each
    predict another place.

    Fix: ``logits[:, :-1]`` against ``tokens[:, 1:]``, once.
    """
    facts = [one for one in log["targets.facts"].values() if one.joined >= 2]
    shifts = {s for one in facts for s, n in one.shifts.items() if n >= min(3, one.joined)}
    found = []
    for one in facts:
        mine = [s for s, n in one.shifts.items() if n == one.joined]
        if len(mine) != 1 or 1 in shifts:
            continue
        shift = mine[0]
        if shift == 0 and not log.get("tokens.causal"):
            continue
        what = "are the input tokens themselves" if shift == 0 else f"are the input tokens shifted by {shift}"
        found.append(
            Finding(
                "label-shift",
                "error",
                f"in {one.joined} of {one.joined} calls the targets {what}; a language model predicts the next one",
                one.where,
                {"shift": shift, "calls": one.joined},
                "shift once: logits[:, :-1] against tokens[:, 1:]",
                why="it learns to copy" if shift == 0 else "it learns to skip a token",
            )
        )
    return found or "targets are shifted by one, or are no inputs"


RULE = Rule("label-shift", check, ("targets.facts",), status="stable")
