"""impossible-targets: targets with which a loss cannot teach anything."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The targets or classes are such that the loss cannot teach: one class, targets outside [0, 1], none that counts.

    ``cross_entropy`` over one class is always 0: its softmax is 1 whatever the logit. Binary losses want targets in
    [0, 1]; beyond it they have no lower bound. Where every target is ``ignore_index`` the mean is 0 / 0, NaN.
    Certain at the first call (one class: the second).

    Fix: for two classes with one logit use ``binary_cross_entropy_with_logits``; map targets to 0 and 1; leave out
    batches in which nothing counts, or divide a sum by ``max(1, count)``.
    """
    found = []
    for one in log["loss.facts"].values():
        said = ""
        if one.name == "cross_entropy" and one.classes == 1 and one.calls >= 2:
            said = f"cross_entropy over one class is 0 whatever the model says (seen {one.value:.3g})"
            fix, why = "use binary_cross_entropy_with_logits for one logit", "no gradient reaches the model"
        elif one.outside:
            said = f"targets of {one.name} reach from {one.target_low:.3g} to {one.target_high:.3g}, outside [0, 1]"
            fix, why = "map the targets to 0 and 1", "the loss has no lower bound"
        elif one.ignored:
            said = f"no target counts in {one.ignored} of {one.calls} calls of cross_entropy: all are ignore_index"
            fix, why = "leave such batches out, or sum and divide by max(1, count)", "their mean is 0 / 0, which is NaN"
        if said:
            numbers = {"calls": one.calls, "classes": one.classes, "loss": one.value}
            found.append(Finding("impossible-targets", "error", said, one.where, numbers, fix, why=why))
    return found or "targets can be learned from"


RULE = Rule("impossible-targets", check, ("loss.facts",), status="stable")
