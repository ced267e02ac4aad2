"""What goodfit reaches on real data with its default recipes: the command line, one run after the other.

For each data set and seed: ``goodfit train SOURCE ... --set seed=S --out FOLDER`` as a process of its own, timed from
start to exit, with an empty cache (so that execution is measured anew, as on a first run); then ``goodfit test
FOLDER``, which opens the locked test part once. The seed decides the split, too, where a data set brings none along.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import record
from bench.data_sets import DATA_SETS, Bar, DataSet, default_folder
from goodfit.data import read
from goodfit.evaluation import SHOWN, baselines
from goodfit.run import Run
from goodfit.screen import clock

Row = dict[str, Any]


def run_once(one: DataSet, seed: int, *, data: Path | None, folder: Path, quick: bool = False) -> Row:
    """Train and test once: all that the tables need. Raises RuntimeError with what a command said that failed."""
    run = folder / f"{one.name}-seed-{seed}"
    changes = ["--set", f"seed={seed}", *(["--set", "epochs=1"] if quick else [])]
    began, started = time.time(), time.perf_counter()
    with record.shared_cpu() as others:
        _goodfit("train", *one.command(data), *changes, "--out", str(run), folder=folder)
        seconds = time.perf_counter() - started
    _goodfit("test", str(run), folder=folder)
    opened = Run(run)
    found, tested = opened.results, json.loads((run / "test.json").read_text(encoding="utf-8"))
    startup = (run / "plan.json").stat().st_mtime - began
    return {
        "seed": seed,
        "seconds": round(seconds, 2),
        "startup": round(startup, 2),
        "others": others[0] if others else None,
        "steps": found["steps"],
        "parameters": found["parameters"],
        "precision": opened.plan["numerics.precision"],
        "memory_format": opened.plan["numerics.memory_format"],
        "samples": opened.plan.data["samples"],
        "valid": _values(found),
        "test": _values(tested) | last_tenth(found, tested),
        "test_interval": {k: [m["low"], m["high"]] for k, m in tested["metrics"].items()},
        "openings": tested["openings"],
        "baselines_valid": {b["name"]: b["metrics"] for b in found["baselines"]},
        "baselines_test": on_test(opened) if one.baselines else {},
        "passed": passed(opened.metrics, one.levels, startup=startup),
        "environment": dict(opened.plan.environment),
    }


def passed(metrics: Sequence[Mapping[str, Any]], levels: Sequence[float], *, startup: float) -> dict[str, float | None]:
    """Seconds of the whole command until the first validation whose accuracy was at least each level, None if never.

    metrics: the rows of ``metrics.jsonl``, whose ``seconds`` count from the end of the start-up.
    """
    found: dict[str, float | None] = {}
    for level in levels:
        when = next((row["seconds"] for row in metrics if row["valid_accuracy"] >= level), None)
        found[f"{level:g}"] = None if when is None else round(startup + when, 1)
    return found


def last_tenth(valid: Mapping[str, Any], test: Mapping[str, Any]) -> dict[str, float]:
    """Of a language model: nats per character over validation and test part together, weighted by their tokens."""
    if test["task"] != "language":
        return {}
    parts = [(part["tokens"], part["metrics"]["nats_per_character"]["value"]) for part in (valid, test)]
    return {"nats_per_character_last_tenth": sum(n * v for n, v in parts) / sum(n for n, _ in parts)}


def on_test(run: Run) -> dict[str, dict[str, float | None]]:
    """The baselines of the report, fitted on the train part and scored on the run's own test part."""
    plan = run.plan
    data = read(run.source, plan.one("data"), plan.one("task"), seed=int(plan["seed"]))
    assert data.fingerprint == plan.data["fingerprint"]
    rows = baselines(data.train, data.test, data.task, data.spec, data, seconds=60)
    return {row["name"]: row["metrics"] for row in rows}


