"""The page of a search: what was tried, what matters, and whether the winner held up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import colormaps
from matplotlib.figure import Figure

from goodfit.report.answer import Answer, write_answer
from goodfit.report.charts import BLUE, GREEN, GRID, INK, MUTED
from goodfit.studies.arms import words
from goodfit.studies.page import intervals, svg
from goodfit.studies.space import Range, Space

if TYPE_CHECKING:
    from goodfit.studies.search import Search


def write_search(made: Search, space: Space, *, source: str, larger: bool) -> Path:
    """Write ``search.html`` into the study's folder and return its path."""
    done = [one for one in made.trials if one.value is not None]
    order = sorted(done, key=lambda one: -(one.value or 0) if larger else one.value or 0)
    keys = list(space)
    rows = [
        (
            str(one.number + 1),
            *(_text(one.params.get(k)) for k in keys),
            "-" if one.value is None else f"{one.value:.4f}",
        )
        for one in order[:20]
    ]
    tables: list[Any] = [(f"The best {len(rows)} of {len(made.trials)} trials", ("trial", *keys, "value"), rows)]
    if made.importance:
        shares = [(key, f"{100 * value:.0f} %") for key, value in made.importance.items()]
        tables.insert(0, ("What explains the differences (fANOVA)", ("key", "share"), shares))
    pictures = [(slices(made, space), "Each trial's value over each key; the green one is the best.")]
    if len(space) > 1:
        pictures.append(
            (parallel(made, space, larger=larger), "Each trial as a line through its settings; darker is better.")
        )
    if made.confirmed is not None:
        pictures.append((intervals(made.confirmed), "The winner against the default, with seeds that no trial had."))
    use = [(f"goodfit train {source} {words(made.recommended)}", "with what was found")] if made.recommended else []
    stopped = sum(one.state == "pruned" for one in made.trials)
    failed = sum(one.state == "fail" for one in made.trials)
    return write_answer(
        made.folder / "search.html",
        Answer(
            question="Which settings are best on this data?",
            verdict=made.sentence + ".",
            sentences=[
                f"{len(made.trials)} trials: {len(done)} finished, {stopped} stopped early, {failed} failed.",
                *(f"{one[:1].upper()}{one[1:]}." for one in made.warnings),
            ],
            pictures=pictures,
            tables=tables,
            commands=use,
            note=f"Trials share one seed; the value is {valued_by(made.picked_by)}, on the validation rows that pick "
            "weights. The best of many is "
            "flattered by its luck, so it was set beside the default on other rows, with other seeds.",
        ),
    )


def valued_by(name: str) -> str:
    """What picks weights and trials, in words.

    >>> valued_by("accuracy_then_log_loss")
    'accuracy (ties: log loss, worth less than a row)'
    """
    first, then, second = name.replace("_", " ").partition(" then ")
    return f"{first} (ties: {second}, worth less than a row)" if then else first


def slices(made: Search, space: Space) -> str:
    """One small picture a key: values over it."""
    figure = Figure(figsize=(max(3.2, 2.6 * len(space)), 2.8), layout="constrained")
    for place, (key, one) in enumerate(space.items()):
        axes = figure.add_subplot(1, len(space), place + 1)
        scale = isinstance(one, Range)
        for trial in made.trials:
            if trial.value is None or key not in trial.params:
                continue
            mine = made.best is not None and trial.number == made.best.number
            x = trial.params[key] if scale else one.points(2).index(trial.params[key])
            axes.plot(x, trial.value, "o", color=GREEN if mine else BLUE, markersize=8 if mine else 4, zorder=2 + mine)
        if isinstance(one, Range):
            axes.set_xscale("log" if one.log else "linear")
        else:
            axes.set_xticks(range(len(one.values)), [_text(v).replace("$", "\\$") for v in one.values])
        axes.set_xlabel(key, color=MUTED)
        if place == 0:
            axes.set_ylabel("value", color=MUTED)
        axes.tick_params(colors=INK)
        axes.grid(color=GRID, linewidth=0.8)
    return svg(figure)


def parallel(made: Search, space: Space, *, larger: bool) -> str:
    """Parallel coordinates: an axis a key, scaled from end to end, and the value as the last axis."""
    done = [one for one in made.trials if one.value is not None]
    values = [float(one.value or 0.0) for one in done]
    low, high = min(values), max(values)
    figure = Figure(figsize=(max(4.5, 1.6 * (len(space) + 1)), 3.0), layout="constrained")
    axes = figure.add_subplot()
    names = [*space, "value"]
    for trial, value in sorted(zip(done, values, strict=True), key=lambda one: one[1] if larger else -one[1]):
        share = (value - low) / (high - low) if high > low else 1.0
        good = share if larger else 1 - share
        heights = [space[key].place(trial.params[key]) for key in space] + [share]
        axes.plot(range(len(names)), heights, color=colormaps["Blues"](0.2 + 0.8 * good), linewidth=1 + 1.5 * good)
    for place, key in enumerate(names):
        axes.axvline(place, color=MUTED, linewidth=0.8)
        one = space.get(key)
        ends = (
            (low, high)
            if one is None
            else (one.low, one.high)
            if isinstance(one, Range)
            else one.values[:: len(one.values) - 1]
        )
        for height, end in zip((-0.06, 1.03), ends, strict=True):
            axes.text(
                place,
                height,
                _text(end).replace("$", "\\$"),
                ha="center",
                va="bottom" if height > 0 else "top",
                fontsize=8,
            )
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(length=0, pad=14, colors=INK)
    axes.set_yticks([])
    axes.set_ylim(-0.05, 1.1)
    for side in axes.spines.values():
        side.set_visible(False)
    return svg(figure)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
