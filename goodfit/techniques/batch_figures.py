"""What a batch size costs and what it buys: throughput, memory, and how noisy its gradient is. Plain functions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from goodfit.techniques.gradient import Backward, part_of, pieces
from goodfit.techniques.memory import out_of_memory
from goodfit.types import Batch


@dataclass(frozen=True)
class NoiseScale:
    """How noisy single samples' gradients are, beside the gradient itself.

    signal: an estimate of ``|G|²``, the squared norm of the true gradient. noise: of the sum of the variances of one
    sample's gradient over all parameters. Both are unbiased, so that noise may make either negative.
    """

    signal: float
    noise: float

    @property
    def scale(self) -> float:
        """The batch size at which signal and noise are as large: ``noise / signal``; inf where no signal was seen."""
        return self.noise / self.signal if self.signal > 0 else math.inf


def noise_scale(
    backward: Backward, batch: Batch, *, parameters: Sequence[Tensor], small: int, weigh: Callable[[Batch], float]
) -> NoiseScale:
    """The gradient noise scale of McCandlish et al., 2018, from one large batch cut into pieces.

    Formula: with ``b`` the samples of a piece and ``B`` those of the batch, ``|G|² = (B |g_B|² - b |g_b|²) / (B - b)``
    and ``noise = (|g_b|² - |g_B|²) / (1 / b - 1 / B)``, ``|g_b|²`` being the mean over the pieces.
    The variance of a batch's mean gradient is ``noise / B``: it falls as 1 / B, the standard deviation as
    1 / sqrt(B). Far below the scale twice the batch is worth twice the steps; far above it, hardly anything.

    backward: adds the gradient of a piece's loss sum over the weight of the whole batch to ``.grad``, as a ``gradient``
        technique wants it. small: samples of a piece; what is left over is not used. weigh: the weight that a piece's
        loss sum is divided by, such as the number of samples. All ``.grad`` are None afterwards.
    """
    many = len(batch.index) // small
    if many < 2:
        raise ValueError(f"{len(batch.index)} samples make no two pieces of {small}; give a larger batch")
    whole = float(weigh(batch))
    total: list[Tensor] | None = None
    squares, weights = [], []
    for piece in pieces(part_of(batch, slice(small * many)), small):
        for parameter in parameters:
            parameter.grad = None
        backward(piece)
        share = float(weigh(piece))
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in parameters]
        squares.append(_square(grads) * (whole / share) ** 2)
        weights.append(share)
        total = grads if total is None else [a + b for a, b in zip(total, grads, strict=True)]
    for parameter in parameters:
        parameter.grad = None
    assert total is not None
    large = _square(total) * (whole / sum(weights)) ** 2
    one, b, big = sum(squares) / many, float(small), float(small * many)
    return NoiseScale(signal=(big * large - b * one) / (big - b), noise=(one - large) / (1 / b - 1 / big))


def _square(tensors: Sequence[Tensor]) -> float:
    return float(sum(one.double().square().sum() for one in tensors))


@dataclass(frozen=True)
class BatchFigures:
    """What one batch size costs on this machine.

    seconds: the median of a step; None where it did not fit into memory. memory: bytes; on a GPU the most that was
    allocated during a step, on the CPU what the forward pass keeps for the backward pass.
    """

    batch_size: int
    seconds: float | None
    memory: int

    @property
    def samples_per_second(self) -> float:
        """Throughput, 0 for a batch that does not fit."""
        return self.batch_size / self.seconds if self.seconds else 0.0


def batch_figures(
    step: Callable[[int], object], sizes: Sequence[int], *, device: torch.device, repeats: int = 3
) -> list[BatchFigures]:
    """Time and memory of a training step for each batch size, up to the first one that does not fit.

    step: makes one step with so many samples. Throughput and memory say how large a batch can be and from where on
    a larger one no longer saves time; they do not say which one generalises: tune the learning rate anew for each.
    """
    found = []
    for size in sorted(sizes):
        memory = _Kept(device)
        try:
            with memory:
                step(size)
            seconds = sorted(_timed(step, size, device) for _ in range(repeats))[repeats // 2]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            found.append(BatchFigures(size, None, memory.bytes))
            break
        found.append(BatchFigures(size, seconds, memory.bytes))
    return found


def _timed(step: Callable[[int], object], size: int, device: torch.device) -> float:
    start = time.perf_counter()
    step(size)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


class _Kept:
    """Counts the bytes of a step: the peak of the GPU's allocator, or each storage that is saved for backward, once."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes = device, 0
        self._seen: set[int] = set()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._note, lambda kept: kept)

    def __enter__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._hooks.__enter__()

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
        else:
            self._hooks.__exit__()

    def _note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        owner = tensor if tensor._base is None else tensor._base
        if storage.data_ptr() not in self._seen and not (owner.is_leaf and owner.requires_grad):
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor
