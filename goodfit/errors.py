"""Every error a user's input can cause. Each message says what is wrong, where, and what to do.

::

    GoodfitError            anything below; the command line prints one line and exits with 2
    ├── RecipeError         the recipe: unknown keys, wrong types, impossible combinations, all at once
    ├── DataError           the data: a file, a row, a column
    ├── ModelError          the model does not fit the data or the task
    ├── RunError            a run folder: missing, damaged, locked, not writable
    └── MissingExtra        an optional dependency is not installed; names the extra
"""

from __future__ import annotations

import difflib
import importlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType


class GoodfitError(Exception):
    """A mistake that the user can mend."""


class RecipeError(GoodfitError):
    """A recipe that cannot be followed; ``problems`` lists everything wrong with it."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "" if count == 1 else f"{count} problems in the recipe:\n  - "
        super().__init__(head + "\n  - ".join(self.problems))


class DataError(GoodfitError):
    """Data that cannot be read or trained on."""


class ModelError(GoodfitError):
    """A model that does not fit the data or the task."""


class RunError(GoodfitError):
    """A run folder that is missing, damaged, in use or not writable."""


class MissingExtra(GoodfitError):
    """An optional dependency that is not installed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'optimizer'?"`` for the closest known name, or the list of a few names when none is close."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names and len(names) <= 24 else ""


def optional(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    >>> optional("json", "none").dumps(1)
    '1'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"this needs the package '{module.split('.')[0]}', which is not installed; "
            f"run: pip install 'goodfit[{extra}]'"
        ) from error


@contextmanager
def hushed(*libraries: str) -> Iterator[None]:
    """Without what these libraries log below the level of errors: what matters of it, an error of ours says."""
    logs = [logging.getLogger(name) for name in libraries]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
