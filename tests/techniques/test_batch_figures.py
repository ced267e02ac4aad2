"""Noise, time and memory of a batch size, against what can be worked out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from goodfit.techniques.batch_figures import NoiseScale, batch_figures, noise_scale
from goodfit.types import Batch

CPU = torch.device("cpu")


def samples(count: int, seed: int, *, mean: float, spread: float) -> Batch:
    """Samples whose own gradient, with the loss x . w, is the sample itself."""
    draw = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Batch(mean + spread * draw, torch.zeros(count), None, torch.arange(count))


def measured(batch: Batch, small: int) -> NoiseScale:
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def backward(piece: Batch) -> torch.Tensor:
        loss = (piece.inputs @ weight).sum() / len(batch.index)
        loss.backward()
        return loss.detach()

    found = noise_scale(backward, batch, parameters=[weight], small=small, weigh=lambda one: len(one.index))
    assert weight.grad is None
    return found


@pytest.mark.parametrize(("count", "small"), [(64, 4), (60, 7), (64, 32)])
def test_the_estimates_are_free_of_bias(count: int, small: int) -> None:
    # true gradient (2, 2, 2): squared norm 12; each of 3 parameters has a variance of 1.5 squared
    found = [measured(samples(count, seed, mean=2.0, spread=1.5), small) for seed in range(400)]
    signal = torch.tensor([one.signal for one in found])
    noise = torch.tensor([one.noise for one in found])
    for values, truth in ((signal, 12.0), (noise, 3 * 1.5**2)):
        assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / math.sqrt(len(values))
    assert NoiseScale(12.0, 6.75).scale == pytest.approx(0.5625)
    assert NoiseScale(-1.0, 6.75).scale == math.inf


def test_the_variance_of_a_batchs_gradient_falls_as_1_over_b_and_its_deviation_as_the_root() -> None:
    draw = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = {size: float(draw[:, :size].mean(1).std()) for size in (4, 64)}
    assert (spread[4] / spread[64]) ** 2 == pytest.approx(16, rel=0.1)
    assert spread[4] / spread[64] == pytest.approx(4, rel=0.05)


def test_two_pieces_are_the_least() -> None:
    with pytest.raises(ValueError, match="no two pieces of 5"):
        measured(samples(9, 0, mean=1.0, spread=1.0), 5)


def test_figures_stop_at_the_first_size_that_does_not_fit() -> None:
    made = []

    def step(size: int) -> None:
        made.append(size)
        if size > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")

    found = batch_figures(step, [32, 4, 8, 16], device=CPU)
    assert [one.batch_size for one in found] == [4, 8, 16]
    assert [one.seconds is None for one in found] == [False, False, True]
    assert found[-1].samples_per_second == 0
    assert found[0].samples_per_second == pytest.approx(4 / found[0].seconds)
    assert 32 not in made


def test_memory_is_what_the_forward_pass_keeps_and_grows_with_the_batch() -> None:
    model = nn.Sequential(nn.Linear(10, 20), nn.Sigmoid(), nn.Linear(20, 5))

    def step(size: int) -> None:
        model(torch.ones(size, 10)).sum().backward()

    small, large = batch_figures(step, [8, 16], device=CPU)
    # kept are the inputs of both linear layers, the second being the sigmoid's output: (10 + 20) float32 a sample
    assert (small.memory, large.memory) == (8 * 30 * 4, 16 * 30 * 4)


def test_other_errors_are_not_swallowed() -> None:
    def step(size: int) -> None:
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        batch_figures(step, [1], device=CPU)


def test_a_training_step_costs_about_three_forward_passes() -> None:
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(12)))
    inputs = torch.ones(4, 64)
    with FlopCounterMode(display=False) as forward:
        model(inputs)
    with FlopCounterMode(display=False) as both:
        model(inputs).sum().backward()
    ratio = both.get_total_flops() / forward.get_total_flops()
    assert ratio == pytest.approx(3 - 1 / 12)  # the first layer's inputs want no gradient
