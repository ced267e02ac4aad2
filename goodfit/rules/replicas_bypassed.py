"""replicas-bypassed: a network is wrapped for several processes and called past its wrapper."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """``DistributedDataParallel`` wraps the network, and training calls the network inside: no gradient is exchanged.

    Certain after three passes past the wrapper, none through it, in a program of several processes.

    Look-alikes that do not count: evaluation of the inner network; ``no_sync``; wrappers of shards.

    Fix: call the wrapper in training, and ``wrapper.module`` only to save it or to evaluate.
    """
    one = log["replica"]
    if one.raw < 3 or one.wrapped:
        return "training goes through the wrapper"
    return [
        Finding(
            "replicas-bypassed",
            "error",
            f"{one.raw} training passes went past DistributedDataParallel, none through it",
            one.raw_where,
            {"past it": one.raw, "through it": one.wrapped},
            "call the wrapped network in training",
            why="each process trains a network of its own",
        )
    ]


RULE = Rule("replicas-bypassed", check, ("replica",))
