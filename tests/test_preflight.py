"""Pre-flight: every rule fires on a faulty program, stays silent on healthy look-alikes, and changes nothing."""

from __future__ import annotations

import copy
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import goodfit
from goodfit.check import Verdict
from goodfit.data.data import Data
from goodfit.models import build
from goodfit.preflight import preflight
from goodfit.probes import before_training
from goodfit.rules import RULES
from goodfit.screen import Screen
from goodfit.types import Batch, Inputs, InputSpec, Task, Tensors

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Equal initial weights whatever ran before."""
    torch.manual_seed(0)


@dataclass(frozen=True)
class Program:
    """A model and its data, ready for pre-flight."""

    model: nn.Module
    data: Data

    def verdicts(self) -> dict[str, Verdict]:
        return {one.name: one for one in preflight(self.model, self.data, seed=0, device=CPU)}


def parts(inputs: Inputs, targets: Tensor) -> tuple[Tensors, Tensors, Tensors]:
    whole = Tensors(inputs, targets, torch.arange(len(targets)))
    cut = len(targets) * 2 // 3
    places = torch.arange(len(targets))
    made = []
    for some in (places[:cut], places[cut : (cut + len(targets)) // 2], places[(cut + len(targets)) // 2 :]):
        batch = whole.take(some)
        made.append(Tensors(batch.inputs, batch.targets, batch.index))
    return made[0], made[1], made[2]


def data(task: Task, spec: InputSpec, inputs: Inputs, targets: Tensor) -> Data:
    train, valid, test = parts(inputs, targets)
    return Data(
        name="test", spec=spec, task=task, train=train, valid=valid, test=test, encoder=None,  # type: ignore[arg-type]
        prepare=lambda x: x, summary=(), findings=(), fingerprint="",
    )  # fmt: skip


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def classes(
    model: nn.Module, inputs: Inputs | None = None, *, count: int = 3, targets: Tensor | None = None
) -> Program:
    """A classifier of 8 numbers into ``count`` classes that the first number tells."""
    inputs = draw(240, 8) if inputs is None else inputs
    first = inputs["numeric"] if isinstance(inputs, dict) else inputs.float()
    if targets is None:
        rank = first.flatten(1)[:, 0].argsort().argsort()
        targets = rank * count // len(rank)
    task = Task("classification", "kind", count, tuple(f"c{k}" for k in range(count)))
    return Program(model, data(task, InputSpec("tensor", (8,)), inputs, targets))


def values(model: nn.Module, targets: Tensor | None = None, *, horizon: int = 1) -> Program:
    """A regression (or forecast) of the first number."""
    inputs = draw(240, 8)
    targets = inputs[:, 0] if targets is None else targets
    task = Task("forecast" if horizon > 1 else "regression", "y", horizon)
    return Program(model, data(task, InputSpec("tensor", (8,)), inputs, targets))


def tokens(model: nn.Module, *, vocabulary: int = 11, length: int = 12) -> Program:
    """A language model over windows of one text."""
    text = torch.randint(1, vocabulary, (2000,), generator=torch.Generator().manual_seed(1))
    windows = text.unfold(0, length + 1, 5)
    task = Task("language", "next token", vocabulary)
    spec = InputSpec("language", (length,), vocabulary=vocabulary)
    return Program(model, data(task, spec, windows[:, :-1].contiguous(), windows[:, 1:].contiguous()))


def net(outputs: int = 3, *, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, outputs))


class Does(nn.Module):
    """A net whose forward is a function of the net and the inputs."""

    def __init__(self, does: Callable[[Any, Any], Any], body: nn.Module | None = None, **more: nn.Module) -> None:
        super().__init__()
        self.body = body if body is not None else net()
        for name, module in more.items():
            self.add_module(name, module)
        self.does = does

    def forward(self, inputs: Any) -> Any:
        return self.does(self, inputs)


class Wrong(torch.autograd.Function):
    """The identity with half the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        return gradient / 2


