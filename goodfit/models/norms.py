"""Normalisations by name: each brings numbers to mean zero and variance one, and they differ in what is taken together.

All of them end with a learned scale and shift, ``y = weight * x_hat + bias`` (RMS norms without the shift).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from goodfit.errors import ModelError, nearest

Norm = Literal["batch", "layer", "group", "rms", "none"]
"""Normalisations by name. ``batch`` needs batches of 16 or more to estimate well; the others do not look across
samples."""
Dims = Literal[1, 2]


def norm(name: str, width: int, *, dims: Dims = 1, groups: int = 32) -> nn.Module:
    """A normalisation by name for ``width`` features or channels.

    dims: 1 for ``(batch, ..., width)``, 2 for images ``(batch, width, height, width of image)``. groups: the most
    groups of ``group``. Raises ModelError for an unknown name, with the nearest right one.
    """
    if name not in NORMS:
        raise ModelError(f"unknown norm '{name}'{nearest(name, NORMS)}")
    return NORMS[name](width, dims, groups)


def batch_norm(width: int, dims: Dims = 1, groups: int = 32) -> nn.Module:
    """Normalises each feature or channel over the samples of a batch (and the positions of an image).

    Formula: training ``x_hat = (x - mean) / sqrt(var + 1e-5)`` with the batch's mean and biased variance; prediction
        with running ones, ``r <- 0.9 r + 0.1 r_batch`` (the running variance from the unbiased one).
    Source: Ioffe and Szegedy (2015).
    Ours: PyTorch's. With an average of the weights (``average``) the running statistics are estimated anew before
        validation, since the mean of statistics is not the statistic of the mean weights. Frozen ones stay in eval
        mode.
    Often wrong: that it works by reducing "internal covariate shift" is what the paper proposed, not a fact: Santurkar
        et al. (2018) find no less shift, and a smoother loss surface instead.
    Helps: convolutional nets at high rates. Hurts: few samples at a time (below 16, rule ``small-norm-batch``), dropout
        before it (rule ``dropout-before-norm``), recurrent nets; training and prediction differ.
    """
    return nn.BatchNorm2d(width) if dims == 2 else nn.BatchNorm1d(width)


def layer_norm(width: int, dims: Dims = 1, groups: int = 32) -> nn.Module:
    """Normalises all features of a sample (of a position, in sequences) together: the same at training and prediction.

    Formula: ``x_hat = (x - mean) / sqrt(var + 1e-5)`` over the last axis; on images over channels and positions of a
        sample (group norm with one group).
    Source: Ba, Kiros and Hinton (2016).
    Helps: transformers, recurrent nets, small batches. Hurts: convolutional nets, where ``batch`` is usually better.
    """
    return nn.GroupNorm(1, width) if dims == 2 else nn.LayerNorm(width)


def group_norm(width: int, dims: Dims = 1, groups: int = 32) -> nn.Module:
    """Normalises a sample's channels group by group, so the batch may be as small as one.

    Formula: ``x_hat = (x - mean) / sqrt(var + 1e-5)`` over the channels of a group and all positions; as many groups as
        divide the width, 32 at most.
    Source: Wu and He (2018).
    Helps: images in small batches, where it holds its accuracy. Hurts: a little behind ``batch`` at large ones.
    """
    return nn.GroupNorm(math.gcd(groups, width), width)


def rms_norm(width: int, dims: Dims = 1, groups: int = 32) -> nn.Module:
    """Divides by the root mean square of a sample's features, without taking off the mean.

    Formula: ``y = weight * x / sqrt(mean(x^2) + 1e-6)`` over the last axis; on images over the channels at each
        position.
    Source: Zhang and Sennrich (2019).
    Helps: large language models; cheaper than ``layer`` on a GPU. Hurts: on a CPU its backward pass is the slower one.
    """
    return RMSNorm2d(width) if dims == 2 else RMSNorm(width, eps=1e-6)


def no_norm(width: int, dims: Dims = 1, groups: int = 32) -> nn.Module:
    """No normalisation: what comes in goes out.

    Helps: shallow nets, and to see what a norm is worth. Hurts: deep nets, which then want lower rates and weights that
        fit the activation (``he_normal``).
    """
    return nn.Identity()


NORMS: dict[str, Callable[[int, Dims, int], nn.Module]] = {
    "batch": batch_norm,
    "layer": layer_norm,
    "group": group_norm,
    "rms": rms_norm,
    "none": no_norm,
}


class RMSNorm(nn.RMSNorm):
    """Root-mean-square normalisation over the last axis; see ``rms_norm``.

    Differs from PyTorch's in computing half-precision inputs in the weight's precision, as autocast does for layer
    norm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: ``(..., width)``; same shape out, in the weight's dtype."""
        return super().forward(x.to(self.weight.dtype))


class RMSNorm2d(nn.Module):
    """Root-mean-square normalisation over the channels at each position; see ``rms_norm``."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.normalized_shape = (channels,)
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, channels, height, width)``; same shape out."""
        wide = inputs.float() if inputs.dtype in (torch.float16, torch.bfloat16) else inputs
        scale = torch.rsqrt(wide.square().mean(1, keepdim=True) + self.eps)
        return (inputs * scale * self.weight[:, None, None]).to(inputs.dtype)
