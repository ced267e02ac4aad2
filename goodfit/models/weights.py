"""Initial weights: how each kind of layer is filled, from the seed and each parameter's own name.

Because a weight's random numbers depend on ``(seed, "init", name)`` alone, two models that share a layer's name and
shape share its weights, whatever else they hold, and a comparison of two recipes starts from the same point.
The techniques ``goodfit.techniques.init`` choose the formula; ``initialise`` here applies it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from goodfit import keyed

Rule = Callable[[Tensor, int, int, torch.Generator], None]
"""Fills a weight ``(fan_out rows, fan_in columns, ...)`` in place, given fan_in, fan_out and a generator."""
GeneratorFor = Callable[[str], torch.Generator]

GAINS = {
    "linear": 1.0,
    "relu": math.sqrt(2.0),
    "leaky_relu": math.sqrt(2.0 / (1.0 + 0.01**2)),
    "elu": 1.2452,
    "gelu": 1.5335,
    "gelu_tanh": 1.5335,
    "silu": 1.6766,
    "mish": 1.4868,
    "tanh": 1.5925,
    "sigmoid": 1.8462,
}
"""1 / sqrt(E[f(z)^2]) for z ~ N(0, 1): the factor that keeps the mean square of a layer's output at one.

PyTorch's table differs: 5/3 for tanh and 1 for sigmoid, and it has no entry for GELU, SiLU, Mish or ELU.
"""


def gain(activation: str) -> float:
    """1 / sqrt(E[f(z)^2]), z ~ N(0, 1), for an activation by name; 1 for one that is not in ``GAINS``.

    >>> round(gain("relu"), 4)
    1.4142
    """
    return GAINS.get(activation, 1.0)


@torch.no_grad()
def initialise(model: nn.Module, rule: Rule, *, seed: int, recurrent: bool = False) -> None:
    """Fill every layer of ``model`` in place: weights by ``rule``, biases 0, norms 1 and 0, embeddings N(0, 0.02).

    recurrent: fill recurrent layers by Xavier (inputs) and orthogonal (memory) matrices instead of ``rule``. Their
    forget biases are 1 either way. After that, each module that has ``initialise(generator_for)`` is called, the
    model itself last; ``generator_for(name)`` is a generator keyed by the seed and the parameter's full name.
    """
    done: set[int] = set()
    for name, module, own, parameter in _parameters(model):
        if id(parameter) in done:
            continue
        done.add(id(parameter))
        generator = keyed.generator(keyed.key(seed, "init", name))
        _fill(module, own, parameter, rule, generator, recurrent=recurrent)
    own_rules(model, seed=seed)


@torch.no_grad()
def own_rules(model: nn.Module, *, seed: int) -> None:
    """Call ``initialise(generator_for)`` of every module that has it, the model itself last."""
    for path, module in reversed(list(model.named_modules())):
        special = getattr(module, "initialise", None)
        if callable(special):
            special(_generator_for(seed, path))


def orthogonal_(weight: Tensor, generator: torch.Generator, *, scale: float = 1.0) -> None:
    """Fill ``weight`` in place with ``scale`` times an orthogonal matrix ``(first axis, all others)``."""
    rows, columns = weight.shape[0], weight[0].numel()
    drawn = torch.randn(max(rows, columns), min(rows, columns), generator=generator)
    q, r = torch.linalg.qr(drawn)
    q = q * r.diagonal().sign()
    weight.copy_(scale * (q if rows >= columns else q.T).reshape(weight.shape))


def normal_(weight: Tensor, std: float, *, generator: torch.Generator) -> None:
    """Fill ``weight`` in place with N(0, std^2), drawn on the CPU so that every device gets the same numbers."""
    weight.data.copy_(torch.randn(weight.shape, generator=generator) * std)


def uniform_(weight: Tensor, bound: float, *, generator: torch.Generator) -> None:
    """Fill ``weight`` in place with U(-bound, bound), drawn on the CPU."""
    weight.data.copy_((torch.rand(weight.shape, generator=generator) * 2.0 - 1.0) * bound)


def fans(module: nn.Module, weight: Tensor) -> tuple[int, int]:
    """``(fan_in, fan_out)`` of a linear or convolution layer's weight."""
    inner = weight[0, 0].numel() if weight.dim() > 2 else 1
    groups = getattr(module, "groups", 1)
    if getattr(module, "transposed", False):
        return weight.shape[0] // groups * inner, weight.shape[1] * inner
    return weight.shape[1] * inner, weight.shape[0] // groups * inner


def _fill(
    module: nn.Module, own: str, parameter: Tensor, rule: Rule, generator: torch.Generator, *, recurrent: bool
) -> None:
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        normal_(parameter, 0.02, generator=generator)
        if module.padding_idx is not None:
            parameter[module.padding_idx].zero_()
    elif isinstance(module, nn.RNNBase):
        _fill_recurrent(module, own, parameter, rule, generator, recurrent=recurrent)
    elif isinstance(module, (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.MultiheadAttention)):
        if "bias" in own or parameter.dim() < 2:
            parameter.zero_()
        else:
            rule(parameter, *fans(module, parameter), generator)
    elif hasattr(module, "normalized_shape") or hasattr(module, "running_mean") or isinstance(module, nn.GroupNorm):
        parameter.fill_(1.0 if own == "weight" else 0.0)


def _fill_recurrent(
    module: nn.RNNBase, own: str, parameter: Tensor, rule: Rule, generator: torch.Generator, *, recurrent: bool
) -> None:
    hidden = module.hidden_size
    if own.startswith("bias"):
        parameter.zero_()
        if module.mode == "LSTM" and own.startswith("bias_ih"):
            parameter[hidden : 2 * hidden] = 1.0  # the forget gate: remember until told otherwise
        return
    for gate in torch.split(parameter, hidden):
        if not recurrent:
            rule(gate, gate.shape[1], gate.shape[0], generator)
        elif own.startswith("weight_ih"):
            uniform_(gate, math.sqrt(6.0 / (gate.shape[0] + gate.shape[1])), generator=generator)
        else:
            orthogonal_(gate, generator)


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    for path, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            yield f"{path}.{own}" if path else own, module, own, parameter


def _generator_for(seed: int, path: str) -> GeneratorFor:
    def generator_for(name: str) -> torch.Generator:
        return keyed.generator(keyed.key(seed, "init", f"{path}.{name}" if path else name))

    return generator_for
