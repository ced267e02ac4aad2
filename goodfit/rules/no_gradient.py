"""no-gradient: a trainable parameter gets no gradient from the loss."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding, Severity


def check(log: Log) -> Finding | str:
    """A trainable parameter gets no gradient: it is never used, or cut off by ``detach``, ``no_grad`` or ``.data``.

    After one backward pass on a copy of the model, parameters whose ``.grad`` is still None are named. A gradient that
    is exactly zero is not reported: zero-initialised residual branches give zeros at the first step by design.

    Fix: use the parameter in ``forward``, or freeze it with ``requires_grad_(False)`` if that is meant.
    """
    without, total = log["gradient.none"], log["gradient.parameters"]
    if log["gradient.nonfinite"]:
        names = ", ".join(log["gradient.nonfinite"][:3])
        return Finding(
            "no-gradient", "error", f"gradients of {names} are not finite", names,
            {"count": len(log["gradient.nonfinite"])}, "look for log, sqrt or division of zero in the forward pass",
        )  # fmt: skip
    if not total:
        return Finding(
            "no-gradient", "error", "the model has no trainable parameter", "model", {"parameters": 0},
            "unfreeze some with requires_grad_(True)",
        )  # fmt: skip
    if without:
        names = ", ".join(without[:3]) + (" ..." if len(without) > 3 else "")
        severity: Severity = "error" if len(without) == total else "warning"
        return Finding(
            "no-gradient", severity, f"{len(without)} of {total} parameters get no gradient: {names}", without[0],
            {"without": len(without), "parameters": total},
            "use them in forward, or freeze them with requires_grad_(False)",
        )  # fmt: skip
    return f"reach all {total} parameter tensors"


RULE = Rule("no-gradient", check, ("gradient.none", "gradient.parameters", "gradient.nonfinite"))
