"""Ctrl-C and SIGTERM: finish the step, save, say how to go on; the second time leave at once.

Where no step is under way (before training, and after it) there is nothing to finish: the first one leaves with what
is saved.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from goodfit.errors import GoodfitError


class Interrupted(GoodfitError):
    """The run was stopped by a signal and saved; ``code`` is the exit status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Leave(BaseException):
    """Raised by a signal where no step is under way; no ordinary handler of exceptions catches it."""


class Signals:
    """Ctrl-C and SIGTERM ask the loop to stop after its step; the second one leaves at once.

    quiet: do not say so; of several processes one does. at_once: the first one raises Leave, as there is no loop
    that looks at ``requested`` after each step.
    """

    def __init__(self) -> None:
        self.requested = 0
        self.quiet = False
        self.at_once = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for one in (signal.SIGINT, signal.SIGTERM):
                self._old[one] = signal.signal(one, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for one, old in self._old.items():
            signal.signal(one, old)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(128 + number)
        self.requested = number
        if self.at_once:
            raise Leave
        if not self.quiet:
            os.write(2, b"\nstopping after this step; once more leaves at once\n")


def command_line(folder: Path, source: str) -> str:
    """The command that resumes a run."""
    program = Path(sys.argv[0])
    if source and len(sys.argv) > 1 and (program.name.startswith("goodfit") or program.parent.name == "goodfit"):
        here = os.environ.get("LOCAL_WORLD_SIZE", "1") if "RANK" in os.environ else "1"
        start = ["goodfit"] if here == "1" else ["torchrun", "--nproc-per-node", here, "-m", "goodfit"]
        return shlex.join([*start, *sys.argv[1:], *([] if "--out" in sys.argv else ["--out", str(folder)])])
    return f"goodfit.train(..., out={str(folder)!r})"
