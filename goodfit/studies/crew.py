"""Other processes that make runs of a study beside this one, so that small nets use more than one core.

A small net's step is too short to be shared by threads: two runs side by side, on one thread each, take little longer
than one. Whoever makes a run claims it, as in any study that several processes share, so nothing else is needed here
than to tell the others which runs are wanted. They end with this process, however that ends: their run is saved.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from goodfit import store
from goodfit.errors import GoodfitError
from goodfit.interrupt import Interrupted
from goodfit.recipe import Recipe
from goodfit.screen import Screen
from goodfit.studies.study import Arm, Busy, Study
from goodfit.techniques.determinism import threads

MOST = 4
"""Processes at once: each holds PyTorch and the data, and more of them save ever less."""
WORTH = 30.0
"""Seconds of work left from which on a further process is worth its start, which takes several. Our choice."""


class Wanted(NamedTuple):
    """A run that should be made."""

    arm: Arm
    seed: int
    rows: Sequence[int] | None = None
    held: Sequence[int] | None = None


class Crew:
    """The processes beside this one; none before `call` finds that they are worth their start.

    size: processes that make runs, this one included; as many as there are cores and runs wanted at once, `MOST` at
    most, unless said. Sources that are no file or name, modules of one's own and GPUs are for one process.
    """

    def __init__(self, study: Study, *, at_once: int, size: int | None = None) -> None:
        self.study, self.members = study, list[subprocess.Popen[str]]()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        able = isinstance(study.source, str | Path) and study.model is None and study.device.type == "cpu"
        self.size = max(1, min(size or min(cores, MOST), at_once)) if able and study.rows is None else 1
        self.threads = max(1, min(torch.get_num_threads(), cores // self.size))

    def call(self, wanted: Sequence[Wanted], *, seconds: float, deadline: float | None = None) -> None:
        """Tell the others what is wanted now, in this order; they are started where the work left is worth it."""
        if self.size > 1 and not self.members and seconds >= WORTH:
            self.members = [self._started() for _ in range(self.size - 1)]
        plain = [[one.arm.name, dict(one.arm.patch), one.seed, one.rows, one.held] for one in wanted]
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        for member in self.members:
            _say(member, {"wanted": plain, "left": left})

    def dismiss(self) -> None:
        """End the others; what they are at is saved and goes on another time."""
        for member in self.members:
            with contextlib.suppress(OSError):
                member.terminate()
        for member in self.members:
            try:
                member.wait(20)
            except subprocess.TimeoutExpired:
                member.kill()
                member.wait()
            if member.stdin is not None:
                with contextlib.suppress(OSError):
                    member.stdin.close()
        self.members = []

    def _started(self) -> subprocess.Popen[str]:
        study = self.study
        asked = {
            "folder": str(study.folder),
            "source": str(study.source),
            "recipe": study.recipe.flat(),
            "metric": study.asked_metric,
            "calibrate": study.calibrate,
            "device": str(study.device),
        }
        # A session of its own: Ctrl-C reaches this process, which then ends the others in order.
        member = subprocess.Popen(
            [sys.executable, "-m", "goodfit.studies.crew"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, text=True, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": str(self.threads)},
        )  # fmt: skip
        _say(member, asked)
        return member


@contextlib.contextmanager
def crew(study: Study, *, at_once: int, size: int | None = None) -> Iterator[Crew]:
    """A crew for as long as this lasts; this process takes its share of the threads."""
    made = Crew(study, at_once=at_once, size=size)
    with threads(made.threads if made.size > 1 else None):
        try:
            yield made
        finally:
            made.dismiss()


def _say(member: subprocess.Popen[str], words: Mapping[str, Any]) -> None:
    # One that has died is missed by nobody: its claims are free, and this process makes all runs that are left.
    with contextlib.suppress(OSError, ValueError):
        assert member.stdin is not None
        member.stdin.write(store.json_bytes(words).decode().replace("\n", " ") + "\n")
        member.stdin.flush()


def _listen(heard: list[tuple[list[Any], float | None]]) -> None:
    for line in sys.stdin:
        said = json.loads(line)
        heard[:] = [(said["wanted"], None if said["left"] is None else time.monotonic() + said["left"])]
    os.kill(os.getpid(), signal.SIGTERM)  # whoever asked is gone


def main() -> None:
    """Make runs that are wanted and that no other process is at, until told to end."""
    asked = json.loads(sys.stdin.readline())
    study = Study(
        asked["folder"], asked["source"], Recipe().patched(asked["recipe"]), metric=asked["metric"],
        calibrate=asked["calibrate"], device=asked["device"], screen=Screen.silent(),
    )  # fmt: skip
    study.looked = True  # whoever asked has looked at data and model
    heard: list[tuple[list[Any], float | None]] = [([], None)]
    threading.Thread(target=_listen, args=(heard,), daemon=True).start()
    while True:
        wanted, deadline = heard[0]
        for name, patch, seed, rows, held in wanted:
            try:
                arm = Arm(name, patch)
                if study.stored(arm, seed, rows=rows, held=held) is None:
                    study.run(arm, seed, rows=rows, held=held, wait=False, deadline=deadline)
                    break
            except Busy:
                continue
        else:
            time.sleep(0.1)


if __name__ == "__main__":
    with contextlib.suppress(GoodfitError, Interrupted, KeyboardInterrupt):
        main()
