"""Run probes one by one: what one could not measure is noted with the reason, and nothing outside it is changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

Values = dict[str, Any]
"""Signal name -> value."""
Probes = Mapping[str, tuple[tuple[str, ...], Callable[[], Values]]]
"""Name -> the signals it records, and the function that records them."""


class NotRecorded(Exception):
    """A signal that could not be recorded; the message says why."""


def record(probes: Probes) -> tuple[Values, dict[str, str]]:
    """Run probes by name: what they recorded, and for signals without a value the reason."""
    values: Values = {}
    missing: dict[str, str] = {}
    for signals, probe in probes.values():
        try:
            with generators_kept(), torch.enable_grad():
                values |= probe()
        except NotRecorded as error:
            missing |= dict.fromkeys(signals, str(error))
        # A user's module may raise anything; a probe that fails must not take the run with it.
        except Exception as error:
            missing |= dict.fromkeys(signals, f"the probe failed: {said(error)}")
    return values, missing


@contextmanager
def generators_kept() -> Iterator[None]:
    """Whatever is drawn inside leaves the generators of PyTorch, NumPy and Python as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def said(error: BaseException) -> str:
    """An exception in one line of at most 160 characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:160]
