"""The arms of an ablation, from words: toggles, values, everything removed in turn, a ladder of augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from goodfit.errors import RecipeError, nearest
from goodfit.plan import Plan
from goodfit.recipe import Recipe, keys, parse_set
from goodfit.studies.study import Arm
from goodfit.techniques import TABLE

DEFAULT = "default"


class Switch(NamedTuple):
    """A recipe key that can be on or off. source: where the value that means on comes from."""

    key: str
    on: Any
    off: Any
    source: str


SWITCHES: Mapping[str, Switch] = {
    "label_smoothing": Switch("loss.label_smoothing", 0.1, 0.0, "Szegedy et al. 2016"),
    "dropout": Switch("model.dropout", 0.2, 0.0, "our choice; Srivastava et al. 2014: 0.2 of inputs, 0.5 of units"),
    "weight_decay": Switch("optimizer.weight_decay", 0.05, 0.0, "Touvron et al. 2021 (DeiT, with AdamW)"),
    "warmup": Switch("schedule.warmup", "5%", "0 steps", "our choice"),
    "clip": Switch("clip.norm", 1.0, "none", "Brown et al. 2020 (GPT-3)"),
    "l1": Switch("penalty.l1", 1e-4, 0.0, "our choice"),
    "l2": Switch("penalty.l2", 1e-4, 0.0, "our choice"),
    "tta": Switch("tta", "flip", "none", "Krizhevsky et al. 2012: reflections are averaged"),
}
"""What can be switched by name and is no technique of a slot. What is on in the recipe is switched off."""
NEUTRAL: Mapping[str, str] = {
    "average": "none",
    "gradient": "plain",
    "stopping": "none",
    "sampling": "shuffle",
    "schedule": "constant",
    "transfer": "none",
}
"""The technique of each slot that does nothing of its own."""
LADDERS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "augmentation": {
        "image": ("flip", "crop", "cutout", "trivial_augment", "mixup", "cutmix"),
        "text": ("word_drop", "word_swap", "embedding_mixup"),
        "table": ("noise", "mixup"),
        "tensor": ("noise", "mixup"),
        "series": ("scaling", "noise", "window_slice"),
    }
}
"""Rungs by kind of data; their order, from what changes a sample least to what changes it most, is our choice.

Images: mirrors and crops (Krizhevsky et al. 2012), cutout (DeVries and Taylor 2017), TrivialAugment (Müller and Hutter
2021), mixup (Zhang et al. 2018), CutMix (Yun et al. 2019). Texts: words left out and swapped (Wei and Zou 2019), mixup
of embeddings (Guo et al. 2019). Numbers: noise (Bishop 1995), mixup. Series: scaling and noise (Um et al. 2017), slices
(Le Guennec et al. 2016). How strong each is, is the technique's own default, with its source on its page."""


@dataclass(frozen=True)
class Comparison:
    """An arm and what it is set beside, by name."""

    arm: Arm
    against: str | None = None

    def against_or(self, reference: str) -> str:
        """What it is set beside: the study's reference unless said."""
        return self.against or reference


def toggled(names: Sequence[str], plan: Plan) -> list[Comparison]:
    """One arm for each name, which switches it: off where the plan has it, else on.

    A name is a batch technique (``mixup``), a technique of a slot (``ema``, ``sam``, ``balanced``), one of ``SWITCHES``
    or a key that ends in one of them. Raises RecipeError with the nearest name for others, all at once.
    """
    known = {*TABLE["batch"], *SWITCHES, *(n for slot in NEUTRAL for n in TABLE[slot] if n != NEUTRAL[slot])}
    unknown = [name for name in names if name.rpartition(".")[2] not in known]
    if unknown:
        raise RecipeError(
            [f"'{n}' is nothing that can be switched{nearest(n.rpartition('.')[2], known)}" for n in unknown]
        )
    return [Comparison(_toggle(name.rpartition(".")[2], plan)) for name in names]


def valued(texts: Sequence[str], plan: Plan) -> list[Comparison]:
    """One arm for each value of ``key=a,b,c``; a value that the plan has anyway is the default and no arm."""
    made = []
    known = keys()
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not values.strip():
            raise RecipeError([f"--set {text!r}: write it as key=a,b,c, such as --set model.width=32,64"])
        if key.strip() not in known:
            raise RecipeError([f"unknown key '{key.strip()}'{nearest(key.strip(), known)}"])
        for value in values.split(","):
            patch = parse_set(f"{key}={value}")
            ((dotted, plain),) = patch.items()
            if dotted in plan.choices and plan.choices[dotted].value == plain:
                continue
            made.append(Comparison(Arm(f"{dotted}={value.strip()}", patch)))
    if texts and not made:
        raise RecipeError([f"--set {texts[0]}: the default has this value already; give others"])
    return made


