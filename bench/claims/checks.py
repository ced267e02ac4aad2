"""Claims of the debugging checklists: the numerical gradient, the loss before training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.claims.claim import Claim, Finding
from bench.claims.place import Place
from goodfit.models import build
from goodfit.techniques import TABLE
from goodfit.types import InputSpec

NETS: Mapping[str, tuple[str, Mapping[str, Any], InputSpec, tuple[int, ...]]] = {
    "MLP, tanh": ("mlp", {"width": 16, "depth": 2, "activation": "tanh", "norm": "none", "dropout": 0.0},
                  InputSpec("tensor", shape=(12,)), (12,)),
    "MLP, ReLU": ("mlp", {"width": 16, "depth": 2, "activation": "relu", "norm": "none", "dropout": 0.0},
                  InputSpec("tensor", shape=(12,)), (12,)),
    "cnn, batch norm": ("cnn", {"width": 4, "depth": 2, "convs": 1}, InputSpec("image", shape=(1, 8, 8)), (1, 8, 8)),
}  # fmt: skip


def gradient_check(place: Place) -> list[Finding]:
    """Central differences of 60 weights against the backward pass, by relative error of the whole vector."""

    def one(seed: int) -> Mapping[str, float]:
        found = {}
        for name, (model, settings, spec, shape) in NETS.items():
            for kind, width in ((torch.float64, 1e-5), (torch.float32, 1e-3)):
                net = build(model, dict(settings), spec, 5)
                TABLE["init"]["auto"]()(net, activation=str(settings.get("activation", "relu")), seed=seed)
                net.to(kind).train()
                draw = torch.Generator().manual_seed(seed)
                inputs = torch.randn(16, *shape, dtype=torch.float64, generator=draw).to(kind)
                labels = torch.randint(0, 5, (16,), generator=draw)
                found[f"{name}, {str(kind).removeprefix('torch.')}"] = math.log10(
                    max(_relative_error(net, inputs, labels, width, seed), 1e-17)
                )
        return found

    values = place.repeats(one)
    return [
        Finding(
            f"{name}, against 10^-5",
            "log10 of the relative error",
            errors,
            [-5.0] * len(errors),
            "less",
            0.3,
            control="float32" in name,
        )
        for name, errors in sorted(values.items(), key=lambda item: "float32" in item[0])
    ]


def _relative_error(net: nn.Module, inputs: Tensor, labels: Tensor, width: float, seed: int) -> float:
    """``|n - a| / (|n| + |a|)`` of the numerical and the analytical gradient of 60 weights drawn by the seed."""

    def loss() -> Tensor:
        return nn.functional.cross_entropy(net(inputs), labels)

    net.zero_grad()
    loss().backward()  # type: ignore[no-untyped-call]
    places = [(p, k) for p in net.parameters() for k in range(p.numel())]
    chosen = np.random.default_rng(seed).choice(len(places), 60, replace=False)
    numerical, analytical = [], []
    for place in chosen:
        parameter, k = places[place]
        flat = parameter.data.view(-1)
        before = float(flat[k])
        ends = []
        for side in (width, -width):
            flat[k] = before + side
            with torch.no_grad():
                ends.append(float(loss()))
        flat[k] = before
        numerical.append((ends[0] - ends[1]) / (2 * width))
        assert parameter.grad is not None
        analytical.append(float(parameter.grad.view(-1)[k]))
    n, a = np.asarray(numerical), np.asarray(analytical)
    return float(np.linalg.norm(n - a) / (np.linalg.norm(n) + np.linalg.norm(a)))


def initial_loss(place: Place) -> list[Finding]:
    """Cross-entropy of nets as goodfit makes them, and as PyTorch does, on standardised inputs before any step."""
    classes = 10
    image = InputSpec("image", shape=(1, 8, 8))
    nets = {
        "cnn": ("cnn", {"width": 16, "depth": 2}),
        "ResNet-8": ("resnet", {"depth": 8, "width": 16}),
        "MLP": ("mlp", {"width": 128, "depth": 3, "norm": "none", "dropout": 0.0}),
    }

    def one(seed: int) -> Mapping[str, float]:
        draw = torch.Generator().manual_seed(seed)
        inputs = torch.randn(512, 1, 8, 8, generator=draw)
        labels = torch.randint(0, classes, (512,), generator=draw)
        found = {}
        for name, (model, settings) in nets.items():
            net = build(model, dict(settings), image, classes)
            TABLE["init"]["auto"]()(net, activation="relu", seed=seed)
            found[f"{name}, goodfit's weights"] = _loss(net.train(), inputs, labels)
        torch.manual_seed(seed)
        plain = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
        )
        found["MLP, PyTorch's weights"] = _loss(plain, inputs, labels)
        for layer in plain:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
        found["MLP, He's weights in the last layer too"] = _loss(plain, inputs, labels)
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter.mul_(0.01)
        found["MLP, weights near zero"] = _loss(plain, inputs, labels)
        return found

    values = place.repeats(one)
    chance = math.log(classes)
    return [
        Finding(f"{name}, against ln 10 = {chance:.4f}", "nats", losses, [chance] * len(losses), "equal", 0.05 * chance)
        for name, losses in values.items()
    ]


def _loss(net: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float(nn.functional.cross_entropy(net(inputs), labels))


CLAIMS = (
    Claim(
        name="gradient-check",
        title="The gradient check at 1e-5",
        words="Numerical and analytical gradients agree to a relative error of 1e-5.",
        origin="rows 2 and 103; foundations, Q17",
        data="normal inputs, five classes",
        how="central differences of 60 weights, step 1e-5 in float64 and 1e-3 in float32; relative error of the vector",
        measure=gradient_check,
        pairs=10,
        minutes=0.1,
        note="The texts do not say that it takes float64. Means are over logarithms; a ReLU that crosses its kink "
        "within "
        "the step shows as a larger error.",
    ),
    Claim(
        name="initial-loss",
        title="The loss before training",
        words="With random weights the loss is that of guessing, ln C for C classes.",
        origin="rows 94 and 102; foundations, Q17",
        data="normal inputs, ten classes",
        how="cross-entropy of 512 samples before the first step; equal means within 5 % of ln 10",
        measure=initial_loss,
        pairs=10,
        minutes=0.1,
    ),
)
