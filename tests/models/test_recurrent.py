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
