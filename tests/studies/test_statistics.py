"""The statistics of studies: against scipy, against a second writing of the formulas, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.studies.coverage import covered, stopped
from bench.studies.simulate import corrected, draw
from goodfit.studies import statistics
from goodfit.studies.statistics import (
    ADVERSE,
    FIRST_LOOK,
    always_valid,
    bound,
    detectable,
    error_rate,
    holm,
    mcnemar,
    p_value,
    paired,
    pairing_gain,
    verdict,
)

SOME = np.array([0.012, 0.004, -0.003, 0.009, 0.015, 0.001, 0.007, 0.002])


def test_the_t_interval_is_that_of_scipy() -> None:
    found = paired(SOME)
    low, high = stats.t.interval(0.95, len(SOME) - 1, SOME.mean(), stats.sem(SOME))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert p_value(SOME) == pytest.approx(stats.ttest_1samp(SOME, 0).pvalue, rel=1e-10)


def test_the_bca_interval_is_near_that_of_scipy() -> None:
    d = draw("gamma", 1, 30, seed=5)[0]
    found = paired(d, method="bca", resamples=20_000)
    theirs = stats.bootstrap((d,), np.mean, method="BCa", n_resamples=20_000, rng=0).confidence_interval
    assert found.low == pytest.approx(theirs.low, abs=0.02)
    assert found.high == pytest.approx(theirs.high, abs=0.02)
    assert paired(d[:5], method="bca").method == "t"


def test_the_corrected_t_is_the_second_writing_of_it() -> None:
    d = draw("lognormal", 40, 12, seed=3)
    t, size = corrected(d, adverse=ADVERSE)
    for row in range(40):
        mine = d[row]
        here = mine.mean() / (mine.std(ddof=1) / math.sqrt(12))
        assert here == pytest.approx(t[row, -1], rel=1e-9)
        skew = statistics.skewness(mine)
        assert skew == pytest.approx(stats.skew(mine, bias=False), rel=1e-9)
        assert statistics.corrected(here, skew, 12) == pytest.approx(size[row, -1], rel=1e-9)


def test_the_always_valid_interval_ends_where_the_corrected_t_reaches_the_bound() -> None:
    for seed in range(20):
        d = draw("gamma", 1, 9, seed=seed)[0]
        found = always_valid(d)
        for edge in (found.low, found.high):
            moved = d - edge
            t = moved.mean() / (moved.std(ddof=1) / 3)
            assert statistics.corrected(t, statistics.skewness(moved), 9) == pytest.approx(bound(0.05), rel=1e-6)


def test_error_rate_undoes_bound() -> None:
    for alpha in (0.4, 0.05, 0.03, 0.01, 0.002):
        assert error_rate(bound(alpha)) == pytest.approx(alpha, rel=1e-6)
    assert error_rate(0.5) == 1.0
    assert error_rate(100) == pytest.approx(0.001)


@pytest.mark.parametrize("method", ["t", "studentised"])
@pytest.mark.parametrize("pairs", [5, 10, 20])
def test_intervals_of_normal_differences_cover_within_a_point(method: str, pairs: int) -> None:
    # Two standard errors of 2,000 studies are a point, which is what is promised.
    studies = 2000 if method == "t" else 400
    slack = 0.01 if method == "t" else 0.025
    assert covered("normal", method, pairs=pairs, studies=studies, effect=0.7) == pytest.approx(0.95, abs=slack)


@pytest.mark.parametrize("kind", ["normal", "gamma", "lognormal", "exponential"])
def test_false_helps_stay_under_five_per_cent_however_often_one_looks(kind: str) -> None:
    for most in (10, 50):
        found = stopped(kind, effect=0.0, most=most, studies=10_000, seed=9)
        assert found["helps"] < 0.05 + 0.005  # and the noise of ten thousand
        assert found["hurts"] < 0.05
        assert found["held"] > 0.94


def test_effects_are_found_and_stop_a_study_early() -> None:
    found = stopped("normal", effect=2.0, most=20, studies=4000)
    assert found["helps"] > 0.95
    assert found["pairs"] < 11
    assert found["held"] > 0.94


def test_looking_after_every_pair_with_a_t_test_would_not_do() -> None:
    """What the always-valid interval is for: the plain t test, looked at 45 times, is wrong in a quarter of studies."""
    d = draw("normal", 4000, 50, seed=1)
    n = np.arange(1, 51)
    t, _ = corrected(d, adverse=0)
    wrong = (np.abs(t) > np.append([np.inf], stats.t.ppf(0.975, n[1:] - 1)))[:, FIRST_LOOK - 1 :].any(1).mean()
    assert wrong > 0.2


def test_before_six_pairs_nothing_is_called() -> None:
    found = always_valid([1.0, 1.1, 0.9, 1.0, 1.05])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert p_value([1.0, 1.1, 0.9, 1.0, 1.05], method="always-valid") == 1.0
    assert detectable(1.0, 5, method="always-valid") == math.inf


def test_equal_differences_have_the_width_of_the_metrics_step() -> None:
    alike = paired([0.0] * 6, resolution=0.01)
    assert alike.low < 0 < alike.high
    assert "step" in alike.note
    bare = paired([0.5, 0.5, 0.5])
    assert (bare.low, bare.high, p_value([0.5, 0.5])) == (0.5, 0.5, 0.0)
    assert p_value([0.0, 0.0, 0.0]) == 1.0
    assert paired([1.0]).low == -math.inf
    assert always_valid([0.0] * 7, resolution=0.01).reach < 0.02
    assert p_value([0.0] * 7, method="always-valid", resolution=0.01) == 1.0


@pytest.mark.parametrize("bad", [[], [math.nan, 1.0], [[1.0, 2.0]]])
def test_what_is_no_row_of_numbers_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        paired(bad)


def test_holm_multiplies_and_keeps_order() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert {k: v[0] for k, v in found.items()} == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert found["a"][1] == pytest.approx(1 - 0.05 / 3)
    assert found["c"][1] == pytest.approx(1 - 0.05 / 2)
    assert found["b"][1] == pytest.approx(1 - 0.05 / 2)


def test_the_detectable_effect_is_called_with_the_promised_power() -> None:
    effect = detectable(1.0, 10)
    d = draw("normal", 4000, 10, seed=2) + effect
    t, _ = corrected(d, adverse=0)
    assert (np.abs(t[:, -1]) > stats.t.ppf(0.975, 9)).mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("pairs", "level"), [(6, 0.95), (12, 0.95), (12, 1 - 0.05 / 3), (30, 0.95)])
def test_the_always_valid_detectable_effect_is_called_with_the_promised_power(pairs: int, level: float) -> None:
    effect = detectable(0.5, pairs, method="always-valid", level=level)
    _, size = corrected(0.5 * draw("normal", 4000, pairs, seed=2) + effect, adverse=ADVERSE)
    assert (size[:, FIRST_LOOK - 1 :] > bound(1 - level)).any(1).mean() == pytest.approx(0.8, abs=0.025)


def test_one_seed_is_mcnemars_exact_test() -> None:
    default = np.array([[1] * 50 + [0] * 12 + [1] * 3])
    arm = np.array([[1] * 50 + [1] * 12 + [0] * 3])
    found = mcnemar(default, arm)
    assert found.p == pytest.approx(stats.binomtest(12, 15).pvalue)
    assert (found.gained, found.lost, found.difference) == (12, 3, pytest.approx(9 / 65))
    assert mcnemar(arm, arm).p == 1.0


def test_several_seeds_are_a_t_test_over_rows() -> None:
    rng = np.random.default_rng(0)
    default, arm = rng.random((4, 200)), rng.random((4, 200)) - 0.1
    found = mcnemar(default, arm)
    theirs = stats.ttest_1samp((arm - default).mean(0), 0)
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))


def test_pairing_saves_what_is_shared() -> None:
    rng = np.random.default_rng(0)
    shared, a, b = rng.standard_normal((3, 4000))
    assert pairing_gain(3 * shared + a, 3 * shared + b) == pytest.approx(10, rel=0.1)
    assert pairing_gain([1.0, 2.0], [1.0, 2.0]) == math.inf


def test_verdicts_follow_interval_and_direction() -> None:
    up = paired([0.02, 0.03, 0.025, 0.028])
    assert verdict(up, 0.001, matters=0.005, larger_is_better=True) == "helps"
    assert verdict(up, 0.001, matters=0.005, larger_is_better=False) == "hurts"
    assert verdict(up, 0.2, matters=0.005, larger_is_better=True) == "inconclusive"
    level = paired([0.001, -0.001, 0.0005, -0.0005])
    assert verdict(level, 1.0, matters=0.005, larger_is_better=True) == "no difference"
    assert verdict(level, 1.0, matters=0.0005, larger_is_better=True) == "inconclusive"
