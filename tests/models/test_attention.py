"""Transformers against float64 NumPy, and what their settings change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models import build
from goodfit.models.attention import Attention, Feed, rotation_of
from goodfit.models.transformer import TokenTable
from goodfit.models.weights import initialise
from goodfit.techniques.init import Auto
from goodfit.types import InputSpec
from tests.reference.attention import multi_head

LANGUAGE = InputSpec("language", (16,), vocabulary=20)
TEXT = InputSpec("text", (16,), vocabulary=20)
PAIRS = InputSpec("sequence", (16, 16), cardinalities=(20, 20), vocabulary=20)


def _weights(layer: Attention) -> dict[str, np.ndarray]:
    plain = {k: v.detach().numpy() for k, v in layer.named_parameters()}
    if layer.query is None:
        q, k, v = np.split(plain["project.weight"], 3)
    else:
        q, (k, v) = plain["query.weight"], np.split(plain["project.weight"], 2)
    return {"q": q, "k": k, "v": v, "o": plain["out.weight"]}


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_is_the_formula(causal: bool, padded: bool, rotary: bool) -> None:
    torch.manual_seed(0)
    layer = Attention(12, 3).double()
    inputs = torch.randn(2, 7, 12, dtype=torch.float64)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3]) if padded else None
    turn = rotation_of(7, 2, torch.device("cpu")) if rotary else None
    made = layer(inputs, mask=mask, causal=causal, rotation=turn).detach().numpy()
    for row in range(2):
        allowed = np.tril(np.ones((7, 7), bool)) if causal else np.ones((7, 7), bool)
        if mask is not None:
            allowed = allowed & mask[row].numpy()
        expected = multi_head(
            inputs[row].numpy(), inputs[row].numpy(), _weights(layer), heads=3, allowed=allowed, rotary=rotary
        )
        np.testing.assert_allclose(made[row], expected, rtol=1e-6, atol=1e-6 if rotary else 1e-10)


def test_attention_to_a_memory_is_the_formula() -> None:
    torch.manual_seed(0)
    layer = Attention(8, 2, cross=True).double()
    inputs, memory = torch.randn(1, 3, 8, dtype=torch.float64), torch.randn(1, 5, 8, dtype=torch.float64)
    mask = torch.tensor([[True, True, False, True, False]])
    made = layer(inputs, memory, mask=mask).detach().numpy()[0]
    allowed = np.broadcast_to(mask.numpy(), (3, 5))
    expected = multi_head(inputs[0].numpy(), memory[0].numpy(), _weights(layer), heads=2, allowed=allowed)
    np.testing.assert_allclose(made, expected, rtol=1e-10)


def test_swiglu_is_the_formula() -> None:
    torch.manual_seed(0)
    layer = Feed(6, 4, "swiglu").double()
    x = np.random.default_rng(0).normal(size=(4, 6))
    w = {k: v.detach().numpy() for k, v in layer.named_parameters()}
    gate, value = np.split(x @ w["inner.weight"].T, 2, axis=1)
    expected = (gate / (1 + np.exp(-gate)) * value) @ w["out.weight"].T
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10)
    assert w["out.weight"].shape == (6, 16)


@pytest.mark.parametrize("kind", ["swiglu", "relu2", "gelu"])
@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_every_combination_of_settings_builds_and_knows_the_order(kind: str, norm: str, positions: str) -> None:
    settings = {"width": 16, "depth": 1, "feedforward": kind, "norm": norm, "positions": positions}
    model = build("transformer", settings, TEXT, 3)
    initialise(model, lambda w, i, o, g: None, seed=0)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    one, two = torch.tensor([[3, 5, 7, 9]]), torch.tensor([[9, 3, 7, 5]])
    assert not torch.allclose(model(one), model(two), rtol=1e-3)


def test_the_head_of_a_language_model_is_its_embedding_table() -> None:
    model = build("transformer", {"width": 16, "depth": 1}, LANGUAGE, 20)
    assert [k for k, p in model.named_parameters() if p.shape == (20, 16)] == ["table.tokens.weight"]


def test_every_layer_starts_as_the_identity() -> None:
    model = build("transformer", {"width": 128, "depth": 8, "shift": True}, LANGUAGE, 20)
    Auto()(model, activation="gelu", seed=0)
    layer, x = model.get_submodule("stack.layers.3"), torch.randn(2, 5, 128)
    assert torch.equal(layer.eval()(x, causal=True), x)
    weights = dict(model.named_parameters())
    assert float(weights["stack.layers.0.attention.project.weight"].detach().std()) == pytest.approx(
        128**-0.5, rel=0.03
    )
    assert float(weights["table.tokens.weight"].detach().std()) == pytest.approx(0.02, rel=0.1)


def test_rotary_positions_reach_further_than_the_training_length_and_learned_ones_say_so() -> None:
    long = torch.randint(1, 20, (1, 40))
    assert build("transformer", {"width": 16, "depth": 1}, LANGUAGE, 20)(long).shape == (1, 40, 20)
    learned = build("transformer", {"width": 16, "depth": 1, "positions": "learned"}, LANGUAGE, 20)
    with pytest.raises(ModelError, match="sequence of 40 is longer than the 16 learned positions"):
        learned(long)


def test_a_width_that_does_not_divide_among_the_heads_is_refused_with_one_that_does() -> None:
    with pytest.raises(ModelError, match=r"model\.width = 96"):
        build("transformer", {"width": 99, "heads": 4}, TEXT, 2)


def test_an_encoder_decoder_ignores_the_padding_of_its_source() -> None:
    model = build("transformer_encdec", {"width": 16, "depth": 1}, PAIRS, 20).eval()
    source, target = torch.tensor([[4, 5, 6]]), torch.tensor([[7, 8]])
    padded = torch.tensor([[4, 5, 6, 0, 0]])
    one = model({"source": source, "target": target})
    two = model({"source": padded, "target": target})
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def spread_out(model: nn.Module) -> nn.Module:
    """Gives every parameter values, so that nothing hides behind a branch that starts at zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter))))
    return model.eval().double()


