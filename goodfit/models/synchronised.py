"""Batch normalisation over the samples of several processes, forward and backward, in any model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode


class Processes(Protocol):
    """Who shares a batch: as many as ``size``, this one being ``rank``; ``sum_`` sums a tensor of theirs in place."""

    rank: int
    size: int

    def sum_(self, values: Tensor) -> None:
        """Sum over all processes, in place."""


@contextmanager
def synchronised(model: nn.Module, processes: Processes) -> Iterator[int]:
    """Inside, the model's batch norms take their statistics from all processes while they train; how many there are.

    The modules stay what they are, subclasses with an activation of their own included: while one of them runs, its
    call of ``torch.nn.functional.batch_norm`` is taken over. Evaluation, and norms left in eval mode, exchange nothing.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and processes.size > 1]
    for norm in norms:
        # An exchange cannot be compiled into the model: it is called from outside.
        norm.forward = torch.compiler.disable(partial(_forward, norm, processes))  # type: ignore
    try:
        yield len(norms)
    finally:
        for norm in norms:
            del norm.forward


def _forward(norm: _BatchNorm, processes: Processes, *arguments: Any, **named: Any) -> Any:
    # PyTorch's own SyncBatchNorm has a forward that wants CUDA; the plain one does the same under the mode below.
    kind: Any = _BatchNorm if isinstance(norm, nn.SyncBatchNorm) else type(norm)
    if not norm.training:
        return kind.forward(norm, *arguments, **named)
    with _Shared(processes):
        return kind.forward(norm, *arguments, **named)


class _Shared(TorchFunctionMode):
    """Inside, ``torch.nn.functional.batch_norm`` normalises by the statistics of all processes."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self.processes = processes

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            return batch_norm(*args, **(kwargs or {}), processes=self.processes)
        return func(*args, **(kwargs or {}))


def batch_norm(
    inputs: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    processes: Processes,
) -> Tensor:
    """``torch.nn.functional.batch_norm`` over the samples of all processes.

    Formula: ``y = (x - m) / sqrt(v + eps) * weight + bias`` with m and v the mean and variance of a channel over all
    samples of all processes; the running variance takes v N / (N - 1). Each process gives its count, mean and
    variance, which join as Chan, Golub and LeVeque (1983) join them: one exchange forward, one backward.
    """
    if not training:
        return F.batch_norm(inputs, running_mean, running_var, weight, bias, False, momentum, eps)
    normal, mean, var, count = _Normalise.apply(inputs, processes, eps)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
    shape = (1, -1, *[1] * (inputs.dim() - 2))
    if weight is not None:
        normal = normal * weight.view(shape)
    if bias is not None:
        normal = normal + bias.view(shape)
    result: Tensor = normal.to(inputs.dtype)
    return result


class _Normalise(torch.autograd.Function):
    """``(x - m) / sqrt(v + eps)`` with the mean and variance of all processes, in float32 at least."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, processes: Processes, eps: float) -> tuple[Tensor, ...]:
        values = inputs.float() if inputs.dtype in (torch.float16, torch.bfloat16) else inputs
        axes, channels = (0, *range(2, inputs.dim())), inputs.shape[1]
        var, mean = torch.var_mean(values, axes, correction=0)
        rows = torch.zeros(processes.size, 2 * channels + 1, dtype=torch.float64, device=inputs.device)
        rows[processes.rank] = torch.cat([mean, var, mean.new_tensor([values.numel() // channels])])
        processes.sum_(rows)
        means, variances, counts = rows[:, :channels], rows[:, channels:-1], rows[:, -1:]
        count = counts.sum()  # 2 at least: every process has some
        every = (counts / count * means).sum(0)
        spread = (counts / count * (variances + (means - every).square())).sum(0)
        ctx.scale = torch.rsqrt(spread + eps).to(values.dtype)
        shape = (1, -1, *[1] * (inputs.dim() - 2))
        normal = (values - every.to(values.dtype).view(shape)) * ctx.scale.view(shape)
        ctx.save_for_backward(normal)
        ctx.processes, ctx.axes, ctx.count, ctx.shape, ctx.kind = processes, axes, count, shape, inputs.dtype
        ctx.mark_non_differentiable(every, spread, count)
        return normal, every, spread, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        (normal,) = ctx.saved_tensors
        means = torch.stack([slope.sum(ctx.axes), (slope * normal).sum(ctx.axes)])
        ctx.processes.sum_(means)
        along, across = (means / ctx.count.to(means.dtype)).view(2, *ctx.shape)
        return ((slope - along - normal * across) * ctx.scale.view(ctx.shape)).to(ctx.kind), None, None
