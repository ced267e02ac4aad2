"""loader-waits: the program waits for its data."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Training waits for its loader for a third of its time or more. Advice.

    Measured over 50 batches and two seconds at least, from one batch to the next.

    Fix: ``num_workers``, ``pin_memory``, cheaper transforms, or data that is prepared once.
    """
    one = log["speed.waiting"]
    if one.batches < 50 or one.seconds < 2 or one.waited < one.seconds / 3:
        return "the loader keeps up"
    return [
        Finding(
            "loader-waits",
            "advice",
            f"{one.waited / one.seconds:.0%} of the time passes while the program waits for its loader",
            one.where,
            {"seconds": one.seconds, "waited": one.waited, "workers": one.workers},
            "give the loader more workers, or prepare the data once",
        )
    ]


RULE = Rule("loader-waits", check, ("speed.waiting",))
