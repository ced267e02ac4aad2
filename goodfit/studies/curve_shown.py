"""More data or a better model? The learning curve's answer, in the terminal and on a page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from goodfit.plot import band_chart
from goodfit.report.answer import Answer, write_answer
from goodfit.report.answer_charts import band, stacked
from goodfit.report.next import twice
from goodfit.screen import Screen, clock
from goodfit.studies.bias_variance import Split
from goodfit.studies.curve import WORTH
from goodfit.studies.learning_curve import Curve

AHEAD = 4.0
"""Pictures go on to so many times the data."""


def show(curve: Curve, screen: Screen, *, tail: str, width: int = 80) -> None:
    """Draw the curve, answer the question, split the error, and name the next commands.

    tail: what stands behind a command's name: source and options.
    """
    screen.line("")
    if curve.law is not None:
        low, mid, high, span = _drawn(curve, 2 * width)
        now = np.log(curve.law.sizes[-1] / span[0]) / np.log(span[1] / span[0])
        screen.line(
            band_chart(
                mid, low, high, width=width, marks=[(float(now), "^")],
                title=f"{curve.error} over training samples, logarithmic (dots: 95 % band)",
                left=f"{span[0]:,.0f}", right=f"{span[1]:,.0f}",
            )
        )  # fmt: skip
        screen.line(f"  ^ all the data there is, {curve.law.sizes[-1]:,} samples; beyond it the curve is predicted")
    screen.line("")
    screen.heading(verdict(curve))
    for sentence in sentences(curve):
        screen.rows([("", sentence)])
    if curve.splits:
        screen.heading(f"Bias and variance of models trained on {curve.split_size:,} samples")
        screen.rows((one.loss, _figures(one)) for one in curve.splits)
        for sentence in split_words(curve.splits):
            screen.rows([("", sentence)])
    elif curve.why_no_split:
        screen.line(f"  no bias-variance split: {curve.why_no_split}")
    screen.line(f"  {len(curve.points)} runs, {clock(curve.seconds)} of training; the test part was not opened\n")
    for command, does in commands(curve, tail):
        screen.command(command, does)


def verdict(curve: Curve) -> str:
    """The answer in one line."""
    if curve.gain is None:
        return "More data or a better model? Cannot tell."
    said = {
        "data": "More data: twice as much takes away",
        "data, probably": "More data, probably: twice as much takes away",
        "model": "A better model: twice the data takes away only",
        "open": "Open: twice the data takes away",
    }[curve.gain.answer]
    g = curve.gain
    return f"{said} {_share(g.share)} of the error ({_share(g.share_low)} to {_share(g.share_high)})"


def sentences(curve: Curve) -> list[str]:
    """The fitted curve, the prediction and what the words mean."""
    if curve.law is None or curve.gain is None:
        return [f"There is no curve to go by: {curve.why}."]
    law, gain = curve.law, curve.gain
    said = [
        f"{curve.error} = {law.floor:.4g} + {law.scale:.4g} n^-{law.exponent:.2f}: now {gain.now:.4f}, with "
        f"{gain.factor:g} times the data {gain.then:.4f}, {gain.gain:.4f} less (95 % interval {gain.low:.4f} to "
        f"{gain.high:.4f}). Single runs lie {100 * law.scatter:.0f} % around the curve."
    ]
    meaning = {
        "data": f"The whole interval lies above {WORTH:.0%}: collecting pays.",
        "data, probably": f"The prediction lies above {WORTH:.0%}, its interval reaches below: more seeds would tell.",
        "model": f"The whole interval lies below {WORTH:.0%}: other models, features or techniques promise more.",
        "open": f"The interval lies on both sides of {WORTH:.0%}: more --seeds make it narrower.",
    }
    said.append(meaning[gain.answer])
    said.append(
        "It holds for this recipe, for more samples of the same kind, and for the rows that judged; a curve fitted on "
        "up to n samples says little about ten times n."
    )
    return said


def split_words(splits: Sequence[Split]) -> list[str]:
    """Which term dominates and what follows."""
    main = splits[0]
    what = {
        "variance": "Variance dominates: models trained on other samples disagree. What helps is what makes them "
        "agree: more data, regularisation, augmentation, averaging (goodfit ensemble).",
        "bias": "Bias dominates (with the noise of the targets, which cannot be told from it): all models err alike. "
        "What helps is a model that can say more: wider, deeper, longer trained, other features; or cleaner targets.",
        "neither": "Neither dominates: bias with noise and variance are of one size; both kinds of remedy have room.",
    }[main.dominates]
    said = [what]
    if len(splits) > 1 and splits[1].unbiased is not None and splits[1].biased is not None:
        said.append(
            f"Of the 0/1 loss (Domingos 2000) variance spoils {splits[1].unbiased:.4f}, mends {splits[1].biased:.4f}."
        )
    return said


def commands(curve: Curve, tail: str) -> list[tuple[str, str]]:
    """What to type next."""
    found = []
    dominates = curve.splits[0].dominates if curve.splits else ""
    names = curve.remedies[:2]
    if names and dominates != "bias":
        found.append((f"goodfit ablate {tail} --toggle {','.join(names)}", "against variance: do they help here?"))
    if dominates != "variance":
        if (longer := twice(curve.plan.get("epochs"))) is not None:
            found.append((f"goodfit ablate {tail} --set epochs={shlex.quote(longer)}", "against bias: trained longer"))
        if type(width := curve.plan.get("model.width")) is int:
            found.append((f"goodfit ablate {tail} --set model.width={2 * width}", "against bias: a wider model"))
    if curve.gain is not None and curve.gain.answer in ("open", "data, probably"):
        found.append((f"goodfit curve {tail} --seeds 6", "goes on here, for a narrower interval"))
    found.append((f"goodfit lr {tail}", "is the learning rate right?"))
    return found


def page(curve: Curve, path: Path, *, tail: str) -> Path:
    """Write the answer with its pictures as one page."""
    pictures = []
    if curve.law is not None:
        low, mid, high, span = _drawn(curve, 200)
        x = np.geomspace(*span, 200)
        picture = band(
            x.tolist(), mid, low, high, title=curve.error, along="training samples", ahead=curve.law.sizes[-1],
            dots=[(size, error) for size, _, error in curve.points],
        )  # fmt: skip
        pictures.append((picture, "Single runs, the fitted curve and its 95 % band; dashed is predicted."))
    if curve.splits:
        parts = [("bias and noise", [one.bias for one in curve.splits]),
                 ("variance", [max(one.variance, 0.0) for one in curve.splits])]  # fmt: skip
        said = f"Bias and variance of models trained on {curve.split_size:,} samples"
        pictures.append((stacked([one.loss for one in curve.splits], parts, title=said), said + "."))
    rows = [[f"{size:,}", str(seed), f"{error:.4f}"] for size, seed, error in curve.points]
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = [
        ("Every run", ("samples", "seed", curve.error), rows)
    ]
    if curve.splits:
        split_rows = [
            [one.loss, f"{one.total:.4f}", f"{one.bias:.4f}", f"{one.variance:.4f}", str(one.models)]
            for one in curve.splits
        ]
        tables.insert(0, ("Bias and variance", ("loss", "total", "bias and noise", "variance", "models"), split_rows))
    return write_answer(
        path,
        Answer(
            question=f"{curve.name}: more data or a better model?",
            verdict=verdict(curve),
            sentences=[*sentences(curve), *(split_words(curve.splits) if curve.splits else [])],
            pictures=pictures,
            tables=tables,
            commands=commands(curve, tail),
            note=f"{len(curve.points)} runs, {clock(curve.seconds)} of training. The test part was not opened.",
        ),
    )


def _drawn(curve: Curve, points: int) -> tuple[list[float], list[float], list[float], tuple[float, float]]:
    assert curve.law is not None
    span = (float(curve.law.sizes[0]), AHEAD * curve.law.sizes[-1])
    x = np.geomspace(*span, points)
    low, high = curve.law.band(x)
    return low.tolist(), curve.law.at(x).tolist(), high.tolist(), span


def _figures(split: Split) -> str:
    return (
        f"{split.total:.4f} = {split.bias:.4f} bias and noise + {split.variance:.4f} variance ({split.models} models)"
    )


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"
