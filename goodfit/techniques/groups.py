"""Which parameter gets which learning rate and weight decay, told from the model itself."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any, Literal

from torch import nn

from goodfit.models.heads import head_names

LrScaling = Literal["none", "linear", "sqrt"]


def grouped_parameters(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.0,
    decay_norms_and_biases: bool = False,
    decay_embeddings: bool = True,
    layer_decay: float = 1.0,
    head_lr: float = 1.0,
    body_lr: float = 1.0,
    by_layer: bool = False,
    split_matrices: bool = False,
) -> list[dict[str, Any]]:
    """The model's trainable parameters in groups for an optimizer; frozen parameters are left out.

    A parameter's learning rate is ``lr`` times ``layer_decay ** layers above it``, times ``head_lr`` for the head and
    ``body_lr`` for the rest, times what the model's own ``lr_scale()`` says: a dict from name patterns such as
    ``"*.norm.bias"`` to factors, of which the first that fits counts. Norms, biases and other vectors get no weight
    decay unless ``decay_norms_and_biases``; nor do embeddings unless ``decay_embeddings``, nor the names in the
    model's ``no_weight_decay()``. by_layer: no group holds parameters of several layers, or of the head and others.

    Each group holds ``params``, ``param_names``, ``lr``, ``base_lr`` (what schedules multiply), ``weight_decay``;
    with ``split_matrices`` also ``matrix``: 2 for hidden matrices, 4 for filters of 2-d convolutions (neither
        embedding nor
    head), 0 for the rest.
    """
    heads, embeddings = set(head(model)), _embeddings(model)
    plain = set() if decay_norms_and_biases else _norms_and_biases(model)
    plain |= set() if decay_embeddings else embeddings
    plain |= set(model.no_weight_decay()) if callable(getattr(model, "no_weight_decay", None)) else set()  # type: ignore[operator]
    scales = model.lr_scale() if callable(getattr(model, "lr_scale", None)) else {}  # type: ignore[operator]
    above = {name: depth for depth, names in enumerate(reversed(layers(model))) for name in names}

    found: dict[tuple[float, float, int, int], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = layer_decay ** above[name] * (head_lr if name in heads else body_lr)
        scale *= next((s for pattern, s in scales.items() if fnmatchcase(name, pattern)), 1.0)
        decay = 0.0 if name in plain else weight_decay
        hidden = split_matrices and not (name in heads or name in embeddings or name in plain)
        matrix = parameter.dim() if hidden and parameter.dim() in (2, 4) else 0
        layer = above[name] + 1 if by_layer and name not in heads else 0
        group = found.setdefault(
            (scale, decay, matrix, layer),
            {"params": [], "param_names": [], "lr": lr * scale, "base_lr": lr * scale, "weight_decay": decay},
        )
        if split_matrices:
            group["matrix"] = matrix
        group["params"].append(parameter)
        group["param_names"].append(name)
    groups = list(found.values())
    # The first group's rate is the one that is shown: the head's, where the layers below it have smaller ones.
    return groups if body_lr == 1.0 else sorted(groups, key=lambda group: -float(group["base_lr"]))


def head(model: nn.Module) -> list[str]:
    """Names of the parameters of the model's last part, the one that gives the logits.

    The attribute ``head``, or what ``get_classifier()`` returns (timm), or the last module that owns parameters.
    """
    return head_names(model)


def layers(model: nn.Module) -> list[list[str]]:
    """Parameter names by layer, from the input to the output, in the order the model registers them.

    A layer is a numbered block (``blocks.3``, ``layer1.0``, the first number counts); what stands without a number
    between blocks (stem, final norm with head) is one layer each time, as in BEiT. Without any number, the model's
    children are its layers.
    """
    names = [name for name, _ in model.named_parameters()]
    blocks = {name: _block(name) for name in names}
    if not any(blocks.values()):
        blocks = {name: name.split(".")[0] if "." in name else "" for name in names}
    return [list(run) for _, run in groupby(names, key=blocks.__getitem__)]


def scaled_lr(lr: float, batch_size: int, base_batch: int, rule: LrScaling) -> tuple[float, str]:
    """The learning rate for this batch size, and a sentence that says how it came about.

    linear: ``lr B / base`` (Goyal et al., 2017), suited to SGD. sqrt: ``lr sqrt(B / base)`` (Malladi et al., 2022),
    suited to the Adam family. Texts contradict each other here, so the default is none.

    >>> scaled_lr(0.1, 512, 128, "linear")
    (0.4, 'lr 0.1 for batch 128, times 512/128 = 0.4')
    """
    ratio = batch_size / base_batch
    if rule == "linear":
        return lr * ratio, f"lr {lr:g} for batch {base_batch}, times {batch_size}/{base_batch} = {lr * ratio:.6g}"
    if rule == "sqrt":
        made = lr * math.sqrt(ratio)
        return made, f"lr {lr:g} for batch {base_batch}, times sqrt({batch_size}/{base_batch}) = {made:.6g}"
    return lr, f"lr {lr:g}, not scaled with the batch size"


def half_life(lr: float, weight_decay: float) -> float:
    """Steps in which decoupled weight decay alone halves a weight: ``ln 2 / -ln(1 - lr weight_decay)``; inf for 0."""
    shrink = lr * weight_decay
    return math.inf if shrink <= 0 else math.log(2) / -math.log1p(-min(shrink, 1 - 1e-12))


def _block(name: str) -> str:
    parts = name.split(".")
    number = next((i for i, part in enumerate(parts) if part.isdigit()), -1)
    return ".".join(parts[: number + 1])


def _embeddings(model: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
        for name, _ in module.named_parameters(recurse=False)
    }


def _norms_and_biases(model: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.dim() <= 1 or "bias" in name or "norm" in type(module).__name__.lower()
    }
