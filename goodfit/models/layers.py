"""The small parts all models are made of: dropout, stochastic depth, heads; activations and norms by name."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.activations import ACTIVATIONS, Activation, activation
from goodfit.models.norms import Norm, RMSNorm, RMSNorm2d, norm
from goodfit.models.weights import normal_
from goodfit.types import InputSpec

__all__ = [
    "Activation",
    "Dropout",
    "Norm",
    "RMSNorm",
    "RMSNorm2d",
    "StochasticDepth",
    "activation",
    "lengths_of",
    "nonlinearity_of",
    "norm",
    "pixels",
    "set_dropout",
    "small_head",
    "train_mode",
    "trimmed",
    "words_of",
]

_FORM = {"gelu_tanh": "tanh"}


def nonlinearity_of(model: nn.Module) -> str:
    """The activation that a model uses most, by name, for the initialisation; ``"linear"`` where it has none as a
    module."""
    counts: dict[str, int] = {}
    for module in model.modules():
        for name, make in ACTIVATIONS.items():
            if type(module) is type(make()) and getattr(module, "approximate", "none") == _FORM.get(name, "none"):
                counts[name] = counts.get(name, 0) + 1
    if isinstance(getattr(model, "activation", None), str):
        return str(model.activation)
    return max(counts, key=lambda name: counts[name]) if counts else "linear"


class Dropout(nn.Dropout):
    """Sets a random share of the numbers to zero while training, and makes up for it by scaling the rest.

    Formula: ``y = x keep / (1 - p)`` with keep ~ Bernoulli(1 - p); at prediction ``y = x`` (inverted dropout).
    Source: Srivastava et al. (2014).
    Ours: ``torch.nn.Dropout`` with cheaper random numbers on a CPU, where it takes three to five times as long
        otherwise. Four numbers come from each 64 random bits, so p is rounded to a multiple of 2**-16 and x is divided
        by the share that is really kept. ``model.dropout`` sets it in goodfit's models and in all dropout layers of a
        module of your own.
    Often wrong: a mask without the division, and nothing at prediction: the mean of every unit then jumps by
        1 / (1 - p) when training ends. The original paper multiplies weights by 1 - p at prediction instead, which
        is the same.
    Helps: fully connected layers and transformers on little data; as averaging many thinned nets. Hurts: before a batch
        norm (rule ``dropout-before-norm``), and where a model underfits. Usual: 0.1 to 0.5; 0.2 and less beside batch
        norms.
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
    """Leaves a residual branch out for a random share of the samples while training. Also called drop path.

    Formula: ``y = x + branch(x) keep / (1 - p)`` with keep ~ Bernoulli(1 - p), one draw a sample. In a net of L blocks,
        block l has ``p_l = drop_path * l / L``: the last one the full share, earlier ones less (linear decay).
    Source: Huang et al. (2016).
    Ours: divided by 1 - p as dropout is, so that nothing changes at prediction. Key: ``model.drop_path``.
    Helps: deep residual nets and transformers, 0.1 to 0.3. Hurts: shallow ones.
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
    """Put a model in training mode, but leave what is frozen in eval: a fixed function, whose running statistics
    belong to the pretrained weights and whose dropout would only blur its features.

    A module counts as frozen where it has parameters, its children's included, and none of them learns.
    """
    model.train()
    for module in model.modules():
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
