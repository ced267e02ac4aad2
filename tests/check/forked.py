"""Starts training programs as processes that need not import PyTorch anew: `python -m tests.check.forked`.

It imports, starts no thread, touches no tensor; each program is a fork of that state, so what kills it kills a real
process. Reads ``{"command", "folder", "shown", "variables"}`` a line, answers with the exit status.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401 - an optimizer imports it at its first step

from goodfit.resumption import trace


class Forked:
    """The other end, in place of `goodfit.resumption.trials.start`."""

    def __init__(self) -> None:
        own = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.check.forked"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **own},
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def __call__(self, command: Sequence[str], folder: Path, shown: Path, variables: Mapping[str, str]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"command": list(command), "folder": str(folder), "shown": str(shown), "variables": dict(variables)}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


def _child(asked: dict[str, Any]) -> int:
    os.setsid()
    os.chdir(asked["folder"])
    os.dup2(os.open(asked["shown"], os.O_CREAT | os.O_WRONLY), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ |= asked["variables"]
    (Path(json.loads(asked["variables"][trace.VARIABLE])["folder"]) / str(os.getpid())).mkdir()
    sys.argv = asked["command"][1:]
    trace.begin()
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except Exception:
        traceback.print_exc()
        return 1
    finally:
        atexit._run_exitfuncs()
        sys.stderr.flush()
    return 0


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = _child(asked)
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
