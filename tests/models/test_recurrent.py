"""Recurrent models against float64 NumPy, and how they read padded texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from goodfit.models import build
from goodfit.models.recurrent import Recurrent
from goodfit.techniques.init import Auto
from goodfit.types import InputSpec
from tests.reference import recurrent as reference

CELLS = {"rnn": reference.rnn, "lstm": reference.lstm, "gru": reference.gru}
SERIES, TEXT = InputSpec("series", (9, 2)), InputSpec("text", (8,), vocabulary=20)


def made(name: str, spec: InputSpec, outputs: int = 3, **settings: Any) -> Recurrent:
    model = build(name, {"width": 5, "embedding": 4, "dropout": 0.0, **settings}, spec, outputs).double()
    Auto()(model, activation="tanh", seed=0)
    assert isinstance(model, Recurrent)
    return model


def _weights(model: Recurrent, layer: str = "l0") -> reference.Weights:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    w, u, b, c = (getattr(model.cell, f"{name}_{layer}").detach().numpy() for name in names)
    return w, u, b, c


@pytest.mark.parametrize("name", list(CELLS))
def test_a_cell_is_its_formula(name: str) -> None:
    model = made(name, SERIES)
    series = np.random.default_rng(0).normal(size=(9, 2))
    last = CELLS[name](series, _weights(model))[-1]
    head = model.head.weight.detach().numpy()
    logits = model(torch.from_numpy(series)[None])[0].detach().numpy()
    np.testing.assert_allclose(logits, head @ last, rtol=1e-9)


@pytest.mark.parametrize("pool", ["last", "mean", "max"])
@pytest.mark.parametrize("name", list(CELLS))
def test_a_padded_text_is_read_in_both_directions_to_its_own_end(name: str, pool: str) -> None:
    model = made(name, TEXT, pool=pool).eval()
    tokens = torch.tensor([[5, 9, 3, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 8]])
    made_logits = model(tokens)[0].detach().numpy()
    steps = model.embedding.weight.detach().numpy()[[5, 9, 3]]  # type: ignore[union-attr]
    forward = CELLS[name](steps, _weights(model))
    backward = CELLS[name](steps[::-1], _weights(model, "l0_reverse"))[::-1]
    both = np.concatenate([forward, backward], 1)
    row = {"mean": both.mean(0), "max": both.max(0), "last": np.concatenate([forward[-1], backward[0]])}[pool]
    np.testing.assert_allclose(made_logits, model.head.weight.detach().numpy() @ row, rtol=1e-9)


def test_forget_gates_start_at_one_and_memory_matrices_orthogonal() -> None:
    model = made("lstm", SERIES, width=6, depth=2)
    for layer in ("l0", "l1"):
        _, u, b, c = _weights(model, layer)
        np.testing.assert_array_equal(b + c, np.repeat([0.0, 1.0, 0.0, 0.0], 6))
        for gate in np.split(u, 4):
            np.testing.assert_allclose(gate @ gate.T, np.eye(6), atol=1e-6)


@pytest.mark.parametrize("name", list(CELLS))
def test_truncation_changes_gradients_but_not_outputs(name: str) -> None:
    spec = InputSpec("language", (12,), vocabulary=20)
    whole, cut = made(name, spec, 20).train(), made(name, spec, 20, truncate=4).train()
    tokens = torch.randint(1, 20, (2, 12))
    torch.testing.assert_close(whole(tokens), cut(tokens))

    def reach(model: Recurrent) -> torch.Tensor:
        """The gradient of the last position's logits by the first token's embedding."""
        model.zero_grad()
        first = torch.tensor([[1] + [2] * 11])
        model(first)[:, -1].square().sum().backward()
        gradient = model.embedding.weight.grad[1]  # type: ignore[union-attr, index]
        return gradient.abs().sum()

    assert float(reach(whole)) > 0
    assert float(reach(cut)) == 0


def test_the_first_token_beyond_the_longest_text_costs_nothing() -> None:
    model = made("gru", TEXT).eval()
    tokens = torch.tensor([[5, 9, 3]])
    torch.testing.assert_close(model(tokens), model(torch.nn.functional.pad(tokens, (0, 5))))


@pytest.mark.parametrize("name", list(CELLS))
def test_gradients_over_packed_texts_are_those_of_the_formula(name: str) -> None:
    """Central differences of the float64 NumPy cell, each text read to its own end, against back-propagation."""
    model = made(name, TEXT, bidirectional=False, pool="last", width=3, embedding=2)
    tokens = torch.tensor([[5, 9, 3, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 8], [7, 0, 0, 0, 0, 0, 0, 0]])
    model(tokens).square().sum().backward()
    head, table = model.head.weight.detach().numpy(), model.embedding.weight.detach().numpy()  # type: ignore[union-attr]
    texts = [table[row[row != 0].numpy()] for row in tokens]
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    weights = [getattr(model.cell, one).detach().numpy().copy() for one in names]

    def loss() -> float:
        w, u, b, c = weights
        return sum(float(np.square(head @ CELLS[name](text, (w, u, b, c))[-1]).sum()) for text in texts)

    for one, values in zip(names, weights, strict=True):
        found = getattr(model.cell, one).grad.numpy()
        for place in list(np.ndindex(values.shape))[:: max(1, values.size // 12)]:
            kept, step = values[place], 1e-5
            values[place] = kept + step
            above = loss()
            values[place] = kept - step
            below = loss()
            values[place] = kept
            np.testing.assert_allclose(found[place], (above - below) / (2 * step), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", list(CELLS))
@pytest.mark.parametrize("pool", ["last", "mean", "max"])
def test_a_text_gives_the_same_gradients_whatever_it_is_padded_to_and_whoever_stands_beside_it(
    name: str, pool: str
) -> None:
    text, other = torch.tensor([[5, 9, 3]]), torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]])
    padded = torch.nn.functional.pad(text, (0, 5))
    found = []
    for batch in (text, padded, torch.cat([other, padded])):
        model = made(name, TEXT, pool=pool, depth=2).train()
        model(batch)[-1].square().sum().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", list(CELLS))
def test_a_carried_state_goes_on_where_the_formula_does(name: str) -> None:
    model = made(name, InputSpec("language", (12,), vocabulary=20), 20, depth=1).eval()
    tokens = torch.randint(1, 20, (1, 11), generator=torch.Generator().manual_seed(0))
    steps = model.embedding.weight.detach().numpy()[tokens[0].numpy()]  # type: ignore[union-attr]
    states = CELLS[name](steps, _weights(model))
    logits, state = [], None
    for piece in torch.split(tokens, 4, 1):
        made_logits, state = model.carry(piece, state)
        logits.append(made_logits)
    expected = states @ model.head.weight.detach().numpy().T
    np.testing.assert_allclose(torch.cat(logits, 1)[0].detach().numpy(), expected, rtol=1e-9)
    assert state is not None
    np.testing.assert_allclose(state[0, 0, 0].detach().numpy(), states[-1], rtol=1e-9)
