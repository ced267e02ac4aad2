from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from goodfit.evaluation import selection_metric, training_metric
from goodfit.types import Task

CLASSES = Task("classification", "y", 3, tuple("abc"))
BINARY = Task("classification", "y", 2, ("no", "yes"))
VALUE = Task("regression", "y", 1)
TEXT = Task("language", "next", 9)


def test_accuracy_is_shown_for_classes_in_any_form_of_logits() -> None:
    torch.manual_seed(0)
    z, y = torch.randn(50, 3), torch.randint(0, 3, (50,))
    metric = training_metric(CLASSES)
    assert (metric.name, metric.larger_is_better) == ("accuracy", True)
    assert float(metric.function(z, y)) == pytest.approx(float((z.argmax(1) == y).double().mean()))
    members = torch.randn(50, 4, 3)
    mixed = torch.softmax(members, -1).mean(1).argmax(1)
    assert float(metric.function(members, y)) == pytest.approx(float((mixed == y).double().mean()))
    single, two = torch.randn(50, 1), torch.randint(0, 2, (50,))
    expected = ((single[:, 0] > 0).long() == two).double().mean()
    assert float(training_metric(BINARY).function(single, two)) == pytest.approx(float(expected))


def test_batches_add_up_to_the_whole() -> None:
    torch.manual_seed(0)
    cases = [
        (training_metric(CLASSES), torch.randn(50, 3), torch.randint(0, 3, (50,))),
        (selection_metric(CLASSES), torch.randn(50, 3), torch.randint(0, 3, (50,))),
        (training_metric(VALUE, target_std=3.0), torch.randn(50, 1), torch.randn(50)),
        (training_metric(TEXT), torch.randn(50, 4, 9), torch.randint(0, 9, (50, 4))),
    ]
    for metric, z, y in cases:
        assert metric.pieces is not None
        assert metric.finish is not None
        parts = [metric.pieces(z[a:b], y[a:b]) for a, b in ((0, 13), (13, 50))]
        assert float(metric.finish(parts[0] + parts[1])) == pytest.approx(float(metric.function(z, y)), rel=1e-6)


def test_values_are_judged_in_original_units() -> None:
    torch.manual_seed(0)
    z, y = torch.randn(30, 1), torch.randn(30)
    metric = training_metric(VALUE, target_std=3.0)
    expected = oracle.root_mean_squared_error(y.numpy() * 3, z[:, 0].numpy() * 3)
    assert (metric.name, metric.larger_is_better) == ("rmse", False)
    assert float(metric.function(z, y)) == pytest.approx(expected, rel=1e-6)


def test_rare_classes_are_judged_by_average_precision() -> None:
    rng = np.random.default_rng(0)
    y = torch.tensor((rng.random(300) < 0.03).astype(int))
    z = torch.tensor(np.round(rng.normal(size=(300, 2)), 1)).float() * torch.tensor([0.0, 1.0])
    metric = training_metric(BINARY, positive_share=0.03)
    assert metric.name == "average_precision"
    expected = oracle.average_precision_score(y.numpy(), z[:, 1].numpy())
    for form in (z, z[:, 1:], z[:, 1]):
        assert float(metric.function(form, y)) == pytest.approx(expected, rel=1e-9)
    assert training_metric(BINARY, positive_share=0.3).name == "accuracy"


def test_selection_orders_by_hits_and_then_by_log_loss() -> None:
    metric = selection_metric(CLASSES)
    y = torch.zeros(20, dtype=torch.long)
    sure = torch.tensor([[5.0, 0, 0]]).repeat(20, 1)
    unsure = torch.tensor([[0.1, 0, 0]]).repeat(20, 1)
    one_wrong = torch.cat([torch.tensor([[0.0, 0.01, 0]]), sure[1:] * 10])
    values = [float(metric.function(z, y)) for z in (one_wrong, unsure, sure)]
    assert values == sorted(values)
    assert len(set(values)) == 3
    assert metric.larger_is_better
