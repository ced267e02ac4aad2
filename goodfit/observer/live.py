"""What listeners record while a program runs: named values, the step, and how things are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from goodfit.observer.names import Names
from goodfit.observer.source import Line, here


@dataclass
class Live:
    """The columns that rules read. Plain values only: numbers, texts, tuples of these, small dataclasses of them.

    values: signal -> value. missing: signal -> why it could not be recorded. step: optimizer updates so far, of all
    optimizers together. names: what parameters and modules are called.
    """

    values: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    step: int = 0
    names: Names = field(default_factory=Names)
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, signal: str, one: Any, *, most: int = 50) -> None:
        """Append to a signal that is a list; beyond ``most`` they are only counted (``count``)."""
        held = self.values.setdefault(signal, [])
        self._counts[signal] += 1
        if len(held) < most:
            held.append(one)

    def once(self, signal: str, key: Any, make: Callable[[], Any]) -> None:
        """Keep one value for each key of a signal that is a dict: the first."""
        held = self.values.setdefault(signal, {})
        if key not in held:
            held[key] = make()

    def count(self, signal: str) -> int:
        """How often ``add`` was called for a signal."""
        return self._counts[signal]

    def where(self) -> Line:
        """The line of the user's program that is running."""
        return here(2)
