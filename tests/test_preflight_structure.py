"""Rules about what a model is made of: softmax before the loss, equal units, linear pairs, fading gradients, norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import goodfit
from goodfit.errors import GoodfitError
from goodfit.models import build
from goodfit.preflight import preflight
from goodfit.probes import before_training, structure, weights
from goodfit.rules import RULES
from goodfit.screen import Screen
from goodfit.types import InputSpec
from tests.test_preflight import CPU, Does, Ensemble, Program, classes, draw, net, tokens, values
from tests.test_preflight import FAULTY as OTHERS

MINE = {
    "softmax-before-cross-entropy",
    "equal-units",
    "linear-after-linear",
    "saturating-layers",
    "dropout-before-norm",
    "small-norm-batch",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal initial weights whatever ran before; the slow probes are tested elsewhere."""
    torch.manual_seed(0)
    monkeypatch.setattr(before_training, "ONE_BATCH_SECONDS", 0.05)
    monkeypatch.setattr(before_training, "GRADIENT_SECONDS", 0.05)


def stack(*kinds: Callable[[], nn.Module] | None, width: int = 32, outputs: int = 3) -> nn.Sequential:
    """Linear layers with these parts between them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Linear(8, width)]
        for kind in kinds:
            layers += [kind()] if kind else []
            layers.append(nn.Linear(width, width))
        return nn.Sequential(*layers, nn.ReLU(), nn.Linear(width, outputs))


def constant(model: nn.Module, value: float) -> nn.Module:
    """All weights the same number; heads and biases too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def zero(model: nn.Sequential, *names: str) -> nn.Sequential:
    for name in names:
        nn.init.zeros_(model.get_submodule(name).weight)  # type: ignore[arg-type]
        nn.init.zeros_(model.get_submodule(name).bias)  # type: ignore[arg-type]
    return model


def images(model: nn.Module) -> Program:
    return classes(model, draw(240, 1, 8, 8))


def xavier(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
    return model


class Functional(nn.Module):
    """Sigmoids and layers that are no modules of their own."""

    def __init__(self, skip: bool = False) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(draw(32, 32) / 6) for _ in range(5))
        self.first, self.head, self.skip = nn.Linear(8, 32), nn.Linear(32, 3), skip

    def forward(self, inputs: Tensor) -> Tensor:
        x = torch.sigmoid(self.first(inputs))
        for weight in self.weights:
            inner = torch.sigmoid(x @ weight)
            x = x + inner if self.skip else inner
        return torch.as_tensor(self.head(x))


class Squeeze(nn.Module):
    """Gates by sigmoid on the features, as in squeeze and excitation, five times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 32), nn.Linear(32, 3)
        self.gates = nn.ModuleList(nn.Linear(32, 32) for _ in range(5))

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.first(inputs).relu()
        for gate in self.gates:
            x = x * torch.sigmoid(gate(x))
        return torch.as_tensor(self.head(x))


class Skip(nn.Module):
    """An embedding by a linear layer that attention-like maps and a skip connection read."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.embed(inputs)
        return torch.as_tensor(self.head((x + self.mix(x)).relu()))


def drop_first(p: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 3)
    )


