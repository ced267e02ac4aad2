"""``goodfit check RUN --try``: train a run again with what its findings suggest, and say what that changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from goodfit.errors import RunError
from goodfit.job import train
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.types import Finding


def try_patches(folder: Path, findings: Iterable[Finding], screen: Screen) -> list[tuple[Finding, Run, str]]:
    """One new run for each finding that carries a patch of the recipe, beside the old one, and the difference in words.

    Raises RunError where no finding carries a patch, or the run's source cannot be read again by its name.
    """
    carry = [one for one in findings if one.patch]
    if not carry:
        raise RunError(f"{folder}: no finding carries a change of the recipe that could be tried")
    run = Run(folder)
    if not run.source:
        raise RunError(
            f"{folder}: its data was given in Python and cannot be read again; use goodfit.train with the patch"
        )
    made = []
    for one in carry:
        again = train(run.source, recipe=run.recipe.patched(one.patch), out=_beside(folder, one.rule), screen=screen)
        made.append((one, again, difference(run.results, again.results)))
    return made


def difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The headline of two results beside each other, with its interval."""
    name = str(before.get("headline", ""))
    old, new = (results.get("metrics", {}).get(name, {}) for results in (before, after))
    if not isinstance(old.get("value"), int | float) or not isinstance(new.get("value"), int | float):
        return "the results cannot be compared"
    gain = new["value"] - old["value"]
    better = gain > 0 if old.get("better", "higher") == "higher" else gain < 0
    apart = all(isinstance(r.get(k), int | float) for r in (old, new) for k in ("low", "high"))
    sure = apart and (new["low"] > old["high"] or new["high"] < old["low"])
    verdict = "the same" if gain == 0 else "better" if better else "worse"
    doubt = "" if sure or gain == 0 else ", within the intervals of both"
    return f"{name} {old['value']:.4g} before, {new['value']:.4g} with it: {verdict}{doubt}"


def _beside(folder: Path, rule: str) -> Path:
    place, number = folder.with_name(f"{folder.name}-{rule}"), 2
    while place.exists():
        place, number = folder.with_name(f"{folder.name}-{rule}-{number}"), number + 1
    return place