def language(*, causal: bool = True, zero: bool = False) -> nn.Module:
    """A one-layer attention language model; ``zero`` starts its attention branch at zero, as residual nets do."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 16)
            self.place = nn.Parameter(0.1 * draw(12, 16))
            self.mix = nn.Linear(16, 48)
            self.out = nn.Linear(16, 16)
            self.head = nn.Linear(16, 11, bias=False)
            self.head.weight = self.embedding.weight
            nn.init.normal_(self.embedding.weight, std=0.2)
            if zero:
                nn.init.zeros_(self.out.weight)
                nn.init.zeros_(self.out.bias)

        def forward(self, inputs: Tensor) -> Tensor:
            x = self.embedding(inputs) + self.place
            q, k, v = self.mix(x).chunk(3, -1)
            x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=causal))
            return torch.as_tensor(self.head(x))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model()


def overlapping(rows: int) -> Program:
    """A validation part that begins with rows of train; 80 rows are held out."""
    program = classes(net())
    train, valid = program.data.train, program.data.valid
    valid.inputs[: min(rows, 40)] = train.inputs[: min(rows, 40)]  # type: ignore[attr-defined]
    program.data.test.inputs[: max(rows - 40, 0)] = train.inputs[: max(rows - 40, 0)]  # type: ignore[attr-defined]
    return program


def zeroed(model: nn.Sequential) -> nn.Sequential:
    nn.init.zeros_(model[-1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(model[-1].bias)  # type: ignore[arg-type]
    return model


def loud(model: nn.Sequential) -> nn.Sequential:
    with torch.no_grad():
        model[-1].weight.mul_(300)  # type: ignore[operator]
    return model


def frozen(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False)


def recurrent(batch_first: bool) -> Program:
    """A recurrent net over (batch, time, channels); with ``batch_first=False`` it walks along the batch."""
    cell = nn.GRU(4, 16, batch_first=batch_first)
    model = Does(lambda m, x: m.body(m.cell(x)[0][:, -1]), nn.Linear(16, 3), cell=cell)
    return classes(model, draw(240, 6, 4))


def overflow(m: Any, x: Tensor) -> Tensor:
    return torch.as_tensor(m.body(x) / torch.zeros(()))


def square_root(m: Any, x: Tensor) -> Tensor:
    return torch.as_tensor(m.body(x).relu().sub(m.body(x).relu()).sqrt() + m.body(x))


NOISE = torch.randint(0, 3, (240,), generator=torch.Generator().manual_seed(5))

FAULTY: list[tuple[str, str, str, str, Callable[[], Program]]] = [
    # rule, severity, where, what, program
    (
        "unnormalised-inputs",
        "warning",
        "inputs",
        "pixels of 0 to 255",
        lambda: classes(net(), 255 * torch.rand(240, 8)),
    ),
    (
        "unnormalised-inputs",
        "warning",
        "inputs",
        "divided by 255 twice",
        lambda: classes(net(), torch.rand(240, 8) / 255),
    ),
    (
        "unnormalised-inputs",
        "error",
        "inputs",
        "NaN in an input",
        lambda: classes(net(), draw(240, 8).index_fill(1, torch.tensor([3]), float("nan")), targets=NOISE),
    ),
    (
        "broken-forward",
        "error",
        "test_preflight.py",
        "a layer of another width",
        lambda: classes(Does(lambda m, x: m.body(x[:, :5]))),
    ),
    (
        "broken-forward",
        "error",
        "test_preflight.py",
        "what fails in train mode only",
        lambda: classes(Does(lambda m, x: m.body(x[:, :5] if m.training else x))),
    ),
    ("broken-forward", "error", "Sequential", "lazy layers", lambda: classes(nn.Sequential(nn.LazyLinear(3)))),
    ("broken-forward", "error", "Does", "a tuple of outputs", lambda: classes(Does(lambda m, x: (m.body(x), x)))),
    ("broken-forward", "error", "", "a module in float64 for inputs in float32", lambda: classes(net().double())),
    ("broken-forward", "error", "model", "infinite outputs", lambda: classes(Does(overflow))),
    ("broken-targets", "error", "targets", "classes counted from 1", lambda: classes(net(), targets=NOISE + 1)),
    ("broken-targets", "error", "outputs", "two outputs for three classes", lambda: classes(net(2), targets=NOISE % 2)),
    (
        "broken-targets",
        "error",
        "targets",
        "NaN among values",
        lambda: values(net(1), draw(240).index_fill(0, torch.tensor([3]), float("nan"))),
    ),
    ("broken-targets", "error", "targets", "only NaN", lambda: values(net(1), torch.full((240,), float("nan")))),
    ("broken-targets", "error", "outputs", "five outputs for three classes", lambda: classes(net(5))),
    ("broken-targets", "error", "outputs", "two outputs for one value", lambda: values(net(2))),
    (
        "broken-targets",
        "error",
        "outputs",
        "outputs without the batch axis",
        lambda: classes(Does(lambda m, x: m.body(x).sum(0))),
    ),
    (
        "broken-targets",
        "error",
        "outputs",
        "one guess a text instead of one a token",
        lambda: tokens(Does(lambda m, x: m.body(x)[:, -1], nn.Embedding(11, 11))),
    ),
    (
        "constant-labels",
        "error",
        "targets",
        "one class only",
        lambda: classes(net(), targets=torch.zeros(240, dtype=torch.long)),
    ),
    ("constant-labels", "warning", "targets", "a class without samples", lambda: classes(net(), targets=NOISE % 2)),
    ("constant-labels", "error", "targets", "one value only", lambda: values(net(1), torch.ones(240))),
    ("split-overlap", "error", "splits", "most held-out rows stand in train", lambda: overlapping(70)),
    ("split-overlap", "warning", "splits", "a table of six different rows", lambda: classes(Table(), coarse(6))),
    ("split-overlap", "warning", "splits", "many held-out rows stand in train", lambda: overlapping(30)),
    ("initial-loss", "warning", "last layer", "a head that is far too loud", lambda: classes(loud(net()))),
    ("initial-loss", "warning", "last layer", "a loud regression head", lambda: values(loud(net(1)))),
    (
        "no-gradient",
        "warning",
        "extra.weight",
        "a layer that is never used",
        lambda: classes(Does(lambda m, x: m.body(x), extra=nn.Linear(3, 3))),
    ),
    (
        "no-gradient",
        "warning",
        "body.0.weight",
        "detach in the middle",
        lambda: classes(Does(lambda m, x: m.body[2](m.body[1](m.body[0](x)).detach()))),
    ),
    ("no-gradient", "error", "0.weight", "no_grad around everything", lambda: classes(Silent())),
    ("no-gradient", "error", "model", "everything frozen", lambda: classes(frozen(net()))),
    ("no-gradient", "error", "body.2", "the square root of zero", lambda: classes(Does(square_root))),
    (
        "batch-leak",
        "error",
        "model",
        "softmax over the batch",
        lambda: classes(Does(lambda m, x: m.body(x).softmax(0) * 10)),
    ),
    ("batch-leak", "error", "model", "batch_first mixed up", lambda: recurrent(False)),
    (
        "batch-leak",
        "error",
        "model",
        "view where transpose was meant",
        lambda: classes(Does(lambda m, x: m.body(x.t().reshape(x.shape)))),
    ),
    (
        "batch-leak",
        "error",
        "model",
        "a leak behind a zero-initialised head",
        lambda: classes(Does(lambda m, x: m.body(x - x.mean(0)), zeroed(net()))),
    ),
    (
        "batch-leak",
        "error",
        "model",
        "BatchNorm without running statistics",
        lambda: classes(
            nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, track_running_stats=False), nn.Linear(16, 3))
        ),
    ),
    ("causal-leak", "error", "model", "no causal mask", lambda: tokens(language(causal=False))),
    (
        "causal-leak",
        "error",
        "model",
        "no causal mask behind a zero branch",
        lambda: tokens(language(causal=False, zero=True)),
    ),
    (
        "wrong-gradient",
        "warning",
        "0.",
        "a custom backward that is wrong",
        lambda: classes(Does(lambda m, x: m.body[2](Wrong.apply(m.body[1](m.body[0](x)))))),
    ),
    (
        "wrong-gradient",
        "warning",
        "",
        "a wrong backward behind a zero-initialised head",
        lambda: classes(Does(lambda m, x: m.body[2](Wrong.apply(m.body[1](m.body[0](x)))), zeroed(net()))),
    ),
    (
        "wrong-gradient",
        "warning",
        "",
        "half of a path detached",
        lambda: classes(Does(lambda m, x: (lambda h: m.body[2](h + h.detach()))(m.body[:2](x)))),
    ),
    (
        "one-batch",
        "warning",
        "model",
        "labels that have nothing to do with what the model sees",
        lambda: classes(Does(lambda m, x: m.body(x * 0)), targets=NOISE),
    ),
    (
        "one-batch",
        "warning",
        "model",
        "ReLU on the logits, all of them dead",
        lambda: classes(Does(lambda m, x: (m.body(x) - 50).relu())),
    ),
]


class Silent(nn.Module):
    """A net that computes without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("0", nn.Linear(8, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.as_tensor(self.get_submodule("0")(inputs))


@pytest.mark.parametrize(
    ("rule", "severity", "where", "what", "make"), FAULTY, ids=[f"{r}: {w}" for r, _, _, w, _ in FAULTY]
)
def test_a_faulty_program_is_found(
    rule: str, severity: str, where: str, what: str, make: Callable[[], Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    if rule != "one-batch":
        monkeypatch.setattr(before_training, "ONE_BATCH_SECONDS", 0.1)
    one = make().verdicts()[rule]
    assert one.outcome == "found", one.text
    (finding,) = one.findings
    assert (finding.rule, finding.severity) == (rule, severity)
    assert where in finding.where
    assert finding.message
    assert finding.fix


class Residual(nn.Module):
    """Residual blocks whose last weights start at zero, or are scaled by a LayerScale of 1e-6."""

    def __init__(self, start: str) -> None:
        super().__init__()
        self.inner, self.outer, self.head = nn.Linear(8, 32), nn.Linear(32, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.full((8,), 1e-6 if start == "layer scale" else 1.0))
        if start == "zero":
            nn.init.zeros_(self.outer.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.as_tensor(self.head(inputs + self.scale * self.outer(F.gelu(self.inner(inputs)))))


class Ensemble(nn.Module):
    """Four members inside one module: ``(batch, members, outputs)``."""

    members = 4

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(net(outputs, seed=k) for k in range(4))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([one(inputs) for one in self.nets], 1)


class Table(nn.Module):
    """A net of numbers and categories in a dict, one of the columns empty."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 8)
        self.head = nn.Linear(16, 3)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return torch.as_tensor(self.head(torch.cat([inputs["numeric"], self.embedding(inputs["category"][:, 0])], 1)))


def coarse(kinds: int) -> dict[str, Tensor]:
    """A table that holds only so many different rows."""
    return {"numeric": draw(kinds, 8)[torch.arange(240) % kinds], "category": torch.zeros(240, 1, dtype=torch.long)}


def table() -> dict[str, Tensor]:
    codes = torch.randint(0, 5, (240, 1), generator=torch.Generator().manual_seed(2))
    return {"numeric": draw(240, 8), "category": codes, "tokens": torch.zeros(240, 0, dtype=torch.long)}


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))


def built(name: str, spec: InputSpec, outputs: int, **settings: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(name, settings, spec, outputs)


HEALTHY: dict[str, Callable[[], Program]] = {
    "a plain net": lambda: classes(net()),
    "a zero-initialised residual branch": lambda: classes(Residual("zero")),
    "LayerScale of 1e-6": lambda: classes(Residual("layer scale")),
    "a zero-initialised head": lambda: classes(zeroed(net())),
    "BatchNorm and dropout in train mode": lambda: classes(normed()),
    "a causal language model with tied weights": lambda: tokens(language()),
    "a causal language model with a zero branch": lambda: tokens(language(zero=True)),
    "a table as a dict with an empty column": lambda: classes(Table(), table()),
    "sparse counts that a net normalises itself": lambda: classes(
        nn.Sequential(nn.BatchNorm1d(40), nn.Linear(40, 3)),
        torch.poisson(torch.full((240, 40), 0.3), generator=torch.Generator().manual_seed(3)),
    ),
    "an ensemble inside, classes": lambda: classes(Ensemble(3)),
    "an ensemble inside, values": lambda: values(Ensemble(1)),
    "an ensemble inside, forecasts": lambda: values(Ensemble(4), draw(240, 4), horizon=4),
    "one logit for two classes": lambda: classes(net(1), count=2),
    "one logit for two classes, ensemble": lambda: classes(Ensemble(1), count=2),
    "values without a last axis": lambda: values(Does(lambda m, x: m.body(x)[:, 0], net(1))),
    "a recurrent net": lambda: recurrent(True),
    "whole numbers as inputs": lambda: classes(
        Does(lambda m, x: m.body(m.words(x).mean(1)), words=nn.Embedding(30, 8)),
        torch.randint(0, 30, (240, 8), generator=torch.Generator().manual_seed(2)),
    ),
    "a module in float64 that converts its inputs": lambda: classes(
        Does(lambda m, x: m.body(x.double()), net().double())
    ),
    "frozen layers below a head": lambda: classes(nn.Sequential(frozen(net(16)), nn.Tanh(), nn.Linear(16, 3))),
    "weight normalisation": lambda: classes(
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 32)), nn.Tanh(), nn.Linear(32, 3))
    ),
    "multi-head attention": lambda: classes(
        Does(
            lambda m, x: m.body(m.mix(x, x, x, need_weights=False)[0].mean(1)),
            nn.Linear(8, 3),
            mix=nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True),
        ),
        draw(240, 5, 8),
    ),
    "a max and kinks everywhere": lambda: classes(Does(lambda m, x: m.body(x.relu()), net())),
    "our own cnn": lambda: classes(
        built("cnn", InputSpec("image", (1, 8, 8)), 3, width=8, depth=2), draw(240, 1, 8, 8)
    ),
    "our own resnet": lambda: classes(built("resnet", InputSpec("image", (1, 8, 8)), 3, width=8), draw(240, 1, 8, 8)),
}


@pytest.mark.parametrize("make", HEALTHY.values(), ids=HEALTHY.keys())
def test_a_healthy_program_raises_no_alarm(make: Callable[[], Program]) -> None:
    verdicts = make().verdicts()
    assert {name: one.text for name, one in verdicts.items() if one.outcome == "found"} == {}
    # What is left out is known beforehand: nothing else may slip away as not checked.
    left_out = {name for name, one in verdicts.items() if one.outcome == "not checked"}
    assert left_out <= {"causal-leak", "unnormalised-inputs"}


def test_every_faulty_program_is_of_a_rule() -> None:
    # That every rule has one is tested in test_preflight_structure.py, which holds the rest of them.
    assert {rule for rule, *_ in FAULTY} <= {rule.name for rule in RULES}


def snapshot(model: nn.Module) -> dict[str, Any]:
    return {
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "buffers": {k: v.clone() for k, v in model.named_buffers()},
        "modes": {k: m.training for k, m in model.named_modules()},
        "requires": {k: p.requires_grad for k, p in model.named_parameters()},
        "grads": {k: None if p.grad is None else p.grad.clone() for k, p in model.named_parameters()},
        "ids": [id(p) for p in model.parameters()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1],
        "python": random.getstate(),
        "gradient mode": torch.is_grad_enabled(),
        "dropout": [m.p for m in model.modules() if isinstance(m, nn.Dropout)],
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    return bool(one == other)


class Draws(nn.Module):
    """Draws from every generator there is, and counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3)
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls.add_(1)
        inputs = inputs + 1e-9 * float(np.random.rand()) + 1e-9 * random.random() + 1e-9 * torch.rand(())
        return torch.as_tensor(self.head(self.drop(self.norm(inputs))))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [net, Draws, Table, normed], ids=lambda f: f.__name__)
def test_probes_leave_the_model_and_the_generators_bit_identical(make: Callable[[], nn.Module], training: bool) -> None:
    model = make()
    program = classes(model, table() if make is Table else None)
    # Gradients of earlier use, and a part that is frozen, must be found again as they were.
    for parameter in list(model.parameters())[:2]:
        parameter.grad = torch.ones_like(parameter)
    list(model.parameters())[-1].requires_grad_(False)
    model.train(training)
    before, inputs = snapshot(model), copy.deepcopy(program.data.train.inputs)  # type: ignore[attr-defined]
    program.verdicts()
    after = snapshot(model)
    assert [key for key in before if not same(before[key], after[key])] == []
    assert same(inputs, program.data.train.inputs)  # type: ignore[attr-defined]


def test_gradients_of_earlier_use_raise_no_alarm() -> None:
    model = net()
    for parameter in model.parameters():
        parameter.grad = 7 * torch.ones_like(parameter)
    verdicts = classes(model).verdicts()
    assert verdicts["wrong-gradient"].outcome == "ok"
    unused = Does(lambda m, x: m.body(x), extra=nn.Linear(3, 3))
    unused.extra.weight.grad = torch.ones(3, 3)  # type: ignore[union-attr]
    assert "extra.weight" in classes(unused).verdicts()["no-gradient"].text


class Uncopyable(nn.Module):
    """A module that holds a lock."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.lock = net(), threading.Lock()

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.as_tensor(self.body(inputs))


def test_a_model_that_cannot_be_copied_still_trains(tmp_path: Path) -> None:
    x = draw(60, 8).numpy()
    run = goodfit.train(
        (x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)),
        model=Uncopyable(), recipe=goodfit.Recipe(epochs=1), out=tmp_path / "r", screen=Screen(quiet=True),
    )  # fmt: skip
    assert run.status == "finished"


def test_a_model_that_cannot_be_copied_is_not_checked_and_its_data_still_is() -> None:
    verdicts = classes(Uncopyable(), targets=torch.zeros(240, dtype=torch.long)).verdicts()
    assert verdicts["constant-labels"].outcome == "found"
    assert verdicts["unnormalised-inputs"].outcome == "ok"
    for name in ("broken-forward", "initial-loss", "no-gradient", "batch-leak", "wrong-gradient", "one-batch"):
        assert verdicts[name].outcome == "not checked"
        assert "the model cannot be copied (TypeError" in verdicts[name].text


def test_a_model_that_draws_random_numbers_of_its_own_in_eval_mode_is_not_accused_of_a_leak() -> None:
    generator = np.random.default_rng(0)
    model = Does(lambda m, x: m.body(x) * (1 + 0.1 * float(generator.normal())))
    verdicts = classes(model).verdicts()
    assert verdicts["batch-leak"].text == "not checked: the outputs change from call to call in eval mode"
    assert verdicts["wrong-gradient"].outcome == "not checked"


def test_dropout_that_stays_on_in_eval_mode_is_not_accused_of_a_leak() -> None:
    assert classes(Does(lambda m, x: m.body(F.dropout(x, 0.5)))).verdicts()["batch-leak"].outcome == "ok"


def test_what_a_model_raises_is_told_with_its_line_and_stops_no_other_rule() -> None:
    def breaks(m: Any, x: Tensor) -> Tensor:
        raise KeyError("no such layer")

    verdicts = classes(Does(breaks)).verdicts()
    assert "KeyError: 'no such layer'" in verdicts["broken-forward"].text
    assert verdicts["broken-forward"].findings[0].where == f"test_preflight.py:{breaks.__code__.co_firstlineno + 1}"
    assert verdicts["initial-loss"].text == "not checked: the probe failed: KeyError: 'no such layer'"
    assert verdicts["constant-labels"].outcome == "ok"


@dataclass(frozen=True)
class Streamed:
    """A part that is not in memory as tensors."""

    whole: Tensors

    @property
    def targets(self) -> Tensor:
        return self.whole.targets

    @property
    def index(self) -> Tensor:
        return self.whole.index

    def __len__(self) -> int:
        return len(self.whole)

    def take(self, positions: Tensor) -> Batch:
        return self.whole.take(positions)

    def batches(self, plan: Any) -> Iterator[Batch]:
        return self.whole.batches(plan)


def test_streamed_data_is_checked_but_for_its_overlap() -> None:
    program = classes(net())
    streamed = replace(program.data, train=Streamed(program.data.train))  # type: ignore[arg-type]
    verdicts = Program(program.model, streamed).verdicts()
    assert verdicts["split-overlap"].text == "not checked: the data is streamed or cut from one sequence"
    assert verdicts["one-batch"].outcome == "ok"


def test_rows_that_repeat_honestly_in_a_coarse_table_are_told_but_raise_no_alarm() -> None:
    rows = coarse(240)
    rows["numeric"][200:208] = rows["numeric"][:8]
    verdict = classes(Table(), rows).verdicts()["split-overlap"]
    assert verdict.outcome == "ok"
    assert verdict.text.startswith("8 of 80 held-out samples")


def test_ignored_tokens_are_no_broken_targets() -> None:
    program = tokens(language())
    ignored = program.data.train.targets.clone()
    ignored[:, -1] = -100
    train = Tensors(program.data.train.inputs, ignored, program.data.train.index)  # type: ignore[attr-defined]
    verdicts = Program(program.model, replace(program.data, train=train)).verdicts()
    assert verdicts["broken-targets"].outcome == "ok"
    assert "classes 1 to 10" in verdicts["broken-targets"].text
    assert verdicts["one-batch"].outcome == "ok"


def test_a_model_too_slow_to_try_is_left_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(m: Any, x: Tensor) -> Tensor:
        began = time.thread_time()
        while time.thread_time() - began < 0.06:
            pass
        return torch.as_tensor(m.body(x) * 0 + 3)

    monkeypatch.setattr(before_training, "ONE_BATCH_SECONDS", 0.5)
    monkeypatch.setattr(before_training, "GRADIENT_SECONDS", 0.1)
    verdicts = classes(Does(slow)).verdicts()
    assert "are over after" in verdicts["one-batch"].text
    assert verdicts["wrong-gradient"].text == "not checked: a pass takes too long"


def test_sparse_gradients_are_looked_at_and_what_adam_cannot_train_is_not_checked() -> None:
    model = Table()
    model.embedding = nn.Embedding(5, 8, sparse=True)
    verdicts = classes(model, table()).verdicts()
    assert verdicts["no-gradient"].outcome == "ok"
    assert verdicts["wrong-gradient"].outcome == "ok"
    assert "Adam does not support sparse gradients" in verdicts["one-batch"].text


def test_preflight_takes_seconds() -> None:
    program = HEALTHY["our own resnet"]()
    program.verdicts()
    began = time.process_time()
    program.verdicts()
    assert time.process_time() - began < 6
