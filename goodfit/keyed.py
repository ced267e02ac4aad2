"""Random numbers as a function of where they stand, not of what was drawn before.

A *key* is a 64-bit number made from a seed and names or numbers: ``key(seed, "mixup", step)``. From a key, and from the
sample numbers it is used for, follow the same integers on every device, in any order, in any batch. So a run
resumes exactly without any generator state, and two runs that differ in one technique share every other draw.

The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014; constants of Stafford's variant 13),
applied twice to a counter that holds the sample number and the draw's own number. Ours differs from Philox in being
one multiply-xor chain on int64 tensors, which PyTorch computes with wrap-around on CPU and GPU alike.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

_M1, _M2 = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15  # 0xbf58476d1ce4e5b9, 0x94d049bb133111eb as signed
_GOLDEN, _LANE = -0x61C8864680B583EB, 0x2545F4914F6CDD1D
_MASK = (1 << 64) - 1


def key(seed: int, *place: int | str) -> int:
    """A 64-bit key (as a signed Python int) for a seed and a place such as ``("flip", epoch)``.

    Any change of the seed or of one part of the place gives an unrelated key.
    """
    text = "\x1f".join([str(int(seed)), *(f"i{p}" if isinstance(p, int) else f"s{p}" for p in place)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def bits(place: int, index: Tensor, draws: int = 1) -> Tensor:
    """64 random bits for each sample and draw.

    place: a key. index: ``(batch,)`` int64 sample numbers. Returns ``(batch, draws)`` int64 over its whole range.
    """
    lanes = torch.arange(1, draws + 1, device=index.device, dtype=torch.int64) * _LANE
    counter = (index.to(torch.int64)[:, None] + 1) * _GOLDEN + place
    return _mix(_mix(counter) + lanes)


def uniform(place: int, index: Tensor, draws: int = 1) -> Tensor:
    """Uniform numbers in [0, 1), float32 on a grid of 2**-24; shape ``(batch, draws)``."""
    return _shift(bits(place, index, draws), 40).to(torch.float32) * 2.0**-24


def integers(place: int, index: Tensor, low: int, high: int, draws: int = 1) -> Tensor:
    """Whole numbers in [low, high), int64, shape ``(batch, draws)``; bias below 2**-31 for ranges under 2**31."""
    span = high - low
    return low + ((_shift(bits(place, index, draws), 33) * span) >> 31)


def normal(place: int, index: Tensor, draws: int = 1) -> Tensor:
    """Standard normal numbers by Box and Muller (1958), float32, shape ``(batch, draws)``."""
    radius = uniform(place, index, draws)
    angle = uniform(place ^ 0x5851F42D4C957F2D, index, draws)
    return torch.sqrt(-2.0 * torch.log1p(-radius)) * torch.cos(2.0 * math.pi * angle)


def permutation(place: int, count: int) -> Tensor:
    """A random order of ``range(count)``, int64 on the CPU: the argsort of each number's own 64 bits."""
    return torch.argsort(bits(place, torch.arange(count))[:, 0], stable=True)


def generator(place: int) -> torch.Generator:
    """A CPU generator that starts at this key, for functions that want one (initialisation, torchvision)."""
    return torch.Generator().manual_seed(place & _MASK >> 1)


def _shift(value: Tensor, by: int) -> Tensor:
    """Logical shift right: PyTorch's own repeats the sign bit."""
    return (value >> by) & ((1 << (64 - by)) - 1)


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _M1
    value = (value ^ _shift(value, 27)) * _M2
    return value ^ _shift(value, 31)
