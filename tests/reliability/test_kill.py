"""Real processes, killed at random instants and started again until they finish, end where undisturbed ones do.

Children are forked from a process that has imported everything and done nothing, so that a restart costs no seconds of
importing; the kills are real. `test_cli` stops runs that the command line itself started.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from bench.torture import count, little, tell
from bench.torture.server import Server
from goodfit.run import Run
from tests.reliability.conftest import Whole


def alive(group: int) -> bool:
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_runs_killed_at_random_instants_end_bit_equal_and_leave_nothing(
    server: Server, whole: Whole, tmp_path: Path
) -> None:
    chance = random.Random(5)
    kills = runs = 0
    shared = set(os.listdir("/dev/shm"))
    while kills < count("kill -9"):
        folder = tmp_path / f"run{runs}"
        runs += 1
        for _ in range(100):
            pid = server.start(folder)
            time.sleep(chance.uniform(0, whole.seconds * 0.8))
            os.kill(pid, signal.SIGKILL)
            status = server.wait()
            assert status in (0, -signal.SIGKILL), Path(f"{folder}.log").read_text()
            assert not alive(pid)
            if status == 0:
                break
            kills += 1
            assert not folder.exists() or not (folder / "plan.json").exists() or Run(folder).status != "running"
        else:
            raise AssertionError("it never came to its end")
        assert little.outcome(folder) == whole.outcome, Path(f"{folder}.log").read_text()
        assert little.strays(folder) == []
    assert set(os.listdir("/dev/shm")) <= shared
    tell("kill -9", kills, runs=runs)
