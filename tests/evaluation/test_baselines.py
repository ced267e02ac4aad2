from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import Ridge
from torch import Tensor

from goodfit.evaluation import baselines, mase_scale, season_of, seasonal_error, series_of
from goodfit.evaluation.linear import ridge
from goodfit.evaluation.ngrams import ngram_nats
from goodfit.types import InputSpec, Task, Tensors


def parts(inputs: Any, targets: Tensor, cut: int) -> tuple[Tensors, Tensors]:
    def pick(span: slice) -> Tensors:
        some = {k: v[span] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[span]
        return Tensors(some, targets[span], torch.arange(len(targets))[span])

    return pick(slice(0, cut)), pick(slice(cut, None))


def shuffled(n: int) -> Tensor:
    return torch.tensor(np.random.default_rng(0).permutation(n))


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    for row in rows:
        assert set(row) == {"name", "metrics", "seconds", "note"}
    return {row["name"]: row for row in rows}


def test_a_table_gets_shares_a_linear_model_and_trees() -> None:
    x, y = load_iris(return_X_y=True)
    order = shuffled(150)
    inputs = {"numeric": torch.tensor(x).float()[order], "category": torch.zeros(150, 0, dtype=torch.long)}
    train, other = parts(inputs, torch.tensor(y)[order], 100)
    task = Task("classification", "species", 3, ("a", "b", "c"))
    rows = by_name(baselines(train, other, task, InputSpec("table", numeric=4)))
    assert list(rows) == ["class shares (majority class)", "logistic regression", "gradient-boosted trees"]
    majority = Counter(train.targets.tolist()).most_common(1)[0][0]
    share = float((other.targets == majority).double().mean())
    assert rows["class shares (majority class)"]["metrics"]["accuracy"] == pytest.approx(share)
    assert rows["logistic regression"]["metrics"]["accuracy"] > 0.9
    assert rows["gradient-boosted trees"]["metrics"]["accuracy"] > 0.85


def test_categories_are_told_apart_by_linear_models_and_trees() -> None:
    rng = np.random.default_rng(0)
    code = torch.tensor(rng.integers(1, 6, (600, 1)))
    y = torch.tensor([0, 1, 0, 1, 0])[code[:, 0] - 1]
    inputs = {"numeric": torch.zeros(600, 0), "category": code}
    train, other = parts(inputs, y, 400)
    spec = InputSpec("table", cardinalities=(6,))
    rows = by_name(baselines(train, other, Task("classification", "y", 2, ("no", "yes")), spec))
    assert rows["logistic regression"]["metrics"]["accuracy"] == 1
    assert rows["gradient-boosted trees"]["metrics"]["accuracy"] == 1


@dataclass(frozen=True)
class Held:
    """What baselines ask of Data: the targets' units."""

    target_mean: float
    target_std: float
    valid: Any = None
    test: Any = None


def test_values_are_scored_in_original_units() -> None:
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(500, 3))).float()
    y = x @ torch.tensor([1.0, -2.0, 0.0]) + 0.1 * torch.tensor(rng.normal(size=500)).float()
    train, other = parts({"numeric": x}, y, 400)
    data: Any = Held(50.0, 10.0)
    rows = by_name(baselines(train, other, Task("regression", "y", 1), InputSpec("table", numeric=3), data))
    spread = float((other.targets.double() - train.targets.double().mean()).square().mean().sqrt()) * 10
    assert rows["mean"]["metrics"]["rmse"] == pytest.approx(spread, rel=1e-6)
    assert rows["ridge regression"]["metrics"]["rmse"] == pytest.approx(1.0, rel=0.2)
    assert rows["gradient-boosted trees"]["metrics"]["rmse"] < spread / 2


def test_ridge_solves_the_normal_equations() -> None:
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(200, 5)) * 3 + 1, rng.normal(size=(200, 2)), rng.normal(size=(7, 5))
    y[:, 0] += x[:, 0]
    answer, note = ridge(x, y, z)
    penalty = float(note.split()[1])
    level, spread = x.mean(0), x.std(0)
    expected = Ridge(alpha=penalty * 200).fit((x - level) / spread, y).predict((z - level) / spread)
    assert np.allclose(answer, expected, atol=1e-9)
    assert ridge(x, y[:, 0], z)[0].shape == (7,)


def test_images_get_a_linear_model_of_their_pixels() -> None:
    x, y = load_digits(return_X_y=True)
    order = shuffled(len(y))
    images = torch.tensor(x * 15).to(torch.uint8).reshape(-1, 1, 8, 8)[order]
    train, other = parts(images, torch.tensor(y)[order], 1200)
    spec = InputSpec("image", shape=(1, 8, 8))
    rows = by_name(baselines(train, other, Task("classification", "digit", 10, tuple("0123456789")), spec))
    assert rows["logistic regression"]["metrics"]["accuracy"] > 0.94
    assert "gradient-boosted trees" not in rows


