"""averaged-without-statistics: an average of networks is evaluated with batch norms that never saw a batch."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """A copy whose weights follow the network's is evaluated, and its batch norms hold their first statistics.

    Averages of weights (EMA, Polyak) that copy parameters and forget buffers leave running means of 0 and variances of
    1. Decided by the norms' counter of batches, which is 0 although the weights have changed.

    Look-alikes that do not count: ``update_bn`` or copied buffers; frozen random networks; loaded checkpoints;
    ``torch.optim.swa_utils.AveragedModel``, which copies the buffers.

    Fix: copy the buffers too, or ``torch.optim.swa_utils.update_bn(loader, averaged)``.
    """
    found = [
        Finding(
            "averaged-without-statistics",
            "error",
            f"{one.name} is evaluated with {one.norms} batch norms that have not seen one batch, and its weights have "
            "changed since they were made",
            one.where,
            {"batch norms": one.norms, "evaluations": one.calls},
            "copy the buffers with the parameters, or call update_bn before the evaluation",
            why="the batch norms normalise by mean 0 and variance 1 instead of the data's",
        )
        for one in log["averages"].values()
    ]
    return found or "evaluated networks have statistics"


RULE = Rule("averaged-without-statistics", check, ("averages",))
