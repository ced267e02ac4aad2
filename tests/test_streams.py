"""Truncated back-propagation through time: the state goes on from window to window, the gradient does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from goodfit import job
from goodfit.data import read
from goodfit.data.language import Windows
from goodfit.errors import ModelError, RecipeError
from goodfit.interrupt import Interrupted
from goodfit.loop import foresee
from goodfit.models import build
from goodfit.models.carried import Carried
from goodfit.models.recurrent import Recurrent
from goodfit.recipe import DataSettings, Recipe, TaskSettings
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.techniques.init import Auto
from goodfit.types import InputSpec

TEXT = "".join(f"{n} times {n + 1} is {n * (n + 1)}; " for n in range(90))
PLAIN = {
    "model.width": 7,
    "model.embedding": 5,
    "model.dropout": 0.0,
    "data.length": 9,
    "optimizer.name": "sgd",
    "optimizer.lr": 0.5,
    "optimizer.momentum": 0.0,
    "optimizer.weight_decay": 0.0,
    "schedule.name": "constant",
    "schedule.warmup": "0 steps",
    "clip.norm": "none",
    "stopping.name": "none",
    "batch_size": 6,
    "epochs": 2,
    "numerics.precision": "fp32",
    "numerics.compile": False,
}


@pytest.fixture(autouse=True)
def no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pre-flight takes seconds and is tested elsewhere."""
    monkeypatch.setattr(job, "preflight", lambda *_, **__: [])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "t.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def recipe(name: str, **changes: Any) -> Recipe:
    return Recipe().patched({"model.name": name, **PLAIN, **{k.replace("__", "."): v for k, v in changes.items()}})


def train(path: Path, out: str, asked: Recipe) -> Run:
    return job.train(path, out=out, recipe=asked, screen=Screen(quiet=True))


class Plain(nn.Module):
    """PyTorch's own layers, in a loop written out by hand."""

    def __init__(self, made: Recurrent) -> None:
        super().__init__()
        kind: Any = type(made.cell)
        assert made.embedding is not None
        self.embedding = nn.Embedding(*made.embedding.weight.shape)
        self.cell = kind(made.embedding.embedding_dim, made.cell.hidden_size, batch_first=True)
        self.head = nn.Linear(made.cell.hidden_size, made.head.out_features)
        self.load_state_dict(made.state_dict())


