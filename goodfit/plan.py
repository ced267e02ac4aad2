"""The Plan: every value of a run, resolved, each with its reason and its source."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from goodfit.data.data import Data
from goodfit.defaults import Choice, defaults
from goodfit.errors import RecipeError, nearest
from goodfit.recipe import MANY, ONE_OF, ORDER, SCALARS, SECTIONS, Recipe, make
from goodfit.technique import Duration, settings_of
from goodfit.techniques import TABLE as TECHNIQUES


@dataclass(frozen=True)
class Plan:
    """Every value of a run.

    choices: dotted key -> value with reason and source, in the order of a training step.
    data, environment: what the run was made from and on, as plain values.
    """

    choices: Mapping[str, Choice]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.choices[key].value

    def one(self, slot: str) -> Any:
        """The technique that fills a one-of slot, or a section's settings."""
        settings = {k.split(".", 1)[1]: c.value for k, c in self.choices.items() if k.startswith(slot + ".")}
        return make(slot, str(settings.pop("name", "")), settings)

    def many(self, slot: str) -> tuple[Any, ...]:
        """The techniques of a slot that takes several, in the order in which they work."""
        found: dict[str, dict[str, Any]] = {}
        for key, choice in self.choices.items():
            if key.startswith(slot + "."):
                name, _, setting = key[len(slot) + 1 :].partition(".")
                found.setdefault(name, {})
                if setting:
                    found[name][setting] = choice.value
        # The order of the table is the order of work: what moves pixels comes before what mixes samples.
        return tuple(make(slot, name, found[name]) for name in TECHNIQUES[slot] if name in found)

    def changed(self, key: str, value: Any, *, reason: str, source: str) -> Plan:
        """The same plan with one value resolved anew (a measured execution choice)."""
        return replace(self, choices={**self.choices, key: Choice(value, reason, source)})

    def recipe(self) -> Recipe:
        """A recipe that says every value outright: training it again gives this run again."""
        asked = {k: c.value for k, c in self.choices.items() if c.value is not None}
        if str(asked.get("model.name", "")).startswith("custom:"):
            asked = {k: v for k, v in asked.items() if not k.startswith("model.")}
        return Recipe().patched(asked)

    def steps(self, samples: int) -> tuple[int, int]:
        """``(steps in all, steps per epoch)`` for a train part of this many samples."""
        size = samples if self["batch_size"] == "full" else min(int(self["batch_size"]), samples)
        per_epoch = -(-samples // size)
        epochs = self["epochs"]
        length = Duration(amount=float(epochs), unit="epochs") if isinstance(epochs, int) else Duration.parse(epochs)
        assert isinstance(length, Duration)
        return max(1, length.steps(0, per_epoch)), per_epoch

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``plan.json``."""
        return {
            "format": 1,
            "choices": {k: asdict(c) for k, c in self.choices.items()},
            "data": dict(self.data),
            "environment": dict(self.environment),
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Plan:
        """Read what ``to_json`` wrote."""
        choices = {str(k): Choice(c["value"], str(c["reason"]), str(c["source"])) for k, c in values["choices"].items()}
        return Plan(choices, dict(values["data"]), dict(values["environment"]))


def resolve(recipe: Recipe, data: Data, *, device: torch.device, custom_model: str = "") -> Plan:
    """Choose everything the recipe leaves open, and refuse what cannot work, all problems at once.

    custom_model: the class name of a user's own module, which then takes the place of the model slot.
    """
    asked = recipe.flat()
    rows = defaults(data, recipe, custom_model)
    problems: list[str] = []
    choices: dict[str, Choice] = {}
    for slot in ORDER:
        if slot in SCALARS:
            choices[slot] = _asked(asked[slot]) if slot in asked else rows[slot]
        elif slot == "model" and custom_model:
            if any(k.startswith("model.") for k in asked):
                problems.append("'model' is given twice: as a module and in the recipe; leave it out of the recipe")
            choices["model.name"] = Choice(f"custom:{custom_model}", "your own module", "you")
        elif slot in SECTIONS:
            _fill(choices, slot, SECTIONS[slot], slot, asked, rows, problems)
        elif slot in ONE_OF:
            name = str(asked.get(f"{slot}.name", rows[f"{slot}.name"].value))
            choices[f"{slot}.name"] = _asked(name) if f"{slot}.name" in asked else rows[f"{slot}.name"]
            own = rows if name == rows[f"{slot}.name"].value else {}
            _fill(choices, slot, TECHNIQUES[slot][name.split(":", 1)[0]], slot, asked, own, problems)
        else:
            _fill_many(choices, slot, asked, rows, problems)
    problems += _conflicts(choices, data)
    if problems:
        raise RecipeError(problems)
    described = {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "samples": {"train": len(data.train), "valid": len(data.valid), "test": len(data.test)},
        "spec": asdict(data.spec),
        "task": asdict(data.task),
        "target_mean": data.target_mean,
        "target_std": data.target_std,
        "summary": [list(row) for row in data.summary],
    }
    return Plan(choices, json.loads(json.dumps(described)), environment(device))


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and hardware: what a result depends on beside the recipe. No names, paths or variables of the user's."""
    versions = {"python": platform.python_version()}
    for package in ("goodfit", "torch", "torchvision", "numpy", "scikit-learn"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        "versions": versions,
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": device.type,
        "accelerator": accelerator,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _asked(value: Any) -> Choice:
    return Choice(value, "asked for", "recipe")


def _fill(
    choices: dict[str, Choice],
    path: str,
    cls: type[Any],
    slot: str,
    asked: Mapping[str, Any],
    rows: Mapping[str, Choice],
    problems: list[str],
) -> None:
    """Resolve every setting of one class: asked for, else this data's default, else the class's own."""
    names = [f.name for f in fields(cls)]
    mine = [k[len(path) + 1 :] for k in asked if k.startswith(path + ".") and k != f"{path}.name"]
    for key in mine:
        if key not in names:
            owners = [n for n, c in TECHNIQUES.get(slot, {}).items() if key in {f.name for f in fields(c)}]
            hint = f"; it belongs to {', '.join(owners)}" if owners else nearest(key, names)
            problems.append(f"'{path}.{key}' is no setting of {getattr(cls, 'name', slot)}{hint}")
    settings = {key: asked[f"{path}.{key}"] for key in mine if key in names}
    for key in names:
        if key not in settings and f"{path}.{key}" in rows:
            settings[key] = rows[f"{path}.{key}"].value
    plain = settings_of(make(slot, getattr(cls, "name", slot), settings))
    for key in names:
        dotted = f"{path}.{key}"
        if key in mine:
            choices[dotted] = _asked(plain.get(key))
        elif dotted in rows:
            choices[dotted] = replace(rows[dotted], value=plain.get(key))
        else:
            choices[dotted] = Choice(plain.get(key), f"default of {getattr(cls, 'name', slot)}", "its page")


def _fill_many(
    choices: dict[str, Choice],
    slot: str,
    asked: Mapping[str, Any],
    rows: Mapping[str, Choice],
    problems: list[str],
) -> None:
    for name, cls in TECHNIQUES[slot].items():
        prefix = f"{slot}.{name}"
        wanted = any(k == prefix or k.startswith(prefix + ".") for k in asked)
        if asked.get(prefix) is False or not (wanted or prefix in rows):
            continue
        choices[prefix] = rows[prefix] if prefix in rows and not wanted else _asked(True)
        _fill(choices, prefix, cls, slot, {k: v for k, v in asked.items() if k != prefix}, rows, problems)
        choices[prefix] = replace(choices[prefix], value=True)


def _conflicts(choices: Mapping[str, Choice], data: Data) -> Iterable[str]:
    """Combinations that cannot work, each with what to do."""
    loss, kind = str(choices["loss.name"].value), data.task.kind
    fits = {
        "classification": ("cross_entropy", "bce", "focal"),
        "language": ("cross_entropy",),
        "regression": ("mse", "mae", "huber"),
        "forecast": ("mse", "mae", "huber"),
    }[kind]
    if loss not in fits:
        yield f"loss.name = '{loss}' does not fit {kind}; use one of {', '.join(fits)}"
    on = [k for k in choices if k.startswith("batch.") and k.count(".") == 1]
    mixing = [k for k in on if k in ("batch.mixup", "batch.cutmix")]
    if mixing and kind != "classification":
        yield f"'{mixing[0]}' mixes class targets, and this is {kind}; take it out"
    images = {n: c for n, c in TECHNIQUES["batch"].items() if getattr(c, "kinds", ()) and f"batch.{n}" in on}
    for name, cls in images.items():
        if data.spec.kind not in cls.kinds:
            yield f"'batch.{name}' works on {' and '.join(cls.kinds)}, and this is {data.spec.kind}; take it out"
    for slot in (*ONE_OF, *MANY):
        chosen = on if slot in MANY else [f"{slot}.{choices[f'{slot}.name'].value}"]
        for dotted in chosen:
            owner = TECHNIQUES[slot].get(dotted.split(".", 1)[1].split(":", 1)[0])
            for other in getattr(owner, "excludes", ()):
                if (
                    other in on
                    or choices.get(other.rsplit(".", 1)[0] + ".name", Choice("", "", "")).value
                    == other.rsplit(".", 1)[-1]
                ):
                    yield f"'{dotted}' and '{other}' exclude each other; choose one"
    if choices["numerics.precision"].value == "fp16" and not torch.cuda.is_available():
        yield "numerics.precision = 'fp16' needs a GPU; use 'bf16' or 'fp32' here"
