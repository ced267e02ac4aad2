"""Mixup and CutMix against loops over samples, and the loss of mixed targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from goodfit.techniques.batch_mix import cutmix, mixup
from goodfit.techniques.loss import CrossEntropy
from goodfit.types import Batch
from tests.reference import mixing as reference

SIZE, CLASSES = 6, 4
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (SIZE, 3, 5, 7)).astype(np.float64)
LABELS = DRAW.integers(0, CLASSES, SIZE)
PARTNER = np.array([2, 0, 5, 3, 1, 4])
SOFT = DRAW.dirichlet(np.ones(CLASSES), SIZE)


def given(targets: torch.Tensor) -> Batch:
    return Batch(torch.from_numpy(IMAGES).float(), targets, None, torch.arange(SIZE))


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shares", [np.full(SIZE, 0.3), np.linspace(0.05, 0.95, SIZE)])
def test_mixup_mixes_inputs_and_targets_by_the_same_share(soft: bool, shares: np.ndarray) -> None:
    targets = torch.from_numpy(SOFT).float() if soft else torch.from_numpy(LABELS)
    made = mixup(given(targets), torch.from_numpy(shares).float(), torch.from_numpy(PARTNER), classes=CLASSES, place=0)
    x, y = reference.mixup(IMAGES, SOFT if soft else reference.one_hot(LABELS, CLASSES), shares, PARTNER)
    np.testing.assert_allclose(torch.as_tensor(made.inputs).numpy(), x, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(made.targets.numpy(), y, atol=1e-6)
    np.testing.assert_allclose(made.targets.sum(1).numpy(), 1, atol=1e-6)


def test_cutmix_shares_targets_by_the_pixels_that_stayed() -> None:
    inside = np.zeros((SIZE, 5, 7), dtype=bool)
    for i in range(SIZE):
        inside[i, i % 3 : i % 3 + 2, : i + 1] = True
    made = cutmix(given(torch.from_numpy(LABELS)), torch.from_numpy(inside), torch.from_numpy(PARTNER), classes=CLASSES)
    x, y = reference.cutmix(IMAGES, reference.one_hot(LABELS, CLASSES), inside, PARTNER)
    np.testing.assert_array_equal(torch.as_tensor(made.inputs).numpy(), x.astype(np.float32))
    np.testing.assert_allclose(made.targets.numpy(), y, atol=1e-6)


def test_the_loss_of_mixed_targets_is_the_mixture_of_the_losses() -> None:
    """``CE(z, l y_i + (1 - l) y_j) = l CE(z, y_i) + (1 - l) CE(z, y_j)``: the two ways to write mixup are one."""
    logits, share = DRAW.normal(0, 3, (SIZE, CLASSES)), np.linspace(0.1, 0.9, SIZE)
    _, mixed = reference.mixup(IMAGES, reference.one_hot(LABELS, CLASSES), share, PARTNER)
    whole = reference.cross_entropy(logits, mixed)
    own = reference.cross_entropy(logits, reference.one_hot(LABELS, CLASSES))
    other = reference.cross_entropy(logits, reference.one_hot(LABELS[PARTNER], CLASSES))
    np.testing.assert_allclose(whole, share * own + (1 - share) * other, rtol=1e-12)
    loss = CrossEntropy()(torch.from_numpy(logits), torch.from_numpy(mixed), None)
    assert float(loss) == pytest.approx(float(whole.sum()), rel=1e-6)
