"""Runs a small training program under observation and tells what was found."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable

import torch

from goodfit.watching import Watch


def found(program: Callable[[], object]) -> list[tuple[str, str, int]]:
    """``(rule, where, step)`` of each error and warning; nothing may have failed inside the watch."""
    torch.manual_seed(0)
    with warnings.catch_warnings(), Watch() as watch:
        warnings.simplefilter("ignore")  # PyTorch warns of some faults itself; that is not what is tested
        program()
    assert not watch.hooks.failed, watch.hooks.failed
    return [(one.rule, one.where, int(one.step or 0)) for one in watch.findings if one.severity != "advice"]


def line_of(program: Callable[[], object], text: str) -> int:
    """The number of the line of a program's source that holds this text."""
    lines, first = inspect.getsourcelines(program)
    return first + next(k for k, line in enumerate(lines) if text in line)
