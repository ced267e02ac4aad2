"""The complete counts: `python -m bench.torture` (``make torture``) prints a table for RESULTS.md.

Minutes for all but the kills and signals, which take about two hours; ``--first`` makes the counts of CI instead, and
names choose files: ``python -m bench.torture crash_points damage``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.torture import COMPLETE, TOLD

ROOT = Path(__file__).parents[2]


def main() -> int:
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    files = [f"tests/reliability/test_{name}.py" for name in names] or ["tests/reliability"]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory() as place:
        told = Path(place) / "told.jsonl"
        how = {**os.environ, **threads, TOLD: str(told)}
        if "--first" not in sys.argv:
            how[COMPLETE] = "1"
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "--timeout=0", *files], env=how, cwd=ROOT)
        print(table(told), f"\n{time.monotonic() - began:,.0f} s; every test {'held' if not done.returncode else ''}"
              f"{'DID NOT HOLD: see above' if done.returncode else ''}")  # fmt: skip
    return done.returncode


def table(told: Path) -> str:
    """What the tests that held have told, as a table; tries of one test are added up."""
    rows: dict[str, dict[str, int]] = {}
    for line in told.read_text(encoding="utf-8").splitlines() if told.exists() else []:
        one = json.loads(line)
        row = rows.setdefault(one.pop("test"), {})
        for name, value in one.items():
            if isinstance(value, int):
                row[name] = row.get(name, 0) + value
    lines = ["| test | tries | found |", "|---|---:|---|"]
    for test, row in rows.items():
        tries = row.pop("tries")
        lines.append(f"| {test} | {tries:,} | {', '.join(f'{k} {v:,}' for k, v in row.items())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
