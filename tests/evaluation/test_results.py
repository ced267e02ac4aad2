from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from goodfit.errors import DataError, ModelError
from goodfit.evaluation import fit_temperature, probabilities, results, token_losses, tune_threshold
from goodfit.types import Task

THREE = Task("classification", "kind", 3, ("a", "b", "c"))
TWO = Task("classification", "kind", 2, ("no", "yes"))


def three(n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    z = rng.normal(size=(n, 3))
    z[np.arange(n), y] += 1.5
    return torch.tensor(z), torch.tensor(y)


def plain(found: dict[str, Any]) -> dict[str, Any]:
    """The same, having gone through JSON without NaN."""
    back: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    assert back == found
    return back


def test_classes_get_metrics_tables_and_the_hardest_samples() -> None:
    z, y = three()
    index = torch.arange(400) * 7
    temperature = fit_temperature(z * 4, y)
    found = plain(results(THREE, z * 4, y, index=index, temperature=temperature, resamples=200))
    p = probabilities(z * 4, temperature=temperature.value).numpy()
    assert found["headline"] == "accuracy"
    assert found["confusion"] == oracle.confusion_matrix(y, p.argmax(1)).tolist()
    assert found["metrics"]["log_loss"]["value"] == pytest.approx(oracle.log_loss(y, p))
    assert found["temperature"]["value"] == pytest.approx(temperature.value)
    assert found["reliability"]["before"]["ece"] > found["reliability"]["after"]["ece"]
    for name, one in found["metrics"].items():
        assert one["low"] <= one["value"] <= one["high"], name
        assert one["low"] < one["high"], name
    loss = -np.log(p[np.arange(400), y])
    worst = found["hardest"][0]
    assert worst["position"] == int(loss.argmax())
    assert worst["index"] == 7 * worst["position"]
    assert worst["loss"] == pytest.approx(loss.max())
    assert worst["target"] == int(y[worst["position"]])
    precision, recall, f1, support = oracle.precision_recall_fscore_support(y, p.argmax(1))
    for k, row in enumerate(found["per_class"]):
        assert (row["class"], row["support"]) == ("abc"[k], support[k])
        for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
            assert row[name]["value"] == pytest.approx(expected[k])
            assert row[name]["low"] <= row[name]["value"] <= row[name]["high"]


def test_the_same_seed_gives_the_same_intervals_and_another_one_others() -> None:
    z, y = three()
    first, again, other = (results(THREE, z, y, seed=s, resamples=100) for s in (1, 1, 2))
    assert first == again
    assert first["metrics"]["log_loss"]["low"] != other["metrics"]["log_loss"]["low"]


def test_two_classes_get_the_positives_precision_and_the_threshold_here() -> None:
    rng = np.random.default_rng(0)
    y = torch.tensor((rng.random(600) < 0.1).astype(int))
    z = torch.tensor(rng.normal(-2.5, 1, 600) + 2 * y.numpy())[:, None]
    p = probabilities(z, TWO).numpy()
    threshold = tune_threshold(y.numpy(), p)
    found = plain(results(TWO, z, y, threshold=threshold, positive_share=0.04, resamples=200))
    assert found["headline"] == "average_precision"
    assert found["metrics"]["recall"]["value"] == pytest.approx(oracle.recall_score(y, p.argmax(1)))
    assert found["metrics"]["roc_auc"]["value"] == pytest.approx(oracle.roc_auc_score(y, p[:, 1]))
    assert found["threshold"]["value"] == threshold.value
    assert found["threshold"]["here"]["at_value"]["f1"] == pytest.approx(oracle.f1_score(y, p[:, 1] >= threshold.value))


def test_a_class_that_is_absent_is_told_and_nothing_is_nan() -> None:
    z, y = three()
    few = y != 2
    found = plain(results(THREE, z[few], y[few], resamples=100))
    assert found["per_class"][2]["recall"] == {
        "value": None,
        "low": None,
        "high": None,
        "method": "",
        "note": "no sample of this class occurs",
    }
    assert "1 of 3 classes do not occur" in found["metrics"]["roc_auc"]["note"]
    only = y == 1
    found = plain(results(THREE, z[only], y[only], resamples=100))
    assert found["metrics"]["roc_auc"]["value"] is None
    assert "only one class" in found["metrics"]["roc_auc"]["note"]
    one = plain(results(THREE, z[:1], y[:1], resamples=100))
    assert one["metrics"]["log_loss"]["low"] is None
    assert one["metrics"]["log_loss"]["note"] == "1 samples are too few for an interval"


def test_a_headline_that_cannot_be_had_makes_way() -> None:
    z = torch.randn(30, 2)
    found = results(TWO, z, torch.zeros(30, dtype=torch.long), positive_share=0.01, resamples=50)
    assert found["metrics"]["average_precision"]["value"] is None
    assert found["headline"] == "accuracy"


def test_perfect_predictions_do_not_claim_certainty() -> None:
    y = torch.arange(30) % 3
    z = torch.nn.functional.one_hot(y, 3).double() * 20
    found = plain(results(THREE, z, y, resamples=100))
    for name in ("accuracy", "balanced_accuracy"):
        assert found["metrics"][name]["value"] == 1
        assert 0.7 < found["metrics"][name]["low"] < 0.95
        assert found["metrics"][name]["high"] == 1
    assert found["metrics"]["roc_auc"]["low"] is None
    assert "same value" in found["metrics"]["roc_auc"]["note"]
    assert found["per_class"][0]["f1"]["low"] < 0.9


def test_swapped_labels_are_found_as_probably_mislabelled() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 500)
    z = rng.normal(size=(500, 3))
    z[np.arange(500), y] += 6
    swapped = rng.choice(500, 15, replace=False)
    y[swapped] = (y[swapped] + 1) % 3
    found = results(THREE, torch.tensor(z), torch.tensor(y), resamples=50, hardest=30)
    named = {row["index"] for row in found["mislabelled"]["rows"]}
    assert len(named & set(swapped.tolist())) >= 12
    assert found["mislabelled"]["count"] == len(named) <= 18


