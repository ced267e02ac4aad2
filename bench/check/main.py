"""How often `goodfit check` is right, how early, and what it costs: on programs with a fault and on healthy ones.

`python -m bench.check.main` runs every program of ``bench/check/programs`` in a process of its own, plain, under
observation and under a checker of fixed thresholds. Faulty programs and their twins differ in the fault's lines only.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench import record
from bench.check.programs import Source, sources
from bench.check.run import SETTLED, prepared, run

GRAVE = ("error", "warning")
NEAR = 3
LONG = 0.5
"""Seconds of a loop from which on its overhead counts: of shorter ones the clock says nothing."""


def judged(source: Source, faulty: bool, watched: dict[str, Any]) -> dict[str, Any]:
    """What counts of the findings: advice does not."""
    findings = [one for one in watched["findings"] if one["severity"] in GRAVE]
    right = [one for one in findings if one["rule"] in source.rules]
    placed = [one for one in right if at_line(source, one["where"], one["message"])]
    return {
        "findings": [[one["rule"], one["severity"], one["where"], one["step"]] for one in findings],
        "advice": [[one["rule"], one["where"]] for one in watched["findings"] if one["severity"] not in GRAVE],
        "found": bool(findings) if faulty else None,
        "right": bool(right) if faulty else None,
        "placed": bool(placed) if faulty else None,
        "step": min((one["step"] or 0 for one in right), default=None) if faulty else None,
    }


def at_line(source: Source, where: str, message: str) -> bool:
    """Whether a finding points within three lines of the fault, or names the parameters that the source gives."""
    if any(name in where or name in message for name in source.names):
        return True
    line = where.rpartition(":")[2]
    return line.isdigit() and any(abs(int(line) - one) <= NEAR for one in source.lines)


def measure(source: Source, faulty: bool, repeats: int) -> dict[str, Any]:
    """One program in all three ways; times are the best of several runs that take turns."""
    text = source.resolved(faulty)
    plain = [run(text, "plain")]
    watched = [run(text, "watched")]
    for _ in range(repeats - 1 if plain[0]["loop"] >= LONG else 0):
        plain.append(run(text, "plain"))
        watched.append(run(text, "watched"))
    times = {
        key: (min(one[key] for one in plain), min(one[key] for one in watched)) for key in ("seconds", "start", "loop")
    }
    looped = max(1, watched[0]["steps"] - SETTLED)
    limits = run(text, "thresholds")
    return {
        "program": source.name + ("" if source.control else ", faulty" if faulty else ", twin"),
        "kind": "control" if source.control else "faulty" if faulty else "twin",
        "rows": list(source.rows),
        "rules": list(source.rules),
        **judged(source, faulty, watched[0]),
        "steps": watched[0]["steps"],
        "ended": [plain[0]["ended"], watched[0]["ended"]],
        "same": plain[0]["printed"] == watched[0]["printed"] and plain[0]["printed"] != "",
        "failed": [one["reason"] for one in watched[0]["not_checked"] if "failed" in one["reason"]],
        "errors": watched[0]["errors"] or plain[0]["errors"],
        "alarms": limits["alarms"],
        "extra_ms": round(1000 * (times["loop"][1] - times["loop"][0]) / looped, 3),
        "overhead": round(times["loop"][1] / max(times["loop"][0], 1e-9) - 1, 4),
        "start_seconds": round(times["start"][1] - times["start"][0], 3),
        "whole": round(times["seconds"][1] / max(times["seconds"][0], 1e-9) - 1, 4),
        "loop_seconds": round(times["loop"][0], 3),
        "seconds": round(times["seconds"][0], 3),
    }


def problems(row: dict[str, Any]) -> str:
    """What is not as it should be, in one line; empty where all is well."""
    said = []
    if row["kind"] == "faulty":
        if not row["right"]:
            said.append(f"not found (found {row['findings'] or 'nothing'})")
        elif not row["placed"]:
            said.append(f"wrong line {row['findings']}")
        others = [one for one in row["findings"] if one[0] not in row["rules"]]
        if others and row["right"]:
            said.append(f"also {others}")
    elif row["findings"]:
        said.append(f"FALSE ALARM {row['findings']}")
    if not row["same"]:
        said.append("prints something else under observation, or nothing")
    if row["ended"][0] != row["ended"][1] or row["ended"][1] == "crashed":
        said.append(f"ended {row['ended']} {row['errors']}")
    if row["ended"][0] == "failed" and row["kind"] != "faulty":
        said.append(f"fails by itself: {row['errors']}")
    if row["failed"]:
        said.append(str(row["failed"]))
    return "; ".join(said)


def share(rows: Sequence[dict[str, Any]], key: str) -> str:
    """Such as ``45 of 50 (90 %)``."""
    count = sum(bool(row[key]) for row in rows)
    return f"{count} of {len(rows)} ({100 * count / max(1, len(rows)):.0f} %)"


def describe(rows: Sequence[dict[str, Any]]) -> str:
    """The part of RESULTS.md."""
    faulty = [row for row in rows if row["kind"] == "faulty"]
    healthy = [row for row in rows if row["kind"] != "faulty"]
    errors = [sum(one[1] == "error" for one in row["findings"]) for row in healthy]
    alarms = [sum(one[1] == "warning" for one in row["findings"]) for row in healthy]
    first = [row["step"] for row in faulty if row["right"]]
    long = [row for row in rows if row["loop_seconds"] >= LONG]
    overhead = [100 * row["overhead"] for row in long] or [0.0]
    each = [row["extra_ms"] for row in long] or [0.0]
    started = [row["start_seconds"] for row in rows if row["start_seconds"]] or [0.0]
    crashes = [row["program"] for row in rows if row["ended"][0] != row["ended"][1] or row["failed"]]
    covered = sorted({number for row in faulty for number in row["rows"]})
    figures = [
        ("faulty programs, over rows of the catalogue", f"{len(faulty)}, {len(covered)}", "90, 80"),
        ("found with the right rule", share(faulty, "right"), "95 %"),
        ("at the right line (within 3)", share(faulty, "placed"), "90 %"),
        ("step of the first right one", f"median {statistics.median(first or [0]):g}, worst {max(first or [0])}", "-"),
        ("found within 10 steps", share([{"early": one <= 10} for one in first], "early"), ""),
        ("healthy programs: twins, look-alikes", f"{len(healthy)}", ""),
        ("errors per healthy run", f"{statistics.fmean(errors or [0]):.3f}", "0"),
        ("warnings per healthy run", f"{statistics.fmean(alarms or [0]):.3f}", "0.1"),
        (
            "overhead of the loop, median and worst",
            f"{statistics.median(overhead):.1f} %, {max(overhead):.1f} %",
            "3 %, 10 %",
        ),
        ("added once, in the first 30 steps", f"{statistics.median(started):.2f} s, {max(started):.2f} s", "-"),
        ("added to a step, median and worst", f"{statistics.median(each):.2f} ms, {max(each):.2f} ms", "-"),
        ("prints the same to the last digit", share(rows, "same"), "all"),
        ("crashes", str(len(crashes)), "0"),
        ("fixed thresholds: faulty with an alarm", share([{"a": row["alarms"]} for row in faulty], "a"), ""),
        ("fixed thresholds: healthy with an alarm", share([{"a": row["alarms"]} for row in healthy], "a"), ""),
    ]  # fmt: skip
    by_row = []
    for number in covered:
        here = [row for row in faulty if number in row["rows"]]
        known = [row for row in healthy if number in row["rows"]]
        by_row.append(
            (
                str(number),
                ", ".join(dict.fromkeys(rule for row in here for rule in row["rules"])),
                f"{sum(row['right'] for row in here)} of {len(here)}",
                f"{sum(row['placed'] for row in here)} of {len(here)}",
                ", ".join(str(row["step"]) for row in here if row["right"]),
                f"{sum(bool(row['findings']) for row in known)} of {len(known)}",
                f"{sum(bool(row['alarms']) for row in here)} / {sum(bool(row['alarms']) for row in known)}",
            )
        )
    counts = Counter(one for row in healthy for one in row["alarms"])
    costs = [
        f"{row['program']} {100 * row['overhead']:+.1f} % of {row['loop_seconds']:.1f} s ({100 * row['whole']:+.0f} % "
        "with the start)"
        for row in long
    ]
    wrong = [f"- {row['program']}: {said}" for row in rows if (said := problems(row))]
    header = (
        "row",
        "rules",
        "found",
        "at its line",
        "at step",
        "alarms on healthy ones",
        "thresholds: faulty / healthy",
    )
    return "\n".join(
        [
            "## Faults found, and false alarms",
            "",
            "`python -m bench.check.main`: every program runs in a process of its own, plain, under observation and "
            "under fixed thresholds (a norm of the gradient above 100 or below 1e-7, an update outside 1e-5 to 0.1 of "
            "the weights, 90 % zeros). Overhead is CPU time of the loop after the 30th update, of programs whose loop "
            "takes 0.5 s and more, the least of several runs that take turns; what the first 30 updates cost is shown "
            "apart. Advice is not counted.",
            "",
            record.table(("", "measured", "wanted"), figures),
            "",
            record.table(header, by_row),
            "",
            f"Healthy programs: {', '.join(row['program'] for row in healthy)}.",
            "",
            f"Alarms of fixed thresholds on healthy programs: {dict(counts)}.",
            "",
            f"Overhead by program: {', '.join(costs)}.",
            "",
            "What is not as it should be:" if wrong else "Nothing else to tell.",
            "",
            *wrong,
            "",
            f"Hardware: {record.hardware(rows[0]['environment'])}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Faults found and false alarms of `goodfit check`.")
    parser.add_argument("--only", default="*", help="pattern of the names of the programs")
    parser.add_argument("--quick", action="store_true", help="every eighth program, nothing written")
    parser.add_argument("--repeats", type=int, default=5, help="runs in turns, of which the fastest counts")
    asked = parser.parse_args()
    prepared()
    rows = []
    machine = record.this_machine()
    for source in sources(asked.only)[:: 8 if asked.quick else 1]:
        for faulty in (False,) if source.control else (True, False):
            row = measure(source, faulty, asked.repeats) | {"environment": machine}
            step = "" if row["step"] is None else f" at step {row['step']}"
            print(f"{row['program']}: {problems(row) or 'as it should be'}{step}", flush=True)
            rows.append(row)
    text = describe(rows)
    print(text)
    if asked.only == "*" and not asked.quick:
        record.write_part("check", text, order=record.ORDER)
        record.keep_rows("check", rows, same=("program",))


if __name__ == "__main__":
    main()
