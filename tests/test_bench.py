"""The benchmarks' own arithmetic and bookkeeping; what they measure is not tested here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench import loop, main, record
from bench.data_sets import DATA_SETS, Bar
from goodfit.loop import seed_generators


def row(seed: int, value: float, **more: object) -> dict[str, object]:
    return {"seed": seed, "test": {"rmse": value}, "baselines_test": {}, **more}


def test_every_data_set_has_a_place_in_the_results_and_a_goal() -> None:
    assert {one.name for one in DATA_SETS} <= set(record.ORDER)
    assert all(one.bars and one.limit > 0 for one in DATA_SETS)


def test_a_data_set_without_its_files_says_which_one_is_missing(tmp_path: Path) -> None:
    adult = next(one for one in DATA_SETS if one.name == "adult")
    with pytest.raises(FileNotFoundError, match=r"adult_train\.csv does not exist"):
        adult.command(tmp_path)
    with pytest.raises(FileNotFoundError, match="--data"):
        adult.command(None)


def test_one_part_of_the_page_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    record.write_part("wine", "old", order=("digits", "wine"), folder=tmp_path)
    record.write_part("digits", "first\n\nsecond", order=("digits", "wine"), folder=tmp_path)
    record.write_part("wine", "new", order=("digits", "wine"), folder=tmp_path)
    page = (tmp_path / "RESULTS.md").read_text()
    assert "old" not in page
    assert page.index("first\n\nsecond") < page.index("new")
    assert page.count("<!-- wine -->") == page.count("<!-- /wine -->") == 1


def test_rows_of_the_same_seed_are_replaced_and_others_kept(tmp_path: Path) -> None:
    record.keep_rows("wine", [row(0, 1.0), row(1, 2.0)], same=("seed",), folder=tmp_path)
    kept = record.keep_rows("wine", [row(1, 3.0)], same=("seed",), folder=tmp_path)
    assert [one["test"]["rmse"] for one in kept] == [1.0, 3.0]
    assert record.read_rows("wine", folder=tmp_path) == kept
    assert record.read_rows("abalone", folder=tmp_path) == []


def test_a_goal_is_met_by_the_mean_and_on_the_right_side() -> None:
    low, high = Bar("rmse", 0.7, "lower", ""), Bar("rmse", 0.7, "higher", "")
    rows = [row(0, 0.6), row(1, 0.78)]
    assert main.is_met(low, rows)
    assert not main.is_met(high, rows)


def test_a_goal_of_baselines_is_the_best_of_those_named() -> None:
    bar = Bar("rmse", None, "lower", "", ("seasonal naive", "ridge"))
    found = {"mean": {"rmse": 0.1}, "seasonal naive (7 steps)": {"rmse": 2.0}, "ridge regression": {"rmse": 1.5}}
    rows = [row(0, 1.4) | {"baselines_test": found}]
    assert main.goal(bar, rows) == 1.5
    assert main.is_met(bar, rows)


def test_levels_are_passed_at_the_first_validation_that_reaches_them() -> None:
    metrics = [{"seconds": 10.0 * k, "valid_accuracy": a} for k, a in enumerate((0.5, 0.81, 0.79, 0.9), 1)]
    assert main.passed(metrics, (0.8, 0.9, 0.92), startup=5) == {"0.8": 25.0, "0.9": 45.0, "0.92": None}


def test_the_last_tenth_weighs_both_halves_by_their_tokens() -> None:
    valid = {"task": "language", "tokens": 30, "metrics": {"nats_per_character": {"value": 1.0}}}
    test = {"task": "language", "tokens": 10, "metrics": {"nats_per_character": {"value": 2.0}}}
    assert main.last_tenth(valid, test) == {"nats_per_character_last_tenth": 1.25}


def test_the_interval_of_a_median_holds_it_and_narrows_with_more_values() -> None:
    draw = np.random.default_rng(0)
    few, many = (list(1 + 0.1 * draw.standard_normal(n)) for n in (10, 400))
    (a, b), (c, d) = loop.interval(few, 0), loop.interval(many, 0)
    assert a <= np.median(few) <= b
    assert c <= np.median(many) <= d
    assert d - c < b - a


@pytest.mark.parametrize("average", [False, True])
def test_the_hand_written_loop_ends_with_the_same_bits_as_goodfit(
    average: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BATCH", 8)
    found = loop.compare(width=2, blocks=2, steps=4, seed=1, average=average)
    assert found["equal"]
    assert found["goodfit_ms"] > 0


def test_seeding_one_device_gives_the_numbers_of_a_manual_seed() -> None:
    torch.manual_seed(123456789)
    expected = torch.rand(5)
    seed_generators(torch.device("cpu"), 123456789)
    assert torch.equal(torch.rand(5), expected)
