"""Run rules over what probes recorded: findings, and an honest list of what was not checked and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from goodfit.types import Finding


@dataclass(frozen=True)
class Log:
    """What probes recorded: signal name -> value, and for signals that could not be recorded the reason."""

    values: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, signal: str) -> Any:
        return self.values[signal]

    def get(self, signal: str, default: Any = None) -> Any:
        """A signal's value, or ``default``."""
        return self.values.get(signal, default)


@dataclass(frozen=True)
class Rule:
    """A check that is a pure function of the log; the function's docstring is the rule's page.

    check: returns a finding, or a short text that says what was seen and is well.
    needs: the signals without which it cannot be decided. status: ``stable`` once its rates are measured.
    tasks: the kinds of task it speaks of; all where empty.
    """

    name: str
    check: Callable[[Log], Finding | str]
    needs: tuple[str, ...]
    status: Literal["preview", "stable"] = "preview"
    tasks: tuple[str, ...] = ()

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.check.__doc__ or ""


@dataclass(frozen=True)
class Verdict:
    """What a rule said: ``ok``, ``found`` or ``not checked``."""

    name: str
    outcome: Literal["ok", "found", "not checked"]
    text: str
    findings: tuple[Finding, ...] = ()

    @property
    def mark(self) -> str:
        """A short word for the screen."""
        return {"ok": "ok  ", "found": "LOOK", "not checked": "--  "}[self.outcome]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "text": self.text,
            "findings": [asdict(f) for f in self.findings],
        }


def run_rules(rules: Iterable[Rule], log: Log) -> list[Verdict]:
    """Every rule's verdict, in order. A rule whose signals are missing is *not checked*: not the same as healthy."""
    verdicts = []
    for rule in rules:
        absent = [s for s in rule.needs if s not in log.values]
        if absent:
            why = "; ".join(dict.fromkeys(log.missing.get(s, f"{s} was not recorded") for s in absent))
            verdicts.append(Verdict(rule.name, "not checked", f"not checked: {why}"))
            continue
        try:
            said = rule.check(log)
        # A rule that breaks is our mistake; it must neither look like health nor stop the training of a user.
        except Exception as error:
            why = f"the rule failed: {type(error).__name__}: {error}"
            verdicts.append(Verdict(rule.name, "not checked", f"not checked: {why}"))
            continue
        if isinstance(said, Finding):
            verdicts.append(Verdict(rule.name, "found", said.message, (said,)))
        else:
            verdicts.append(Verdict(rule.name, "ok", said))
    return verdicts
