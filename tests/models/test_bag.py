"""The bag of n-grams against scikit-learn and the naive Bayes formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfTransformer
from torch import Tensor

from goodfit.models import build
from goodfit.models.bag import BagModel
from goodfit.types import InputSpec

WORDS = InputSpec("text", (6,), vocabulary=12)
GRAMS = InputSpec("text", (3 + 6,), cardinalities=(5, 6, 8), vocabulary=19, length=3)
ROWS = torch.tensor(
    [
        [1, 2, 0, 5, 6, 11, 12, 0, 0],
        [3, 0, 0, 5, 13, 14, 15, 0, 0],
        [4, 4, 4, 7, 8, 9, 16, 17, 18],
        [1, 0, 0, 6, 11, 0, 0, 0, 0],
    ]
)
LABELS = torch.tensor([0, 1, 2, 0])


def bag(spec: InputSpec, **settings: object) -> BagModel:
    model = build("bag", settings, spec, 3)
    assert isinstance(model, BagModel)
    return model


def presence(rows: Tensor, size: int) -> np.ndarray:
    made = np.zeros((len(rows), size))
    for row, tokens in enumerate(rows.tolist()):
        made[row, [t for t in tokens if t]] = 1
    return made


def test_weights_are_scikit_learn_s_tf_idf_of_each_kind_joined_at_length_one() -> None:
    model = bag(GRAMS)
    model.fit_to(ROWS, LABELS)
    grams = model.grams(ROWS)
    made = np.zeros((4, 19))
    np.put_along_axis(made, grams.numpy(), model.weigh(grams).numpy(), 1)
    counts = presence(ROWS[:, 3:], 19)
    expected = np.zeros((4, 19))
    for start, end in ((5, 11), (11, 19)):
        expected[:, start:end] = TfidfTransformer().fit_transform(counts[:, start:end]).toarray()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(made[:, 1:], expected[:, 1:], atol=1e-6)


def test_ratios_are_the_naive_bayes_formula() -> None:
    model = bag(GRAMS, smoothing=0.5)
    model.fit_to(ROWS, LABELS)
    grams = model.grams(ROWS)
    x = np.zeros((4, 19))
    np.put_along_axis(x, grams.numpy(), model.weigh(grams).double().numpy(), 1)
    for label in range(3):
        mine = x[LABELS.numpy() == label].sum(0) + 0.5
        other = x[LABELS.numpy() != label].sum(0) + 0.5
        expected = np.clip(np.log(mine / mine.sum() / (other / other.sum())), -4, 4)
        np.testing.assert_allclose(model.ratio[:, label], expected, rtol=1e-4, atol=1e-5)


def test_logits_are_the_sum_of_the_formula() -> None:
    model = bag(GRAMS)
    model.fit_to(ROWS, LABELS)
    with torch.no_grad():
        model.weight.normal_()
        model.bias.normal_()
    grams = model.grams(ROWS)
    x = np.zeros((4, 19))
    np.put_along_axis(x, grams.numpy(), model.weigh(grams).double().numpy(), 1)
    expected = 4 * x @ (model.weight * model.ratio).detach().double().numpy() + model.bias.detach().numpy()
    np.testing.assert_allclose(model(ROWS).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_hashed_n_grams_occur_once_and_know_the_order_of_neighbours() -> None:
    model = bag(WORDS, ngrams=3, buckets=100_000)
    grams = model.grams(torch.tensor([[4, 5, 4, 5, 0, 0], [5, 4, 0, 0, 0, 0], [4, 5, 0, 0, 0, 0]]))
    sets = [set(row) - {0} for row in grams.tolist()]
    assert [len(one) for one in sets] == [2 + 2 + 2, 3, 3]
    assert all(len([t for t in row if t]) == len(set(row) - {0}) for row in grams.tolist())
    assert sets[1] & sets[2] == {4, 5}
    assert sets[2] <= sets[0]


def test_ratios_stay_at_one_without_class_targets() -> None:
    for targets in (None, torch.randn(4)):
        model = bag(GRAMS)
        model.fit_to(ROWS, targets)
        assert bool((model.ratio == 1).all())


@pytest.mark.parametrize("ngrams", [1, 2])
def test_it_learns_which_words_decide(ngrams: int) -> None:
    draw = torch.Generator().manual_seed(0)
    texts = torch.randint(1, 12, (300, 6), generator=draw)
    labels = (texts == 7).any(1).long()
    model = build("bag", {"ngrams": ngrams}, WORDS, 2)
    model.fit_to(texts[:200], labels[:200])  # type: ignore[operator]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(texts[:200]), labels[:200]).backward()
        optimizer.step()
    assert float((model(texts[200:]).argmax(1) == labels[200:]).float().mean()) > 0.95
