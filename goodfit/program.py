"""Running a user's own training program, unmodified, under observation."""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from typing_extensions import override

from goodfit.errors import GoodfitError
from goodfit.observer.events import Listener
from goodfit.observer.source import is_users
from goodfit.types import Finding
from goodfit.watching import Watch

GRAVITY = {"advice": 0, "warning": 1, "error": 2}


@dataclass(frozen=True)
class Checked:
    """What a program's run showed.

    ended: how it ended: ``done``, ``stopped`` (after the steps asked for), ``failed``, ``interrupted``.
    code: the exit status that the program itself would have given. steps: optimizer updates that were seen.
    not_checked: ``(rule, reason)``.
    """

    findings: tuple[Finding, ...]
    not_checked: tuple[tuple[str, str], ...]
    steps: int
    ended: str
    code: int

    def worst(self) -> int:
        """The gravest finding's rank, -1 without any."""
        return max((GRAVITY[f.severity] for f in self.findings), default=-1)

    def to_json(self) -> str:
        """Everything as JSON."""
        values = {
            "findings": [asdict(f) for f in self.findings],
            "not_checked": [{"rule": rule, "reason": reason} for rule, reason in self.not_checked],
            "steps": self.steps,
            "ended": self.ended,
            "code": self.code,
        }
        return json.dumps(values, indent=1, default=str)


class _Enough(BaseException):
    """Ends a program after the steps that were asked for; no ``except Exception`` of the program stops it."""


class _Limit(Listener):
    """Ends the program at its next event after so many steps."""

    def __init__(self, watch: Watch, steps: int) -> None:
        self.watch, self.steps = watch, steps

    def _enough(self) -> None:
        if self.watch.live.step >= self.steps:
            raise _Enough

    @override
    def after_step(self, optimizer: object) -> None:
        self._enough()


def check_program(
    path: str | Path,
    arguments: Sequence[str] = (),
    *,
    steps: int | None = None,
    ignore: Iterable[str] = (),
    say: Callable[[Finding], None] | None = None,
) -> Checked:
    """Run a Python program as ``python PATH ARGUMENTS`` would, and watch it train.

    steps: end it after so many optimizer updates. ignore: names of rules that are not asked. say: called with each
    finding as soon as it is certain. Raises GoodfitError where there is no such program.

    The program's own exceptions are printed as Python prints them, without our frames, and what was found until then
    is returned.
    """
    script = Path(path)
    if not script.is_file():
        raise GoodfitError(f"{path} does not exist; give the Python file that trains")
    watch = Watch(ignore=ignore, say=say)
    if steps is not None:
        watch.hooks.listeners.append(_Limit(watch, steps))
    ended, code = "done", 0
    argv, first, folder = sys.argv, sys.path[0], os.getcwd()
    sys.argv, sys.path[0] = [str(path), *arguments], str(script.resolve().parent)
    try:
        with watch:
            try:
                runpy.run_path(str(path), run_name="__main__")
            except _Enough:
                ended = "stopped"
            except SystemExit as stop:
                code = _status(stop)
            except KeyboardInterrupt:
                ended, code = "interrupted", 130
            except BaseException as error:
                ended, code = "failed", 1
                _show(error, script)
    finally:
        sys.argv, sys.path[0] = argv, first
        if os.path.isdir(folder):
            os.chdir(folder)
    return Checked(tuple(watch.findings), tuple(watch.not_checked), watch.live.step, ended, code)


def _status(stop: SystemExit) -> int:
    """The exit status that Python would give: a text is printed and counts as 1."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code
    print(stop.code, file=sys.stderr)
    return 1


def _show(error: BaseException, script: Path) -> None:
    """Print a traceback that begins in the user's program."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and not is_users(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    sys.stdout.flush()
    if isinstance(error, SyntaxError) and trace is None:
        traceback.print_exception(type(error), error, None)
        return
    traceback.print_exception(type(error), error, trace or error.__traceback__)