def test_large_images_are_averaged_down_first() -> None:
    rng = np.random.default_rng(0)
    y = torch.tensor(rng.integers(0, 2, 120))
    images = torch.tensor(rng.integers(0, 100, (120, 3, 90, 70)), dtype=torch.uint8)
    images[y == 1] += 60
    train, other = parts(images, y, 80)
    spec = InputSpec("image", shape=(3, 90, 70))
    rows = by_name(baselines(train, other, Task("classification", "y", 2, ("dark", "light")), spec))
    assert rows["logistic regression"]["metrics"]["accuracy"] == 1


@dataclass(frozen=True)
class WithTexts(Tensors):
    """A part that knows its texts."""

    texts: tuple[str, ...] | None = None


@pytest.mark.parametrize("raw", [True, False])
def test_texts_are_told_apart_by_their_word_pairs(raw: bool) -> None:
    rng = np.random.default_rng(0)
    words = ["<pad>", "not", "good", "bad", "film", "the", "was"]
    y = rng.integers(0, 2, 400)
    negated = rng.integers(0, 2, 400)
    ids = np.zeros((400, 6), int)
    for k in range(400):
        adjective = 2 if y[k] ^ negated[k] else 3
        ids[k] = [5, 4, 6, 1, adjective, 0] if negated[k] else [5, 1, 4, 6, 4, adjective]
    texts = [" ".join(words[i] for i in row if i) for row in ids]
    made = [
        WithTexts(
            torch.tensor(ids)[span],
            torch.tensor(y)[span],
            torch.arange(400)[span],
            texts=tuple(texts[span]) if raw else None,
        )
        for span in (slice(0, 300), slice(300, 400))
    ]
    spec = InputSpec("text", shape=(6,), vocabulary=7, length=6)
    rows = by_name(baselines(*made, Task("classification", "mood", 2, ("sad", "glad")), spec))
    # "not good" is sad though "good" is glad: single words alone say nothing here.
    assert rows["TF-IDF + logistic regression"]["metrics"]["accuracy"] == 1


