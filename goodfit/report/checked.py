"""The page of ``goodfit check --report``: findings in full, self-contained, without scripts, every name escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goodfit import store
from goodfit.program import GRAVITY, Checked
from goodfit.report.template import template


def write_checked(path: Path, name: str, verdict: str, checked: Checked) -> None:
    """Write the page. name: of what was checked. verdict: in one line. Raises RunError where it cannot be written."""
    page = template("checked.html", number=_number).render(
        name=name,
        verdict=verdict,
        steps=checked.steps,
        ended=checked.ended,
        findings=sorted(checked.findings, key=lambda one: -GRAVITY[one.severity]),
        not_checked=checked.not_checked,
    )
    # Names of files need not be Unicode; what is none is shown as a question mark.
    store.write_file(path, page.encode("utf-8", "replace"))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
