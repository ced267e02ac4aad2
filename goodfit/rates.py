"""The learning rate over a run, drawn from a recipe alone, before any data is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goodfit.errors import RecipeError
from goodfit.plot import rate_charts
from goodfit.recipe import PHASE_KEYS, Recipe, make
from goodfit.technique import Duration
from goodfit.techniques import consequences
from goodfit.techniques.phases import NUMBERS, first_steps, restarting

EPOCHS, PER_EPOCH = 100, 100
"""What is assumed of the run's length, and of the data, where the recipe does not say."""


def recipe_drawing(recipe: Recipe, *, width: int = 80) -> str:
    """The learning rate (and momentum) over the run as far as the recipe tells it, and what was assumed.

    Raises RecipeError where phases do not lie within the run.
    """
    asked = recipe.flat()
    if "schedule.name" not in asked:
        return "It names no schedule, so there is none to draw; --dry-run draws the one that is chosen."
    length = Duration.parse(f"{asked['epochs']} epochs" if isinstance(asked.get("epochs"), int) else _length(asked))
    assert isinstance(length, Duration)
    total = max(length.steps(0, PER_EPOCH), 1)
    schedule = make("schedule", str(asked["schedule.name"]), _settings(asked, "schedule"))
    phases = {number: _settings(asked, f"phase.{number}") for number in NUMBERS}
    own = [
        (number, make("phase", "phase", {k: v for k, v in settings.items() if k in PHASE_KEYS}))
        for number, settings in phases.items()
        if settings
    ]
    try:
        starts = first_steps(own, total=total, steps_per_epoch=PER_EPOCH)
    except ValueError as error:
        raise RecipeError([str(error)]) from None
    asked_lrs = [(0, asked.get("optimizer.lr")), *((starts[number], phases[number].get("lr")) for number, _ in own)]
    told = all(lr is not None for _, lr in asked_lrs)
    lrs = [(start, float(lr) if told and lr is not None else 1.0) for start, lr in asked_lrs]
    later = [(starts[number], phase, None) for number, phase in own]
    rates, momenta = consequences.rates(restarting(schedule, later), lrs, total, PER_EPOCH)
    name = "learning rate" if told else "what multiplies the learning rate"
    picture = rate_charts(rates, momenta, total=total, steps_per_epoch=PER_EPOCH, width=width, name=name)
    assumed = [
        *([] if "epochs" in asked else [f"{EPOCHS} epochs"]),
        *([] if length.unit == "steps" else [f"{PER_EPOCH} steps an epoch"]),
        *(["a validation value that always gets better"] if schedule.name == "plateau" else []),
    ]
    return picture + (f"\nDrawn for {' of '.join(assumed)}; --dry-run draws it for the data." if assumed else "")


def _length(asked: Mapping[str, Any]) -> Any:
    return asked.get("epochs", f"{EPOCHS} epochs")


def _settings(asked: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The keys below a path, but for its name."""
    found = {k.removeprefix(f"{path}."): v for k, v in asked.items() if k.startswith(f"{path}.")}
    return {k: v for k, v in found.items() if k != "name"}
