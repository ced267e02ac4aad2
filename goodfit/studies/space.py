"""What a search searches: ``optimizer.lr=1e-4..1e-1:log,model.width=32|64|128`` as ranges and choices."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goodfit.errors import RecipeError, nearest
from goodfit.recipe import keys, parse_set

EDGE = 0.05
"""A best value this near to an end of its range (as a share of it) lies at the edge."""


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``; whole ones where both ends were written so; evenly by their logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def points(self, count: int) -> list[Any]:
        """So many values from end to end, for a grid."""
        made = []
        for k in range(count):
            share = k / (count - 1)
            value = (
                self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)
            )
            made.append(round(value) if self.whole else float(f"{value:.4g}"))
        return sorted(set(made))

    def edge(self, value: Any) -> str:
        """``"low"`` or ``"high"`` where a value lies at that end, else ``""``."""
        share = self.place(float(value))
        return "low" if share < EDGE else "high" if share > 1 - EDGE else ""


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: tuple[Any, ...]

    def points(self, count: int) -> list[Any]:
        """All of them."""
        return list(self.values)

    def place(self, value: Any) -> float:
        """Where a value stands among them, from 0 to 1."""
        return self.values.index(value) / max(len(self.values) - 1, 1)

    def edge(self, value: Any) -> str:
        """As of a range, where the values are numbers in order and at least three."""
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in self.values)
        if not numbers or len(self.values) < 3 or list(self.values) != sorted(self.values):
            return ""
        return "low" if value == self.values[0] else "high" if value == self.values[-1] else ""


Space = Mapping[str, Range | Choice]


def space_from(over: str | Sequence[str] | Mapping[str, Any]) -> dict[str, Range | Choice]:
    """A search space from its words.

    ``KEY=LOW..HIGH``, ``KEY=LOW..HIGH:log`` or ``KEY=A|B|C``, several with commas between them; from Python a mapping
    of keys to those texts, to lists of values or to a `Range`. Raises RecipeError naming every problem.

    >>> space_from("optimizer.lr=1e-4..1e-1:log,model.width=32|64")
    {'optimizer.lr': Range(low=0.0001, high=0.1, log=True, whole=False), 'model.width': Choice(values=(32, 64))}
    """
    if isinstance(over, Mapping):
        rows = [(key, value) for key, value in over.items()]
    else:
        texts = [over] if isinstance(over, str) else list(over)
        rows = []
        for part in (one for text in texts for one in re.split(r",(?=\s*[\w.]+\s*=)", text) if one.strip()):
            key, _, value = part.partition("=")
            rows.append((key.strip(), value.strip()))
    known, problems, made = keys(), [], {}
    for key, value in rows:
        if key not in known:
            problems.append(f"unknown key '{key}'{nearest(key, known)}")
            continue
        if key == "seed" or key.startswith(("data.", "task.")):
            problems.append(f"'{key}' is no setting to search: it changes what is asked, not how well it is answered")
            continue
        found = value if isinstance(value, Range | Choice) else _one(key, value)
        problems += [found] if isinstance(found, str) else []
        if not isinstance(found, str):
            made[key] = found
    if problems:
        raise RecipeError(problems)
    if not made:
        raise RecipeError(["say what to search: --over optimizer.lr=1e-4..1e-1:log,model.width=32|64|128"])
    return made


def _one(key: str, value: Any) -> Range | Choice | str:
    if isinstance(value, list | tuple):
        return Choice(tuple(value)) if len(value) > 1 else f"'{key}' has one value; put it into the recipe"
    text = str(value)
    spread = re.fullmatch(r"\s*([-+.\deE]+)\s*\.\.\s*([-+.\deE]+?)\s*(:log)?\s*", text)
    if not spread:
        parts = [one.strip() for one in text.split("|") if one.strip()]
        if len(parts) < 2:
            return f"'{key}={text}': write a range such as 1e-4..1e-1:log or values such as 32|64|128"
        return Choice(tuple(next(iter(parse_set(f"{key}={one}").values())) for one in parts))
    try:
        low, high = float(spread[1]), float(spread[2])
    except ValueError:
        return f"'{key}={text}': {spread[1]} to {spread[2]} are no numbers"
    if not low < high:
        return f"'{key}={text}': the first number must be the smaller one"
    if spread[3] and low <= 0:
        return f"'{key}={text}': a logarithmic range begins above 0"
    return Range(low, high, bool(spread[3]), all(re.fullmatch(r"[-+]?\d+", one) for one in (spread[1], spread[2])))
