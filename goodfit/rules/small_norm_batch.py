"""small-norm-batch: batch norms estimate their statistics from too few samples."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """Batch norms estimate their statistics from too few samples at once.

    A batch norm's mean and variance come from the samples that go through the model together: the batch, or the
    micro-batch where gradients are accumulated, on each device by itself unless SyncBatchNorm joins them. Below 16
    samples the estimates are noisy and differ from the running ones used at prediction (Wu and He, 2018: with 2 samples
    ResNet-50's error rises by 10 points); one number per channel cannot be normalised at all, and PyTorch refuses.

    Look-alikes that do not count: frozen batch norms, group, layer and RMS norms.

    Fix: ``model.norm = "group"`` or ``"layer"``, or a larger batch_size or gradient.microbatch.
    Source: Wu and He (2018), group normalisation.
    """
    samples, numbers, where = log["statistic.samples"], log["statistic.numbers"], log["statistic.where"]
    if not log["statistic.norms"]:
        return "no batch norm that learns"
    evidence = {"samples": samples, "numbers": numbers}
    fix = "use group or layer normalisation (model.norm), or a larger batch_size or gradient.microbatch"
    if numbers <= 1:
        return Finding(
            "small-norm-batch", "error", f"batch norm '{where}' has one number per channel, which has no variance",
            where, evidence, fix,
        )  # fmt: skip
    if samples < 16:
        return Finding(
            "small-norm-batch", "warning",
            f"batch norms take their mean and variance from {samples} sample{'s' if samples > 1 else ''} at a time "
            "(16 or more are wanted)", where, evidence, fix,
        )  # fmt: skip
    return f"{samples} samples a statistic ({numbers:,} numbers at least)"


RULE = Rule(
    "small-norm-batch",
    check,
    ("statistic.norms", "statistic.samples", "statistic.numbers", "statistic.where"),
    status="stable",
)