def reach(model: nn.Module, inputs: Any, table: nn.Embedding, output: Callable[[Tensor], Tensor]) -> Tensor:
    """How much each embedded token bears on an output: the gradient's size at each position ``(batch, T)``."""
    rows: list[Tensor] = []

    def keep(_: nn.Module, __: Any, made: Tensor) -> None:
        made.retain_grad()
        rows.append(made)

    hook = table.register_forward_hook(keep)
    output(model(inputs)).backward()
    hook.remove()
    assert rows[0].grad is not None
    return rows[0].grad.abs().sum(-1)


@pytest.mark.parametrize("settings", [{}, {"shift": True, "ngrams": 3, "tied": False}, {"positions": "learned"}])
def test_no_gradient_comes_to_a_decoder_from_later_tokens(settings: dict[str, Any]) -> None:
    model: Any = spread_out(build("transformer", {"width": 16, "depth": 3, **settings}, LANGUAGE, 20))
    tokens = torch.randint(1, 20, (2, 12))
    felt = reach(model, tokens, model.table.tokens, lambda logits: logits[:, 6].square().sum())
    assert (felt[:, :7] > 0).all()
    assert not felt[:, 7:].any()


def test_an_encoder_decoder_sees_the_whole_source_but_its_padding_and_the_target_up_to_here() -> None:
    model: Any = spread_out(build("transformer_encdec", {"width": 16, "depth": 3}, PAIRS, 20))
    source = torch.randint(4, 20, (2, 9))
    source[1, 5:] = 0
    inputs = {"source": source, "target": torch.randint(4, 20, (2, 12))}
    for table, seen in ((model.source_table, source != 0), (model.target_table, torch.arange(12).expand(2, -1) < 7)):
        felt = reach(model, inputs, table, lambda logits: logits[:, 6].square().sum())
        assert torch.equal(felt > 0, seen)


def test_the_padding_of_a_target_changes_nothing_before_it() -> None:
    model = spread_out(build("transformer_encdec", {"width": 16, "depth": 2}, PAIRS, 20))
    source, target = torch.randint(4, 20, (2, 9)), torch.randint(4, 20, (2, 5))
    alone = model({"source": source, "target": target})
    padded = model({"source": source, "target": nn.functional.pad(target, (0, 4))})
    torch.testing.assert_close(alone, padded[:, :5], rtol=1e-6, atol=1e-6)