def cut_off(state: Any, rows: int) -> Any:
    """The state of the first streams, without what made it."""
    if isinstance(state, tuple):
        return tuple(part.detach()[:, :rows] for part in state)
    return state.detach()[:, :rows]


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("pieces", [{}, {"gradient__name": "accumulate", "gradient__microbatch": 2}])
def test_a_run_is_the_loop_written_by_hand(name: str, pieces: dict[str, Any], path: Path) -> None:
    run = train(path, "r", recipe(name, **pieces))
    assert run.plan["sampling.name"] == "streams"
    data: Any = read(path, DataSettings(length=9), TaskSettings(), seed=0)
    model = build(name, {"width": 7, "embedding": 5, "dropout": 0.0}, data.spec, data.task.outputs)
    Auto()(model, activation="relu", seed=0)
    assert isinstance(model, Recurrent)
    plain = Plain(model)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.5)
    count = len(data.train)
    steps = -(-count // 6)
    assert count % steps  # some batches lack the last stream
    weights = []
    for epoch in range(2):
        start = data.train.shifted(0, epoch).offset
        state: Any = None
        for step in range(steps):
            windows = range(step, count, steps)
            tokens = torch.stack([data.train.stream[start + 9 * w : start + 9 * w + 10] for w in windows])
            if state is not None:
                state = cut_off(state, len(windows))
            states, state = plain.cell(plain.embedding(tokens[:, :-1]), state)
            loss = nn.functional.cross_entropy(plain.head(states).flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            weights.append({k: v.clone() for k, v in plain.state_dict().items()})
    best = [row["step"] for row in run.metrics if row["best"]][-1]
    assert best > steps  # in the second epoch
    for key, value in run.model().state_dict().items():
        torch.testing.assert_close(value, weights[best - 1][key], rtol=1e-4, atol=1e-5)


class StopAfter:
    """Takes the place of the signals: asks to stop after so many steps."""

    steps = 0

    def __init__(self) -> None:
        self.asked = 0

    def __enter__(self) -> StopAfter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def requested(self) -> int:
        self.asked += 1
        return 2 if self.asked >= StopAfter.steps else 0


@pytest.mark.parametrize("steps", [3, 7, 12])
def test_a_run_torn_in_the_middle_of_an_epoch_goes_on_to_the_very_same_bits(
    steps: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recipe("lstm", model__dropout=0.2)
    whole = train(path, "whole", asked)
    StopAfter.steps = steps
    with monkeypatch.context() as patch:
        patch.setattr(job, "Signals", StopAfter)
        with pytest.raises(Interrupted):
            train(path, "torn", asked)
    assert train(path, "torn", asked).results["digest"] == whole.results["digest"]


def test_carrying_makes_a_difference(path: Path) -> None:
    one, other = train(path, "a", recipe("gru")), train(path, "b", recipe("gru", sampling__name="sequential"))
    assert one.results["digest"] != other.results["digest"]


def made(name: str = "gru") -> Recurrent:
    model = build(name, {"width": 7, "embedding": 5, "dropout": 0.0}, InputSpec("language", (4,), vocabulary=9), 9)
    Auto()(model, activation="tanh", seed=0)
    assert isinstance(model, Recurrent)
    return model


def test_the_gradient_ends_where_the_window_begins_and_memory_does_not() -> None:
    model, carried = made(), Carried(streams=2)
    model.train()
    first, second = torch.tensor([[1, 2, 3, 4], [2, 2, 2, 2]]), torch.tensor([[5, 6, 5, 6], [7, 7, 7, 7]])
    rows = torch.arange(2)
    carried.forward(model, first, rows)
    carried.go_on()
    carried.forward(model, second, rows).square().sum().backward()
    assert model.embedding is not None
    assert model.embedding.weight.grad is not None
    felt = model.embedding.weight.grad.abs().sum(1)
    assert (felt[5:8] > 0).all()
    assert not felt[:5].any()
    carried.stay()
    other = Carried(streams=2)
    assert not torch.equal(carried.forward(model, second, rows), other.forward(model, second, rows))


def test_a_batch_in_pieces_or_twice_or_left_out_leaves_the_right_states() -> None:
    model = made("lstm").eval()
    tokens = torch.randint(1, 9, (3, 4), generator=torch.Generator().manual_seed(0))
    whole, pieces = Carried(streams=3), Carried(streams=3)
    for turn in range(2):
        expected = whole.forward(model, (tokens + turn) % 9, torch.arange(3))
        whole.go_on()
        found = [pieces.forward(model, (tokens[r] + turn) % 9, torch.tensor(r)) for r in ([0, 1], [0, 1], [2])]
        torch.testing.assert_close(torch.cat(found[1:]), expected)
        pieces.go_on()
    torch.testing.assert_close(pieces.states, whole.states)
    before = whole.states
    whole.forward(model, tokens, torch.arange(3))
    whole.stay()
    assert whole.states is before


def test_validation_carries_the_state_through_the_text() -> None:
    model = made().eval()
    stream = torch.randint(1, 9, (4 * 7 + 1,), generator=torch.Generator().manual_seed(0))
    part = Windows(stream, 4)
    assert len(part) == 7  # one stream: seven windows are too few for more
    found = foresee(model, part, precision="fp32", device=torch.device("cpu"), carry=True)
    logits: Tensor = model(stream[None, :-1])
    whole = nn.functional.cross_entropy(logits[0], stream[1:], reduction="none")
    torch.testing.assert_close(found.nats.flatten(), whole)
    assert torch.equal(found.hits.flatten(), logits[0].argmax(-1) == stream[1:])


def test_long_texts_are_validated_in_sixteen_streams_that_begin_anew() -> None:
    model = made().eval()
    stream = torch.randint(1, 9, (4 * 130 + 1,), generator=torch.Generator().manual_seed(0))
    found = foresee(model, Windows(stream, 4), precision="fp32", device=torch.device("cpu"), carry=True)
    steps = -(-130 // 16)
    for start in (0, steps, 14 * steps):
        tokens = stream[4 * start : 4 * min(start + steps, 130) + 1]
        expected = nn.functional.cross_entropy(model(tokens[None, :-1])[0], tokens[1:], reduction="none")
        torch.testing.assert_close(found.nats[start : start + steps].flatten(), expected)


@pytest.mark.parametrize(("source", "name"), [("text", "transformer"), ("digits", "cnn")])
def test_streams_are_refused_where_there_is_nothing_to_carry(source: str, name: str, path: Path) -> None:
    asked = Recipe(sampling="streams", model=name)
    with pytest.raises(RecipeError, match="carries a recurrent net's state along a text"):
        job.dry_run(path if source == "text" else source, recipe=asked, screen=Screen(quiet=True))


class Memoryless(nn.Module):
    """A language model of a user's own that has no state."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.table = nn.Embedding(outputs, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.as_tensor(self.table(tokens))


def test_a_module_of_one_s_own_needs_a_state_for_streams(path: Path) -> None:
    asked = Recipe().patched({"sampling.name": "streams", "epochs": 1, "data.length": 9})
    with pytest.raises(ModelError, match="needs a model with 'recurrent = True'"):
        job.train(path, out="r", model=Memoryless(len(set(TEXT)) + 2), recipe=asked, screen=Screen(quiet=True))
