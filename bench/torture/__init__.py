"""Fault injection: runs are killed, torn, starved of disk and damaged, many times over, and must not notice.

The tests in ``tests/reliability`` make a small number of tries each, `python -m bench.torture` (``make torture``) the
complete number; both take it from `count` here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

COUNTS: dict[str, tuple[int, int]] = {
    "crash points": (200, 1000),
    "kill -9": (30, 1000),
    "signals": (20, 200),
    "failing file operations": (60, 200),
    "bit flips": (500, 10_000),
    "truncations": (100, 1000),
    "torchrun": (6, 140),
}
"""Tries of each test: in CI, and complete."""
COMPLETE, TOLD = "TORTURE_COMPLETE", "TORTURE_RESULTS"


def count(test: str) -> int:
    """How many tries a test makes here and now."""
    return COUNTS[test][bool(os.environ.get(COMPLETE))]


def tell(test: str, tries: int, **found: object) -> None:
    """Leave the result of a test that held, for the table; nothing where nobody asked."""
    if path := os.environ.get(TOLD):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": test, "tries": tries, **found}) + "\n")
