"""A range test's answer in the terminal and on a page."""

from __future__ import annotations

import math
from pathlib import Path

from goodfit.plot import band_chart
from goodfit.report.answer import Answer, write_answer
from goodfit.report.answer_charts import band
from goodfit.screen import Screen, clock
from goodfit.studies.lr import RangeTest
from goodfit.studies.range_test import SMOOTHING, Reading

HEADROOM = 0.15


def show(test: RangeTest, screen: Screen, *, width: int = 80) -> None:
    """Draw the curve, say what it means, and give the next command."""
    reading = test.reading
    screen.line("")
    if len(reading.rates) > 1:
        low, high = _shown(reading)
        marks = [(_share(reading, test.planned), "|")] if reading.rates[0] < test.planned < reading.rates[-1] else []
        if reading.suggested is not None:
            marks.append((_share(reading, reading.suggested), "^"))
        screen.line(
            band_chart(
                reading.median, reading.low, reading.high, width=width, bottom=low, top=high, marks=marks,
                title=f"loss over learning rate (median of {reading.repeats} sweeps; dots: all of them)",
                left=f"{reading.rates[0]:.1e}", right=f"{reading.rates[-1]:.1e}",
            )
        )  # fmt: skip
        screen.line(
            f"  | planned {test.planned:.2g}" + (f"   ^ suggested {reading.suggested:.2g}" if test.patch else "")
        )
    screen.line("")
    screen.heading(verdict(test))
    screen.rows([("", sentence) for sentence in sentences(test)])
    screen.line(f"  {test.steps:,} steps in {clock(test.seconds)}; nothing else was changed")
    screen.line("")
    screen.command(test.command)


def verdict(test: RangeTest) -> str:
    """The answer in one line."""
    reading = test.reading
    if reading.suggested is None:
        return "Which learning rate? Cannot tell."
    span = f"{reading.least:.2g} to {reading.most:.2g}" if reading.most else f"from {reading.least:.2g} on"
    return f"Learning rate {test.patch['optimizer.lr']:g} ({span} should do) for {test.optimizer}"


def sentences(test: RangeTest) -> list[str]:
    """Why, and how it compares with the plan."""
    reading, said = test.reading, [test.reading.reason]
    if reading.suggested is None:
        said.append(f"The plan keeps its own rate, {test.planned:.3g}.")
    elif reading.least is not None and reading.least <= test.planned <= (reading.most or math.inf):
        said.append(
            f"The planned rate, {test.planned:.3g}, lies inside the range: a difference between the two is an "
            "experiment, not a mistake."
        )
    else:
        side = "below" if reading.least is not None and test.planned < reading.least else "above"
        said.append(f"The planned rate, {test.planned:.3g}, lies {side} the range.")
    return said


def page(test: RangeTest, path: Path) -> Path:
    """Write the answer with its picture as one page."""
    reading = test.reading
    pictures = []
    if len(reading.rates) > 1:
        lines = [(test.planned, "planned")]
        lines += [(reading.suggested, "suggested")] if reading.suggested else []
        picture = band(
            reading.rates, reading.median, reading.low, reading.high, title="training loss", along="learning rate",
            span=(reading.least, reading.most) if reading.least and reading.most else None,
            lines=lines, shown=_shown(reading),
        )  # fmt: skip
        said = f"Median of {reading.repeats} sweeps and the range of all of them; the shaded rates should do."
        pictures.append((picture, said))
    return write_answer(
        path,
        Answer(
            question=f"Which learning rate for {test.name}?",
            verdict=verdict(test),
            sentences=sentences(test),
            pictures=pictures,
            commands=[(test.command, "trains at that rate" if test.patch else "looks for faults")],
            note=(
                f"{test.steps:,} steps in {clock(test.seconds)}. Each sweep begins from other initial weights and "
                f"takes other batches. Losses are exponential averages (weight {SMOOTHING:g}) without bias; the "
                "rates are averaged likewise, so the curve does not lag."
            ),
        ),
    )


def _shown(reading: Reading) -> tuple[float, float]:
    """The range of losses worth a picture: from the lowest to a little above where the sweep began."""
    first = sum(reading.median[:5]) / len(reading.median[:5])
    low = min(reading.low)
    top = max(first, *reading.high[: max(1, len(reading.high) // 12)])
    return low, top + HEADROOM * max(top - low, 1e-9)


def _share(reading: Reading, rate: float) -> float:
    first, last = math.log(reading.rates[0]), math.log(reading.rates[-1])
    return (math.log(rate) - first) / (last - first)
