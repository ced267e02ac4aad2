"""Writes docs/techniques.md and docs/rules.md from the classes and rules themselves.

What each technique is, when it helps, what it costs, and the inventory of what goodfit set out to cover; what each rule
looks for and what it leaves alone.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import record
from bench.inventory import ROWS, Row
from goodfit.recipe import MANY, ORDER, SCALARS, SECTIONS
from goodfit.rules import RULES
from goodfit.rules.finished import RUN_RULES
from goodfit.rules.live import LIVE_RULES, REPLICA_RULES
from goodfit.techniques import TABLE

DOCS = Path(__file__).resolve().parents[1] / "docs"
RULES_HEAD = """# Rules

Written by `python -m bench.pages` from the rules; `goodfit explain RULE` prints the whole page of each. *Found* and
*false alarms* are those of `python -m bench.check.main` ([how](../bench/RESULTS.md)); a rule is *stable* when it missed
none of its faulty programs and spoke in no healthy one.
"""
HEAD = """# Techniques

Written by `python -m bench.pages` from the classes; `goodfit explain NAME` prints the whole page of each. Costs are
milliseconds and the share of a training step as `python -m bench.techniques` measured them ([what and
where](../bench/RESULTS.md)).
"""


def techniques() -> Iterator[str]:
    """A table for each slot."""
    costs = {row["key"]: row for row in reversed(record.read_rows("techniques"))}
    for slot in ORDER:
        if slot in SCALARS or slot in ("task", "data"):
            continue
        rows = []
        for name, cls in TABLE.get(slot, {}).items():
            text = _text(cls)
            cost = costs.get(f"{slot}.{name}")
            rows.append(
                (
                    f"`{name}`" if slot not in SECTIONS else f"`{slot}`",
                    _first(text),
                    _told(text, "Formula"),
                    _told(text, "Source"),
                    _told(text, "Helps"),
                    _told(text, "Hurts"),
                    "" if cost is None else f"{cost['ms']:.2f} ms, {cost['share']:.1f} % ({cost['ground']})",
                )
            )
        if rows:
            kind = "any number of" if slot in MANY else "settings of" if slot in SECTIONS else "one of"
            header = ("name", "what it does", "formula", "source", "helps", "hurts", "cost")
            yield f"## {slot} ({kind})\n\n{record.table(header, rows)}"


def inventory() -> str:
    """The rows of the inventory with where each is found, or why it is not there."""
    shown = [(str(row.number), row.title, "yes" if row.done else "**no**", _where(row)) for row in ROWS]
    done = sum(row.done for row in ROWS)
    head = f"## The inventory\n\n{done} of {len(ROWS)} rows are there."
    return f"{head}\n\n{record.table(('row', 'technique', 'there', 'where, or why not'), shown)}"


def page() -> str:
    """The whole page."""
    return "\n\n".join([HEAD.strip(), *techniques(), inventory()]) + "\n"


def rules() -> str:
    """The page of the rules."""
    parts = [RULES_HEAD.strip()]
    parts_of = (
        ("Before a training", RULES),
        ("In any training (`goodfit check`)", LIVE_RULES),
        ("Of several processes together", REPLICA_RULES),
        ("After a training of goodfit's", RUN_RULES),
    )
    measured = rates()
    for title, some in parts_of:
        rows = []
        for rule in some:
            text = inspect.cleandoc(rule.__doc__ or "")
            paragraphs = [" ".join(one.split()) for one in text.split("\n\n")]
            like = next((one for one in paragraphs if one.startswith("Look-alikes")), "")
            fix = next((one for one in paragraphs if one.startswith("Fix:")), "")
            found = measured.get(rule.name, ("", "", "preview"))
            rows.append((f"`{rule.name}`", paragraphs[0], like.partition(": ")[2], fix.removeprefix("Fix: "), *found))
        header = ("rule", "what it finds", "left alone", "fix", "found", "false alarms", "status")
        parts.append(f"## {title}\n\n{record.table(header, rows)}")
    return "\n\n".join(parts) + "\n"


def rates() -> dict[str, tuple[str, str, str]]:
    """Of each rule: faulty programs in which it was found, healthy ones in which it spoke, and what follows.

    ``stable`` is a rule that missed none of its faulty programs and never spoke in a healthy one; all others, and those
    without a program, are in ``preview``.
    """
    rows = list({row["program"]: row for row in record.read_rows("check")}.values())
    healthy = [row for row in rows if row["kind"] != "faulty"]
    told: dict[str, tuple[str, str, str]] = {}
    for rule in (*RULES, *LIVE_RULES, *REPLICA_RULES, *RUN_RULES):
        mine = [row for row in rows if row["kind"] == "faulty" and rule.name in row["rules"]]
        hit = sum(any(one[0] == rule.name for one in row["findings"]) for row in mine)
        # A program may name several rules of which any is right; the others' silence is no miss.
        missed = sum(not row["right"] for row in mine)
        wrong = sum(any(one[0] == rule.name for one in row["findings"]) for row in healthy)
        if mine:
            status = "stable" if hit and not missed and not wrong else "preview"
            told[rule.name] = (f"{hit} of {len(mine)}", f"{wrong} of {len(healthy)}", status)
    return told


def _where(row: Row) -> str:
    keys = ", ".join(f"`{key}`" for key in row.keys)
    return "; ".join(filter(None, [keys, row.note]))


def _text(cls: type[Any]) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


def _first(text: str) -> str:
    """The first sentence, which a newcomer understands."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.;])\s", paragraph)[0].rstrip(".;")


def _told(text: str, label: str) -> str:
    """What a docstring says behind ``Label:``, up to the next label or the end of its paragraph."""
    flat = re.sub(r"\n(?=[A-Z][\w ]{0,20}: )", "\n\n", text)
    found = re.search(rf"(?:^|\s){label}: (.*?)(?=\n\n|\s(?:Hurts|Helps|Source|Ours|Formula): |\Z)", flat, re.DOTALL)
    return " ".join(found[1].split()).rstrip(".") if found else ""


if __name__ == "__main__":
    for name, text in (("techniques.md", page()), ("rules.md", rules())):
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"wrote docs/{name}")
