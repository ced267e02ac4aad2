"""What a technique is: one frozen dataclass that fills one slot of the recipe.

Its fields are its settings (with their ranges in the annotation), its docstring is its page, its call is the work.
From the class
follow the recipe key, ``--set``, ``goodfit explain``, its row in ``goodfit list`` and its contract tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar, dataclass_transform, get_type_hints

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

C = TypeVar("C", bound=type)

# The ranges that settings use again and again.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
"""A share in [0, 1]."""
Chance = Annotated[float, Field(ge=0, lt=1)]
"""A probability in [0, 1)."""
Count = Annotated[int, Field(ge=1)]


@checked_dataclass(frozen=True)
class Duration:
    """A length of training with its unit: ``"5 epochs"``, ``"2000 steps"`` or ``"10%"`` of the run.

    >>> Duration.parse("10%").steps(total=500, steps_per_epoch=50)
    50
    >>> str(Duration.parse("1 epoch"))
    '1 epoch'
    >>> Duration.parse_end("-2 epochs").end(total=500, steps_per_epoch=50)
    400
    """

    amount: float
    unit: Literal["epochs", "steps", "percent"]

    @staticmethod
    def parse(text: object) -> object:
        """Read a duration; what is no text is handed back for the type check to refuse."""
        if isinstance(text, Duration):
            return text
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*(epochs?|steps?|%|percent)\s*", str(text))
        if not found:
            raise ValueError(
                f"{text!r} is no duration; write it with its unit, such as '5 epochs', '2000 steps' or '10%'"
            )
        unit = {"e": "epochs", "s": "steps"}.get(found[2][0], "percent")
        amount = float(found[1])
        if unit == "steps" and amount != int(amount):
            raise ValueError(f"{text!r}: steps come whole")
        if unit == "percent" and amount > 100:
            raise ValueError(f"{text!r}: a share of the run is at most 100%")
        return Duration(amount=amount, unit=unit)  # type: ignore[arg-type]

    @staticmethod
    def parse_end(text: object) -> object:
        """Read a duration; with a minus before it, it is counted back from the end of the run."""
        back = isinstance(text, str) and text.strip().startswith("-")
        found = Duration.parse(str(text).strip()[1:] if back else text)
        if not back or not isinstance(found, Duration):
            return found
        if found.amount == 0:
            raise ValueError(f"{text!r} before the end is the end; leave it out")
        return Duration(amount=-found.amount, unit=found.unit)

    def end(self, total: int, steps_per_epoch: int) -> int:
        """The step at which so much has passed; of a negative duration, the step after which so much is left."""
        return self.steps(total, steps_per_epoch) + (total if self.amount < 0 else 0)

    def steps(self, total: int, steps_per_epoch: int) -> int:
        """The same in optimizer updates, rounded to the nearest."""
        scale = {"epochs": float(steps_per_epoch), "steps": 1.0, "percent": total / 100}[self.unit]
        return round(self.amount * scale)

    def __str__(self) -> str:
        unit = "%" if self.unit == "percent" else f" {self.unit[:-1] if abs(self.amount) == 1 else self.unit}"
        return f"{self.amount:g}{unit}"


Span = Annotated[Duration, BeforeValidator(Duration.parse)]
"""The type of a setting that is a duration."""
Until = Annotated[Duration, BeforeValidator(Duration.parse_end), "or back from the end: '-5 epochs'"]
"""The type of a setting that says when something ends: so far into the run, or so long before its end."""


class Technique:
    """Marks the classes that ``technique`` made; gives them their slot and name."""

    slot: ClassVar[str]
    name: ClassVar[str]
    excludes: ClassVar[tuple[str, ...]] = ()
    """Dotted keys of techniques that cannot be used together with this one."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def technique(slot: str, name: str = "") -> Callable[[C], C]:
    """Make a class a technique: a frozen dataclass whose settings are checked when it is made.

    name: the word in the recipe; the class's name in snake case unless given.
    """

    def make(cls: C) -> C:
        cls.slot = slot  # type: ignore[attr-defined]
        cls.name = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()  # type: ignore[attr-defined]
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
        return checked_dataclass(frozen=True, kw_only=True, config=config)(cls)  # type: ignore[return-value]

    return make


def settings_of(made: Any) -> dict[str, Any]:
    """A technique's settings as plain values, as a recipe holds them; durations become text, None is left out."""
    if not is_dataclass(made):
        raise TypeError(f"{made!r} is no technique")
    values: dict[str, Any] = {}
    for one in fields(made):
        value = getattr(made, one.name)
        if value is None:
            continue
        if isinstance(value, tuple):
            value = [str(v) if isinstance(v, Duration) else v for v in value]
        values[one.name] = str(value) if isinstance(value, Duration) else value
    return values


def problems_with(kind: type, key: str, value: Any) -> str:
    """What is wrong with one setting of a technique class, or an empty text. ``value`` is a plain value."""
    adapter = _adapter(kind, key)
    try:
        adapter.validate_python(value)
    except pydantic.ValidationError as error:
        return plain_words(error, value)
    return ""


def plain_words(error: pydantic.ValidationError, value: Any) -> str:
    """A validation error in one plain clause."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    message = (
        message.replace("Input should be", "must be")
        .replace("a valid integer", "a whole number")
        .replace("a valid", "a")
    )
    return message if repr(value) in message else f"{value!r}: {message}"


_ADAPTERS: dict[tuple[type, str], pydantic.TypeAdapter[Any]] = {}


def _adapter(kind: type, key: str) -> pydantic.TypeAdapter[Any]:
    if (kind, key) not in _ADAPTERS:
        _ADAPTERS[kind, key] = pydantic.TypeAdapter(get_type_hints(kind, include_extras=True)[key])
    return _ADAPTERS[kind, key]
