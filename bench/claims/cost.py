"""Claims on what things cost, and on cheaper ways that are said to give the same."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from bench.claims import sources
from bench.claims.claim import Claim, Finding
from bench.claims.place import CNN, Place
from bench.claims.regularisation import DIGITS, ROOMY
from goodfit.models import build
from goodfit.run import Run
from goodfit.studies import Arm
from goodfit.techniques import TABLE
from goodfit.types import InputSpec


def accumulation(place: Place) -> list[Finding]:
    """Gradients of one batch of 64 in float64, whole and in four pieces; and trained nets."""
    ways = ("equal pieces", "unequal pieces, means averaged", "class weights, means averaged",
            "class weights, sums over the true weight", "batch norm")  # fmt: skip

    def one(seed: int) -> Mapping[str, float]:
        draw = torch.Generator().manual_seed(seed)
        inputs = torch.randn(64, 20, dtype=torch.float64, generator=draw)
        labels = torch.randint(0, 4, (64,), generator=draw)
        weights = torch.tensor([0.2, 0.6, 1.2, 2.0], dtype=torch.float64)
        found = {}
        for way in ways:
            norm = "batch" if way == "batch norm" else "none"
            weight = weights if way.startswith("class") else None
            net = build(
                "mlp", {"width": 32, "depth": 2, "norm": norm, "dropout": 0.0}, InputSpec("tensor", shape=(20,)), 4
            )
            TABLE["init"]["he_normal"]()(net, activation="relu", seed=seed)
            net.double().train()
            cuts = (16, 16, 16, 16) if "unequal" not in way else (24, 24, 12, 4)
            whole = _gradient(net, [(inputs, labels, 1.0)], weight)
            pieces = []
            for x, y in zip(inputs.split(cuts), labels.split(cuts), strict=True):
                true = float(weights[y].sum() / weights[labels].sum()) if "true weight" in way else 1 / len(cuts)
                pieces.append((x, y, true))
            found[way] = float((_gradient(net, pieces, weight) - whole).norm() / whole.norm())
        return {way: math.log10(max(value, 1e-17)) for way, value in found.items()}

    values = place.repeats(one)
    same = [-6.0] * len(values[ways[0]])
    found = [
        Finding(
            f"{way}, against 10^-6",
            "log10 of the gradients' relative difference",
            values[way],
            same,
            "less",
            1.0,
            control="true weight" in way,
        )
        for way in ways
    ]
    recipe = {**CNN, **ROOMY, "epochs": 10, "batch_size": 128, "optimizer.name": "adamw", "optimizer.lr": 3e-3}
    arms = [Arm("whole"), Arm("accumulated", {"gradient.name": "accumulate", "gradient.microbatch": 16})]
    for norm in ("none", "batch"):
        runs = place.pairs(place.study(f"accumulation-{norm}", "digits", {**recipe, "model.norm": norm}), arms)
        what = f"trained nets, {'with batch norm' if norm == 'batch' else 'without norms'}: eight pieces - whole"
        found.append(runs.finding(what, "accumulated", "whole", "log_loss", "equal", 0.005))
    return found


def _gradient(net: nn.Module, pieces: list[tuple[Tensor, Tensor, float]], weight: Tensor | None) -> Tensor:
    net.zero_grad()
    for x, y, share in pieces:
        (share * nn.functional.cross_entropy(net(x), y, weight)).backward()
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).clone()


def _conv(width: int = 32) -> tuple[nn.Module, Tensor]:
    net = build("resnet", {"depth": 8, "width": width}, InputSpec("image", shape=(3, 32, 32)), 10)
    return net, torch.randn(64, 3, 32, 32)


def _mlp() -> tuple[nn.Module, Tensor]:
    return build("mlp", {"width": 512, "depth": 4, "dropout": 0.0}, InputSpec("tensor", shape=(512,)), 10), torch.randn(
        512, 512
    )


def _transformer() -> tuple[nn.Module, Tensor]:
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), _Mean(), nn.Linear(128, 10)), (
        torch.randn(32, 64, 128)
    )


class _Mean(nn.Module):
    """The mean over positions."""

    def forward(self, x: Tensor) -> Tensor:
        """x: ``(batch, positions, features)``; gives ``(batch, features)``."""
        return x.mean(1)


NETS: Mapping[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "MLP": _mlp,
    "ResNet-8": _conv,
    "transformer": _transformer,
}


def backward_cost(place: Place) -> list[Finding]:
    def one(seed: int) -> Mapping[str, float]:
        torch.manual_seed(seed)
        found = {}
        for name, make in NETS.items():
            net, inputs = make()
            labels = torch.randint(0, 10, (len(inputs),))
            forward, backward = [], []
            for turn in range(7):
                began = time.perf_counter()
                loss = nn.functional.cross_entropy(net(inputs), labels)
                middle = time.perf_counter()
                loss.backward()  # type: ignore[no-untyped-call]
                ended = time.perf_counter()
                net.zero_grad()
                if turn > 1:
                    forward.append(middle - began)
                    backward.append(ended - middle)
            # The fastest of several is what the computer does when nothing else is in its way.
            found[name] = min(backward) / min(forward)
        return found

    values = place.repeats(one)
    found = [
        Finding(f"{name}, against 2", "backward / forward", ratios, [2.0] * len(ratios), "equal", 0.5)
        for name, ratios in values.items()
    ]
    for name, ratios in values.items():
        whole = [1 + one for one in ratios]
        found.append(
            Finding(
                f"{name}: forward and backward together, against 2",
                "both / forward",
                whole,
                [2.0] * len(whole),
                "equal",
                0.5,
            )
        )
    return found


def mixed_precision(place: Place) -> list[Finding]:
    """Training steps in bfloat16 and in float32 in turns; and what the nets learn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def one(seed: int) -> Mapping[str, float]:
        torch.manual_seed(seed)
        found = {}
        for name in ("ResNet-8", "MLP"):
            net, inputs = NETS[name]()
            net, inputs = net.to(device), inputs.to(device)
            labels = torch.randint(0, 10, (len(inputs),), device=device)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
            taken: dict[bool, list[float]] = {True: [], False: []}
            coin = random.Random(seed)
            for turn in range(7):
                for half in coin.sample([True, False], 2):
                    _wait(device)
                    began = time.perf_counter()
                    with torch.autocast(device.type, torch.bfloat16, enabled=half):
                        logits = net(inputs)
                    nn.functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    optimizer.zero_grad()
                    _wait(device)
                    if turn > 1:
                        taken[half].append(time.perf_counter() - began)
            found[name] = median(taken[False]) / median(taken[True])
        return found

    values = place.repeats(one)
    found = [
        Finding(
            f"{name} on {device.type}, bf16 against fp32, against twice",
            "times as fast",
            ratios,
            [2.0] * len(ratios),
            "equal",
            0.3,
        )
        for name, ratios in values.items()
    ]
    recipe = {**CNN, **ROOMY, "epochs": 8, "optimizer.name": "adamw", "optimizer.lr": 3e-3}
    arms = [Arm(name, {"numerics.precision": name}) for name in ("fp32", "bf16")]
    runs = place.pairs(place.study("mixed-precision", "digits", recipe), arms)
    return [
        *found,
        runs.finding("bf16 - fp32, digits", "bf16", "fp32", "accuracy", "equal", 0.01),
        runs.finding("bf16 - fp32, digits", "bf16", "fp32", "log_loss", "equal", 0.02),
    ]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def lstm_or_gru(place: Place) -> list[Finding]:
    source = sources.rows_of(place.folder / "text" / "ag_news_7600.csv", place.out, 4000, ("title", "topic"))
    net = {"model.width": 48, "model.embedding": 48, "model.bidirectional": False}
    recipe: dict[str, Any] = {
        "data.target": "topic", "data.valid": 0.3, "data.test": 0.05, "data.tokens": "words", "data.length": 16,
        "batch_size": 64, "epochs": 5, "optimizer.name": "adamw", "optimizer.lr": 3e-3,
    }  # fmt: skip
    study = place.study("lstm-or-gru", source, recipe)
    runs = place.pairs(study, [Arm(name.upper(), {"model.name": name, **net}) for name in ("lstm", "gru")])
    share = []
    for k, one in enumerate(runs.outcomes["GRU"]):
        gates = [
            sum(
                p.numel()
                for layer in Run(outcome.folder).model().modules()
                if isinstance(layer, nn.RNNBase)
                for p in layer.parameters()
            )
            for outcome in (one, runs.outcomes["LSTM"][k])
        ]
        share.append(gates[0] / gates[1])
    return [
        runs.finding("GRU - LSTM", "GRU", "LSTM", "accuracy", "equal", 0.01),
        runs.finding("GRU - LSTM", "GRU", "LSTM", "log_loss", "equal", 0.02),
        Finding(
            "weights of the recurrent layer, GRU of LSTM, against 3/4",
            "share",
            share,
            [0.75] * len(share),
            "equal",
            0.01,
        ),
    ]


