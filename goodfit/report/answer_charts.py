"""The pictures of answers: a curve within its band over a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from goodfit.report.charts import BLUE, GREEN, INK, MUTED, ORANGE, _figure, _svg


def band(
    x: Sequence[float],
    middle: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    title: str,
    along: str,
    span: tuple[float, float] | None = None,
    lines: Sequence[tuple[float, str]] = (),
    shown: tuple[float, float] | None = None,
    dots: Sequence[tuple[float, float]] = (),
    ahead: float | None = None,
) -> str:
    """A curve and its band over a logarithmic axis, as a data URI.

    span: a shaded range of x. lines: marked places on x. shown: the range of y. dots: single measurements.
    ahead: from here on the curve is dashed, because it was not measured.
    """
    figure, (axes,) = _figure(1, height=3.4)
    axes.set_xscale("log")
    axes.fill_between(x, low, high, color=BLUE, alpha=0.15, linewidth=0)
    split = len(x) if ahead is None else sum(one <= ahead for one in x)
    axes.plot(x[:split], middle[:split], color=BLUE, linewidth=1.8)
    if split < len(x):
        axes.plot(x[max(split - 1, 0) :], middle[max(split - 1, 0) :], color=BLUE, linewidth=1.6, linestyle="--")
    if dots:
        axes.plot(*zip(*dots, strict=True), "o", color=ORANGE, markersize=4, alpha=0.8)
    if span is not None:
        axes.axvspan(*span, color=GREEN, alpha=0.10, linewidth=0)
    for place, name in lines:
        axes.axvline(place, color=GREEN, linewidth=1.2, linestyle=":")
        axes.annotate(name, (place, 1), xycoords=("data", "axes fraction"), fontsize=9, color=INK, rotation=90,
                      va="top", ha="right")  # fmt: skip
    if shown is not None:
        axes.set_ylim(*shown)
    axes.set_title(title, loc="left", color=INK)
    axes.set_xlabel(along, color=MUTED)
    return _svg(figure)


def stacked(names: Sequence[str], parts: Sequence[tuple[str, Sequence[float]]], *, title: str) -> str:
    """Bars made of parts that add up, one a name, as a data URI."""
    figure, (axes,) = _figure(1, height=0.9 + 0.5 * len(names))
    left = [0.0] * len(names)
    colours: list[Any] = [MUTED, BLUE, ORANGE, GREEN]
    for (name, values), colour in zip(parts, colours, strict=False):
        axes.barh(list(names), list(values), left=left, color=colour, label=name, height=0.6)
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=9)
    axes.set_title(title, loc="left", color=INK)
    return _svg(figure)