def waves(n: int, period: int, noise: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.arange(n)
    return np.asarray(np.sin(2 * np.pi * t / period) + noise * rng.normal(size=n))


def windows(series: np.ndarray, start: int, stop: int, *, lookback: int = 10, horizon: int = 3) -> Tensors:
    origins = np.arange(max(start, lookback), stop - horizon + 1)
    inputs = np.stack([series[o - lookback : o] for o in origins])[..., None]
    targets = np.stack([series[o : o + horizon] for o in origins])
    return Tensors(torch.tensor(inputs).float(), torch.tensor(targets).float(), torch.tensor(origins))


@pytest.mark.parametrize("period", [7, 12, 24, 37])
def test_a_season_is_found_through_noise_trend_and_gaps(period: int) -> None:
    series = waves(700, period, 0.4) + 0.01 * np.arange(700)
    series[100:105] = np.nan
    assert season_of(series) == period


def test_a_year_of_noisy_days_is_found() -> None:
    assert season_of(waves(2500, 365, 0.7)) == 365


@pytest.mark.parametrize("seed", range(5))
def test_no_season_is_seen_in_noise_or_a_random_walk(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=1000)
    assert season_of(noise) == season_of(np.cumsum(noise)) == season_of(np.convolve(noise, 0.8 ** np.arange(30))) == 1
    assert season_of(np.zeros(100)) == 1
    assert season_of(np.arange(5.0)) == 1


def test_windows_are_put_together_to_their_series() -> None:
    series = waves(200, 20)
    found = series_of(windows(series, 0, 120), windows(series, 120, 200))
    assert found is not None
    assert found[1] == 0
    assert np.allclose(found[0], series, atol=1e-6)
    assert mase_scale(windows(series, 0, 200), std=3.0) == pytest.approx(
        3 * np.abs(series[20:] - series[:-20]).mean(), rel=1e-4
    )
    assert seasonal_error(series, 300) is None


def test_windows_of_different_series_are_not_mixed_up() -> None:
    first, second = windows(waves(100, 20), 0, 100), windows(-waves(100, 20), 0, 100)
    assert series_of(first, second) is None


def test_series_get_last_value_seasonal_naive_and_ridge() -> None:
    series = waves(400, 20)
    train, other = windows(series, 0, 300), windows(series, 300, 400)
    task = Task("forecast", "wave", 3, horizon=3)
    rows = by_name(baselines(train, other, task, InputSpec("series", shape=(10, 1))))
    origins = np.arange(300, 398)
    truth = np.stack([series[o : o + 3] for o in origins])
    last = np.stack([[series[o - 1]] * 3 for o in origins])
    season = np.stack([series[o - 20 : o - 17] for o in origins])
    assert rows["last value"]["metrics"]["mae"] == pytest.approx(np.abs(truth - last).mean(), rel=1e-5)
    naive = rows["seasonal naive (20 steps)"]["metrics"]
    assert naive["mae"] == pytest.approx(np.abs(truth - season).mean(), rel=1e-5)
    assert naive["mase"] == pytest.approx(naive["mae"] / np.abs(series[20:300] - series[:280]).mean(), rel=0.02)
    assert rows["ridge regression on the last values"]["metrics"]["mae"] < naive["mae"] * 1.05


def test_no_forecast_looks_beyond_its_origin() -> None:
    series = waves(400, 4)
    train, other = windows(series, 0, 300, horizon=9), windows(series, 300, 400, horizon=9)
    later = series.copy()
    later[350:] += 100
    changed = windows(later, 300, 400, horizon=9)
    task = Task("forecast", "wave", 9, horizon=9)
    spec = InputSpec("series", shape=(10, 1))
    early = slice(0, 350 - 300 - 9)
    rows = {}
    for name, part in (("as it was", other), ("changed later", changed)):
        some = Tensors(part.inputs[early], part.targets[early], part.index[early])  # type: ignore[index]
        whole = by_name(baselines(train, some, task, spec))
        rows[name] = {k: v["metrics"]["mae"] for k, v in whole.items()}
    assert rows["as it was"] == rows["changed later"]


def test_counting_language_models_agree_with_counts_by_hand() -> None:
    rng = np.random.default_rng(0)
    stream = rng.choice(4, 2001, p=[0.5, 0.3, 0.15, 0.05])
    stream[1::3] = (stream[0:-1:3] + 1) % 4
    inputs, targets = stream[:-1].reshape(-1, 20), stream[1:].reshape(-1, 20)
    whole = Tensors(torch.tensor(inputs), torch.tensor(targets), torch.arange(100))
    train, other = parts(whole.inputs, whole.targets, 80)
    losses, counted = ngram_nats(train, other, vocabulary=5, order=3)
    assert counted == 1600

    seen: dict[tuple[int, ...], Counter[int]] = {}
    for a, b in zip(inputs[:80], targets[:80], strict=True):
        for t in range(20):
            for k in range(3):
                if t + 1 >= k:
                    seen.setdefault(tuple(a[t + 1 - k : t + 1]), Counter())[int(b[t])] += 1

    def p(word: int, history: tuple[int, ...]) -> float:
        shorter = p(word, history[1:]) if history else 1 / 5
        counts = seen.get(history)
        if counts is None:
            return shorter
        return (counts[word] + len(counts) * shorter) / (counts.total() + len(counts))

    for order in (1, 2, 3):
        by_hand = [
            -math.log(p(int(b[t]), tuple(a[max(0, t + 2 - order) : t + 1]) if order > 1 else ()))
            for a, b in zip(inputs[80:], targets[80:], strict=True)
            for t in range(20)
        ]
        assert np.allclose(losses[order - 1].ravel(), by_hand)
    spec = InputSpec("language", shape=(20,), vocabulary=5)
    rows = by_name(baselines(train, other, Task("language", "next", 5, tuple("-abcd")), spec))
    pairs = rows["counts of pairs (bigram)"]["metrics"]
    assert pairs["nats_per_character"] == pytest.approx(losses[1].mean())
    assert pairs["nats_per_token"] < rows["token shares (unigram)"]["metrics"]["nats_per_token"]


def test_overlapping_windows_are_counted_once() -> None:
    stream = torch.tensor(np.random.default_rng(0).integers(1, 9, 400))
    inputs = stream[:-1].unfold(0, 40, 4)
    targets = stream[1:].unfold(0, 40, 4)
    train = Tensors(inputs, targets, torch.arange(len(inputs)))
    assert ngram_nats(train, train, vocabulary=9, order=1)[1] <= 400


def test_no_time_left_is_said_and_not_hidden() -> None:
    x, y = load_iris(return_X_y=True)
    train, other = parts({"numeric": torch.tensor(x).float()[shuffled(150)]}, torch.tensor(y)[shuffled(150)], 100)
    task = Task("classification", "species", 3, ("a", "b", "c"))
    rows = baselines(train, other, task, InputSpec("table", numeric=4), seconds=0.0)
    assert all("left out" in row["note"] and row["metrics"] == {} for row in rows)


def test_the_same_seed_gives_the_same_rows() -> None:
    x, y = load_iris(return_X_y=True)
    train, other = parts({"numeric": torch.tensor(x).float()[shuffled(150)]}, torch.tensor(y)[shuffled(150)], 100)
    task = Task("classification", "species", 3, ("a", "b", "c"))
    runs = [
        [row["metrics"] for row in baselines(train, other, task, InputSpec("table", numeric=4), seed=3)] for _ in "ab"
    ]
    assert runs[0] == runs[1]


def test_a_train_part_of_one_class_still_gives_a_row() -> None:
    train, other = parts({"numeric": torch.randn(60, 2)}, (torch.arange(60) >= 50).long(), 50)
    task = Task("classification", "y", 2, ("no", "yes"))
    rows = baselines(train, other, task, InputSpec("table", numeric=2))
    assert [row["name"] for row in rows] == ["class shares (majority class)"]
    assert rows[0]["metrics"]["accuracy"] == 0
    assert rows[0]["metrics"]["roc_auc"] is None
