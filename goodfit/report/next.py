"""What next: the experiments that this run's own numbers speak for, each a command to type and what it will cost.

A suggestion is a hypothesis. It is ranked by how directly the run points to it, and only what this kind of task and
model can do is suggested. Costs come from this run's own time.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goodfit.techniques import TABLE
from goodfit.types import InputSpec

SEEDS = 6
"""Pairs that an ablation is reckoned with: those before its first look. Where the answer is open it takes more."""
SWEEP_STEPS = 5 * 113
CURVE_RUNS = 7.3
"""A learning curve in runs on all of the data: three seeds on five shares, and three more on half."""
SMALL = 20_000
FEW_JUDGES = 1_000
MOST = 6

REGULARISERS: dict[str, tuple[str, ...]] = {
    "image": ("mixup", "cutmix", "trivial_augment", "cutout"),
    "table": ("noise", "mixup"),
    "text": ("word_drop", "word_swap"),
    "series": ("noise", "scaling", "mixup"),
    "language": ("token_noise",),
    "tensor": ("noise", "mixup"),
}
"""Changes of the batch that work against memorising, the best known first, by kind of input."""
MIXING = ("mixup", "cutmix")
"""These mix class targets, so values and texts cannot have them."""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """command: to type. why: what in this run speaks for it. minutes: about what it costs. score: how strongly."""

    command: str
    why: str
    minutes: float
    score: float


def suggestions(
    results: Mapping[str, Any],
    plan: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    *,
    findings: Sequence[Mapping[str, Any]] = (),
    source: str = "",
    recipe: str = "",
    most: int = MOST,
) -> list[Suggestion]:
    """The suggestions, the strongest first.

    results, plan, rows, findings: what a run folder holds as results.json, plan.json, metrics.jsonl, findings.json.
    source: what was read; a placeholder stands in for objects given from Python. recipe: path of the run's recipe,
    where that asks for anything.
    """
    about = _About(results, plan, rows, source or "SOURCE", recipe)
    found = [
        *_of_findings(about, findings),
        *_of_curves(about),
        *_of_size(about),
        *_of_baselines(about),
        *_always(about),
    ]
    best: dict[str, Suggestion] = {}
    for one in found:
        if one.command not in best or best[one.command].score < one.score:
            best[one.command] = one
    return sorted(best.values(), key=lambda one: -one.score)[:most]


class _About:
    """What the rules ask of a run."""

    def __init__(
        self,
        results: Mapping[str, Any],
        plan: Mapping[str, Any],
        rows: Sequence[Mapping[str, Any]],
        source: str,
        recipe: str,
    ) -> None:
        self.results, self.rows = results, rows
        self.choices = {k: c["value"] for k, c in plan["choices"].items()}
        self.asked = {k for k, c in plan["choices"].items() if c["source"] == "recipe"}
        self.kind, self.spec = plan["data"]["task"]["kind"], plan["data"]["spec"]
        self.samples = plan["data"]["samples"]
        self.tail = f"{shlex.quote(source)}" + (f" --recipe {shlex.quote(recipe)}" if recipe else "")
        spent = [row["seconds"] for row in rows if row.get("seconds")]
        self.seconds = float(spent[-1] if spent else results["seconds"])
        pairs = [(row.get("train_plain_loss", row.get("train_loss")), row.get("valid_loss")) for row in rows]
        self.losses = [(float(t), float(v)) for t, v in pairs if t is not None and v is not None]

    def ablate(self, what: str, *, arms: int = 1, longer: float = 1.0) -> tuple[str, float]:
        """An ablation and its minutes: the recipe and so many arms, each with the pairs before the first look."""
        return f"goodfit ablate {self.tail} {what}", (1 + arms * longer) * SEEDS * self.seconds / 60

    def regularisers(self) -> list[str]:
        """Changes of the batch that this run can have, and has not."""
        return regularisers(self.choices, self.spec, self.kind)


def regularisers(choices: Mapping[str, Any], spec: Mapping[str, Any], task: str) -> list[str]:
    """The changes of the batch that work against memorising and that a plan of these choices would take.

    spec: what an input looks like, as plain values. task: the kind of task.
    """
    found, on = [], {key[len("batch.") :] for key in choices if key.startswith("batch.") and key.count(".") == 1}
    for name in REGULARISERS.get(spec["kind"], ()):
        one = TABLE["batch"][name]
        refused = getattr(one, "refuses", lambda *_: "")(InputSpec(**spec), str(choices.get("model.name", "")))
        excluded = {f"batch.{other}" for other in on} & set(getattr(one, "excludes", ()))
        mixes = name in MIXING and task != "classification"
        moved = name == "word_swap" and choices.get("data.tokens") in ("auto", "grams")
        if name not in on and not (refused or excluded or mixes or moved):
            found.append(name)
    return found


def _of_findings(about: _About, findings: Sequence[Mapping[str, Any]]) -> Iterator[Suggestion]:
    for one in findings:
        patch = {k: v for k, v in (one.get("patch") or {}).items() if not isinstance(v, list | dict)}
        if patch and one.get("severity") != "advice":
            sets = " ".join(f"--set {shlex.quote(f'{k}={_plain(v)}')}" for k, v in patch.items())
            command, minutes = about.ablate(sets)
            yield Suggestion(command=command, why=f"{one['rule']}: {one['message']}", minutes=minutes, score=90)


def _of_curves(about: _About) -> Iterator[Suggestion]:
    if len(about.losses) < 5:
        return
    train, valid = about.losses[-1]
    losses = [v for _, v in about.losses]
    lowest = min(range(len(losses)), key=losses.__getitem__)
    tail = losses[-max(2, len(losses) // 5) :]
    epochs = about.choices.get("epochs")
    annealed = about.choices.get("schedule.name") not in ("constant", "plateau")
    falling = tail[0] - tail[-1] > 0.02 * abs(tail[0])
    rising = lowest < 0.7 * len(losses) and valid > 1.1 * losses[lowest]
    apart = train < 0.6 * valid and about.kind != "forecast"
    if rising or apart:
        why = (
            f"the validation loss rose from {losses[lowest]:.3g} to {valid:.3g}: the model memorises"
            if rising
            else f"the training loss ({train:.3g}) is far below that of validation ({valid:.3g})"
        )
        names = about.regularisers()[:3]
        if names:
            command, minutes = about.ablate(f"--toggle {','.join(names)}", arms=len(names))
            yield Suggestion(command=command, why=why, minutes=minutes, score=80 if rising else 70)
        dropout = about.choices.get("model.dropout")
        if "model.dropout" in about.choices:
            values = [v for v in (0.0, 0.1, 0.3, 0.5) if v != dropout][-3:]
            command, minutes = about.ablate(
                f"--set model.dropout={','.join(f'{v:g}' for v in values)}", arms=len(values)
            )
            yield Suggestion(command=command, why=f"{why}; dropout is {dropout or 0:g}", minutes=minutes, score=62)
        if about.kind == "classification" and about.choices.get("loss.label_smoothing") == 0:
            command, minutes = about.ablate("--set loss.label_smoothing=0.1")
            yield Suggestion(command=command, why=f"{why}; targets are hard", minutes=minutes, score=58)
    elif falling or (annealed and train > 0.9 * valid):
        why = (
            "the validation loss was still falling at the end"
            if falling
            else f"training ({train:.3g}) and validation loss ({valid:.3g}) are alike: the model could learn more"
        )
        if epochs is not None and (longer := twice(epochs)) is not None:
            command, minutes = about.ablate(f"--set epochs={shlex.quote(longer)}", longer=2)
            yield Suggestion(command=command, why=why, minutes=minutes, score=76 if falling else 55)
        width = about.choices.get("model.width")
        if isinstance(width, int) and not isinstance(width, bool):
            command, minutes = about.ablate(f"--set model.width={2 * width}", longer=2.5)
            yield Suggestion(command=command, why=f"{why}; a wider model", minutes=minutes, score=50)


def _of_size(about: _About) -> Iterator[Suggestion]:
    train, valid = int(about.samples["train"]), int(about.samples["valid"])
    if train < SMALL:
        yield Suggestion(
            command=f"goodfit curve {about.tail}",
            why=f"{train:,} training samples: would more help, or a better model?",
            minutes=CURVE_RUNS * about.seconds / 60,
            score=66,
        )
    names = about.regularisers()[:2]
    if train < SMALL and names:
        command, minutes = about.ablate(f"--toggle {','.join(names)}", arms=len(names))
        yield Suggestion(
            command=command,
            why="on few samples a change of the batch often helps; here it is unproven",
            minutes=minutes,
            score=56,
        )
    if valid < FEW_JUDGES and about.kind not in ("language", "sequence"):
        main = about.results["metrics"][about.results["headline"]]
        wide = f" (interval {main['low']:.4g} to {main['high']:.4g})" if main.get("low") is not None else ""
        yield Suggestion(
            command=f"goodfit train {about.tail} --folds 5",
            why=f"{valid:,} validation samples judge{wide}; folds make a judge of every training row",
            minutes=5 * 0.85 * about.seconds / 60,
            score=52,
        )


def _of_baselines(about: _About) -> Iterator[Suggestion]:
    name = about.results["headline"]
    main = about.results["metrics"][name]
    sign = 1 if main["better"] == "higher" else -1
    known = [(row["name"], row["metrics"].get(name)) for row in about.results.get("baselines") or []]
    ahead = [(n, v) for n, v in known if v is not None and sign * v >= sign * main["value"]]
    if ahead:
        best, value = max(ahead, key=lambda row: sign * row[1])
        yield Suggestion(
            command=f"goodfit lr {about.tail}",
            why=f"{best} reaches {value:.4g}, the model {main['value']:.4g}: is the learning rate right?",
            minutes=_sweep(about),
            score=85,
        )
    if about.kind == "classification" and name == "average_precision":
        fits = [n for n in ("focal", "cross_entropy") if n != about.choices.get("loss.name")]
        command, minutes = about.ablate(f"--set loss.name={','.join(fits[:1])}")
        yield Suggestion(command=command, why="one class is rare", minutes=minutes, score=54)


def _always(about: _About) -> Iterator[Suggestion]:
    asked = "optimizer.lr" in about.asked
    yield Suggestion(
        command=f"goodfit lr {about.tail}",
        why="the learning rate matters most, and "
        + ("yours" if asked else "this one, a default,")
        + " was not tested here",
        minutes=_sweep(about),
        score=48 if asked else 60,
    )
    lr = float(about.choices.get("optimizer.lr") or 0)
    if lr > 0:
        low, high = (f"{float(f'{lr * factor:.1g}'):g}" for factor in (0.1, 10))
        yield Suggestion(
            command=f"goodfit tune {about.tail} --over optimizer.lr={low}..{high}:log",
            why="when everything else is decided: the rate once more, confirmed with fresh seeds",
            minutes=20 * about.seconds / 60,
            score=30,
        )


def _sweep(about: _About) -> float:
    return max(SWEEP_STEPS * about.seconds / max(int(about.results["steps"]), 1) / 60, 0.1)


def twice(epochs: Any) -> str | None:
    """Twice a run's length, as a recipe writes it.

    >>> twice(10), twice("10 epochs"), twice("a while")
    ('20', '20 epochs', None)
    """
    number, _, unit = str(epochs).partition(" ")
    try:
        twice = f"{2 * float(number):g}"
    except ValueError:
        return None
    return f"{twice} {unit}".strip()


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def cost(minutes: float) -> str:
    """Minutes as people say them.

    >>> cost(0.3), cost(4.2), cost(150)
    ('under a minute', 'about 4 min', 'about 2.5 h')
    """
    if minutes < 1:
        return "under a minute"
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
