"""What a folder from a stranger must be like before anything in it is read, and how its damage is told in one line.

A run folder holds plain files in plain folders. A link could lead what we write out of it, a named pipe would wait for
ever, a device has no end; so a folder that holds any of them is refused as a whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goodfit.errors import GoodfitError, RunError
from goodfit.visible import visible

DEEPEST = 4
LARGEST_JSON = 1 << 28
"""Bytes of a JSON file that are read at most: a tokenizer of 250,000 words takes a tenth of it."""
_KINDS = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def check_folder(folder: Path) -> None:
    """Raise RunError where a run folder holds anything but files and folders, folders too deep, or JSON too large."""
    for path, info in _entries(folder, 0):
        name = visible(str(path), keep="")
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
            what = _KINDS.get(stat.S_IFMT(info.st_mode), "a device")
            raise RunError(f"{name} is {what}; a run folder holds plain files alone, so it is not opened")
        if path.suffix in (".json", ".jsonl") and info.st_size > LARGEST_JSON:
            raise RunError(f"{name} takes {info.st_size / 2**20:,.0f} MiB, which no run writes; it is not opened")


@contextmanager
def strange(folder: Path, what: str) -> Iterator[None]:
    """Tell whatever fails inside as one line: what a stranger wrote there may be wrong in any way.

    what: that was being read. Errors of ours come through as they are.
    """
    failures: tuple[type[BaseException], ...] = (Exception, *_panics())
    try:
        yield
    except GoodfitError:
        raise
    except failures as error:  # each reader inside raises its own kinds, and none of them matters here
        told = str(error).strip().splitlines() or [""]
        said = visible(f"{type(error).__name__}: {told[0]}", keep="")[:200]
        raise RunError(f"{folder} is damaged or of another version: its {what} cannot be used ({said})") from error


def _panics() -> tuple[type[BaseException], ...]:
    """What libraries written in Rust raise where they give up; it is no Exception."""
    return tuple(one for one in BaseException.__subclasses__() if one.__name__ == "PanicException")


def _entries(folder: Path, depth: int) -> Iterator[tuple[Path, os.stat_result]]:
    if depth > DEEPEST:
        raise RunError(f"{visible(str(folder), keep='')} lies deeper than any folder of a run; it is not opened")
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                path = Path(entry.path)
                yield path, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    yield from _entries(path, depth + 1)
    except FileNotFoundError:  # a checkpoint that a running process has just pruned
        return
    except OSError as error:
        raise RunError(f"{visible(str(folder), keep='')} cannot be read: {error.strerror or error}") from error
