"""Reads the programs: each source is a faulty program, its healthy twin, or a healthy look-alike.

A source is an ordinary script whose first line says what it is:

    # rows 1, 28 | rule stale-gradient             a fault and its twin
    # rows 6 | rule parameters-not-in-optimizer | at encoder    where a parameter's name is what a finding gives
    # control 1                                     a healthy program that looks like row 1's fault

A line that ends in ``# fault`` stands in the faulty program only, one that ends in ``# well`` in its twin only; in the
other one it is empty, so that both have the same line numbers. The finding belongs at the lines with ``# fault``,
``# fault!`` (of several the one that counts) or ``# here`` (stands in both).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "programs"
_MARK = re.compile(r"\s*# (fault!?|well|here)$")


@dataclass(frozen=True)
class Source:
    """One source. rules: any of them is right; lines: where the finding belongs; names: parts of names that do too."""

    name: str
    rows: tuple[int, ...]
    rules: tuple[str, ...]
    lines: tuple[int, ...]
    names: tuple[str, ...]
    control: bool
    text: str

    def resolved(self, faulty: bool) -> str:
        """The script of the faulty program or of its twin, without the marks."""
        kept = []
        for line in self.text.splitlines():
            mark = _MARK.search(line)
            leave = mark is not None and mark[1].startswith("well" if faulty else "fault")
            kept.append("" if leave else _MARK.sub("", line))
        return "\n".join(["", *kept[1:], ""])


def read(path: Path) -> Source:
    """One source. Raises ValueError where its first line is none of ours, or a fault has no line."""
    text = path.read_text(encoding="utf-8")
    first, *_ = text.splitlines()
    parts = [part.split(None, 1) for part in first.removeprefix("#").split("|")]
    said = {part[0]: part[1].strip() if len(part) > 1 else "" for part in parts}
    control = "control" in said
    if not control and not {"rows", "rule"} <= said.keys():
        raise ValueError(f"{path.name}: its first line says neither rows and rule nor control")
    marks = [(number, found[1]) for number, line in enumerate(text.splitlines(), 1) if (found := _MARK.search(line))]
    exact = [number for number, mark in marks if mark == "fault!"] or [n for n, mark in marks if mark == "here"]
    lines = exact or [number for number, mark in marks if mark == "fault"]
    names = tuple(said["at"].split()) if "at" in said else ()
    if not control and not lines and not names:
        raise ValueError(f"{path.name}: no line is marked as the fault's")
    rows = tuple(int(one) for one in said["control" if control else "rows"].replace(",", " ").split())
    rules = tuple(said.get("rule", "").split())
    return Source(path.stem, rows, rules, tuple(lines), names, control, text)


def sources(pattern: str = "*") -> list[Source]:
    """All sources whose name matches."""
    return [read(path) for path in sorted(FOLDER.glob(f"{pattern}.py"))]