def each_removed(plan: Plan) -> list[Comparison]:
    """One arm for each technique that the plan has on, which takes it out."""
    on = [n for n in TABLE["batch"] if f"batch.{n}" in plan.choices]
    on += [name for name, one in SWITCHES.items() if _has(plan, one.key, one.off)]
    on += [str(plan[f"{slot}.name"]) for slot, none in NEUTRAL.items() if plan[f"{slot}.name"] != none]
    if not on:
        raise RecipeError(["the recipe has nothing that could be removed; use --toggle to try something"])
    return [Comparison(_toggle(name, plan)) for name in on]


def ladder(name: str, plan: Plan) -> list[Comparison]:
    """Rungs that each add one technique to the rung before, which they are set beside; the lowest has none."""
    if name not in LADDERS:
        raise RecipeError([f"there is no ladder '{name}'{nearest(name, LADDERS)}"])
    kind = str(plan.data["spec"]["kind"])
    rungs = LADDERS[name].get(kind, ())
    if not rungs:
        raise RecipeError([f"there is no ladder of {name} for {kind} data"])
    off = {f"batch.{n}": False for n in TABLE["batch"] if f"batch.{n}" in plan.choices}
    mirror = "flip" if "tta" not in plan.choices or plan["tta"] == "none" else ""
    made, on, below = [Comparison(Arm("no augmentation", off))], dict(off), "no augmentation"
    for rung in rungs:
        if rung == "flip" and kind == "image" and "batch.flip" not in plan.choices and mirror:
            continue  # pre-flight or the data said that mirror images are other things (digits, letters)
        on = {**on, f"batch.{rung}": True}
        made.append(Comparison(Arm(f"+ {rung}", dict(on)), below))
        below = f"+ {rung}"
    return made


def refuse_twins(plans: Mapping[str, Plan]) -> None:
    """Raise RecipeError where two arms come to the same plan: their difference would be 0 and mean nothing."""
    seen: dict[str, str] = {}
    problems = []
    for name, plan in plans.items():
        same = str(sorted((k, str(c.value)) for k, c in plan.choices.items() if k != "seed"))
        if same in seen:
            problems.append(f"the arms '{seen[same]}' and '{name}' are the same recipe; leave one of them out")
        seen.setdefault(same, name)
    if problems:
        raise RecipeError(problems)


def named_twice(arms: Sequence[Arm]) -> None:
    """Raise RecipeError where two arms have one name."""
    names = [arm.name for arm in arms]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(
            [f"the arm '{name}' is given twice; leave one out, or name them differently" for name in twice]
        )


def _toggle(name: str, plan: Plan) -> Arm:
    if name in SWITCHES:
        key, on, off, _ = SWITCHES[name]
        has = _has(plan, key, off)
        return Arm(f"without {name}" if has else name, {key: off if has else on})
    if name in TABLE["batch"]:
        has = f"batch.{name}" in plan.choices
        return Arm(f"without {name}" if has else name, {f"batch.{name}": not has})
    slot = next(slot for slot in NEUTRAL if name in TABLE[slot] and name != NEUTRAL[slot])
    has = plan[f"{slot}.name"] == name
    return Arm(f"without {name}" if has else name, {f"{slot}.name": NEUTRAL[slot] if has else name})


def _has(plan: Plan, key: str, off: Any) -> bool:
    choice = plan.choices.get(key)
    return choice is not None and choice.value not in (None, off, 0, 0.0, "none", "0 steps", "0 epochs", "0%")


def words(patch: Mapping[str, Any]) -> str:
    """A patch as it is typed behind goodfit train."""
    return " ".join(
        f"--set {key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in patch.items()
    )


def patched(recipe: Recipe, arm: Arm) -> Recipe:
    """An arm's recipe; raises RecipeError that names the arm."""
    try:
        return recipe.patched(arm.patch)
    except RecipeError as error:
        raise RecipeError([f"arm '{arm.name}': {one}" for one in error.problems]) from None
