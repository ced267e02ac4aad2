"""Claims on deep nets: initial weights, skip connections, vanishing gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.claims.claim import Claim, Finding
from bench.claims.place import Place
from bench.claims.regularisation import DIGITS, ROOMY
from goodfit.models import build
from goodfit.studies import Arm
from goodfit.techniques import TABLE
from goodfit.types import InputSpec

DEEP: Mapping[str, Any] = {**ROOMY, "model.name": "mlp", "model.width": 64, "model.depth": 24, "model.norm": "none",
                           "model.dropout": 0.0, "batch_size": 64, "epochs": 6, "optimizer.name": "sgd",
                           "optimizer.momentum": 0.9, "optimizer.lr": 0.01, "nonfinite": "skip"}  # fmt: skip


def stack(activation: str, depth: int, width: int, init: str, seed: int) -> nn.Module:
    """An MLP of goodfit's without norms, in float64, its weights drawn by ``init``."""
    settings = {"width": width, "depth": depth, "activation": activation, "norm": "none", "dropout": 0.0}
    net = build("mlp", settings, InputSpec("tensor", shape=(width,)), 10)
    TABLE["init"][init]()(net, activation=activation, seed=seed)
    return net.double()


def he_or_xavier(place: Place) -> list[Finding]:
    def scale(seed: int) -> Mapping[str, float]:
        """log10 of a layer's mean square over the one before, averaged over 30 layers."""
        inputs = torch.randn(256, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        found = {}
        for init in ("he_normal", "xavier_normal"):
            squares = [float((layer**2).mean()) for layer in _activations(stack("relu", 30, 128, init, seed), inputs)]
            found[init] = math.log10(squares[-1] / squares[0]) / (2 * (len(squares) - 1))
        return found

    direct = place.repeats(scale)
    arms = [Arm(name, {"init.name": name}) for name in ("he_normal", "xavier_normal")]
    runs = place.pairs(place.study("he-or-xavier", "digits", DEEP), arms)
    root = [math.log10(math.sqrt(0.5))] * len(direct["he_normal"])
    return [
        Finding(
            "He, against 0",
            "log10 of the activations' growth a layer",
            direct["he_normal"],
            [0.0] * len(root),
            "equal",
            0.02,
        ),
        Finding(
            "Xavier, against 1/sqrt(2)",
            "log10 of the activations' growth a layer",
            direct["xavier_normal"],
            root,
            "equal",
            0.02,
        ),
        runs.finding(
            "He - Xavier, 24 layers trained", "he_normal", "xavier_normal", "accuracy", "more", 0.005, failed=0.1
        ),
        runs.finding(
            "He - Xavier, 24 layers trained",
            "he_normal",
            "xavier_normal",
            "log_loss",
            "less",
            0.02,
            failed=math.log(10),
        ),
    ]


class Stack(nn.Module):
    """A stack of ``x + W2 f(W1 x)``, or of ``W2 f(W1 x)`` followed by f, without norms; same parameters either way."""

    def __init__(self, blocks: int, width: int, *, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.stem = nn.Linear(64, width)
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.head = nn.Linear(width, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, 1, 8, 8)``; gives logits ``(batch, 10)``."""
        h = torch.relu(self.stem(inputs.flatten(1)))
        for one, two in zip(self.first, self.second, strict=True):
            branch = two(torch.relu(one(h)))
            # Half of the branch keeps the sum's size over twenty blocks without a norm.
            h = h + 0.5 * branch if self.skip else torch.relu(branch)
        logits: Tensor = self.head(h)
        return logits


def skip_connections(place: Place) -> list[Finding]:
    found = []
    for blocks in (3, 20):
        runs = {}
        for skip in (True, False):
            recipe = {**ROOMY, "init.name": "he_normal", "batch_size": 64, "epochs": 8,
                      "optimizer.name": "adamw", "optimizer.lr": 1e-3}  # fmt: skip
            name = f"skip-{blocks}-{'with' if skip else 'without'}"
            model: Callable[[], nn.Module] = partial(Stack, blocks, 64, skip=skip)
            made = place.pairs(place.study(name, "digits", recipe, model=model), [Arm("own")])
            runs[skip] = made.values("own", "accuracy", failed=0.1)
        pairs = min(len(one) for one in runs.values())
        found.append(
            Finding(
                f"with skips - without, {2 * blocks + 2} layers",
                "accuracy",
                runs[True][:pairs],
                runs[False][:pairs],
                "more",
                0.005,
                1 / 479,
                control=blocks == 3,
            )
        )
    return found


def vanishing(place: Place) -> list[Finding]:
    """How much of the gradient's size is left a layer down, by the gradients of the hidden layers' weights."""
    depth = 12

    def one(seed: int) -> Mapping[str, float]:
        found = {}
        draw = torch.Generator().manual_seed(seed)
        inputs = torch.randn(256, 64, dtype=torch.float64, generator=draw)
        labels = torch.randint(0, 10, (256,), generator=draw)
        for activation, init in (("sigmoid", "xavier_normal"), ("relu", "he_normal"), ("tanh", "xavier_normal")):
            net = stack(activation, depth, 64, init, seed)
            nn.functional.cross_entropy(net(inputs), labels).backward()  # type: ignore[no-untyped-call]
            norms = [
                float(layer.weight.grad.norm())
                for layer in net.modules()
                if isinstance(layer, nn.Linear) and layer.weight.shape == (64, 64) and layer.weight.grad is not None
            ]
            found[activation] = math.log10(norms[0] / norms[-1]) / (len(norms) - 1)
        return found

    values = place.repeats(one)
    quarter = [math.log10(0.25)] * len(values["relu"])
    metric = "log10 of the gradient's factor a layer"
    return [
        Finding("sigmoid - ReLU", metric, values["sigmoid"], values["relu"], "less", 0.05),
        Finding("sigmoid, against a quarter", metric, values["sigmoid"], quarter, "equal", 0.1),
        Finding("ReLU, against 1", metric, values["relu"], [0.0] * len(quarter), "equal", 0.05),
        Finding("tanh - sigmoid", metric, values["tanh"], values["sigmoid"], "more", 0.05, control=True),
    ]


def _activations(net: nn.Module, inputs: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output: found.append(output.detach()))
        for layer in net.modules()
        if isinstance(layer, nn.ReLU)
    ]
    with torch.no_grad():
        net(inputs)
    for hook in hooks:
        hook.remove()
    return found


CLAIMS = (
    Claim(
        name="he-or-xavier",
        title="He against Xavier in deep ReLU nets",
        words="He's variance 2/n keeps the size of ReLU activations; with Xavier's they shrink from layer to layer, "
        "by the "
        "root of two, and deep nets do not train.",
        origin="rows 44 and 45; foundations, Q7; basics, section 5",
        data=f"normal inputs for the sizes; {DIGITS}",
        how="activations of 30 layers of 128 in float64; an MLP of 24 layers of 64 without norms, SGD with momentum",
        measure=he_or_xavier,
        minutes=0.7,
    ),
    Claim(
        name="skip-connections",
        title="Skip connections at depth",
        words="Adding a block's input to its output lets deep nets train that otherwise would not.",
        origin="row 49; foundations, Q4; basics, section 2",
        data=DIGITS,
        how="blocks of two layers of 64 without norms and with He's weights, AdamW, 8 epochs; x + f(x)/2 against "
        "f(x), "
        "3 blocks (for contrast) and 20",
        measure=skip_connections,
        minutes=1,
    ),
    Claim(
        name="vanishing-gradients",
        title="Vanishing gradients: sigmoid against ReLU",
        words="A sigmoid's slope is at most a quarter, so gradients fall by 0.25 a layer and more; ReLU's do not.",
        origin="rows 12 and 47; training CNNs, Q2; foundations, Q4",
        data="normal inputs, random labels",
        how="12 layers of 64 in float64 at the start, sigmoid and tanh with Xavier's weights, ReLU with He's; how "
        "the norm "
        "of the weights' gradient changes from one layer to the one below",
        measure=vanishing,
        pairs=10,
        minutes=0.1,
    ),
)
