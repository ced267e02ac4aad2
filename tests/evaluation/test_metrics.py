from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as oracle

from goodfit.evaluation import METRICS, SHOWN, NotAvailable, token_losses
from goodfit.evaluation.classification import confusion
from goodfit.evaluation.language import window_sums
from goodfit.evaluation.ranking import both_curves


def classified(n: int = 300, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    scores = rng.normal(size=(n, classes))
    scores[np.arange(n), targets] += 1
    # Rounding makes ties, which are where ranking metrics go wrong.
    p = np.exp(np.round(scores, 1))
    return targets, p / p.sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 4])
def test_class_metrics_equal_scikit_learn(classes: int) -> None:
    y, p = classified(classes=classes)
    said = p.argmax(1)
    assert METRICS["accuracy"](y, p) == pytest.approx(oracle.accuracy_score(y, said))
    assert METRICS["balanced_accuracy"](y, p) == pytest.approx(oracle.balanced_accuracy_score(y, said))
    assert METRICS["macro_f1"](y, p) == pytest.approx(oracle.f1_score(y, said, average="macro"))
    assert METRICS["log_loss"](y, p) == pytest.approx(oracle.log_loss(y, p))
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(y, said)
    for k in range(classes):
        assert METRICS["precision"](y, p, positive=k) == pytest.approx(precision[k])
        assert METRICS["recall"](y, p, positive=k) == pytest.approx(recall[k])
        assert METRICS["f1"](y, p, positive=k) == pytest.approx(f1[k])
    assert (confusion(y, said, classes=classes) == oracle.confusion_matrix(y, said)).all()


def test_ranking_metrics_equal_scikit_learn_with_ties() -> None:
    y, p = classified(classes=2)
    assert len(np.unique(p[:, 1])) < 200
    assert METRICS["roc_auc"](y, p) == pytest.approx(oracle.roc_auc_score(y, p[:, 1]), abs=1e-12)
    assert METRICS["average_precision"](y, p) == pytest.approx(oracle.average_precision_score(y, p[:, 1]), abs=1e-12)


def test_ranking_metrics_of_many_classes_are_means_of_one_against_the_rest() -> None:
    y, p = classified(classes=4)
    assert METRICS["roc_auc"](y, p) == pytest.approx(oracle.roc_auc_score(y, p, multi_class="ovr"), abs=1e-12)
    each = [oracle.average_precision_score(y == k, p[:, k]) for k in range(4)]
    assert METRICS["average_precision"](y, p) == pytest.approx(np.mean(each), abs=1e-12)


def test_brier_of_two_classes_is_the_usual_one_and_of_more_the_sum() -> None:
    y, p = classified(classes=2)
    assert METRICS["brier"](y, p) == pytest.approx(oracle.brier_score_loss(y, p[:, 1]))
    y, p = classified(classes=4)
    assert METRICS["brier"](y, p) == pytest.approx(np.square(p - np.eye(4)[y]).sum(1).mean())


def test_ece_is_the_weighted_gap_of_fifteen_equal_bins() -> None:
    y, p = classified(classes=3)
    confidence, right = p.max(1), p.argmax(1) == y
    gap = 0.0
    for low in range(15):
        here = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if here.any():
            gap += here.mean() * abs(right[here].mean() - confidence[here].mean())
    assert METRICS["ece"](y, p) == pytest.approx(gap)


def test_a_confidence_of_exactly_one_falls_into_the_last_bin() -> None:
    assert METRICS["ece"](np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])) == pytest.approx(0.5)


def test_value_metrics_equal_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(100, 3, 200)
    guess = y + rng.normal(0, 1, 200)
    assert METRICS["rmse"](y, guess) == pytest.approx(oracle.root_mean_squared_error(y, guess))
    assert METRICS["mae"](y, guess) == pytest.approx(oracle.mean_absolute_error(y, guess))
    assert METRICS["r2"](y, guess) == pytest.approx(oracle.r2_score(y, guess))
    assert METRICS["mase"](y, guess, scale=2.0) == pytest.approx(np.abs(y - guess).mean() / 2)


def test_r2_keeps_its_digits_far_from_zero() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(0, 1, 200)
    guess = y + rng.normal(0, 1, 200)
    assert METRICS["r2"](y + 1e6, guess + 1e6) == pytest.approx(oracle.r2_score(y, guess), rel=1e-6)


