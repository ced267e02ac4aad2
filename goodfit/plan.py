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
from goodfit.plot import rate_charts
from goodfit.pretrained import is_pretrained
from goodfit.recipe import MANY, ONE_OF, ORDER, PHASE_KEYS, SCALARS, SECTIONS, Recipe, make
from goodfit.rules import RULES
from goodfit.technique import Duration, settings_of
from goodfit.techniques import TABLE as TECHNIQUES
from goodfit.techniques import consequences
from goodfit.techniques.numerics import refusals
from goodfit.techniques.phases import NUMBERS, Phase, first_steps, restarting


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

    @property
    def mirrors(self) -> list[str]:
        """The keys that show mirrored images to the model, in training or at prediction."""
        looks = "tta" in self.choices and self["tta"] in ("flip", "flip_shift")
        return [key for key, on in (("batch.flip", "batch.flip" in self.choices), ("tta", looks)) if on]

    def changed(self, key: str, value: Any, *, reason: str, source: str) -> Plan:
        """The same plan with one value resolved anew (a measured execution choice)."""
        return replace(self, choices={**self.choices, key: Choice(value, reason, source)})

    def recipe(self) -> Recipe:
        """A recipe that says every value outright: training it again gives this run again."""
        asked = {k: c.value for k, c in self.choices.items() if c.value is not None}
        # What was taken out of the defaults must be said, too.
        asked |= {f"batch.{name}": False for name in TECHNIQUES["batch"] if f"batch.{name}" not in asked}
        if str(asked.get("model.name", "")).startswith("custom:"):
            asked = {k: v for k, v in asked.items() if not k.startswith("model.") or k == "model.dropout"}
        return Recipe().patched(asked)

    def phases(self, samples: int) -> list[tuple[int, Phase, Any]]:
        """``(first step, phase, optimizer)`` of each phase after the first.

        Raises RecipeError unless they begin within the run, one after the other.
        """
        found: list[tuple[str, Phase, Any]] = []
        for number in NUMBERS:
            settings = {k[8:]: c.value for k, c in self.choices.items() if k.startswith(f"phase.{number}.")}
            if settings:
                name, own = str(settings.pop("name")), {k: settings.pop(k) for k in PHASE_KEYS}
                found.append((number, make("phase", "phase", own), make("optimizer", name, settings)))
        total, per_epoch = self.steps(samples)
        try:
            starts = first_steps([(n, phase) for n, phase, _ in found], total=total, steps_per_epoch=per_epoch)
        except ValueError as error:
            raise RecipeError([str(error)]) from None
        return [(starts[n], phase, optimizer) for n, phase, optimizer in found]

    def batch_size(self, samples: int) -> int:
        """Samples per optimizer update of a train part of this many."""
        return samples if self["batch_size"] == "full" else min(int(self["batch_size"]), samples)

    def drawing(self, samples: int, *, width: int = 80) -> str:
        """The learning rate (and momentum, where it is cycled) over the run, as text."""
        total, per_epoch = self.steps(samples)
        later, size = self.phases(samples), self.batch_size(samples)
        optimizers = [(0, self.one("optimizer")), *((start, optimizer) for start, _, optimizer in later)]
        lrs = [(start, consequences.rate(optimizer, size)[0]) for start, optimizer in optimizers]
        found = consequences.rates(restarting(self.one("schedule"), later), lrs, total, per_epoch)
        return rate_charts(*found, total=total, steps_per_epoch=per_epoch, width=width)

    def steps(self, samples: int) -> tuple[int, int]:
        """``(steps in all, steps per epoch)`` for a train part of this many samples."""
        per_epoch = -(-samples // self.batch_size(samples))
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
            given = {slot: asked[slot]} if slot in asked else {}
            choices[slot] = _asked(settings_of(make("run", "", given)).get(slot, asked[slot])) if given else rows[slot]
        elif slot == "model" and custom_model:
            if any(k.startswith("model.") and k != "model.dropout" for k in asked):
                problems.append("'model' is given twice: as a module and in the recipe; leave it out of the recipe")
            choices["model.name"] = Choice(f"custom:{custom_model}", "your own module", "you")
            if "model.dropout" in asked:
                choices["model.dropout"] = _asked(asked["model.dropout"])
        elif slot in SECTIONS:
            _fill(choices, slot, SECTIONS[slot], slot, asked, rows, problems)
        elif slot == "phase":
            _fill_phases(choices, asked, problems)
        elif slot in ONE_OF:
            name = str(asked.get(f"{slot}.name", rows[f"{slot}.name"].value))
            choices[f"{slot}.name"] = _asked(name) if f"{slot}.name" in asked else rows[f"{slot}.name"]
            own = rows if name == rows[f"{slot}.name"].value else {}
            _fill(choices, slot, TECHNIQUES[slot][name.split(":", 1)[0]], slot, asked, own, problems)
        else:
            _fill_many(choices, slot, asked, rows, problems)
    problems += _conflicts(choices, data, device)
    names = [rule.name for rule in RULES]
    problems += [
        f"'ignore': there is no rule '{n}'{nearest(n, names)}" for n in choices["ignore"].value if n not in names
    ]
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
    where = environment(device)
    where["threads"] = choices["numerics.threads"].value or where["threads"]
    plan = _with_weights(Plan(choices, json.loads(json.dumps(described)), where), data)
    return _with_consequences(plan, len(data.train))


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


def _fill_phases(choices: dict[str, Choice], asked: Mapping[str, Any], problems: list[str]) -> None:
    """Resolve later phases: one with the first's optimizer has the first's settings but for those asked for."""
    first = {k[len("optimizer.") :]: c for k, c in choices.items() if k.startswith("optimizer.")}
    for number in NUMBERS:
        path = f"phase.{number}"
        mine = {k: v for k, v in asked.items() if k.startswith(path + ".")}
        if not mine and path not in asked:
            continue
        own = {k: v for k, v in mine.items() if k.removeprefix(path + ".") in PHASE_KEYS}
        _fill(choices, path, Phase, "phase", own, {}, problems)
        name = str(mine.get(f"{path}.name", first["name"].value))
        same = "as in [optimizer]"
        choices[f"{path}.name"] = _asked(name) if f"{path}.name" in mine else replace(first["name"], reason=same)
        rows = {f"{path}.{k}": replace(c, reason=same) for k, c in first.items()} if name == first["name"].value else {}
        rest = {k: v for k, v in mine.items() if k not in own}
        _fill(choices, path, TECHNIQUES["optimizer"][name], "optimizer", rest, rows, problems)


def _with_weights(plan: Plan, data: Data) -> Plan:
    """The same plan with what its loss takes from the training part, and its reasons with what smoothing makes."""
    loss, classes = plan.one("loss"), data.task.classes
    if data.task.kind == "classification" and hasattr(loss, "for_counts"):
        filled = loss.for_counts(torch.bincount(data.train.targets, minlength=len(classes)))
        for key, values in ((k, getattr(filled, k, None)) for k in ("weights", "priors")):
            if values is not None:
                words = [f"{name} {value:.3g}" for name, value in zip(classes, values, strict=True)]
                said = ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")
                plan = plan.changed(f"loss.{key}", list(values), reason=said, source="the training part's counts")
    smoothing, count = getattr(loss, "label_smoothing", 0.0), max(data.task.outputs, 2)
    if smoothing:
        choice, wrong = plan.choices["loss.label_smoothing"], smoothing / count
        said = f"targets are {1 - smoothing + wrong:.4g} for the right class, {wrong:.4g} for each other"
        plan = plan.changed(
            "loss.label_smoothing", choice.value, reason=f"{choice.reason}; {said}", source=choice.source
        )
    return plan


def _with_consequences(plan: Plan, samples: int) -> Plan:
    """The same plan, its reasons telling what rates, decay and durations come to in steps of this run."""
    total, per_epoch = plan.steps(samples)
    later, size = plan.phases(samples), plan.batch_size(samples)
    said: dict[str, list[str]] = {}
    schedule = plan.one("schedule")
    curve = consequences.factors(restarting(schedule, later), total, per_epoch)
    numbers = [number for number in NUMBERS if f"phase.{number}.name" in plan.choices]
    parts = [("optimizer", plan.one("optimizer"))]
    parts += [(f"phase.{number}", optimizer) for number, (_, _, optimizer) in zip(numbers, later, strict=True)]
    starts = [0, *(start for start, *_ in later), total]
    for (path, optimizer), start, end in zip(parts, starts[:-1], starts[1:], strict=True):
        lr, scaled = consequences.rate(optimizer, size)
        inside = [factor for step, factor in curve.items() if start <= step < end]
        stride = (end - start) / max(len(inside), 1)
        said[f"{path}.lr"] = [scaled]
        said[f"{path}.weight_decay"] = [consequences.decay(optimizer, lr, inside, stride)]
        if start:
            said[f"{path}.after"] = [f"step {start:,} of {total:,}"]
    anew = [start for start, phase, _ in later if phase.schedule == "restart"]
    for one in fields(schedule):
        span = getattr(schedule, one.name)
        if isinstance(span, Duration) and span.amount and span.unit != "steps":
            steps = span.steps(anew[0] if anew else total, per_epoch)
            said[f"schedule.{one.name}"] = [f"{steps:,} steps" + (" of the first phase" if anew else "")]
    choices = {
        key: replace(choice, reason="; ".join([choice.reason, *filter(None, said.get(key, []))]))
        for key, choice in plan.choices.items()
    }
    return replace(plan, choices=choices)


def _conflicts(choices: Mapping[str, Choice], data: Data, device: torch.device) -> Iterable[str]:
    """Combinations that cannot work, each with what to do."""
    loss, kind = str(choices["loss.name"].value), data.task.kind
    fits = {
        "classification": ("cross_entropy", "bce", "focal", "distill"),
        "language": ("cross_entropy", "focal", "distill"),
        "sequence": ("cross_entropy",),
        "regression": ("mse", "mae", "huber"),
        "forecast": ("mse", "mae", "huber"),
    }[kind]
    if loss not in fits:
        yield f"loss.name = '{loss}' does not fit {kind}; use one of {', '.join(fits)}"
    model = str(choices["model.name"].value)
    if is_pretrained({k: c.value for k, c in choices.items()}) and choices["init.name"].value != "keep":
        yield "init.name would draw the pretrained weights anew; leave it out, or set model.pretrained = false"
    own = choices.get("optimizer.layer_decay")
    if "transfer.layer_decay" in choices and own is not None and own.value != 1.0:
        yield "optimizer.layer_decay and transfer.layer_decay are the same thing; set the latter alone"
    if choices["sampling.name"].value == "streams" and (
        kind != "language" or not model.startswith(("rnn", "lstm", "gru", "custom:"))
    ):
        yield (
            f"sampling.name = 'streams' carries a recurrent net's state along a text; the model is '{model}' and the "
            f"task {kind}; use sampling.name = 'shuffle', or model.name = 'lstm' on a text"
        )
    if choices["task.threshold"].value in ("f1", "balanced_accuracy") and not data.task.binary:
        yield "'task.threshold' cuts the probability of one of two classes; take it out"
    off = {"loss.class_weight": "none", "loss.logit_adjustment": 0, "loss.pos_weight": 1, "loss.alpha": None}
    weighed = [k for k, neutral in off.items() if k in choices and choices[k].value != neutral]
    balanced = choices["sampling.name"].value == "balanced"
    if kind != "classification":
        for key in [*weighed, *(["sampling.name = balanced"] if balanced else [])]:
            yield f"'{key}' counts the samples of each class, and this is {kind}; take it out"
    elif balanced and weighed and choices["sampling.power"].value and not choices["sampling.combine"].value:
        yield (
            f"'sampling.name = balanced' and '{weighed[0]}' correct the same imbalance, together twice; take one out, "
            "or set sampling.combine = true"
        )
    on = [k for k in choices if k.startswith("batch.") and k.count(".") == 1]
    mixing = [k for k in on if k in ("batch.mixup", "batch.cutmix")]
    if mixing and kind != "classification":
        yield f"'{mixing[0]}' mixes class targets, and this is {kind}; take it out"
    if choices["tta"].value != "none" and data.spec.kind != "image":
        yield f"tta = '{choices['tta'].value}' takes several views of images, and this is {data.spec.kind}; use 'none'"
    if "batch.minority" in on:
        if kind != "classification":
            yield f"'batch.minority' counts classes, and this is {kind}; take it out"
        elif not set(on) - set(mixing) - {"batch.minority", "batch.grow"}:
            yield "'batch.minority' gives rare classes more of the other augmentations, and none is on; add one"
    images = {n: c for n, c in TECHNIQUES["batch"].items() if getattr(c, "kinds", ()) and f"batch.{n}" in on}
    for name, cls in images.items():
        if data.spec.kind not in cls.kinds:
            yield f"'batch.{name}' works on {' and '.join(cls.kinds)}, and this is {data.spec.kind}; take it out"
        elif why := getattr(cls, "refuses", lambda *_: "")(data.spec, model):
            yield f"'batch.{name}' {why}" + ("" if ";" in why else "; take it out")
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
    restarts = [k for k, c in choices.items() if k.startswith("phase.") and c.value == "restart"]
    if restarts and choices["schedule.name"].value == "plateau":
        yield f"'{restarts[0]}' = 'restart' does not fit 'plateau', which looks at the whole history; use 'continue'"
    yield from refusals(choices["numerics.precision"].value, device)
