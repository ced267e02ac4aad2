"""The page of an ablation: each arm's difference with its interval as a picture, the figures, and what to do."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from goodfit.report.answer import Answer, write_answer
from goodfit.report.charts import BLUE, GREEN, GRID, INK, MUTED, ORANGE
from goodfit.studies.arms import words
from goodfit.studies.verdicts import Ablation, Finding

COLOURS = {"helps": GREEN, "hurts": ORANGE, "no difference": BLUE}
_STYLE: Any = {"font.size": 10, "font.family": "sans-serif", "svg.fonttype": "none", "svg.hashsalt": "goodfit"}
NOTE = (
    "Runs of a pair share seed, initial weights, order and draws. Of the validation part a third picked the weights of "
    "each run and the rest judged it; the test part stayed locked. Could have seen: the smallest true difference that "
    "so many pairs find with a probability of 80 %. Intervals are corrected for the number of arms (Holm) and, where "
    "seeds were added as needed, for looking after every pair."
)


def write_page(made: Ablation, *, source: str) -> Path:
    """Write ``ablation.html`` into the study's folder and return its path."""
    title = made.metric.replace("_", " ")
    best = [one for one in made.findings if one.verdict == "helps"]
    commands = [(f"goodfit train {source} {words(one.patch)}", f"with {one.arm}") for one in best]
    unsure = any(one.verdict == "inconclusive" for one in made.findings)
    if unsure:
        commands.append(("the same command again, with more --seeds or --budget", "goes on with these runs"))
    header = ("arm", f"difference in {title}", "interval", "pairs", "could have seen", "verdict")
    rows = [(one.arm, _signed(one.difference), span(one), str(one.seeds), _plain(one.detectable), one.verdict)
            for one in made.findings]  # fmt: skip
    second = [
        (one.arm, f"{one.rows['difference']:+.4f}", f"{one.rows['low']:+.4f} to {one.rows['high']:+.4f}",
         f"{one.rows['gained']:.1f}", f"{one.rows['lost']:.1f}", f"{one.rows['p']:.3g}")
        for one in made.findings if one.rows
    ]  # fmt: skip
    of = "rows right" if any(one.rows and one.rows["hits"] for one in made.findings) else "loss"
    tables: list[Any] = [("The figures", header, rows)]
    if second:
        tables.append(
            (f"Second view: over the rows that judged ({of})",
             ("arm", "difference", "95 % interval", "rows better", "rows worse", "p"), second)
        )  # fmt: skip
    notes = [f"{one.arm}: {note}." for one in made.findings for note in one.notes]
    value = "" if made.reference is None else f" The reference has a mean {title} of {made.reference:.4f}."
    return write_answer(
        made.folder / "ablation.html",
        Answer(
            question="What helps on this data?",
            verdict="; ".join(one.sentence for one in made.findings) + ".",
            sentences=[
                f"{'More' if made.larger_is_better else 'Less'} {title} is better; differences below "
                f"{made.matters:.3g} count as none.{value} It ended because {made.ended}.",
                *notes,
            ],
            pictures=[(intervals(made), f"Mean difference over paired runs, with its interval; right is more {title}. "
                       "The grey band is what counts as no difference.")],
            tables=tables,
            commands=commands,
            note=NOTE,
        ),
    )  # fmt: skip


def intervals(made: Ablation) -> str:
    """Every arm's difference and interval on one axis, as SVG in a data URI."""
    shown = [one for one in made.findings if one.difference is not None][::-1]
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.4, 1.2 + 0.42 * max(len(shown), 1)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvspan(-made.matters, made.matters, color=GRID, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=1)
        reach = max([abs(v) for one in shown for v in (one.difference, one.low, one.high) if v is not None] or [1.0])
        for place, one in enumerate(shown):
            colour = COLOURS.get(one.verdict, MUTED)
            if one.low is not None and one.high is not None:
                axes.plot([one.low, one.high], [place, place], color=colour, linewidth=3, solid_capstyle="butt")
            axes.plot([one.difference or 0.0], [place], "o", color=colour, markersize=7)
        axes.set_yticks(range(len(shown)), [_short(one) for one in shown])
        axes.set_ylim(-0.6, max(len(shown) - 0.4, 0.6))
        axes.set_xlim(-1.15 * max(reach, made.matters), 1.15 * max(reach, made.matters))
        axes.set_xlabel(f"difference in {made.metric.replace('_', ' ')}", color=MUTED)
        axes.tick_params(colors=INK, length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(GRID)
    return svg(figure)


def svg(figure: Figure) -> str:
    """A figure as SVG in a data URI; the same figure gives the same bytes."""
    with rc_context(_STYLE):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def span(one: Finding) -> str:
    """The interval as text."""
    return "too few pairs" if one.low is None or one.high is None else f"{one.low:+.4f} to {one.high:+.4f}"


def _short(one: Finding) -> str:
    name = one.arm if len(one.arm) <= 28 else one.arm[:27] + "…"
    return f"{name.replace('$', chr(92) + '$')}  ({one.verdict})"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
