"""SIGTERM and Ctrl-C at random instants: the right exit code, nothing lost; twice: gone at once."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from bench.torture import count, little, tell
from bench.torture.server import Server
from goodfit import store
from goodfit.run import Run
from tests.reliability.conftest import Whole


def test_a_signal_at_any_instant_saves_the_step_and_exits_with_its_code(
    server: Server, whole: Whole, tmp_path: Path
) -> None:
    chance = random.Random(6)
    stopped = 0
    folders = []
    for number in range(count("signals")):
        folder = tmp_path / f"run{number % 4}"
        folders.append(folder)
        asked = chance.choice((signal.SIGTERM, signal.SIGINT))
        twice = number % 4 == 3
        # Far apart checkpoints, so that what is saved was saved because of the signal.
        pid = server.start(folder, every=1e9) if not finished(folder) else 0
        if not pid:
            continue
        time.sleep(chance.uniform(0.1, whole.seconds))
        os.kill(pid, asked)
        if twice:
            time.sleep(chance.uniform(0, 0.05))
            os.kill(pid, asked)
        status = server.wait()
        told = Path(f"{folder}.log").read_text()
        # A process that does not listen yet ends as the system has it, and one that was done is done.
        assert status in (0, 128 + asked, -asked), told
        assert "Traceback" not in told
        if status == 128 + asked and not twice and "stopped at step" in told:
            stopped += 1
            assert Run(folder).status == "interrupted"
            step = int(told.rpartition("stopped at step ")[2].split(",")[0])
            assert store.steps_in(folder / "checkpoints")[0] == step
            assert little.strays(folder) == []
    assert stopped > 0
    for folder in sorted(set(folders))[: 1 + count("signals") // 100]:
        if not finished(folder):
            server.start(folder)
            assert server.wait() == 0, Path(f"{folder}.log").read_text()
        assert little.outcome(folder) == whole.outcome
        assert little.strays(folder) == []
    tell("signals", count("signals"), stopped=stopped)


def finished(folder: Path) -> bool:
    """Whether a run has come to its end."""
    return (folder / "plan.json").exists() and Run(folder).status == "finished"