def test_language_metrics_agree_with_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 7, 11), torch.randint(0, 11, (5, 7))
    targets[0, :3] = -100
    mean = torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), targets.flatten()).item()
    nats, tokens = window_sums(token_losses(logits, targets), targets)
    assert (token_losses(logits, targets)[targets == -100] == 0).all()
    assert tokens.tolist() == [4, 7, 7, 7, 7]
    assert METRICS["nats_per_token"](nats, tokens) == pytest.approx(mean, rel=1e-6)
    assert METRICS["perplexity"](nats, tokens) == pytest.approx(math.exp(mean), rel=1e-6)
    bits = METRICS["bits_per_character"](nats, tokens, characters_per_token=2.0)
    assert bits == pytest.approx(mean / 2 / math.log(2), rel=1e-6)


def test_members_of_a_language_model_have_their_probabilities_averaged() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 4, 5), torch.randint(0, 5, (2, 4))
    p = torch.softmax(logits.double(), -1).mean(1)
    expected = -p.gather(-1, targets[..., None])[..., 0].log()
    assert torch.allclose(token_losses(logits, targets).double(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("roc_auc", (np.zeros(4, int), np.full((4, 2), 0.5)), "only one class"),
        ("average_precision", (np.zeros(4, int), np.full((4, 3), 1 / 3)), "only one class"),
        ("recall", (np.zeros(4, int), np.full((4, 2), 0.5)), "no sample of this class"),
        ("precision", (np.array([0, 1]), np.array([[0.9, 0.1]] * 2)), "never predicted"),
        ("f1", (np.zeros(2, int), np.array([[0.9, 0.1]] * 2)), "neither occurs nor"),
        ("r2", (np.full(5, 3.3), np.arange(5.0)), "all targets are equal"),
        ("mase", (np.arange(5.0), np.arange(5.0)), "not known"),
        ("nats_per_character", (np.ones(3), np.ones(3)), "not known"),
        ("nats_per_token", (np.zeros(3), np.zeros(3)), "no token"),
        ("accuracy", (np.zeros(0, int), np.zeros((0, 2))), "no samples"),
    ],
)
def test_an_undefined_metric_says_why_and_is_never_nan(
    name: str, arguments: tuple[np.ndarray, ...], reason: str
) -> None:
    with pytest.raises(NotAvailable, match=reason):
        METRICS[name](*arguments)


def test_classes_that_do_not_occur_are_left_out_of_means() -> None:
    y, p = classified(classes=3)
    wide = np.concatenate([p, np.zeros((len(p), 1))], axis=1)
    for name in ("balanced_accuracy", "macro_f1", "roc_auc", "average_precision"):
        assert METRICS[name](y, wide) == pytest.approx(METRICS[name](y, p))


CLASS_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "log_loss",
    "brier",
    "ece",
    "roc_auc",
    "average_precision",
)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.int64, (40, 3), elements=st.integers(0, 3)), st.integers(2, 4), st.integers(0, 99))
def test_weights_mean_that_samples_occur_so_often(weights: np.ndarray, classes: int, seed: int) -> None:
    y, p = classified(n=40, classes=classes, seed=seed)
    for name in CLASS_METRICS:
        found = METRICS[name](y, p, weights.astype(np.float32))
        for column in range(3):
            again = np.repeat(np.arange(40), weights[:, column])
            try:
                expected = METRICS[name](y[again], p[again])
            except NotAvailable:
                expected = np.nan
            assert found[column] == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True), name


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.int64, (20, 3), elements=st.integers(0, 3)), st.integers(0, 99))
def test_weights_of_value_metrics_mean_that_samples_occur_so_often(weights: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, guess = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    for name in ("rmse", "mae", "r2"):
        found = METRICS[name](y, guess, weights.astype(np.float64))
        for column in range(3):
            again = np.repeat(np.arange(20), weights[:, column])
            if len(again):
                assert found[column] == pytest.approx(METRICS[name](y[again], guess[again]), rel=1e-9), name
            else:
                assert np.isnan(found[column])


def test_both_curves_are_the_two_metrics() -> None:
    y, p = classified(classes=3)
    w = np.random.default_rng(0).integers(0, 3, (300, 5)).astype(np.float32)
    found = both_curves(y, p, w)
    assert np.allclose(found[0], METRICS["roc_auc"](y, p, w))
    assert np.allclose(found[1], METRICS["average_precision"](y, p, w))


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_has_its_page_and_a_way_to_be_shown(name: str) -> None:
    page = METRICS[name].__doc__ or ""
    for part in ("Formula:", "Range:", "Misleading:", "Source:"):
        assert part in page or (part == "Source:" and "(" in page), part
    assert SHOWN[name].better in ("higher", "lower")
