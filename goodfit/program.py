"""Running a user's own training program, unmodified, under observation."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from goodfit import children
from goodfit.children import Limit
from goodfit.errors import GoodfitError
from goodfit.observer.source import is_users
from goodfit.types import Finding
from goodfit.watching import Watch

GRAVITY = {"advice": 0, "warning": 1, "error": 2}


@dataclass(frozen=True)
class Checked:
    """What a program's run showed, or what a run folder or a data set holds.

    ended: how it ended: ``done``, ``stopped`` (after the steps asked for), ``failed``, ``interrupted``.
    code: the exit status that the program itself would have given. steps: optimizer updates that were seen.
    not_checked: ``(rule, reason)``.
    """

    findings: tuple[Finding, ...]
    not_checked: tuple[tuple[str, str], ...] = ()
    steps: int = 0
    ended: str = "done"
    code: int = 0

    def worst(self) -> int:
        """The gravest finding's rank, -1 without any."""
        return max((GRAVITY[f.severity] for f in self.findings), default=-1)

    def to_json(self) -> str:
        """Everything as JSON; numbers that are not finite become texts, as JSON has none."""
        values = {
            "findings": [asdict(f) for f in self.findings],
            "not_checked": [{"rule": rule, "reason": reason} for rule, reason in self.not_checked],
            "steps": self.steps,
            "ended": self.ended,
            "code": self.code,
        }
        return json.dumps(_plain(values), indent=1, default=str, allow_nan=False)


class _Enough(BaseException):
    """Ends a program after the steps that were asked for; no ``except Exception`` of the program stops it."""


def check_program(
    path: str | Path,
    arguments: Sequence[str] = (),
    *,
    module: bool = False,
    steps: int | None = None,
    ignore: Iterable[str] = (),
    say: Callable[[Finding], None] | None = None,
    prove: bool | None = None,
) -> Checked:
    """Run a Python program as ``python PATH ARGUMENTS`` would, and watch it train.

    module: ``path`` is a module's name, run as ``python -m`` does. steps: end it after so many optimizer updates.
    ignore: names of rules that are not asked. say: called with each finding as soon as it is certain. prove: replay
    some steps on copies with the suspected fix; None does so where ``steps`` are given.
    Raises GoodfitError where there is no such program.

    The program's own exceptions are printed as Python prints them, without our frames, and what was found until then
    is returned. Processes that it starts are watched as well. Arguments, module path, working folder and standard
    streams are as before when it has ended.
    """
    script = Path(path)
    if steps is not None and steps < 1:
        raise GoodfitError(f"--steps must be at least 1, not {steps}")
    if not module and not (script / "__main__.py" if script.is_dir() else script).is_file():
        raise GoodfitError(f"{path} does not exist; give the Python file that trains, or -m and a module's name")
    ignore = tuple(ignore)
    watch = Watch(ignore=ignore, say=say, prove=steps is not None if prove is None else prove)
    if steps is not None:
        watch.hooks.listeners.append(Limit(watch, steps, _Enough))
    ended, code = "done", 0
    with children.reached(watch, steps=steps, ignore=ignore) as told:
        with _as_program(str(path), arguments, module=module), watch:
            try:
                if module:
                    _find(str(path))
                    runpy.run_module(str(path), run_name="__main__", alter_sys=True)
                else:
                    runpy.run_path(str(path), run_name="__main__")
            except _NoModule:
                raise
            except _Enough:
                ended = "stopped"
            except SystemExit as stop:
                code = _status(stop)
            except KeyboardInterrupt:
                ended, code = "interrupted", 130
            except BaseException as error:
                ended, code = "failed", 1
                _show(error)
                if "no known parent package" in str(error) and (script.parent / "__init__.py").is_file():
                    name = f"{script.resolve().parent.name}.{script.stem}"
                    print(f"goodfit: it is part of a package; try, from above it: check -m {name}", file=sys.stderr)
        others = told()
    findings, seen = list(watch.findings), {(one.rule, one.where) for one in watch.findings}
    for one in others.findings:
        if (one.rule, one.where) not in seen:
            findings.append(one)
            if say is not None:
                say(one)
    ended = "stopped" if ended == "done" and others.stopped else ended
    not_checked = watch.not_checked if watch.live.step or not others.steps else []
    not_checked += [one for one in others.not_checked if one not in not_checked]
    return Checked(tuple(findings), tuple(not_checked), max(watch.live.step, others.steps), ended, code)


class _NoModule(GoodfitError):
    """There is no module of that name to run."""


def _find(name: str) -> None:
    """Raises _NoModule where there is no such module to run; what a package's own ``__init__`` raises comes through."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        spec = None
    except ValueError:
        spec = None
    if spec is None:
        raise _NoModule(f"there is no module {name} that can be run; -m takes a name such as package.train")


@contextlib.contextmanager
def _as_program(path: str, arguments: Sequence[str], *, module: bool) -> Iterator[None]:
    """With ``sys.argv`` and ``sys.path`` as Python gives them to a program; afterwards all is as it was before."""
    argv, places, folder = sys.argv, list(sys.path), os.getcwd()
    streams = sys.stdin, sys.stdout, sys.stderr
    own, kept = Path(path).resolve(), os.dup(1)
    sys.argv = [path, *arguments]
    sys.path[:] = [folder if module else str(own if own.is_dir() else own.parent), *places[1:]]
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, places
        sys.stdin, sys.stdout, sys.stderr = streams
        if sys.stdout.closed:
            os.dup2(kept, 1)
            sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), line_buffering=True)
        os.close(kept)
        if os.path.isdir(folder):
            os.chdir(folder)


@contextlib.contextmanager
def printing_aside() -> Iterator[None]:
    """What a program prints goes to stderr, so that stdout holds nothing but our JSON; its processes' too."""
    sys.stdout.flush()
    before, kept = sys.stdout, os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.stderr.flush()
        os.dup2(kept, 1)
        os.close(kept)
        sys.stdout = before


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _status(stop: SystemExit) -> int:
    """The exit status that Python would give: a text is printed and counts as 1."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code
    print(stop.code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> None:
    """Print a traceback that begins in the user's program."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and not is_users(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    sys.stdout.flush()
    if isinstance(error, SyntaxError) and trace is None:
        traceback.print_exception(type(error), error, None)
        return
    traceback.print_exception(type(error), error, trace or error.__traceback__)