def test_no_gradient_comes_to_an_encoder_from_padding() -> None:
    model: Any = spread_out(build("transformer", {"width": 16, "depth": 3}, TEXT, 3))
    tokens = torch.randint(1, 20, (3, 12))
    tokens[1, 4:], tokens[2, 9:] = 0, 0
    felt = reach(model, tokens, model.first, lambda logits: logits.square().sum())
    assert torch.equal(felt > 0, tokens != 0)


def test_a_whole_decoder_layer_is_the_formula_with_the_scores_divided_by_the_root_of_the_head_size() -> None:
    settings = {"width": 8, "heads": 2, "depth": 1, "dropout": 0, "feedforward": "relu", "tied": False}
    model: Any = spread_out(build("transformer", settings, LANGUAGE, 20))
    w = {k: v.detach().numpy() for k, v in model.named_parameters()}
    tokens = torch.randint(1, 20, (1, 6))

    def normed(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["table.tokens.weight"][tokens[0].numpy()]
    layer = "stack.layers.0."
    q, k, v = np.split(w[layer + "attention.project.weight"], 3)
    weights = {"q": q, "k": k, "v": v, "o": w[layer + "attention.out.weight"]}
    seen = normed(x, layer + "norm1")
    x = x + multi_head(seen, seen, weights, heads=2, allowed=np.tril(np.ones((6, 6), bool)), rotary=True)
    hidden = np.maximum(normed(x, layer + "norm2") @ w[layer + "feedforward.inner.weight"].T, 0)
    x = normed(x + hidden @ w[layer + "feedforward.out.weight"].T, "stack.norm")
    np.testing.assert_allclose(
        model(tokens)[0].detach().numpy(), x @ w["head.weight"].T + w["head.bias"], rtol=1e-5, atol=1e-6
    )


def test_attention_agrees_with_pytorch_s_own_module() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3), nn.MultiheadAttention(12, 3, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.project.weight)
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0], rtol=1e-4, atol=1e-6)


def test_squared_relu_is_the_formula() -> None:
    layer = Feed(6, 2, "relu2").double()
    x = np.random.default_rng(0).normal(size=(4, 6))
    w = {k: v.detach().numpy() for k, v in layer.named_parameters()}
    expected = np.maximum(x @ w["inner.weight"].T, 0) ** 2 @ w["out.weight"].T
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10)


def test_a_token_s_row_holds_the_n_grams_that_end_at_it_and_nothing_later() -> None:
    table = TokenTable(20, 8, range(2, 5), buckets=64, dropout=0.0)
    one, two = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[9, 2, 3, 4, 6]])
    a, b = table(one)[0], table(two)[0]
    # The first place differs by its token; places 1 to 3 by the n-grams that reach back to it; the last by its token.
    assert not torch.allclose(a[3], b[3])
    shorter = TokenTable(20, 8, range(2, 4), buckets=64, dropout=0.0)
    torch.testing.assert_close(shorter(one)[0, 3], shorter(two)[0, 3])
    torch.testing.assert_close(table(one[:, :3])[0], a[:3])


def test_a_head_of_its_own_starts_at_zero_and_the_first_loss_is_exactly_ln_c() -> None:
    model = build("transformer", {"width": 16, "tied": False, "ngrams": 4, "shift": True}, LANGUAGE, 20).eval()
    assert not model(torch.randint(1, 20, (2, 9))).any()


def test_the_shift_adds_the_position_before() -> None:
    model = build("transformer", {"width": 8, "heads": 2, "depth": 1, "shift": True, "dropout": 0}, LANGUAGE, 20)
    layer = model.get_submodule("stack.layers.0")
    with torch.no_grad():
        layer.get_parameter("shift").fill_(0.5)
        layer.get_parameter("attention.out.weight").normal_()
    x = torch.randn(1, 4, 8)
    normed = layer.get_submodule("norm1")(x)
    before = torch.cat([torch.zeros(1, 1, 8), normed[:, :-1]], 1)
    expected = x + layer.get_submodule("attention")(normed + 0.5 * before, causal=True)
    torch.testing.assert_close(layer(x, causal=True), expected)
