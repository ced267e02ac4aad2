"""Starts little runs as fresh processes without importing everything anew: `python -m bench.torture.server`.

It imports what a run needs, starts no thread (OMP_NUM_THREADS=1 must be set), touches no tensor; each child is forked
from that state, so killing it is killing a real process with nothing shared but pages. Reads one JSON line a run:
``{"folder": ..., "changes": {...}, "every": seconds}``, answers with ``{"pid": ...}`` and, once the child has ended,
``{"status": exit status, or minus the signal's number}``. A child's own words go to ``FOLDER.log``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.torture import little
from goodfit.errors import GoodfitError
from goodfit.report import charts

ROOT = Path(__file__).parents[2]


class Server:
    """The other end: start a run, know its process, wait for it."""

    def __init__(self) -> None:
        own = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.torture.server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **own}, cwd=ROOT,
        )  # fmt: skip
        assert self._heard() == {"ready": True}

    def start(self, folder: Path, *, every: float = 0.0, **changes: Any) -> int:
        """Start the little run in a folder; returns its process number."""
        self._say({"folder": str(folder), "changes": changes, "every": every})
        return int(self._heard()["pid"])

    def wait(self) -> int:
        """How the run that was started last ended: its exit status, or minus the signal that ended it.

        Until this is called its process number stays its own, dead or alive, so that no signal goes astray.
        """
        status = int(self._heard()["status"])
        self._say({"reap": True})
        assert self._heard() == {"reaped": True}
        return status

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()

    def _say(self, value: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()

    def _heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))


def _child(asked: dict[str, Any]) -> int:
    folder = Path(asked["folder"])
    log = os.open(f"{folder}.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.setsid()
    charts._svg = lambda *figure, **how: "<svg/>"  # drawing takes longer than the whole run, and writes nothing
    try:
        little.train(folder, every=asked["every"], **asked["changes"])
    except GoodfitError as error:
        print(f"goodfit: {error}", file=sys.stderr, flush=True)
        return int(getattr(error, "code", 2))
    return 0


def main() -> None:
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = _child(asked)
            except KeyboardInterrupt:  # before the run listens to signals, as on the command line
                code = 130
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        print(json.dumps({"pid": pid}), flush=True)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        print(json.dumps({"status": code}), flush=True)
        sys.stdin.readline()
        os.waitpid(pid, 0)
        print(json.dumps({"reaped": True}), flush=True)


if __name__ == "__main__":
    main()
