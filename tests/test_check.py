"""Rules over a log: pure functions, an honest list of what was not checked, verdicts as plain values."""

from __future__ import annotations

import inspect
import json

import pytest

from goodfit.check import Log, Rule, Verdict, run_rules
from goodfit.probes.record import NotRecorded, record
from goodfit.rules import RULES
from goodfit.types import Finding


def rule(check: object, *needs: str) -> Rule:
    return Rule("test-rule", check, needs)  # type: ignore[arg-type]


def verdict(check: object, log: Log, *needs: str) -> Verdict:
    (one,) = run_rules([rule(check, *needs)], log)
    return one


def test_a_rule_whose_signal_is_missing_is_not_checked_and_says_why() -> None:
    one = verdict(lambda log: "fine", Log({}, {"a": "the data is streamed"}), "a")
    assert (one.outcome, one.text, one.findings) == ("not checked", "not checked: the data is streamed", ())
    one = verdict(lambda log: "fine", Log({"a": 1}), "a", "b")
    assert one.text == "not checked: b was not recorded"


def test_reasons_that_are_equal_are_told_once() -> None:
    one = verdict(lambda log: "fine", Log({}, {"a": "too slow", "b": "too slow"}), "a", "b")
    assert one.text == "not checked: too slow"


def test_a_rule_that_breaks_is_not_checked_and_the_others_still_run() -> None:
    rules = [rule(lambda log: log["absent"]), rule(lambda log: "fine")]
    broken, well = run_rules(rules, Log())
    assert (broken.outcome, well.outcome) == ("not checked", "ok")
    assert "the rule failed: KeyError: 'absent'" in broken.text


def test_a_finding_and_health_are_told_apart() -> None:
    found = Finding("test-rule", "warning", "it is ill", "here", {"n": 3}, "mend it")
    one = verdict(lambda log: found, Log())
    assert (one.outcome, one.text, one.findings) == ("found", "it is ill", (found,))
    assert verdict(lambda log: f"{log['n']} is fine", Log({"n": 3}), "n").text == "3 is fine"


def test_a_verdict_becomes_plain_json() -> None:
    found = Finding("test-rule", "error", "it is ill", "here", {"n": 3}, "mend it")
    values = json.loads(json.dumps(verdict(lambda log: found, Log()).to_json()))
    assert values["outcome"] == "found"
    assert values["findings"][0] == {
        "rule": "test-rule", "severity": "error", "message": "it is ill", "where": "here", "evidence": {"n": 3},
        "fix": "mend it", "patch": {}, "why": "", "step": None, "folded": [], "proof": "",
    }  # fmt: skip


def test_the_marks_line_up_on_the_screen() -> None:
    assert {len(Verdict("r", outcome, "").mark) for outcome in ("ok", "found", "not checked")} == {4}


def test_a_probe_that_fails_stops_no_other_and_its_reason_is_kept() -> None:
    def breaks() -> dict[str, object]:
        raise KeyError("layer")

    def cannot() -> dict[str, object]:
        raise NotRecorded("only for language models")

    def silent() -> dict[str, object]:
        raise RuntimeError

    values, missing = record(
        {
            "one": (("a", "b"), breaks),
            "two": (("c",), cannot),
            "three": (("d",), lambda: {"d": 1}),
            "four": (("e",), silent),
        }
    )
    assert values == {"d": 1}
    assert missing == {
        "a": "the probe failed: KeyError: 'layer'",
        "b": "the probe failed: KeyError: 'layer'",
        "c": "only for language models",
        "e": "the probe failed: RuntimeError: no message",
    }


@pytest.mark.parametrize("one", RULES, ids=lambda r: r.name)
def test_every_rule_is_named_for_an_illness_and_has_a_page(one: Rule) -> None:
    page = inspect.cleandoc(one.check.__doc__ or "")
    assert one.__doc__ == one.check.__doc__
    assert len(page.splitlines()[0]) <= 110
    assert len(page.split()) >= 30, "a page says what it does, why it matters and what to do"
    module = inspect.getmodule(one.check)
    assert module is not None
    assert module.__name__.rsplit(".", 1)[1].replace("_", "-") == one.name
    assert one.needs
    assert one.status in ("preview", "stable")


def test_rule_names_are_unique() -> None:
    names = [one.name for one in RULES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("one", RULES, ids=lambda r: r.name)
def test_no_rule_takes_an_empty_log_for_health(one: Rule) -> None:
    (said,) = run_rules([one], Log())
    assert said.outcome == "not checked"
