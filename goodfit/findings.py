"""What ``goodfit check`` says of a finished run folder and of a data set: findings that need no program to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goodfit import store
from goodfit.data import read
from goodfit.errors import RunError
from goodfit.hindsight import hindsight
from goodfit.plan import Plan
from goodfit.program import GRAVITY, Checked
from goodfit.recipe import DataSettings, Recipe, TaskSettings, make
from goodfit.trust import check_folder, strange
from goodfit.types import Finding


def of_run(folder: Path) -> Checked:
    """The findings that a run of ``goodfit train`` has written down: of its data, its model and its training.

    Raises RunError where the folder is no run or is damaged.
    """
    if not (folder / "plan.json").is_file():
        raise RunError(f"{folder} is no run folder: it holds no plan.json; see what lies in runs/")
    check_folder(folder)
    with strange(folder, "findings"):
        findings = [_finding(one) for one in _read(folder / "findings.json")]
        verdicts = [
            (str(one["name"]), str(one["text"]).removeprefix("not checked: "))
            for one in _read(folder / "preflight.json")
            if one["outcome"] == "not checked"
        ]
        if any(one.severity not in GRAVITY for one in findings):
            raise RunError(f"{folder} is damaged: a finding is neither an error, a warning nor advice")
        results = store.read_json(folder / "results.json") if (folder / "results.json").exists() else {}
        known = {one.rule for one in findings}
        findings += [one for one in of_course(folder) if one.rule not in known]
        return Checked(tuple(findings), tuple(verdicts), int(results.get("steps", 0)))


def of_course(folder: Path) -> list[Finding]:
    """What the course of a run's metrics shows: overfitting, a loss that still falls, predictions too sure."""
    path = folder / "metrics.jsonl"
    try:
        if not path.exists():
            return []
        plan = Plan.from_json(store.read_json(folder / "plan.json"))
        total, per_epoch = plan.steps(int(plan.data["samples"]["train"]))
        return hindsight(store.read_lines(path), total / per_epoch)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder} is damaged or of another version: {error!r}") from error


def of_data(source: str, *, target: str | None = None, recipe: Recipe | None = None) -> tuple[Checked, Any]:
    """The audit of a data set, and the lines that describe it. Raises DataError where it cannot be read."""
    flat = recipe.flat() if recipe is not None else {}
    settings: dict[str, dict[str, Any]] = {
        slot: {key.split(".", 1)[1]: value for key, value in flat.items() if key.startswith(slot + ".")}
        for slot in ("data", "task")
    }
    if target is not None:
        settings["data"]["target"] = target
    data_settings: DataSettings = make("data", "", settings["data"])
    task: TaskSettings = make("task", "", settings["task"])
    data = read(source, data_settings, task, seed=int(flat.get("seed", 0)))
    return Checked(tuple(data.findings)), data.summary


def _finding(one: dict[str, Any]) -> Finding:
    return Finding(**{**one, "folded": tuple(one.get("folded", ()))})


def _read(path: Path) -> list[dict[str, Any]]:
    return list(store.read_json(path)) if path.exists() else []