CLAIMS = (
    Claim(
        name="accumulation",
        title="Accumulation equals the large batch",
        words="Adding up the gradients of small batches before a step gives the same result as the large batch.",
        origin="row 65 and contradiction M8; training techniques, Q10; foundations, Q16",
        data=f"normal inputs, four classes; {DIGITS}",
        how="gradients of a batch of 64 in float64, whole and in four pieces as the texts do it (each piece's mean "
        "loss over "
        "the number of pieces); goodfit's own accumulation, batch 128 in pieces of 16, 10 epochs",
        measure=accumulation,
        minutes=1.2,
    ),
    Claim(
        name="mixed-precision",
        title="Mixed precision",
        words="Sixteen-bit products are twice as fast and lose next to nothing.",
        origin="row 66; reference tables",
        data=f"random images for the speed; {DIGITS}",
        how="bfloat16 under autocast against float32, steps in turns, one thread; a small cnn trained for 8 epochs "
        "in both",
        measure=mixed_precision,
        minutes=1.5,
        note="Speed depends on the processor; the claim is made of GPUs, and is measured on one where there is one.",
    ),
    Claim(
        name="lstm-or-gru",
        title="LSTM against GRU",
        words="A GRU does what an LSTM does with fewer weights: two gates in place of three.",
        origin="rows 88 and 89; basics, section 2; reference tables",
        data="AG news, titles of 4,000 reports: 2,600 for training, 800 that judge",
        how="one layer of 48, words, 5 epochs, AdamW at the same rate",
        measure=lstm_or_gru,
        minutes=1.5,
        needs=("text/ag_news_7600.csv",),
    ),
    Claim(
        name="backward-cost",
        title="What the backward pass costs",
        words="Backward costs about twice forward; one text puts both together at twice forward, which would leave "
        "backward "
        "at once.",
        origin="row 2 and contradiction M7; foundations, Q6",
        data="random inputs",
        how="an MLP, a ResNet-8 and a two-layer transformer, one thread; the fastest of five passes, 8 repeats",
        measure=backward_cost,
        minutes=0.6,
    ),
)
