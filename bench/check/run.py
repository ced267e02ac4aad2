"""Runs one program in a process of its own and tells what it printed, how long it took and what was found."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # the first optimizer of a process imports it: seconds that belong to neither side
from torch.optim.optimizer import register_optimizer_step_post_hook

from bench.check.thresholds import Thresholds
from goodfit.program import check_program

SETTLED = 30
"""Updates after which the time of a program counts as that of its loop; those before, and what is asked of copies in
them, are shown apart."""
SECONDS = 120
"""After which a program is ended."""


def prepared() -> None:
    """Call once before programs are forked off: all imports, and one thread."""
    torch.set_num_threads(1)
    one = torch.nn.Parameter(torch.zeros(2, 2))
    torch.optim.AdamW([one], 0.1).step()


def run(text: str, mode: str) -> dict[str, Any]:
    """``mode``: ``plain``, ``watched`` or ``thresholds``. The child is forked off this process, where no program ran.

    Gives ``seconds``, of these ``start`` (the first `SETTLED` updates) and ``loop`` (all others, where they are 15 or
    more), ``printed`` (a digest of the standard output), ``ended``, ``findings``, ``steps``, ``not_checked``,
    ``alarms``, ``errors`` (the standard error's last lines where it did not end well).
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.py").write_text(text, encoding="utf-8")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _child(folder, mode)
                code = 0
            finally:
                os._exit(code)
        os.waitpid(child, 0)
        told = Path(folder) / "told.json"
        output = (Path(folder) / "out").read_bytes() if (Path(folder) / "out").exists() else b""
        error = (Path(folder) / "err").read_text(errors="replace") if (Path(folder) / "err").exists() else ""
        values = {
            "ended": "crashed",
            "seconds": 0.0,
            "findings": [],
            "not_checked": [],
            "steps": 0,
            "alarms": [],
            "start": 0.0,
            "loop": 0.0,
        }
        if told.exists():
            values |= json.loads(told.read_text())
        values["printed"] = hashlib.sha256(output).hexdigest()[:16] if output else ""
        values["errors"] = "" if values["ended"] == "done" else error[-600:]
        return values


def _child(folder: str, mode: str) -> None:
    os.chdir(folder)
    program = str(Path(folder).resolve() / "train.py")  # absolute: processes that it spawns look for it elsewhere
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    signal.alarm(SECONDS)
    warnings.simplefilter("ignore")
    values: dict[str, Any] = {}
    _steady_memory()
    marks: list[float] = []
    register_optimizer_step_post_hook(lambda *_: marks.append(time.process_time()))
    began = time.process_time()
    if mode == "watched":
        checked = check_program(program)
        values = json.loads(checked.to_json())
    else:
        sys.argv, sys.path[0] = [program], folder
        values["ended"] = "done"
        held = Thresholds() if mode == "thresholds" else contextlib.nullcontext()
        try:
            with held:
                runpy.run_path(program, run_name="__main__")
        except SystemExit:
            pass
        except BaseException:
            traceback.print_exc()
            values["ended"] = "failed"
        if isinstance(held, Thresholds):
            values["alarms"] = sorted(held.alarms)
    values["seconds"] = time.process_time() - began
    if len(marks) >= SETTLED + 15:
        values["start"] = marks[SETTLED - 1] - began
        values["loop"] = marks[-1] - marks[SETTLED - 1]
    sys.stdout.flush()
    Path(folder, "told.json").write_text(json.dumps(values, default=str))


def _steady_memory() -> None:
    """Freed memory stays with the process. Otherwise whether a program pays for page faults at each step, half of its
    time for some, is decided by where its first small objects happened to lie, and differs from one run to the next."""
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        for option, value in ((-1, 2**30), (-3, 2**30)):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            libc.mallopt(option, value)
