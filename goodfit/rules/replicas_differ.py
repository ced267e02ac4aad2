"""replicas-differ: the copies of one network in several processes have come apart."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Processes that train one network have different weights after the same number of steps.

    Each process writes down the sum of its weights after some steps; compared is what the same step left. Certain where
    two steps or more differ, and all later ones with them. Found when the program ends.

    Look-alikes that do not count: shards (FSDP, tensor parallel), local steps that are averaged later.

    Fix: whatever changes gradients or weights must be done in every process alike: clipping, skipped steps, loading.
    """
    replicas = list(log["replicas"])
    shared = sorted(set.intersection(*(set(one.sums) for one in replicas))) if len(replicas) > 1 else []
    apart = []
    for step in shared:
        sums = [one.sums[step] for one in replicas]
        apart.append(max(sums) - min(sums) > 1e-9 * max(1.0, *(abs(v) for v in sums)))
    if sum(apart) < 2 or not all(apart[apart.index(True) :]):
        return "replicas have the same weights"
    first = shared[apart.index(True)]
    return [
        Finding(
            "replicas-differ",
            "error",
            f"after step {first} the {len(replicas)} processes have different weights",
            replicas[0].where,
            {"sums": [float(f"{one.sums[shared[-1]]:.9g}") for one in replicas], "at step": shared[-1]},
            "do in every process what changes gradients or weights: clipping, skipped steps, loading",
            why="the processes average gradients of different networks",
            step=first,
        )
    ]


RULE = Rule("replicas-differ", check, ("replicas",), follows=("replicas-bypassed",))
