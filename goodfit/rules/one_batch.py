"""one-batch: the model cannot even memorise a single batch."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """The model cannot memorise a single small batch, though nothing asks it to generalise.

    A copy is trained on a few samples with Adam at up to three rates, dropout, augmentation, label smoothing and
    penalties switched off (a loss of zero is impossible with them), until the loss has fallen to a tenth of where it
    began or the time is up. A model, loss or label bug shows here in seconds. Samples with equal inputs and different
    targets set a floor, which is taken into account.

    Fix: if gradients are fine, raise the rate or the capacity; if not, look at how inputs and labels are paired.
    Source: Karpathy, "A recipe for training neural networks" (2019).
    """
    first, last, steps, floor = (
        log["one_batch.first"],
        log["one_batch.last"],
        log["one_batch.steps"],
        log["one_batch.floor"],
    )
    evidence = {"first": first, "last": last, "steps": steps, "floor": floor}
    text = f"one batch of {log['one_batch.size']}: loss {first:.3f} -> {last:.3f} in {steps} steps"
    if not last - floor <= 0.5 * max(first - floor, 1e-9):
        return Finding(
            "one-batch", "warning", f"cannot memorise {text}", "model", evidence,
            "check how inputs and labels are paired, then the rate and the size of the model",
        )  # fmt: skip
    return text


RULE = Rule("one-batch", check, ("one_batch.first", "one_batch.last", "one_batch.steps", "one_batch.floor"))
