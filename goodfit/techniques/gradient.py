"""How gradients are filled: from the whole batch at once, in pieces, or at the worst point nearby."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from goodfit.technique import Count, Positive, technique
from goodfit.types import Batch, Inputs

Backward = Callable[[Batch], Tensor]
"""Runs forward and backward on a piece; adds to every ``.grad``; returns the piece's loss sum divided by the weight of
the whole batch, detached. The shares of a batch's pieces sum to its mean loss."""


@technique("gradient")
class Plain:
    """The gradient of the batch in one pass.

    Formula: ``g = (1 / sum_i v_i) sum_i v_i grad loss_i``. Cost: the backward pass takes about twice the time of the
        forward pass, so a step costs about three forward passes.
    Often wrong: the variance of a batch's gradient falls as 1 / B, its standard deviation as 1 / sqrt(B).
    """

    def __call__(self, backward: Backward, batch: Batch, *, parameters: Sequence[Tensor] = ()) -> Tensor:
        """Fill ``.grad``; returns the mean loss, detached."""
        return backward(batch)


@technique("gradient")
class Accumulate:
    """The gradient of a large batch from small pieces, for batches that do not fit into memory.

    Formula: as ``plain``; the sums run over pieces of ``microbatch`` samples, each divided by the whole batch's weight.
    Ours: exact for class weights, token counts and a partial last piece, because sums are divided by the true weight
        of the whole batch, never means averaged. Nothing is left over for the next epoch.
    Helps: batch sizes beyond memory at the same result. Hurts: time; use the largest piece that fits.
    Often wrong: "same as the large batch" fails where samples meet inside the model: batch normalisation sees
        ``microbatch`` samples. Use layer or group normalisation if that matters.
    """

    microbatch: Count = 32

    def __call__(self, backward: Backward, batch: Batch, *, parameters: Sequence[Tensor] = ()) -> Tensor:
        """Fill ``.grad`` piece by piece; returns the mean loss of the whole batch, detached."""
        return accumulated(backward, batch, self.microbatch)


@technique("gradient")
class Sam:
    """Sharpness-aware minimisation: the gradient at the worst point within ``rho`` of the weights.

    Formula: ``e = rho g / |g|`` at the weights w, then the gradient at ``w + e`` is used for the step from w.
    Source: Foret et al., 2021.
    Ours: the perturbation uses the whole batch's gradient, accumulated in pieces where ``microbatch`` is given. Running
        statistics of batch normalisation move in both passes.
    Helps: small data and vision transformers; a flatter minimum. Hurts: every step costs two.
    """

    rho: Positive = 0.05
    microbatch: Count | None = None

    def __call__(self, backward: Backward, batch: Batch, *, parameters: Sequence[Tensor] = ()) -> Tensor:
        """Fill ``.grad`` with the gradient at the perturbed weights; returns the mean loss at the weights."""
        size = self.microbatch or len(batch.index)
        loss = accumulated(backward, batch, size)
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
            accumulated(backward, batch, size)
        finally:
            with torch.no_grad():
                torch._foreach_copy_(moved, start)
        return loss


ALL = (Plain, Accumulate, Sam)


def accumulated(backward: Backward, batch: Batch, microbatch: int) -> Tensor:
    """Call ``backward`` on pieces of at most ``microbatch`` samples; returns the sum of their shares of the loss."""
    if len(batch.index) <= microbatch:
        return backward(batch)
    losses = [backward(piece) for piece in pieces(batch, microbatch)]
    return torch.stack(losses).sum()


def pieces(batch: Batch, size: int) -> Iterator[Batch]:
    """Cut a batch into pieces of ``size`` samples, the last one as small as it comes."""
    for start in range(0, len(batch.index), size):
        part = slice(start, start + size)
        inputs: Inputs = (
            {name: value[part] for name, value in batch.inputs.items()}
            if isinstance(batch.inputs, dict)
            else batch.inputs[part]
        )
        weight = None if batch.weight is None else batch.weight[part]
        yield Batch(inputs, batch.targets[part], weight, batch.index[part])
