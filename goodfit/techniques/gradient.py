"""How gradients are filled: from the whole batch at once, in pieces, or at the worst point nearby."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from goodfit.technique import Count, Positive, technique
from goodfit.techniques.memory import Memory
from goodfit.types import Batch, Inputs

Backward = Callable[[Batch], Tensor]
"""Runs forward and backward on a piece; adds to every ``.grad``; returns the piece's loss sum divided by the weight of
the whole batch, detached. The shares of a batch's pieces sum to its mean loss."""
Reduce = Callable[[Tensor], Tensor]
"""What follows each whole pass over a batch, given its loss: where several processes share the batch, it sums the
gradients over them and returns the loss of all."""


def alone(loss: Tensor) -> Tensor:
    """The ``Reduce`` of a single process: nothing is to be summed."""
    return loss


@technique("gradient")
class Plain:
    """The gradient of the batch in one pass.

    Formula: ``g = (1 / sum_i v_i) sum_i v_i grad loss_i``. Cost: the backward pass takes about twice the time of the
        forward pass, so a step costs about three forward passes.
    Often wrong: the variance of a batch's gradient falls as 1 / B, its standard deviation as 1 / sqrt(B).
    """

    def __call__(
        self,
        backward: Backward,
        batch: Batch,
        *,
        parameters: Sequence[Tensor] = (),
        reduce: Reduce = alone,
        memory: Memory | None = None,
    ) -> Tensor:
        """Fill ``.grad``; returns the mean loss, detached."""
        return reduce(backward(batch))


@technique("gradient")
class Accumulate:
    """The gradient of a large batch from small pieces, for batches that do not fit into memory.

    Formula: as ``plain``; the sums run over pieces of ``microbatch`` samples, each divided by the whole batch's weight.
    microbatch: samples that go through the model at once; ``auto`` starts with the whole batch and halves the size
        whenever memory runs out, repeating that step from the same random draws as if nothing had happened. The size
        is kept, said, and part of every checkpoint.
    Ours: exact for class weights, token counts, soft targets, penalties and a partial last piece, because sums are
        divided by the true weight of the whole batch, never means averaged. Nothing is left over for the next epoch.
    Helps: batch sizes beyond memory at the same result. Hurts: time; use the largest piece that fits.
    Often wrong: "same as the large batch" fails where samples meet inside the model: batch normalisation sees
        ``microbatch`` samples. Use layer or group normalisation if that matters. Dropout draws anew for each piece.
        Averaging the means of pieces is wrong as soon as two of them weigh differently, and stepping every k batches
        leaves the last ones of an epoch to the next.
    """

    microbatch: Count | Literal["auto"] = "auto"

    def __call__(
        self,
        backward: Backward,
        batch: Batch,
        *,
        parameters: Sequence[Tensor] = (),
        reduce: Reduce = alone,
        memory: Memory | None = None,
    ) -> Tensor:
        """Fill ``.grad`` piece by piece; returns the mean loss of the batch, detached. ``auto`` needs ``memory``."""
        return reduce(in_pieces(backward, batch, self.microbatch, memory))


@technique("gradient")
class Sam:
    """Sharpness-aware minimisation: the gradient at the worst point within ``rho`` of the weights.

    Formula: ``e = rho g / |g|`` at the weights w, then the gradient at ``w + e`` is used for the step from w.
    Source: Foret et al., 2021.
    rho: how far away, in the weights' own units.
    microbatch: as for ``accumulate``; the whole batch at once unless given.
    Ours: the perturbation uses the whole batch's gradient, accumulated in pieces where ``microbatch`` is given. Running
        statistics of batch normalisation move in both passes.
    Helps: small data and vision transformers; a flatter minimum. Hurts: every step costs two.
    """

    rho: Positive = 0.05
    microbatch: Count | Literal["auto"] | None = None

    def __call__(
        self,
        backward: Backward,
        batch: Batch,
        *,
        parameters: Sequence[Tensor] = (),
        reduce: Reduce = alone,
        memory: Memory | None = None,
    ) -> Tensor:
        """Fill ``.grad`` with the gradient at the perturbed weights; returns the mean loss at the weights."""
        loss = reduce(in_pieces(backward, batch, self.microbatch, memory))
        moved = [p for p in parameters if p.grad is not None]
        if not moved:
            raise ValueError("sam needs the model's parameters, with gradients")
        with torch.no_grad():
            grads = [p.grad for p in moved if p.grad is not None]
            scale = self.rho / (get_total_norm(grads) + 1e-12)
            shift = torch._foreach_mul(grads, scale)
            start = [p.detach().clone() for p in moved]
            torch._foreach_add_(moved, shift)
            torch._foreach_zero_(grads)
        try:
            reduce(in_pieces(backward, batch, self.microbatch, memory))
        finally:
            with torch.no_grad():
                torch._foreach_copy_(moved, start)
        return loss


ALL = (Plain, Accumulate, Sam)


def in_pieces(
    backward: Backward, batch: Batch, microbatch: int | Literal["auto"] | None, memory: Memory | None = None
) -> Tensor:
    """Call ``backward`` on the whole batch, on pieces of so many samples, or on the largest that fit into memory."""
    if microbatch != "auto":
        return accumulated(backward, batch, microbatch or len(batch.index))
    if memory is None:
        raise ValueError("microbatch = 'auto' needs a place to remember the size: memory = Memory(model)")
    return memory.within(lambda size: accumulated(backward, batch, size), len(batch.index))


def accumulated(backward: Backward, batch: Batch, microbatch: int) -> Tensor:
    """Call ``backward`` on pieces of at most ``microbatch`` samples; returns the sum of their shares of the loss."""
    if len(batch.index) <= microbatch:
        return backward(batch)
    losses = [backward(piece) for piece in pieces(batch, microbatch)]
    return torch.stack(losses).sum()


def pieces(batch: Batch, size: int) -> Iterator[Batch]:
    """Cut a batch into as few pieces of at most ``size`` samples as it takes, as even as can be.

    Even pieces keep batch normalisation from meeting a rest of one sample.
    """
    samples = len(batch.index)
    count = max(-(-samples // size), 1)
    for k in range(count):
        yield part_of(batch, slice(-(-k * samples // count), -(-(k + 1) * samples // count)))


def part_of(batch: Batch, part: slice) -> Batch:
    """Some neighbouring samples of a batch."""
    inputs: Inputs = (
        {name: value[part] for name, value in batch.inputs.items()}
        if isinstance(batch.inputs, dict)
        else batch.inputs[part]
    )
    weight = None if batch.weight is None else batch.weight[part]
    return Batch(inputs, batch.targets[part], weight, batch.index[part])