def test_values_are_in_original_units() -> None:
    rng = np.random.default_rng(0)
    y = torch.tensor(rng.normal(size=300))
    z = (y + torch.tensor(rng.normal(0, 0.5, 300)))[:, None]
    found = plain(results(Task("regression", "price", 1), z, y, mean=100, std=10, resamples=200))
    truth, guess = y.numpy() * 10 + 100, z[:, 0].numpy() * 10 + 100
    assert found["headline"] == "rmse"
    assert found["metrics"]["rmse"]["value"] == pytest.approx(oracle.root_mean_squared_error(truth, guess))
    assert found["metrics"]["r2"]["value"] == pytest.approx(oracle.r2_score(truth, guess))
    assert found["metrics"]["rmse"]["unit"] == "target"
    worst = int(np.abs(truth - guess).argmax())
    assert found["hardest"][0]["position"] == worst
    assert found["hardest"][0]["target"] == pytest.approx(truth[worst])
    assert len(found["shown"]["target"]) == len(found["shown"]["predicted"]) == 300


def test_forecasts_draw_blocks_at_least_as_long_as_the_horizon() -> None:
    rng = np.random.default_rng(0)
    y = torch.tensor(rng.normal(size=(300, 6)))
    z = y + torch.tensor(rng.normal(0, 0.5, (300, 6)))
    task = Task("forecast", "temperature", 6, horizon=6)
    found = plain(results(task, z, y, mean=5, std=2, scale=1.5, resamples=200))
    assert found["block"] >= 6
    expected = np.abs(2 * (z - y).numpy()).mean() / 1.5
    assert found["metrics"]["mase"]["value"] == pytest.approx(expected)
    assert found["metrics"]["mase"]["low"] < expected < found["metrics"]["mase"]["high"]
    assert np.allclose(found["shown"]["rmse_by_step"], np.sqrt(np.square(2 * (z - y).numpy()).mean(0)))
    assert results(task, z, y, resamples=50)["metrics"]["mase"]["value"] is None


def test_language_is_counted_in_characters_where_they_are_known() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(30, 8, 5), torch.randint(0, 5, (30, 8))
    targets[-1, 4:] = -100
    mean = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    task = Task("language", "next token", 5)
    found = plain(results(task, logits, targets, characters_per_token=3.0, resamples=100))
    assert found["headline"] == "nats_per_character"
    assert found["metrics"]["nats_per_character"]["value"] == pytest.approx(mean / 3, rel=1e-5)
    assert found["metrics"]["perplexity"]["value"] == pytest.approx(math.exp(mean), rel=1e-5)
    assert found["tokens"] == 236
    from_nats = results(task, token_losses(logits, targets), targets, characters_per_token=3.0, resamples=100)
    assert from_nats["metrics"] == found["metrics"]
    unknown = results(task, logits, targets, resamples=50)
    assert unknown["headline"] == "nats_per_token"
    letters = results(replace(task, classes=tuple("abcde")), logits, targets, resamples=50)
    assert letters["metrics"]["nats_per_character"]["value"] == pytest.approx(mean, rel=1e-5)


def test_members_inside_a_model_are_averaged() -> None:
    z, y = three()
    members = torch.stack([z, z + 1.0, torch.flip(z, (1,))], 1)
    found = results(THREE, members, y, resamples=50)
    p = torch.softmax(members, -1).mean(1).numpy()
    assert found["metrics"]["log_loss"]["value"] == pytest.approx(oracle.log_loss(y, p))


def test_what_cannot_be_evaluated_is_refused_in_plain_words() -> None:
    z, y = three()
    with pytest.raises(DataError, match="no samples"):
        results(THREE, z[:0], y[:0])
    with pytest.raises(DataError, match="400 predictions for 399 targets"):
        results(THREE, z, y[:-1])
    z[3] = torch.nan
    with pytest.raises(ModelError, match="1 of 400"):
        results(THREE, z, y)


def test_a_thousand_resamples_of_ten_thousand_samples_take_seconds() -> None:
    rng = np.random.default_rng(0)
    y, z = torch.tensor(rng.integers(0, 10, 10_000)), torch.tensor(rng.normal(size=(10_000, 10)))
    began = time.process_time()
    found = results(Task("classification", "y", 10, tuple("abcdefghij")), z, y)
    # About one second; the bound leaves room for slow machines but not for a loop over resamples.
    assert time.process_time() - began < 6
    assert found["metrics"]["roc_auc"]["low"] is not None


def test_many_classes_do_without_what_would_not_fit_a_page() -> None:
    rng = np.random.default_rng(0)
    y, z = torch.tensor(rng.integers(0, 200, 3000)), torch.tensor(rng.normal(size=(3000, 200)))
    names = tuple(f"class {k}" for k in range(200))
    found = plain(results(Task("classification", "y", 200, names), z, y, resamples=60))
    assert found["confusion"] is None
    assert len(found["confused"]) == 10
    assert len(found["per_class"]) == 200
