"""``docs/claims.md``, whole, from the raw rows: one line a claim, then each claim with its figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench import record
from bench.claims.claim import Claim, Finding, Measured, Told, judge, overall
from bench.claims.registry import CLAIMS

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parents[1] / "docs" / "claims.md"
HEAD = """# What courses claim, measured

Written by `python -m bench.claims --data DIR`; run a claim again and its part is replaced. Raw numbers are in
`bench/claims/results.json`. Small nets on small real data, each pair of runs from the same seed, the same weights and
the same order of samples: this is what these claims come to under these conditions, not everywhere.

**Seen**: the 95 % interval of the mean paired difference lies on the claimed side of 0; of "equal": it lies within
what would matter. **Opposite**: it lies on the other side; of "equal": beyond what would matter. **Not seen**: no
effect on the claimed side as large as would matter. **Inconclusive**: anything else. Findings of a claim are corrected
by Holm (1979), and each interval is drawn at the level at which it was read. *Least seen* is the smallest true
difference that so many pairs find with a probability of 80 %. Findings marked (contrast) are no part of the claim.
"""


def read(folder: Path = FOLDER) -> dict[str, Measured]:
    """What was measured, by the name of the claim."""
    found = {}
    for row in record.read_rows("claims", folder=folder):
        findings = [Finding(**one) for one in row["findings"]]
        found[row["claim"]] = Measured(
            row["claim"], findings, row["seconds"], row.get("others"), row.get("environment", {})
        )
    return found


def keep(measured: Measured, *, folder: Path = FOLDER, page: Path = PAGE, claims: Iterable[Claim] = CLAIMS) -> None:
    """Put a claim's numbers in place of those before, and write the page anew."""
    row = asdict(measured)
    row["findings"] = [{k: list(v) if isinstance(v, tuple) else v for k, v in one.items()} for one in row["findings"]]
    record.keep_rows("claims", [row], same=("claim",), folder=folder)
    staged = page.with_name(page.name + ".new")
    staged.write_text(render(read(folder), claims), encoding="utf-8")
    staged.replace(page)


def render(measured: Mapping[str, Measured], claims: Iterable[Claim] = CLAIMS) -> str:
    """The page."""
    claims = list(claims)
    judged = {name: judge(one.findings) for name, one in measured.items()}
    lines = []
    for claim in claims:
        told = judged.get(claim.name)
        said = overall(told) if told else "not measured yet"
        lines.append((f"[{claim.title}](#{anchor(claim.title)})", said, _first(told or [])))
    summary = record.table(("claim", "what was seen", "its first finding"), lines)
    parts = [describe(claim, measured.get(claim.name), judged.get(claim.name, [])) for claim in claims]
    return f"{HEAD}\n{summary}\n\n" + "\n\n".join(parts) + "\n"


def describe(claim: Claim, measured: Measured | None, told: Sequence[Told]) -> str:
    """A claim's part of the page."""
    head = [
        f"## {claim.title}",
        f"*{claim.words}* (inventory {claim.origin})",
        f"Data: {claim.data}. Arms: {claim.how}.",
    ]
    again = f"`python -m bench.claims {claim.name}`"
    if measured is None:
        return "\n\n".join([*head, f"Not measured yet: {again}."])
    rows = [
        (
            one.finding.what + (" (contrast)" if one.finding.control else ""),
            one.finding.metric,
            {"more": "above 0", "less": "below 0", "equal": f"0, give or take {one.finding.matters:.3g}"}[
                one.finding.says
            ],
            number(one.interval.mean, sign=True),
            f"{_span(one)} ({100 * one.interval.level:.4g} %)",
            f"{_mean(one.finding.arm)} and {_mean(one.finding.against)}",
            str(one.interval.pairs),
            number(one.detectable),
            f"**{one.word}**",
        )
        for one in told
    ]
    header = ("", "metric", "claimed", "difference", "interval", "of", "pairs", "least seen", "")
    busy = (
        "" if measured.others is None else f" Other programs took {100 * measured.others:.0f} % of the CPU meanwhile."
    )
    machine = f" {record.hardware(measured.environment)}." if measured.environment else ""
    foot = f"{again}, {measured.seconds:.0f} s.{busy}{machine}"
    return "\n\n".join([*head, record.table(header, rows), *([claim.note] if claim.note else []), foot])


def anchor(title: str) -> str:
    """The fragment that Markdown readers give a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c == "-")


def number(value: float, *, sign: bool = False) -> str:
    """Four digits behind the point at most, three that count.

    >>> number(0.01234, sign=True), number(-12.345), number(float("inf"))
    ('+0.0123', '-12.3', 'unbounded')
    """
    if not math.isfinite(value):
        return "unbounded"
    digits = 4 if abs(value) < 1 else 3 if abs(value) < 10 else 1
    return f"{value:{'+' if sign else ''}.{digits}f}"


def _mean(values: Sequence[float]) -> str:
    return number(sum(values) / len(values))


def _first(told: Sequence[Told]) -> str:
    if not told:
        return ""
    one = told[0]
    found = f"{number(one.interval.mean, sign=True)} {one.finding.metric}, {_span(one)}, {one.interval.pairs} pairs"
    return f"{one.finding.what}: {found}"


def _span(one: Told) -> str:
    return f"{number(one.interval.low, sign=True)} to {number(one.interval.high, sign=True)}"
