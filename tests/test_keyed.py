"""Position-keyed random numbers: statistics, and independence of batch, order and device."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from goodfit import keyed


def _splitmix(counter: int) -> int:
    """The finaliser in Python integers: independent of the tensor arithmetic under test."""
    mask = (1 << 64) - 1
    counter &= mask
    counter = ((counter ^ (counter >> 30)) * 0xBF58476D1CE4E5B9) & mask
    counter = ((counter ^ (counter >> 27)) * 0x94D049BB133111EB) & mask
    return counter ^ (counter >> 31)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**40))
@settings(max_examples=200, deadline=None)
def test_bits_equal_the_same_mixing_in_python_integers(place: int, sample: int) -> None:
    made = keyed.bits(place, torch.tensor([sample]), draws=2)[0].tolist()
    first = _splitmix((sample + 1) * 0x9E3779B97F4A7C15 + place)
    for lane, value in enumerate(made, start=1):
        assert value % 2**64 == _splitmix(first + lane * 0x2545F4914F6CDD1D)


def test_a_sample_draws_the_same_in_any_batch_and_order() -> None:
    place = keyed.key(3, "flip", 7)
    whole = keyed.uniform(place, torch.arange(100), draws=3)
    picked = torch.tensor([42, 7, 99, 0])
    assert torch.equal(keyed.uniform(place, picked, draws=3), whole[picked])


def test_keys_differ_by_seed_name_and_number() -> None:
    keys = {keyed.key(s, n, k) for s in range(20) for n in ("flip", "crop", "1") for k in range(50)}
    assert len(keys) == 20 * 3 * 50
    assert keyed.key(0, 1) != keyed.key(0, "1")
    assert keyed.key(0, "a", "b") != keyed.key(0, "ab")


@pytest.mark.parametrize("draws", [1, 4])
def test_uniform_numbers_are_uniform_over_samples_and_over_places(draws: int) -> None:
    over_samples = keyed.uniform(keyed.key(0, "x"), torch.arange(20_000), draws=draws).flatten()
    over_places = torch.cat(
        [keyed.uniform(keyed.key(0, "x", k), torch.zeros(1, dtype=torch.long)) for k in range(4000)]
    )
    for numbers in (over_samples.numpy(), over_places.flatten().numpy()):
        assert numbers.min() >= 0
        assert numbers.max() < 1
        assert stats.kstest(numbers, "uniform").pvalue > 1e-3


def test_neighbouring_samples_draws_and_steps_are_uncorrelated() -> None:
    table = torch.stack(
        [keyed.uniform(keyed.key(0, "m", step), torch.arange(300), draws=3).flatten() for step in range(300)]
    ).double()
    limit = 4 / np.sqrt(table.numel())
    for a, b in ((table[1:], table[:-1]), (table[:, 3:], table[:, :-3]), (table[:, 1:], table[:, :-1])):
        assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < limit


def test_normal_numbers_are_standard_normal() -> None:
    numbers = keyed.normal(keyed.key(1, "n"), torch.arange(20_000)).flatten().numpy()
    assert np.isfinite(numbers).all()
    assert stats.kstest(numbers, "norm").pvalue > 1e-3


def test_integers_cover_their_range_evenly() -> None:
    numbers = keyed.integers(keyed.key(2, "i"), torch.arange(30_000), -2, 4).flatten().numpy()
    values, counts = np.unique(numbers, return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2, 3]
    assert stats.chisquare(counts).pvalue > 1e-3


@given(st.integers(0, 500), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_a_permutation_holds_every_number_once(count: int, seed: int) -> None:
    order = keyed.permutation(keyed.key(seed, "order"), count)
    assert sorted(order.tolist()) == list(range(count))


def test_every_order_of_three_is_equally_likely() -> None:
    orders = [tuple(keyed.permutation(keyed.key(0, "o", k), 3).tolist()) for k in range(6000)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_and_cpu_draw_the_same_integers() -> None:
    index = torch.arange(1000)
    assert torch.equal(keyed.bits(5, index, 4), keyed.bits(5, index.cuda(), 4).cpu())


def test_a_generator_starts_where_its_key_says() -> None:
    one, other = (torch.rand(3, generator=keyed.generator(keyed.key(0, "w"))) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, torch.rand(3, generator=keyed.generator(keyed.key(0, "v"))))
