"""Which line of the user's program is running: the innermost frame that is neither PyTorch's, a library's nor ours."""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import NamedTuple

_OURS = str(Path(__file__).resolve().parents[1]) + os.sep
_FOREIGN = tuple(
    {
        str(Path(path).resolve()) + os.sep
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        if (path := sysconfig.get_path(name))
    }
)


class Line(NamedTuple):
    """A line of source. ``file`` is as short as it can be told from the working folder."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else ""


NOWHERE = Line("", 0)


def here(depth: int = 1) -> Line:
    """The line of the user's program that is running now, or ``NOWHERE`` where only libraries are on the stack.

    Takes a few microseconds, so it is asked for when a check needs it, not in every call.
    """
    return line_of(sys._getframe(depth))


def line_of(frame: FrameType | None) -> Line:
    """The line of the user's program in this frame, or in the nearest one that called it."""
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return _line(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return NOWHERE


@lru_cache(maxsize=4096)
def _line(file: str, line: int) -> Line:
    return Line(_short(file), line)


@lru_cache(maxsize=4096)
def is_users(file: str) -> bool:
    """Whether a source file is the user's: not the standard library's, a package's, or goodfit's; notebooks count."""
    if file.startswith("<"):
        return file.startswith("<ipython")
    path = os.path.realpath(file)
    if path.startswith(_OURS):
        return False
    return not (path.startswith(_FOREIGN) or f"{os.sep}site-packages{os.sep}" in path)


@lru_cache(maxsize=4096)
def _short(file: str) -> str:
    path = os.path.realpath(file)
    try:
        near = os.path.relpath(path)
    except ValueError:  # another drive
        return path
    return path if near.startswith("..") else near
