"""Running a program in a copy of its folder, uninterrupted or killed at a step, and reading what it recorded."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goodfit import store
from goodfit.errors import GoodfitError
from goodfit.resumption.trace import LINES, VARIABLE

SITE = Path(__file__).parents[1] / "observer" / "site"
LARGEST = 200 * 2**20
"""Bytes of a program's folder beyond which it is not copied: data sets are shared, not copied."""
LEFT_OUT = (
    ".git",
    ".hg",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
)
PLACE = "{trial}"
"""In a program's arguments: the folder of the trial, for programs that write to a place of their own."""


@dataclass(frozen=True)
class Ran:
    """What one process did: a record of each step, what it saved and when, and how it ended.

    steps: the records, by the number of the step in this process. saves: ``(steps before it, {key: digest})``.
    wrote: steps before which a file was opened for writing. final: digest of the weights at its end, if it said so.
    code: exit status; minus a signal's number. said: what it printed to stderr.
    """

    steps: tuple[dict[str, Any], ...]
    saves: tuple[tuple[int, dict[str, str]], ...]
    wrote: tuple[int, ...]
    final: str
    code: int
    said: str

    @property
    def saved_at(self) -> list[int]:
        """Steps before which something was saved, rising: what PyTorch saved, else any file."""
        return sorted({step for step, _ in self.saves} or set(self.wrote))


class Trial:
    """One copy of a program's folder, in which its command is started as often as needed."""

    def __init__(self, origin: Path, place: Path, *, shared: Sequence[Path], without: Sequence[Path]) -> None:
        self.place, self.work, self.count = place, place / "work", 0
        links = [one.resolve() for one in shared]
        aside = [*links, *(one.resolve() for one in without)]

        def left_out(folder: str, names: list[str]) -> set[str]:
            inside = Path(folder).resolve()
            return {name for name in names if name in LEFT_OUT or inside / name in aside}

        shutil.copytree(origin, self.work, ignore=left_out, symlinks=True)
        for one in links:
            if origin.resolve() in one.parents:
                os.symlink(one, self.work / one.relative_to(origin.resolve()))

    def run(
        self, words: Sequence[str], *, kill: int | None = None, after: bool = False, stop: int | None = None
    ) -> Ran:
        """Start Python with these words, to be killed after so many steps, or to end after so many; and wait.

        after: kill right after the step, not before the next one.
        """
        self.count += 1
        traces = self.place / f"traces-{self.count}"
        traces.mkdir()
        asked = {"folder": str(traces), "package": str(SITE.parents[2]), "begin": "goodfit.resumption.trace",
                 "kill": kill, "after": after, "stop": stop}  # fmt: skip
        paths = os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH"))))
        shown = self.place / f"said-{self.count}"
        command = [sys.executable, *(word.replace(PLACE, str(self.place / "own")) for word in words)]
        code = start(command, self.work, shown, {VARIABLE: json.dumps(asked), "PYTHONPATH": paths})
        return _read(traces, code, shown.read_text(encoding="utf-8", errors="replace"))


def start(command: Sequence[str], folder: Path, shown: Path, variables: Mapping[str, str]) -> int:
    """Run a command to its end, in a folder and with more variables; returns its exit status, or minus a signal.

    shown: the file that what it prints to stderr goes to. It leads a group of processes, none of which outlives it.
    """
    handle = os.open(shown, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=handle,
            env={**os.environ, **variables},
            start_new_session=True,
        )
    finally:
        os.close(handle)
    try:
        return process.wait()
    finally:  # workers that outlive it, and the program itself where we are interrupted
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(traces: Path, code: int, said: str) -> Ran:
    rows = max((store.read_lines(one / LINES) for one in traces.iterdir()), key=len, default=[])
    final: dict[str, Any] = next((row for row in reversed(rows) if row["kind"] == "end"), {})
    if final.get("failed"):
        raise GoodfitError(f"the program's steps could not be recorded: {final['failed']}")
    return Ran(
        tuple(row for row in rows if row["kind"] == "step"),
        tuple((row["step"], row["what"]) for row in rows if row["kind"] == "saved"),
        tuple(row["step"] for row in rows if row["kind"] == "wrote"),
        str(final.get("weights", "")),
        code,
        said,
    )


@contextlib.contextmanager
def copies(origin: Path, *, shared: Sequence[Path] = (), without: Sequence[Path] = ()) -> Iterator[Callable[[], Trial]]:
    """Inside, the function that is given makes a fresh trial; at the end all of them are removed.

    shared: what is in the folder and only read: it is linked, not copied. without: what is left out.
    Raises GoodfitError where the folder is too large to be copied.
    """
    size = _size(origin, [one.resolve() for one in (*shared, *without)])
    if size > LARGEST:
        raise GoodfitError(
            f"{origin} holds more than {LARGEST >> 20} MiB, and each trial runs in a copy of it; "
            "name data that is only read with --share PATH, or start from a smaller folder"
        )
    place = Path(tempfile.mkdtemp(prefix="goodfit-resume-"))
    made: list[Trial] = []

    def fresh() -> Trial:
        folder = place / str(len(made))
        folder.mkdir()
        made.append(Trial(origin, folder, shared=shared, without=without))
        return made[-1]

    try:
        yield fresh
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _size(origin: Path, links: Sequence[Path]) -> int:
    """Bytes that would be copied; counting stops where it is too many."""
    total = 0
    for folder, names, files in os.walk(origin):
        names[:] = [name for name in names if name not in LEFT_OUT and (Path(folder) / name).resolve() not in links]
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink() and path.resolve() not in links:
                total += path.stat().st_size
        if total > LARGEST:
            break
    return total
