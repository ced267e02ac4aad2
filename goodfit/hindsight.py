"""What only the whole course of a training shows: the counterpart of pre-flight, when the last step is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from goodfit.check import Log, folded, run_rules
from goodfit.probes.course import course
from goodfit.rules.finished import RUN_RULES
from goodfit.types import Finding


def hindsight(rows: Sequence[Mapping[str, Any]], epochs: float) -> list[Finding]:
    """Findings of a finished run's metrics. rows: a line for each validation. epochs: planned."""
    return folded(run_rules(RUN_RULES, Log(course(rows, epochs))), RUN_RULES)
