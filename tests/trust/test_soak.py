"""Fifty fits in one process leave nothing behind; ``make soak`` does 1,000, and 100,000 steps with workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_fifty_fits_in_one_process_leave_nothing_behind(tmp_path: Path) -> None:
    places = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "bench.soak", "lean", "50"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **places}, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["growth"]["traced"] < 1.0, "MiB that Python holds for 100 fits"
    assert told["after"]["resident"] - told["before"]["resident"] < 24, "the allocator's own slack and no more"
    for name in ("descriptors", "threads", "system_threads"):
        assert told["after"][name] == told["before"][name], name
