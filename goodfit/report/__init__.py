"""One self-contained page about a run: no scripts, no network, every name from the data escaped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goodfit import store
from goodfit.report import charts
from goodfit.report.next import Suggestion, cost, suggestions
from goodfit.report.template import template
from goodfit.report.words import amount, curve_words, difference_words, verdict

__all__ = ["what_next", "write_report"]


def write_report(folder: Path) -> Path:
    """Write ``report.html`` from what lies in a run folder, and return its path.

    Raises RunError when the folder is damaged or has no results yet.
    """
    page = render(folder)
    path = folder / "report.html"
    store.write_file(path, page.encode("utf-8", "replace"))
    store.list_files(folder, [path.name])
    return path


def render(folder: Path) -> str:
    """The page as HTML text."""
    results = store.read_json(folder / "results.json")
    plan = store.read_json(folder / "plan.json")
    rows = store.read_lines(folder / "metrics.jsonl")
    headline = results["metrics"][results["headline"]]
    return template("page.html", amount=amount, cost=cost).render(
        name=plan["data"]["name"],
        results=results,
        headline=headline,
        verdict=verdict(results, plan, rows),
        curve_words=curve_words(rows, results),
        difference=difference_words(results),
        data=plan["data"],
        choices=_choices(plan["choices"]),
        environment=plan["environment"],
        findings=[*_read(folder / "findings.json", []), *results.get("findings", [])],
        preflight=_read(folder / "preflight.json", []),
        examples=_read(folder / "examples.json", {}),
        augmented=_read(folder / "augmented.json", None),
        test=store.read_sealed(test) if (test := folder / "test.json").exists() else None,
        determinism=_read(folder / "determinism.json", None),
        losses=charts.loss_curves(rows) if rows else "",
        progress=charts.metric_curve(rows) if rows else "",
        rates=charts.rate_curve(rows) if rows else "",
        confusion=charts.confusion(results["confusion"], results["classes"]) if results.get("confusion") else "",
        reliability=charts.reliability(results["reliability"]) if results.get("reliability") else "",
        scatter=charts.answers(results) if results.get("shown") else "",
        bars=charts.against_baselines(results),
        next=what_next(folder),
    )


def what_next(folder: Path) -> list[Suggestion]:
    """The experiments that a finished run's own numbers speak for, the strongest first."""
    asked = folder / "recipe.toml"
    results = store.read_json(folder / "results.json")
    return suggestions(
        results,
        store.read_json(folder / "plan.json"),
        store.read_lines(folder / "metrics.jsonl"),
        findings=[*_read(folder / "findings.json", []), *results.get("findings", [])],
        source=str(_read(folder / "data.json", {}).get("source", "")),
        recipe=str(asked) if asked.exists() and asked.read_text(encoding="utf-8").strip() else "",
    )


def _choices(choices: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Chosen values first, then those that are no more than their class's default."""
    rows = [{"key": k, **c, "plain": c["source"] == "its page"} for k, c in choices.items() if c["value"] is not None]
    return [r for r in rows if not r["plain"]] + [r for r in rows if r["plain"]]


def _read(path: Path, otherwise: Any) -> Any:
    return store.read_json(path) if path.exists() else otherwise