def goal(bar: Bar, rows: Sequence[Row]) -> float:
    """The number to beat: the bar's own, or the best mean over the seeds of the baselines it names."""
    if bar.value is not None:
        return bar.value
    names = [n for n in rows[0]["baselines_test"] if n.startswith(bar.baselines)]
    means = [statistics.fmean(row["baselines_test"][n][bar.metric] for row in rows) for n in names]
    return max(means) if bar.better == "higher" else min(means)


def is_met(bar: Bar, rows: Sequence[Row]) -> bool:
    """Whether the mean over the seeds is better than the goal."""
    mean, wanted = statistics.fmean(row["test"][bar.metric] for row in rows), goal(bar, rows)
    return mean > wanted if bar.better == "higher" else mean < wanted


def describe(one: DataSet, rows: Sequence[Row]) -> str:
    """The part of RESULTS.md about one data set."""
    lines = []
    for bar in one.bars:
        values = [row["test"][bar.metric] for row in rows]
        valid = [row["valid"].get(bar.metric) for row in rows]
        lines.append(
            (
                title(bar.metric),
                record.spread(values, 4),
                ", ".join(f"{v:.4f}" for v in values),
                record.spread([v for v in valid if v is not None], 4) if None not in valid else "-",
                f"{'above' if bar.better == 'higher' else 'below'} {goal(bar, rows):.4f} ({bar.source})",
                "met" if is_met(bar, rows) else "NOT MET",
            )
        )
    slowest = max(row["seconds"] for row in rows)
    seconds = (
        "whole command, seconds",
        record.spread([row["seconds"] for row in rows], 1),
        ", ".join(f"{row['seconds']:.1f}" for row in rows),
        "-",
        f"at most {one.limit:g}, the slowest seed counts",
        "met" if slowest <= one.limit else "NOT MET",
    )
    seeds = ", ".join(str(row["seed"]) for row in rows)
    header = ("test part", "mean ± sd", f"seeds {seeds}", "validation", "goal", "")
    parts = [
        f"## {one.title}",
        f"`goodfit train {' '.join([one.source, *(a.replace('{data}/', '') for a in one.arguments)])} --set seed=S`",
        record.table(header, [*lines, seconds]),
        _against(one, rows),
        _passing(rows),
        _rest(one, rows),
    ]
    return "\n\n".join(part for part in parts if part)


def _against(one: DataSet, rows: Sequence[Row]) -> str:
    """Baselines on the same test parts, in the metrics of the bars."""
    metrics = [bar.metric for bar in one.bars if bar.metric in SHOWN]
    where = "baselines_test" if rows[0]["baselines_test"] else "baselines_valid"
    if not metrics:
        metrics = ["nats_per_character"]
    lines = []
    for name in rows[0][where]:
        cells = []
        for metric in metrics:
            values = [row[where].get(name, {}).get(metric) for row in rows]
            cells.append("-" if None in values else record.spread(values, 4))
        if any(cell != "-" for cell in cells):
            lines.append((name, *cells))
    own = "test" if where == "baselines_test" else "valid"
    lines.append(("**goodfit**", *(record.spread([row[own][metric] for row in rows], 4) for metric in metrics)))
    part = "the same test parts" if own == "test" else "the validation part"
    return record.table((f"on {part}", *map(title, metrics)), lines)


def _passing(rows: Sequence[Row]) -> str:
    """Seconds at which validation accuracies were passed."""
    if not rows[0]["passed"]:
        return ""
    lines = []
    for level in rows[0]["passed"]:
        times = [row["passed"].get(level) for row in rows]
        lines.append((f"{100 * float(level):g} %", ", ".join("never" if t is None else f"{t:.0f} s" for t in times)))
    text = "Seconds of the whole command until validation accuracy (not test) first reached a level, for each seed:"
    return f"{text}\n\n{record.table(('validation accuracy', 'reached after'), lines)}"