# rule, severity, where, what, program
FAULTY: list[tuple[str, str, str, str, Callable[[], Program]]] = [
    (
        "softmax-before-cross-entropy",
        "error",
        "last layer",
        "softmax as the last layer",
        lambda: classes(nn.Sequential(net(), nn.Softmax(1))),
    ),
    (
        "softmax-before-cross-entropy",
        "error",
        "last layer",
        "softmax as a function",
        lambda: classes(Does(lambda m, x: F.softmax(m.body(x), -1))),
    ),
    (
        "softmax-before-cross-entropy",
        "error",
        "last layer",
        "softmax in eval mode only",
        lambda: classes(Does(lambda m, x: m.body(x) if m.training else m.body(x).softmax(1))),
    ),
    (
        "softmax-before-cross-entropy",
        "error",
        "last layer",
        "softmax behind BatchNorm and dropout",
        lambda: classes(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), net2(), nn.Softmax(1))),
    ),
    (
        "softmax-before-cross-entropy",
        "error",
        "last layer",
        "softmax of every member",
        lambda: classes(Does(lambda m, x: m.body(x).softmax(-1), Ensemble(3))),
    ),
    (
        "softmax-before-cross-entropy",
        "error",
        "last layer",
        "softmax of every token",
        lambda: tokens(nn.Sequential(nn.Embedding(11, 11), nn.Softmax(-1))),
    ),
    (
        "softmax-before-cross-entropy",
        "error",
        "last layer",
        "a sigmoid on one logit",
        lambda: classes(nn.Sequential(net(1), nn.Sigmoid()), count=2),
    ),
    (
        "softmax-before-cross-entropy",
        "error",
        "last layer",
        "a sigmoid on every class",
        lambda: classes(nn.Sequential(net(), nn.Sigmoid())),
    ),
    ("equal-units", "error", "0.weight", "all weights zero", lambda: classes(constant(net(), 0.0))),
    ("equal-units", "error", "0.weight", "all weights one number", lambda: classes(constant(net(), 0.05))),
    (
        "equal-units",
        "error",
        "0.weight",
        "a hidden layer and the head zero",
        lambda: classes(zero(stack(nn.ReLU), "0", "2", "4")),
    ),
    (
        "equal-units",
        "error",
        "0.weight",
        "two filters of a convolution are copies, and all that follows too",
        lambda: images(constant(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)), 0.1)),
    ),
    (
        "equal-units",
        "error",
        "0.weight",
        "a layer of zeros before a ReLU, which lets nothing back at zero",
        lambda: classes(zero(stack(nn.ReLU), "0")),
    ),
    (
        "linear-after-linear",
        "warning",
        "0",
        "no activation between two layers",
        lambda: classes(stack(None)),
    ),
    ("linear-after-linear", "warning", "0", "only dropout between", lambda: classes(stack(nn.Dropout))),
    (
        "linear-after-linear",
        "warning",
        "0",
        "only a batch norm between",
        lambda: classes(stack(lambda: nn.BatchNorm1d(32))),
    ),
    (
        "linear-after-linear",
        "warning",
        "0",
        "two convolutions",
        lambda: images(
            nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
        ),
    ),
    (
        "linear-after-linear",
        "warning",
        "1",
        "a convolution, then the head",
        lambda: images(nn.Sequential(nn.Identity(), nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(288, 3))),
    ),
    (
        "saturating-layers",
        "warning",
        "0",
        "four sigmoid layers",
        lambda: classes(stack(nn.Sigmoid, nn.Sigmoid, nn.Sigmoid, nn.Sigmoid)),
    ),
    ("saturating-layers", "warning", "first", "sigmoid as a function", lambda: classes(Functional())),
    (
        "saturating-layers",
        "warning",
        "0",
        "eight tanh layers with PyTorch's own weights",
        lambda: classes(stack(*[nn.Tanh] * 8)),
    ),
    (
        "saturating-layers",
        "warning",
        "layers.0.0",
        "our own mlp with sigmoid and no norm",
        lambda: classes(built_mlp(activation="sigmoid", norm="none", depth=4, dropout=0.0)),
    ),
    ("dropout-before-norm", "warning", "4", "dropout of a half before a norm", lambda: classes(drop_first(0.5))),
    (
        "small-norm-batch",
        "warning",
        "1",
        "eight samples at a time",
        lambda: small(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), 8),
    ),
    (
        "small-norm-batch",
        "error",
        "1",
        "one sample at a time, and one position",
        lambda: small(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), 1),
    ),
]


class Small(Program):
    """A program that trains on few samples at a time."""

    at_once = 128

    def verdicts(self) -> dict[str, Any]:
        found = preflight(self.model, self.data, seed=0, device=CPU, at_once=self.at_once)
        return {one.name: one for one in found}


