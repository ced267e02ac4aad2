"""The page of ``goodfit check --report``: findings in full, self-contained, without scripts, every name escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from goodfit import store
from goodfit.program import GRAVITY, Checked


def write_checked(path: Path, name: str, verdict: str, checked: Checked) -> None:
    """Write the page. name: of what was checked. verdict: in one line. Raises RunError where it cannot be written."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("goodfit", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = _number
    page = environment.get_template("checked.html").render(
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
