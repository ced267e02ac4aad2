"""The splits against loops in float64, an analytic case, and what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from goodfit.errors import DataError
from goodfit.studies.bias_variance import cross_entropy, squared_error, zero_one

MODELS, ROWS, CLASSES = 7, 40, 4


@pytest.fixture
def p() -> np.ndarray:
    z = np.random.default_rng(0).normal(size=(MODELS, ROWS, CLASSES)) * 2
    e = np.exp(z)
    return np.asarray(e / e.sum(-1, keepdims=True))


@pytest.fixture
def y() -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, ROWS)


def test_squared_error_is_the_loop_written_from_the_formula() -> None:
    rng = np.random.default_rng(2)
    f, y = rng.normal(size=(MODELS, ROWS)), rng.normal(size=ROWS)
    bias = variance = total = 0.0
    for i in range(ROWS):
        mean = sum(f[b, i] for b in range(MODELS)) / MODELS
        spread = sum((f[b, i] - mean) ** 2 for b in range(MODELS)) / (MODELS - 1)
        bias += ((mean - y[i]) ** 2 - spread / MODELS) / ROWS
        variance += spread / ROWS
        total += sum((f[b, i] - y[i]) ** 2 for b in range(MODELS)) / MODELS / ROWS
    found = squared_error(f, y)
    assert found.bias == pytest.approx(bias, abs=1e-12)
    assert found.variance == pytest.approx(variance, abs=1e-12)
    assert found.total == pytest.approx(total, abs=1e-12)
    assert found.bias + found.variance == pytest.approx(found.total, abs=1e-12)


def test_squared_error_finds_the_known_bias_and_variance_of_a_shrunken_mean() -> None:
    """f = s * mean of m normal samples of mean mu: bias^2 = (1 - s)^2 mu^2, variance s^2 sigma^2 / m, noise sigma^2."""
    rng, mu, sigma, m, s = np.random.default_rng(3), 2.0, 1.5, 10, 0.6
    f = s * rng.normal(mu, sigma, size=(5, 40_000, m)).mean(2)
    found = squared_error(f, rng.normal(mu, sigma, 40_000))
    assert found.variance == pytest.approx(s**2 * sigma**2 / m, rel=0.02)
    assert found.bias == pytest.approx((1 - s) ** 2 * mu**2 + sigma**2, rel=0.02)


def test_horizons_are_averaged() -> None:
    f, y = np.random.default_rng(4).normal(size=(MODELS, ROWS, 3)), np.zeros((ROWS, 3))
    parts = [squared_error(f[..., k], y[..., k]) for k in range(3)]
    assert squared_error(f, y).variance == pytest.approx(float(np.mean([one.variance for one in parts])))


def test_cross_entropy_is_bias_of_the_geometric_mean_plus_mean_kl(p: np.ndarray, y: np.ndarray) -> None:
    bias = variance = 0.0
    for i in range(ROWS):
        q = [math.exp(sum(math.log(p[b, i, k]) for b in range(MODELS)) / MODELS) for k in range(CLASSES)]
        q = [one / sum(q) for one in q]
        bias -= math.log(q[y[i]]) / ROWS
        for b in range(MODELS):
            variance += sum(q[k] * math.log(q[k] / p[b, i, k]) for k in range(CLASSES)) / MODELS / ROWS
    found = cross_entropy(p, y)
    assert found.variance == pytest.approx(variance * MODELS / (MODELS - 1), abs=1e-12)
    assert found.bias + found.variance == pytest.approx(bias + variance, abs=1e-12)
    assert found.total == pytest.approx(float(-np.log(p[:, np.arange(ROWS), y]).mean()), abs=1e-12)


def test_cross_entropy_of_few_models_agrees_with_that_of_many_where_they_differ_little() -> None:
    """The correction by B / (B - 1) takes away what few models would otherwise count as bias."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=(1, 3000, 3)) + 0.3 * rng.normal(size=(300, 3000, 3))
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    y = rng.integers(0, 3, 3000)
    assert cross_entropy(p[:4], y).variance == pytest.approx(cross_entropy(p, y).variance, rel=0.03)


def test_zero_one_loss_is_domingos_split(y: np.ndarray) -> None:
    f = np.random.default_rng(6).integers(0, CLASSES, (MODELS, ROWS))
    bias = unbiased = biased = 0.0
    for i in range(ROWS):
        votes = [int((f[:, i] == k).sum()) for k in range(CLASSES)]
        main = votes.index(max(votes))
        for b in range(MODELS):
            if f[b, i] != main and main == y[i]:
                unbiased += 1 / MODELS / ROWS
            if f[b, i] == y[i] and main != y[i]:
                biased += 1 / MODELS / ROWS
        bias += (main != y[i]) / ROWS
    found = zero_one(f, y)
    assert found.bias == pytest.approx(bias, abs=1e-12)
    assert found.unbiased == pytest.approx(unbiased, abs=1e-12)
    assert found.biased == pytest.approx(biased, abs=1e-12)
    assert found.bias + found.variance == pytest.approx(found.total, abs=1e-12)
    assert found.total == pytest.approx(float((f != y).mean()), abs=1e-12)


def test_models_that_agree_have_no_variance(p: np.ndarray, y: np.ndarray) -> None:
    same = np.repeat(p[:1], 4, 0)
    for found in (cross_entropy(same, y), zero_one(same.argmax(2), y), squared_error(same[..., 0], p[0, :, 1])):
        assert found.variance == pytest.approx(0.0, abs=1e-12)
        assert found.dominates == "bias"


def test_models_that_are_right_on_average_are_all_variance() -> None:
    noise = np.random.default_rng(7).normal(size=(50, 500))
    assert squared_error(noise, np.zeros(500)).dominates == "variance"


def test_too_few_models_or_other_rows_are_refused() -> None:
    with pytest.raises(DataError, match="3 models"):
        squared_error(np.zeros((2, 5)), np.zeros(5))
    with pytest.raises(DataError, match="same rows"):
        squared_error(np.zeros((3, 5)), np.zeros(6))
