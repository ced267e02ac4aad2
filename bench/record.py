"""Keeps what benchmarks measured: raw rows in results.json, a page for people in RESULTS.md, each part by itself."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from goodfit.plan import environment as environment_of

FOLDER = Path(__file__).resolve().parent
ORDER = (
    "digits",
    "adult",
    "wine",
    "abalone",
    "mammography",
    "reviews",
    "news",
    "shakespeare",
    "temperatures",
    "cifar10",
    "loop",
    "execution",
    "check",
)
HEAD = """# Benchmark results

Written by the scripts in `bench/`; run one again and its part is replaced (`python -m bench.main --only NAME`,
`python -m bench.loop`, `python -m bench.execution`, `python -m bench.check.main`). Raw rows are in `results.json`.
"""
_PART = re.compile(r"<!-- (?P<name>[^/ ][^>]*?) -->\n(?P<text>.*?)\n?<!-- /(?P=name) -->", re.DOTALL)

Rows = list[dict[str, Any]]


def read_rows(name: str, *, folder: Path = FOLDER) -> Rows:
    """The raw rows of one part; an empty list where it was never run."""
    return list(_read(folder).get(name, []))


def keep_rows(name: str, rows: Rows, *, same: Sequence[str], folder: Path = FOLDER) -> Rows:
    """Put rows into ``results.json`` and return all rows of this part; rows equal in the keys ``same`` are replaced."""
    everything = _read(folder)
    fresh = {tuple(row[key] for key in same) for row in rows}
    kept = [row for row in everything.get(name, []) if tuple(row.get(key) for key in same) not in fresh]
    everything[name] = sorted([*kept, *rows], key=lambda row: tuple(str(row[key]) for key in same))
    _write(folder / "results.json", json.dumps(everything, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return list(everything[name])


def write_part(name: str, text: str, *, order: Sequence[str] = (), folder: Path = FOLDER) -> None:
    """Replace one part of ``RESULTS.md`` or add it; parts stand in ``order``, unknown ones behind."""
    page = folder / "RESULTS.md"
    parts = {}
    if page.exists():
        parts = {one["name"]: one["text"] for one in _PART.finditer(page.read_text(encoding="utf-8"))}
    parts[name] = text.strip("\n")
    known = [one for one in order if one in parts]
    names = [*known, *(one for one in parts if one not in known)]
    body = "\n\n".join(f"<!-- {one} -->\n{parts[one]}\n<!-- /{one} -->" for one in names)
    _write(page, f"{HEAD}\n{body}\n")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def spread(values: Sequence[float], digits: int) -> str:
    """Mean, and standard deviation (n - 1) where there are several.

    >>> spread([0.9, 0.92], 3)
    '0.910 ± 0.014'
    """
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def hardware(environment: Mapping[str, Any]) -> str:
    """One line: device, cores, threads and versions."""
    versions = ", ".join(f"{name} {value}" for name, value in environment["versions"].items())
    device = environment["accelerator"] or environment["processor"]
    return (
        f"{device}, {environment['cores']} cores, {environment['threads']} threads, {environment['system']}; {versions}"
    )


def this_machine() -> dict[str, Any]:
    """What ``plan.json`` says of hardware and versions, for measurements in this process on the CPU."""
    return environment_of(torch.device("cpu"))


@contextmanager
def shared_cpu() -> Iterator[list[float]]:
    """Measures the share of all cores that other programs took meanwhile; the list is filled at the end.

    Work of this process and of children that ended inside is its own. The list stays empty where ``/proc/stat`` is not.
    """
    found: list[float] = []
    before, own = _busy(), _own()
    yield found
    after = _busy()
    if before is not None and after is not None:
        total = after[1] - before[1]
        others = after[0] - before[0] - (_own() - own)
        found.append(round(min(1.0, max(0.0, others / total)), 3) if total > 0 else 0.0)


def _own() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _busy() -> tuple[float, float] | None:
    """Seconds that all cores together were busy, stolen time included, and seconds in all."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return None
    ticks = [float(one) / os.sysconf("SC_CLK_TCK") for one in line.split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _read(folder: Path) -> dict[str, Rows]:
    path = folder / "results.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    staged = path.with_name(path.name + ".new")
    staged.write_text(text, encoding="utf-8")
    staged.replace(path)
