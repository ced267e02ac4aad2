"""same-data-in-all-processes: all processes train on the same batches."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Each process of a distributed training gets the same first batches: the work is done several times for nothing.

    Each process writes marks of its first batches down; certain where three of them are the same in all.

    Look-alikes that do not count: tensor and pipeline parallel programs, which do not wrap the network for data
    parallel training.

    Fix: ``DataLoader(..., sampler=DistributedSampler(dataset))``.
    """
    replicas = [one for one in log["replicas"] if len(one.batches) >= 3]
    if len(replicas) < 2 or any(one.batches != replicas[0].batches for one in replicas):
        return "processes read different batches"
    return [
        Finding(
            "same-data-in-all-processes",
            "error",
            f"all {len(replicas)} processes begin with the same {len(replicas[0].batches)} batches",
            replicas[0].loader,
            {"processes": len(replicas), "batches": len(replicas[0].batches)},
            "give the loader a DistributedSampler",
            why=f"{len(replicas)} processes do the work of one",
        )
    ]


RULE = Rule("same-data-in-all-processes", check, ("replicas",))