def small(model: nn.Module, at_once: int) -> Program:
    program = classes(model)
    made = Small(program.model, program.data)
    object.__setattr__(made, "at_once", at_once)
    return made


def net2() -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Linear(16, 3))


def built_mlp(**settings: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build("mlp", settings, InputSpec("tensor", (8,)), 3)


@pytest.mark.parametrize(
    ("rule", "severity", "where", "what", "make"), FAULTY, ids=[f"{r}: {w}" for r, _, _, w, _ in FAULTY]
)
def test_a_faulty_program_is_found(
    rule: str, severity: str, where: str, what: str, make: Callable[[], Program]
) -> None:
    one = make().verdicts()[rule]
    assert one.outcome == "found", one.text
    (finding,) = one.findings
    assert (finding.rule, finding.severity) == (rule, severity)
    assert where in finding.where
    assert finding.message
    assert finding.fix


def lora() -> nn.Module:
    """A layer with a low-rank correction that starts at zero."""
    model = Does(
        lambda m, x: m.head((m.body(x) + m.up(m.down(x))).relu()),
        nn.Linear(8, 32),
        down=nn.Linear(8, 2, bias=False),
        up=nn.Linear(2, 32, bias=False),
        head=nn.Linear(32, 3),
    )
    nn.init.zeros_(model.up.weight)  # type: ignore[union-attr, arg-type]
    return model


def separable() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1), nn.ReLU(),
        nn.Conv2d(8, 8, (1, 3)), nn.Conv2d(8, 8, (3, 1)), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3),
    )  # fmt: skip


