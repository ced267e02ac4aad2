"""The small parts all models are made of: activations and norms by name, stochastic depth, heads."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from goodfit.errors import ModelError, nearest
from goodfit.models.weights import normal_
from goodfit.types import InputSpec

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "mish"]
"""Non-linearities by name. ``gelu`` is exact (x times the normal distribution function), ``gelu_tanh`` its tanh
form."""
Norm = Literal["batch", "layer", "group", "rms", "none"]
"""Normalisations by name. ``batch`` needs batches of 16 or more to estimate well; the others do not look across
samples."""

_KINDS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "mish": nn.Mish,
}


def activation(name: str, *, slope: float = 0.01) -> nn.Module:
    """A non-linearity by name. slope: of ``leaky_relu`` for negative inputs.

    Raises ModelError for an unknown name, with the nearest right one.
    """
    if name == "leaky_relu":
        return nn.LeakyReLU(slope)
    if name == "gelu_tanh":
        return nn.GELU(approximate="tanh")
    if name not in _KINDS:
        raise ModelError(f"unknown activation '{name}'{nearest(name, [*_KINDS, 'gelu_tanh'])}")
    return _KINDS[name]()


def nonlinearity_of(model: nn.Module) -> str:
    """The activation that a model uses most, by name, for the initialisation; ``"linear"`` where it has none as a
    module."""
    counts: dict[str, int] = {}
    for module in model.modules():
        for name, kind in _KINDS.items():
            if isinstance(module, kind):
                counts[name] = counts.get(name, 0) + 1
    if isinstance(getattr(model, "activation", None), str):
        return str(model.activation)
    return max(counts, key=lambda name: counts[name]) if counts else "linear"


class RMSNorm(nn.RMSNorm):
    """Root-mean-square normalisation over the last axis: ``y = weight * x / sqrt(mean(x^2) + eps)`` (Zhang and
    Sennrich, 2019).

    Differs from PyTorch's in computing half-precision inputs in the weight's precision, as autocast does for layer
    norm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: ``(..., width)``; same shape out, in the weight's dtype."""
        return super().forward(x.to(self.weight.dtype))


class RMSNorm2d(nn.Module):
    """Root-mean-square normalisation over the channels at each position: ``y = weight * x / sqrt(mean(x^2) + eps)``."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.normalized_shape = (channels,)
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, channels, height, width)``; same shape out."""
        scale = torch.rsqrt(inputs.float().square().mean(1, keepdim=True) + self.eps)
        return (inputs * scale * self.weight[:, None, None]).to(inputs.dtype)


def norm(name: str, width: int, *, dims: Literal[1, 2] = 1, groups: int = 32) -> nn.Module:
    """A normalisation by name for ``width`` features or channels.

    dims: 1 for ``(batch, ..., width)``, 2 for images ``(batch, width, height, width of image)``. ``layer`` on images
    normalises each sample over channels and positions (group norm with one group). groups: the most groups of
    ``group``.
    """
    if name == "none":
        return nn.Identity()
    if name == "batch":
        return nn.BatchNorm2d(width) if dims == 2 else nn.BatchNorm1d(width)
    if name == "group":
        return nn.GroupNorm(math.gcd(groups, width), width)
    if name == "layer":
        return nn.GroupNorm(1, width) if dims == 2 else nn.LayerNorm(width)
    if name == "rms":
        return RMSNorm2d(width) if dims == 2 else RMSNorm(width, eps=1e-6)
    raise ModelError(f"unknown norm '{name}'{nearest(name, ['batch', 'layer', 'group', 'rms', 'none'])}")


class Dropout(nn.Dropout):
    """``torch.nn.Dropout`` with cheaper random numbers on a CPU, where it takes three to five times as long otherwise.

    Formula: ``y = x keep / (1 - p)`` with keep ~ Bernoulli(1 - p). Four numbers come from each 64 random bits, so p
    is rounded to a multiple of 2**-16 and x is divided by the share that is really kept.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input: any shape, float; same shape out."""
        cut = round(self.p * 65536)
        small = input.numel() < 4096 or cut in (0, 65536) or self.inplace
        if not self.training or small or input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        count = input.numel()
        lanes = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        keep = (lanes[:count] >= cut - 32768).view(input.shape).to(input.dtype)
        return input * keep.mul_(65536.0 / (65536 - cut))


class StochasticDepth(nn.Module):
    """Leave a residual branch out for a random share of the samples while training.

    Formula: ``y = x * keep / (1 - p)`` with keep ~ Bernoulli(1 - p), one draw a sample. Source: Huang et al. (2016);
    divided by 1 - p as dropout is, so that nothing changes at prediction.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, branch: Tensor) -> Tensor:
        """branch: ``(batch, ...)``; same shape out."""
        if not self.training or self.p == 0.0:
            return branch
        shape = (len(branch), *[1] * (branch.dim() - 1))
        keep = torch.rand(shape, device=branch.device) >= self.p
        return branch * (keep / (1.0 - self.p)).to(branch.dtype)


def train_mode(model: nn.Module) -> None:
    """Put a model in training mode, but leave frozen BatchNorm layers in eval: their statistics belong to the
    pretrained weights.

    A BatchNorm counts as frozen where it has parameters and none of them learns.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = list(module.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()


def set_dropout(model: nn.Module, p: float) -> int:
    """Set the probability of every dropout layer of any model; returns how many were set (0: the model has none).

    Attention modules that keep their own ``dropout`` number and recurrent layers are counted too.
    """
    if not 0.0 <= p < 1.0:
        raise ModelError(f"dropout {p} is out of range; it must be at least 0 and below 1")
    count = 0
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = p
        elif isinstance(getattr(module, "dropout", None), float) and (
            not isinstance(module, nn.RNNBase) or module.num_layers > 1
        ):
            setattr(module, "dropout", p)  # noqa: B010 - of a module whose class is not known
        else:
            continue
        count += 1
    return count


def small_head(head: nn.Linear, generator: torch.Generator) -> None:
    """Weights N(0, 0.1^2 / inputs) and no bias: logits start near 0.1, the first loss near ln C, and gradients still
    flow."""
    normal_(head.weight, 0.1 / math.sqrt(head.in_features), generator=generator)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


def words_of(spec: InputSpec) -> tuple[int, int]:
    """How many token numbers a text's words have, and how many columns they fill.

    Where the data adds n-grams behind the words, ``spec.cardinalities`` tells them apart, and only ``bag`` reads them.
    """
    return (spec.cardinalities[0], spec.length) if spec.cardinalities else (spec.vocabulary, spec.shape[0])


def lengths_of(tokens: Tensor) -> Tensor:
    """Tokens up to the last one that is not padding, at least 1: ``(batch, length)`` int64 to ``(batch,)`` int64."""
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return ((tokens != 0) * places).amax(1).clamp_min(1)


def trimmed(tokens: Tensor) -> Tensor:
    """Tokens without the columns that are padding in every row, on a CPU, where looking is free; elsewhere
    unchanged."""
    if tokens.device.type != "cpu" or torch.compiler.is_compiling() or tokens.shape[1] == 0:
        return tokens
    return tokens[:, : int(lengths_of(tokens).max())]


def pixels(images: Tensor) -> Tensor:
    """Images as float around zero: uint8 ``(batch, channels, height, width)`` is scaled, float passes unchanged."""
    return (images.float() - 127.5) / 64.0 if images.dtype == torch.uint8 else images
