"""The pictures of a report, as SVG in data URIs: they need no script and no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID = "#1d2733", "#64748b", "#e2e8f0"
BLUE, ORANGE, GREEN = "#2563eb", "#ea580c", "#059669"
_STYLE: Any = {"font.size": 10, "font.family": "sans-serif", "svg.fonttype": "none", "svg.hashsalt": "goodfit"}


def loss_curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """The loss of both parts over steps; logarithmic where it falls far."""
    figure, (axes,) = _figure(1, width=3.9)
    steps = [r["step"] for r in rows]
    # Where the loss is smoothed, weighted or taught, the plain one is logged beside it and can be compared.
    train = "train_plain_loss" if "train_plain_loss" in rows[-1] else "train_loss"
    _line(axes, steps, [r.get(train) for r in rows], BLUE, "train" if train == "train_loss" else "train (plain)")
    _line(axes, steps, [r.get("valid_loss") for r in rows], ORANGE, "validation")
    positive = [r[k] for r in rows for k in (train, "valid_loss") if r.get(k) is not None and r[k] > 0]
    if positive and max(positive) > 20 * min(positive):
        axes.set_yscale("log")
    axes.set_title("loss", loc="left", color=INK)
    axes.legend(frameon=False, fontsize=9)
    axes.set_xlabel("step", color=MUTED)
    return _svg(figure)


def metric_curve(rows: Sequence[Mapping[str, Any]]) -> str:
    """The metric on validation over steps, with the weights that were kept."""
    figure, (axes,) = _figure(1, width=3.9)
    steps = [r["step"] for r in rows]
    key = next((k for k in rows[-1] if k.startswith("valid_") and k != "valid_loss"), "valid_loss")
    _line(axes, steps, [r.get(key) for r in rows], ORANGE, "")
    best = max((i for i, r in enumerate(rows) if r.get("best")), default=None)
    if best is not None and rows[best].get(key) is not None:
        axes.plot(steps[best], rows[best][key], "o", color=GREEN, markersize=7, label="best weights")
        axes.legend(frameon=False, fontsize=9)
    axes.set_title(key.removeprefix("valid_").replace("_", " ") + " on validation", loc="left", color=INK)
    axes.set_xlabel("step", color=MUTED)
    return _svg(figure)


def rate_curve(rows: Sequence[Mapping[str, Any]]) -> str:
    """The learning rate at each validation."""
    figure, (axes,) = _figure(1, height=2.0)
    _line(axes, [r["step"] for r in rows], [r["lr"] for r in rows], BLUE, "")
    axes.set_title("learning rate", loc="left", color=INK)
    axes.set_xlabel("step", color=MUTED)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    return _svg(figure)


def confusion(table: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Rows are true classes, columns predictions; colours are shares of the row."""
    counts = np.asarray(table, dtype=float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = min(7.5, 2.2 + 0.42 * len(classes))
    figure, (axes,) = _figure(1, height=size, width=size + 0.6)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [c if len(c) <= 14 else c[:13] + "…" for c in classes]
    if len(classes) <= 25:
        axes.set_xticks(
            range(len(classes)),
            _plain(names),
            rotation=45 if max(map(len, names)) > 3 else 0,
            ha="right" if max(map(len, names)) > 3 else "center",
        )
        axes.set_yticks(range(len(classes)), _plain(names))
        for i in range(len(classes)):
            for j in range(len(classes)):
                if counts[i, j]:
                    axes.text(
                        j,
                        i,
                        f"{int(counts[i, j])}",
                        ha="center",
                        va="center",
                        fontsize=8,
                        color="white" if shares[i, j] > 0.5 else INK,
                    )
    axes.grid(False)
    axes.set_xlabel("predicted", color=MUTED)
    axes.set_ylabel("true", color=MUTED)
    return _svg(figure)


def reliability(both: Mapping[str, Any]) -> str:
    """Share of hits against stated confidence, before and after calibration; on the diagonal the words mean what
    they say."""
    figure, (axes,) = _figure(1, height=3.4, width=4.2)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
    for which, colour in (("before", MUTED), ("after", BLUE)):
        bins = [b for b in _bins(both.get(which)) if b["count"]]
        if bins:
            axes.plot(
                [b["confidence"] for b in bins],
                [b["accuracy"] for b in bins],
                "o-",
                color=colour,
                markersize=4,
                linewidth=1.5,
                label=f"{which} calibration",
            )
    axes.set_xlabel("stated confidence", color=MUTED)
    axes.set_ylabel("share of hits", color=MUTED)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return _svg(figure)


def answers(results: Mapping[str, Any]) -> str:
    """Predicted against true values, or some forecasts beside what came."""
    shown = results["shown"]
    target, predicted = np.asarray(shown.get("target", [])), np.asarray(shown.get("predicted", []))
    if not target.size:
        return ""
    figure, (axes,) = _figure(1, height=3.4, width=4.6 if target.ndim == 1 else 7.2)
    if target.ndim == 1:
        low, high = float(min(target.min(), predicted.min())), float(max(target.max(), predicted.max()))
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=":")
        axes.plot(target, predicted, "o", color=BLUE, markersize=3, alpha=0.5)
        axes.set_xlabel("true", color=MUTED)
        axes.set_ylabel("predicted", color=MUTED)
    else:
        width, place = target.shape[1], 0
        for row, (true, said) in enumerate(zip(target, predicted, strict=True)):
            steps = np.arange(width) + place
            axes.plot(
                steps,
                true,
                color=INK,
                linewidth=1.4,
                label="true" if row == 0 else None,
                marker="." if width < 3 else None,
            )
            axes.plot(
                steps,
                said,
                color=ORANGE,
                linewidth=1.4,
                label="forecast" if row == 0 else None,
                marker="." if width < 3 else None,
            )
            place += width + max(1, width // 4)
        axes.set_xticks([])
        axes.set_xlabel("some windows of the validation part, side by side", color=MUTED)
        axes.legend(frameon=False, fontsize=9)
    return _svg(figure)


def against_baselines(results: Mapping[str, Any]) -> str:
    """The headline metric of the model, with its interval, beside the baselines."""
    name = results["headline"]
    own = results["metrics"][name]
    rows = [(r["name"], r["metrics"].get(name)) for r in results.get("baselines") or []]
    rows = [(n, v) for n, v in rows if v is not None]
    if not rows:
        return ""
    names = [*(n for n, _ in rows), "this model"]
    values = [*(v for _, v in rows), own["value"]]
    figure, (axes,) = _figure(1, height=0.7 + 0.36 * len(names), width=6.4)
    axes.barh(_plain(names), values, color=["#cbd5e1"] * len(rows) + [BLUE], height=0.6)
    if own["low"] is not None:
        axes.plot([own["low"], own["high"]], [len(rows)] * 2, color=INK, linewidth=2, solid_capstyle="butt")
    for row, value in enumerate(values):
        place = max(value, own["high"] or value) if row == len(rows) else value
        axes.text(place, row, f" {value:.4g}", va="center", fontsize=9, color=INK)
    axes.margins(x=0.15)
    axes.set_title(
        own["title"] + (" (higher is better)" if own["better"] == "higher" else " (lower is better)"),
        loc="left",
        color=INK,
    )
    return _svg(figure)


def _bins(value: Any) -> list[Mapping[str, Any]]:
    rows = value.get("bins", []) if isinstance(value, Mapping) else value or []
    return [
        {"confidence": r.get("confidence", 0), "accuracy": r.get("accuracy", 0), "count": r.get("count", 0)}
        for r in rows
    ]


def _plain(names: Sequence[str]) -> list[str]:
    """Names from data are no mathematics: a dollar sign would start it."""
    return [n.replace("$", r"\$") for n in names]


def _figure(count: int, *, height: float = 2.9, width: float = 7.6) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    made = figure.subplots(1, count, squeeze=False)[0]
    for axes in made:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GRID)
        axes.tick_params(colors=MUTED, labelsize=9)
        axes.grid(color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
    return figure, list(made)


def _line(axes: Axes, x: Sequence[float], y: Sequence[float | None], colour: str, label: str) -> None:
    values = [np.nan if v is None else v for v in y]
    axes.plot(x, values, color=colour, linewidth=1.6, label=label, marker="o" if len(x) < 3 else None)


def _svg(figure: Figure) -> str:
    with rc_context(_STYLE):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