def _rest(one: DataSet, rows: Sequence[Row]) -> str:
    first = rows[0]
    sizes = ", ".join(f"{n:,} {name}" for name, n in first["samples"].items())
    used = sorted({f"{row['precision']} {row['memory_format'].replace('_', '-')}" for row in rows})
    busy = [row["others"] for row in rows if row["others"] is not None]
    text = (
        f"{sizes}; {first['steps']:,} steps, {first['parameters']:,} parameters, {' or '.join(used)}; "
        f"{sum(row['startup'] for row in rows) / len(rows):.1f} s before the first step; test part opened "
        f"{max(row['openings'] for row in rows)} time for each seed"
    )
    if busy:
        text += f"; other programs took up to {100 * max(busy):.0f} % of the CPU meanwhile"
    machines = sorted({record.hardware(row["environment"]) for row in rows})
    return f"{text}. {one.note}".strip() + "\n\nHardware: " + "\n\n".join(machines) + "."


def title(metric: str) -> str:
    """A metric's name for people."""
    if metric == "nats_per_character_last_tenth":
        return "nats per character, last 10 % of the text"
    return SHOWN[metric].title


def _values(results: Mapping[str, Any]) -> dict[str, float]:
    return {name: one["value"] for name, one in results["metrics"].items() if one["value"] is not None}


def _goodfit(*arguments: str, folder: Path) -> None:
    """One command, as the shell would run it, with a cache of its own."""
    program = Path(sysconfig.get_path("scripts")) / "goodfit"
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        done = subprocess.run(
            [str(program), *arguments],
            cwd=cache,
            env={**os.environ, "XDG_CACHE_HOME": cache},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise RuntimeError(f"goodfit {' '.join(arguments)} ended with {done.returncode}:\n{last}")


def line(one: DataSet, row: Row) -> str:
    """One run on one line, for the screen."""
    scores = ", ".join(f"{title(b.metric)} {row['test'][b.metric]:.4f} on test" for b in one.bars)
    spent = f"{clock(row['seconds'])} of {clock(one.limit)}"
    levels = "".join(
        f"; {100 * float(k):g} % {'never' if v is None else f'after {v:.0f} s'}" for k, v in row["passed"].items()
    )
    busy = "" if row["others"] is None else f", others took {100 * row['others']:.0f} % of the CPU"
    return (
        f"{one.name}, seed {row['seed']}: {scores}; {spent}, {row['steps']:,} steps{busy}"
        f"{' (validation accuracy)' * bool(levels)}{levels}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Default recipes on real data, one run after the other.")
    names = [one.name for one in DATA_SETS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=Path, default=default_folder(), help="folder with the data files")
    parser.add_argument("--quick", action="store_true", help="one epoch, nothing written: does everything run?")
    parser.add_argument("--keep", type=Path, help="folder for the runs, which are thrown away unless given")
    asked = parser.parse_args()
    data = asked.data.resolve() if asked.data else None
    summary, failed = [], 0
    with tempfile.TemporaryDirectory(prefix="goodfit-bench-") as scratch:
        folder = (asked.keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for one in (o for o in DATA_SETS if o.name in asked.only):
            rows = []
            for seed in asked.seeds:
                try:
                    row = run_once(one, seed, data=data, folder=folder, quick=asked.quick)
                except (FileNotFoundError, RuntimeError) as error:
                    print(f"{one.name}, seed {seed}: {error}", file=sys.stderr, flush=True)
                    failed += 1
                    continue
                print(line(one, row), flush=True)
                rows.append(row)
            if rows and not asked.quick:
                # Rows of other seeds, measured earlier, stay; their hardware and versions are told with them.
                rows = record.keep_rows(one.name, rows, same=("seed",))
                record.write_part(one.name, describe(one, rows), order=record.ORDER)
            if rows:
                summary.append((one, rows))
    for one, rows in summary:
        print(f"\n{describe(one, rows)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
