from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from goodfit.evaluation.classification import accuracy
from goodfit.evaluation.intervals import FEW, block_length, bootstrap, interval, proportion, resampled, wilson
from goodfit.evaluation.regression import mae


def test_resamples_depend_on_the_seed_alone() -> None:
    first, again, other = (np.concatenate(list(resampled(50, 30, seed=s)), 1) for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("samples", [7, 300, 5000])
def test_resamples_have_the_mean_and_variance_of_drawing_with_replacement(samples: int) -> None:
    w = np.concatenate(list(resampled(samples, 400, seed=0)), 1)
    assert w.shape == (samples, 400)
    assert w.mean() == pytest.approx(1, abs=0.01)
    assert w.var() == pytest.approx(1 - (1 / samples if samples <= 2000 else 0), abs=0.05)
    if samples <= 2000:
        assert (w.sum(0) == samples).all()


@pytest.mark.parametrize("samples", [101, 9000])
def test_blocks_draw_neighbours_together(samples: int) -> None:
    w = np.concatenate(list(resampled(samples, 300, seed=0, block=4)), 1)
    assert w.mean() == pytest.approx(1, abs=0.05)
    centred = w - w.mean()
    along = [float((centred * np.roll(centred, lag, 0)).mean() / centred.var()) for lag in (1, 3, 4, 10)]
    # Two samples k < 4 apart share a block with chance (4 - k) / 4; a fixed total makes the rest repel by 4 / 101.
    assert along == pytest.approx([0.75, 0.25, 0, 0], abs=0.08)


def test_the_interval_of_a_mean_is_that_of_the_central_limit_theorem() -> None:
    errors = np.abs(np.random.default_rng(0).normal(size=400))
    draws = bootstrap({"mae": lambda w: mae(np.zeros(400), errors, w)}, 400, seed=0, resamples=4000)["mae"]
    found = interval(errors.mean(), draws, 400)
    reach = 1.96 * errors.std(ddof=1) / 20
    assert found.low == pytest.approx(errors.mean() - reach, abs=0.1 * reach)
    assert found.high == pytest.approx(errors.mean() + reach, abs=0.1 * reach)


@pytest.mark.parametrize(("hits", "samples"), [(0, 10), (3, 10), (10, 10), (81, 263)])
def test_wilson_equals_scipy(hits: int, samples: int) -> None:
    expected = stats.binomtest(hits, samples).proportion_ci(method="wilson")
    found = wilson(hits, samples)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_few_errors_get_wilsons_interval_and_many_the_bootstrap() -> None:
    assert proportion(FEW - 1, 100, np.random.default_rng(0).normal(size=100)).method == "Wilson"
    assert proportion(50, 100, np.random.default_rng(0).normal(size=100)).method == "bootstrap"


@pytest.mark.parametrize(("samples", "true"), [(60, 0.98), (60, 0.7), (400, 0.9)])
def test_accuracy_intervals_cover_the_truth_as_often_as_they_say(samples: int, true: float) -> None:
    rng, covered, rounds = np.random.default_rng(5), 0, 300
    for trial in range(rounds):
        right = rng.random(samples) < true
        p = np.stack([right, ~right], 1).astype(float)
        y = np.zeros(samples, dtype=int)
        draws = bootstrap({"a": lambda w, y=y, p=p: accuracy(y, p, w)}, samples, seed=trial, resamples=200)["a"]
        found = proportion(float(right.sum()), samples, draws)
        covered += bool(found.low is not None and found.high is not None and found.low <= true <= found.high)
    # Binomial noise of the trial itself is 1.3 points; a naive normal interval covers 70 % in the first case.
    assert 0.91 <= covered / rounds <= 0.99


def test_blocks_cover_the_truth_where_single_samples_do_not() -> None:
    rng, n, rounds = np.random.default_rng(3), 400, 150
    covered = {"single": 0, "block": 0}
    for trial in range(rounds):
        noise = rng.normal(size=n + 50)
        errors = np.zeros(n + 50)
        for t in range(1, n + 50):
            errors[t] = 0.8 * errors[t - 1] + noise[t]
        errors = errors[50:] + 10
        for name, block in (("single", 1), ("block", block_length(errors))):
            draws = bootstrap(
                {"m": lambda w, e=errors: mae(np.zeros(n), e, w)}, n, seed=trial, resamples=200, block=block
            )["m"]
            found = interval(float(errors.mean()), draws, n // block)
            assert found.low is not None
            assert found.high is not None
            covered[name] += found.low <= 10 <= found.high
    assert covered["single"] / rounds < 0.65
    assert covered["block"] / rounds > 0.85


def test_block_length_grows_with_how_long_errors_stay_alike() -> None:
    rng = np.random.default_rng(0)
    white = rng.normal(size=2000)
    slow = np.convolve(rng.normal(size=2100), np.ones(50), "valid")[:2000]
    assert block_length(white) <= 5
    assert block_length(slow) >= 40
    assert block_length(white, at_least=24) >= 24
    assert block_length(np.zeros(100)) == 1
    assert block_length(slow[:40], at_least=30) == 10


@pytest.mark.parametrize(
    ("draws", "samples", "why"),
    [
        (None, 100, "not computed"),
        (np.full(50, 0.7), 100, "same value"),
        (np.r_[np.full(20, np.nan), np.linspace(0, 1, 30)], 100, "undefined"),
        (np.linspace(0, 1, 50), 5, "too few"),
    ],
)
def test_an_interval_that_cannot_be_had_says_why(draws: np.ndarray | None, samples: int, why: str) -> None:
    found = interval(0.7, draws, samples)
    assert found.low is None
    assert found.high is None
    assert why in found.note


def test_the_basic_interval_mirrors_a_biased_bootstrap_and_keeps_the_value() -> None:
    found = interval(0.02, np.linspace(0.025, 0.04, 100), 1000, basic=True)
    assert found.low == pytest.approx(0.0, abs=1e-3)
    assert found.high == 0.02
