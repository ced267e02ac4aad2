"""Run rules over what probes recorded: findings, and an honest list of what was not checked and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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

    check: returns a finding or several, or a short text that says what was seen and is well.
    needs: the signals without which it cannot be decided. status: ``stable`` once its rates are measured.
    tasks: the kinds of task it speaks of; all where empty.
    follows: rules of which this one's findings are a consequence: where those find something, these are folded.
    """

    name: str
    check: Callable[[Log], Finding | Sequence[Finding] | str]
    needs: tuple[str, ...]
    status: Literal["preview", "stable"] = "preview"
    tasks: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()

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
        if isinstance(said, str):
            verdicts.append(Verdict(rule.name, "ok", said))
            continue
        found = (said,) if isinstance(said, Finding) else tuple(said)
        verdicts.append(Verdict(rule.name, "found", found[0].message, found))
    return verdicts


def folded(verdicts: Iterable[Verdict], rules: Iterable[Rule]) -> list[Finding]:
    """The findings of these verdicts, one for each root cause: what follows from another is named in its ``folded``."""
    causes = {rule.name: rule.follows for rule in rules}
    found = {v.name: list(v.findings) for v in verdicts if v.findings}
    roots = {name: next((c for c in causes.get(name, ()) if c in found), "") for name in found}
    made: list[Finding] = []
    for name, findings in found.items():
        if roots[name]:
            continue
        under = tuple(f"{other}: {found[other][0].message}" for other, root in roots.items() if root == name)
        made += [replace(findings[0], folded=under), *findings[1:]]
    return made
