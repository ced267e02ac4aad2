"""The claims' study: complete, judged rightly, shown whole, and run from one end to the other on the cheapest one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench.claims import __main__ as command
from bench.claims import page, sources
from bench.claims.claim import Claim, Finding, Measured, judge, overall
from bench.claims.place import NoTime, Place, Runs
from bench.claims.registry import CLAIMS
from goodfit.studies import Arm, Outcome

DOCUMENTED = {
    "mixup", "label-smoothing", "warmup-large-batch", "adamw-or-l2", "adam-or-sgd", "batch-scaling", "batchnorm-rate",
    "he-or-xavier", "skip-connections", "vanishing-gradients", "dropout", "early-stopping", "imbalance",
    "augmentation-ladder", "transfer", "progressive-unfreezing", "distillation", "accumulation", "mixed-precision",
    "lstm-or-gru", "backward-cost", "gradient-check", "initial-loss",
}  # fmt: skip


def finding(arm: list[float], against: list[float], says: str = "more", matters: float = 0.01) -> Finding:
    return Finding("a - b", "accuracy", arm, against, says, matters)  # type: ignore[arg-type]


def test_every_headline_claim_has_its_study_and_says_what_is_claimed_and_where() -> None:
    assert {one.name for one in CLAIMS} == DOCUMENTED
    assert len({one.title for one in CLAIMS}) == len(CLAIMS)
    assert all("row" in one.origin and one.words.endswith(".") and one.pairs >= 6 for one in CLAIMS)


@pytest.mark.parametrize(
    ("change", "says", "word"),
    [
        (0.05, "more", "seen"),
        (-0.05, "more", "opposite"),
        (-0.05, "less", "seen"),
        (0.0, "more", "not seen"),
        (0.0, "less", "not seen"),
        (0.0, "equal", "seen"),
        (0.05, "equal", "opposite"),
        (0.009, "equal", "inconclusive"),
    ],
)
def test_a_finding_is_judged_by_its_interval_and_by_what_the_claim_says(change: float, says: str, word: str) -> None:
    noise = np.linspace(-0.004, 0.004, 8) - np.mean(np.linspace(-0.004, 0.004, 8))
    (told,) = judge([finding((0.8 + change + noise).tolist(), [0.8] * 8, says)])
    assert told.word == word
    # Student's interval, by scipy.
    low, high = stats.t.interval(0.95, 7, loc=change, scale=stats.sem(noise))
    assert (told.interval.low, told.interval.high) == pytest.approx((low, high))


def test_noise_is_inconclusive_and_an_effect_below_what_counts_is_still_seen_where_it_is_clear() -> None:
    wide = [0.7, 0.9, 0.75, 0.85, 0.72, 0.9]
    assert judge([finding(wide, [0.8] * 6)])[0].word == "inconclusive"
    clear = [0.8021, 0.8019, 0.802, 0.8022, 0.8018, 0.802]
    assert judge([finding(clear, [0.8] * 6)])[0].word == "seen"


def test_several_findings_are_corrected_and_each_keeps_its_place() -> None:
    small = [0.80 + k for k in (0.02, -0.005, 0.025, 0.0, 0.03, 0.0)]
    assert judge([finding(small, [0.8] * 6)])[0].p == pytest.approx(stats.ttest_1samp(small, 0.8).pvalue)
    told = judge([finding(small, [0.8] * 6), finding([0.9 + k / 1000 for k in range(6)], [0.8] * 6)])
    assert [one.interval.mean for one in told] == pytest.approx([np.mean(small) - 0.8, 0.1025])
    assert told[1].interval.level == pytest.approx(0.975)


def test_contrasts_do_not_decide_a_claim_and_mixed_findings_are_counted() -> None:
    up, down = finding([0.9, 0.91, 0.92], [0.8] * 3), finding([0.7, 0.71, 0.72], [0.8] * 3)
    aside = Finding("x", "accuracy", [0.7, 0.71, 0.72], [0.8] * 3, "more", 0.01, control=True)
    assert overall(judge([up, aside])) == "seen"
    assert overall(judge([up, down])) == "1 seen, 1 opposite"


def test_the_page_tells_every_claim_and_a_new_measurement_replaces_one_part_only(tmp_path: Path) -> None:
    target = tmp_path / "claims.md"
    for name, value in (("mixup", 0.9), ("dropout", 0.7), ("mixup", 0.6)):
        made = Measured(name, [finding([value, value + 0.01, value - 0.01], [0.5] * 3)], 1.0)
        page.keep(made, folder=tmp_path, page=target)
    text = target.read_text(encoding="utf-8")
    assert "+0.1000" in text
    assert "+0.2000" in text
    assert "+0.4000" not in text
    assert all(f"\n## {one.title}\n" in text and f"(#{page.anchor(one.title)})" in text for one in CLAIMS)
    assert text.count("Not measured yet") == len(CLAIMS) - 2
    kept = json.loads((tmp_path / "results.json").read_text())["claims"]
    assert sorted(row["claim"] for row in kept) == ["dropout", "mixup"]
    assert page.render(page.read(tmp_path)) == text


def test_the_written_page_is_what_the_kept_numbers_say() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render(page.read()), "run python -m bench.claims --page"


def test_a_cheap_claim_runs_from_the_command_to_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.page, "keep", lambda made: page_kept.append(made))
    page_kept: list[Measured] = []
    command.main(["vanishing-gradients", "--seeds", "6", "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "sigmoid - ReLU" in shown
    (made,) = page_kept
    told = judge(made.findings)
    assert told[0].word == "seen"
    # A sigmoid's slope is a quarter at most, so more than a factor of three lies between the two in every layer.
    assert told[0].interval.high < -math.log10(3)


def test_quick_keeps_nothing_and_unknown_names_get_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.page, "keep", lambda _: pytest.fail("kept"))
    command.main(["initial-loss", "--quick", "--out", str(tmp_path)])
    assert "2 pairs" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="did you mean 'mixup'"):
        command.main(["mixop", "--out", str(tmp_path)])


def test_missing_data_is_named_and_the_other_claims_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["imbalance", "gradient-check", "--quick", "--data", str(tmp_path), "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "imbalance: not measured, tabular/mammography.csv is missing" in shown
    assert "float64" in shown


def test_pairs_are_runs_of_every_arm_with_the_same_seeds_and_are_not_made_twice(tmp_path: Path) -> None:
    recipe = {"model.name": "mlp", "model.width": 8, "epochs": 2, "batch.crop": False}
    said: list[str] = []
    place = Place(None, tmp_path, 2, say=said.append)
    arms = [Arm("none"), Arm("smooth", {"loss.label_smoothing": 0.1})]
    first = place.pairs(place.study("try", "iris", recipe), arms)
    again = place.pairs(place.study("try", "iris", recipe), arms)
    assert first.values("smooth", "log_loss") == again.values("smooth", "log_loss")
    assert len(list(tmp_path.glob("try-*/outcomes/*.json"))) == 4
    one = first.finding("smooth - none", "smooth", "none", "accuracy", "more", 0.005)
    assert len(one.differences) == 2
    assert one.resolution == pytest.approx(1 / len(first.outcomes["none"][0].index))
    with pytest.raises(NoTime, match="two pairs"):
        Place(None, tmp_path / "late", 2, deadline=0.0, say=said.append).pairs(
            place.study("late", "iris", recipe), arms
        )


def test_a_run_that_broke_by_mistake_is_no_result_and_one_that_diverged_is(tmp_path: Path) -> None:
    def runs(error: str) -> Runs:
        return Runs({"a": [Outcome("a", 0, "failed", None, {}, 1.0, error, tmp_path)]})

    assert runs("the loss is not finite at step 3").values("a", "accuracy", failed=0.1) == [0.1]
    with pytest.raises(RuntimeError, match="belongs to"):
        runs("'x' belongs to y").values("a", "accuracy", failed=0.1)


def test_some_classes_of_the_images_are_cut_into_parts_with_equal_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.tile(np.arange(10), 40)
    images = np.broadcast_to(labels[:, None, None, None], (400, 3, 2, 2)).astype(np.uint8)
    monkeypatch.setattr(sources, "_cifar", lambda folder, count: (images, labels))
    parts = sources.cifar(tmp_path, classes=(3, 7), train=40, valid=30)
    assert [len(parts[name][1]) for name in ("train", "valid", "test")] == [40, 30, 10]
    assert np.bincount(parts["train"][1]).tolist() == [20, 20]
    assert set(parts["train"][0][parts["train"][1] == 1].ravel()) == {7}


def test_every_claim_is_a_claim_with_minutes() -> None:
    assert all(isinstance(one, Claim) and 0 < one.minutes <= 5 for one in CLAIMS)
