"""worker-generators: workers draw the same random numbers."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The dataset holds a random generator of its own, which each worker process copies: all draw the same numbers.

    PyTorch seeds its own, Python's and NumPy's global generators in each worker, but not a ``np.random.Generator`` or
    ``random.Random`` that the dataset (or a transform it holds) keeps. And at each epoch the copies start anew. Told
    for loaders with two or more workers and no ``worker_init_fn``.

    Fix: make the generator inside ``worker_init_fn``, or use the global ones.
    """
    found = []
    for one in log["loaders"].values():
        if one.generators and one.workers >= 2 and one.trains:
            found.append(
                Finding(
                    "worker-generators",
                    "error",
                    f"{one.workers} workers copy the dataset's generator {one.generators[0]} and draw the same numbers",
                    one.where,
                    {"generators": list(one.generators), "workers": one.workers},
                    "seed it in worker_init_fn, or draw from torch, random or numpy.random",
                    why="augmentation repeats across workers and epochs",
                )
            )
    return found or "workers draw different numbers"


RULE = Rule("worker-generators", check, ("loaders",), status="stable")