def wide_dropout(p: float) -> nn.Module:
    """As in wide residual nets: dropout inside a branch, the next batch norm behind the sum."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        branch = m.second(m.drop(m.first(x.relu()).relu()))
        return torch.as_tensor(m.head(m.norm(x + branch).relu()))

    return Does(
        forward,
        drop=nn.Dropout(p),
        stem=nn.Linear(8, 64),
        first=nn.Linear(64, 64),
        second=nn.Linear(64, 64),
        norm=nn.BatchNorm1d(64),
        head=nn.Linear(64, 3),
    )


def biased(value: float) -> nn.Sequential:
    """A head of zero weights whose biases sum to one, so that untrained outputs look like probabilities."""
    model = zero(net(), "2")
    nn.init.constant_(model[2].bias, value)  # type: ignore[arg-type]
    return model


HEALTHY: dict[str, Callable[[], Program]] = {
    "logits": lambda: classes(net()),
    "log-softmax": lambda: classes(nn.Sequential(net(), nn.LogSoftmax(1))),
    "logits that sum to one before training": lambda: classes(biased(1 / 3)),
    "one positive logit before training": lambda: classes(zero(net(1), "2"), count=2),
    "softmax with a temperature of a tenth": lambda: classes(Does(lambda m, x: m.body(x).softmax(1) * 10)),
    "tanh on the logits": lambda: classes(nn.Sequential(net(), nn.Tanh())),
    "ReLU on the logits": lambda: classes(nn.Sequential(net(), nn.ReLU())),
    "values between 0 and 1 by a sigmoid": lambda: values(nn.Sequential(net(1), nn.Sigmoid())),
    "softmax attention inside": lambda: classes(Does(lambda m, x: m.body(x * x.softmax(1)))),
    "a zero-initialised head": lambda: classes(zero(net(), "2")),
    "a zero-initialised head of 2000 classes": lambda: classes(zero(net(2000), "2"), count=2000, targets=ZEROS),
    "LoRA, whose second matrix starts at zero": lambda: classes(lora()),
    "equal units with different weights behind them": lambda: classes(zero(stack(nn.Tanh), "0")),
    "a bottleneck without activation": lambda: classes(
        nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 3))
    ),
    "depthwise separable and long kernels": lambda: images(separable()),
    "a layer norm between": lambda: classes(stack(lambda: nn.LayerNorm(32))),
    "an activation in place": lambda: classes(stack(lambda: nn.ReLU(inplace=True))),
    "a linear embedding that a skip connection reads": lambda: classes(Skip()),
    "a linear model": lambda: classes(nn.Linear(8, 3)),
    "two sigmoid layers": lambda: classes(stack(nn.Sigmoid, nn.Sigmoid)),
    "eight tanh layers with Xavier weights": lambda: classes(xavier(stack(*[nn.Tanh] * 8))),
    "five sigmoid gates": lambda: classes(Squeeze()),
    "sigmoid layers with skip connections": lambda: classes(Functional(skip=True)),
    "dropout behind the last batch norm": lambda: classes(
        nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))
    ),
    "a little dropout before a batch norm": lambda: classes(drop_first(0.1)),
    "dropout before a layer norm": lambda: classes(
        nn.Sequential(
            nn.Linear(8, 64),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(64, 64),
            nn.LayerNorm(64),
            nn.ReLU(),
            nn.Linear(64, 3),
        )
    ),
    "dropout in a branch of a wide residual net": lambda: classes(wide_dropout(0.3)),
    "a group norm at eight samples": lambda: small(
        nn.Sequential(nn.Linear(8, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Linear(8, 3)), 8
    ),
    "a frozen batch norm at eight samples": lambda: small(
        nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8).requires_grad_(False), nn.ReLU(), nn.Linear(8, 3)), 8
    ),
    "sixteen samples at a time": lambda: small(
        nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), 16
    ),
}
ZEROS = torch.arange(240) % 7


@pytest.mark.parametrize("make", HEALTHY.values(), ids=HEALTHY.keys())
def test_a_look_alike_raises_no_alarm(make: Callable[[], Program]) -> None:
    verdicts = make().verdicts()
    assert {name: one.text for name, one in verdicts.items() if name in MINE and one.outcome == "found"} == {}
    assert {name: one.text for name, one in verdicts.items() if name in MINE and one.outcome == "not checked"} == {}


ZOO = {
    "mlp": InputSpec("tensor", (8,)),
    "cnn": InputSpec("image", (1, 16, 16)),
    "fastnet": InputSpec("image", (3, 32, 32)),
    "resnet": InputSpec("image", (1, 16, 16)),
    "gru": InputSpec("text", (6,), vocabulary=20),
    "lstm": InputSpec("text", (6,), vocabulary=20),
    "rnn": InputSpec("text", (6,), vocabulary=20),
    "transformer": InputSpec("text", (6,), vocabulary=20),
    "bag": InputSpec("text", (6,), vocabulary=20),
    "linear": InputSpec("tensor", (8,)),
    "tabular": InputSpec("table", numeric=4),
    "dlinear": InputSpec("series", (12, 2)),
    "seasonal": InputSpec("series", (12, 2)),
}


@pytest.mark.parametrize("name", ZOO)
def test_our_own_models_raise_no_alarm(name: str) -> None:
    spec = ZOO[name]
    settings = {"depth": 8, "width": 8} if name == "resnet" else {}
    model = build(name, settings, spec, 3)
    inputs: Any = torch.randint(1, 20, (240, 6)) if spec.kind == "text" else draw(240, *spec.shape)
    if spec.kind == "table":
        inputs = {"numeric": draw(240, 4), "category": torch.zeros(240, 0, dtype=torch.long)}
    assert structure.linear_pairs(model, inputs)["linear.pairs"] == []
    assert structure.saturating_chain(model, inputs)["saturating.length"] < 3
    assert weights.squashed_outputs(model, inputs)["squashed.kind"] == ""
    assert weights.equal_units(model, inputs)["equal.layers"] == {}
    assert weights.dropout_before_norm(model, inputs)["shift.ratio"] < 1.25


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"])
def test_well_known_models_raise_no_alarm(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm brings the models")
    more = {"img_size": 32} if name.startswith("vit") else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=3, **more)
    inputs = draw(16, 3, 32, 32)
    assert structure.linear_pairs(model, inputs)["linear.pairs"] == []
    assert structure.saturating_chain(model, inputs)["saturating.length"] < 3
    assert weights.squashed_outputs(model, inputs)["squashed.kind"] == ""
    assert weights.equal_units(model, inputs)["equal.layers"] == {}


def test_every_rule_has_a_faulty_program() -> None:
    # What a recipe does to images has its own faulty programs, in test_mirror.py.
    assert {rule for rule, *_ in [*FAULTY, *OTHERS]} | {"mirrored-symbols"} == {rule.name for rule in RULES}
    assert {rule for rule, *_ in FAULTY} == MINE


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_floor_of_a_softmax_before_cross_entropy_is_that_of_a_perfect_model(count: int) -> None:
    perfect = torch.eye(count, dtype=torch.float64)
    floor = float(F.cross_entropy(perfect, torch.arange(count)))
    assert floor == pytest.approx(math.log(1 + (count - 1) / math.e), abs=1e-12)
    if count == 10:
        assert floor == pytest.approx(1.461, abs=5e-4)
    program = classes(nn.Sequential(net(count), nn.Softmax(1)), count=count)
    (finding,) = program.verdicts()["softmax-before-cross-entropy"].findings
    assert finding.evidence["floor"] == pytest.approx(floor, abs=1e-9)
    assert f"{floor:.3f}" in finding.message


def test_the_floor_of_a_sigmoid_before_binary_cross_entropy_is_that_of_a_perfect_model() -> None:
    perfect = F.binary_cross_entropy_with_logits(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]))
    (finding,) = (
        classes(nn.Sequential(net(1), nn.Sigmoid()), count=2).verdicts()["softmax-before-cross-entropy"].findings
    )
    assert finding.evidence["floor"] == pytest.approx(float(perfect), abs=1e-6)


def test_a_double_softmax_is_not_trained_but_for_those_who_mean_it(tmp_path: Any) -> None:
    x = draw(120, 8).numpy()
    y = (x[:, 0] > 0).astype(np.int64)
    recipe = goodfit.Recipe(epochs=1)
    model = nn.Sequential(net(2), nn.Softmax(1))
    quiet = Screen(quiet=True)
    with pytest.raises(GoodfitError, match="applies its own: it cannot fall below"):
        goodfit.train((x, y), model=model, recipe=recipe, out=tmp_path / "a", screen=quiet)
    meant = recipe.patched({"ignore": ["softmax-before-cross-entropy"]})
    run = goodfit.train((x, y), model=model, recipe=meant, out=tmp_path / "b", screen=quiet)
    assert run.status == "finished"


def test_the_shift_of_the_variance_is_that_of_dropout_on_values_with_mean_zero() -> None:
    """Dropout of p on values with mean zero raises the variance by 1 / (1 - p)."""
    model = nn.Sequential(nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 512, bias=False), nn.BatchNorm1d(512))
    ratio = weights.dropout_before_norm(model, draw(4000, 8))["shift.ratio"]
    assert ratio == pytest.approx(2.0, rel=0.05)


def test_the_shrinking_of_gradients_is_the_measured_one() -> None:
    """Along three sigmoid layers, against gradients taken by hand."""
    model = stack(nn.Sigmoid, nn.Sigmoid, nn.Sigmoid)
    found = structure.saturating_chain(model, draw(240, 8))
    assert (found["saturating.length"], found["saturating.first"]) == (3, "0")
    x = draw(240, 8)[:8]
    kept = []
    for layer in model:
        x = layer(x)
        if isinstance(layer, nn.Linear):
            x.retain_grad()
            kept.append(x)
    (x * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    sizes = [float(one.grad.square().mean().sqrt()) for one in kept]  # type: ignore[union-attr]
    assert found["saturating.shrink"] == pytest.approx(sizes[0] / sizes[2], rel=1e-4)
