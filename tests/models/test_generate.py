"""Drawing tokens: greedy, sampled, in any batch the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models import build, generate
from goodfit.types import InputSpec


class Successor(nn.Module):
    """Prefers the next token after the last, with known probabilities."""

    def __init__(self, sharpness: float = 8.0) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.seen = 0

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen = max(self.seen, tokens.shape[1])
        return self.sharpness * nn.functional.one_hot((tokens + 1) % 10, 10).float()


def test_temperature_zero_takes_the_likeliest_token() -> None:
    made = generate(Successor(), torch.tensor([[3], [8]]), tokens=4, temperature=0)
    assert made.tolist() == [[4, 5, 6, 7], [9, 0, 1, 2]]


def test_a_prompt_without_batch_axis_gives_tokens_without_one() -> None:
    assert generate(Successor(), torch.tensor([3]), tokens=2, temperature=0).tolist() == [4, 5]


def test_draws_follow_the_probabilities() -> None:
    prompt = torch.zeros(20_000, 1, dtype=torch.int64)
    made = generate(Successor(2.0), prompt, tokens=1, temperature=1.0, seed=1)[:, 0]
    shares = torch.bincount(made, minlength=10) / len(made)
    expected = torch.softmax(torch.tensor([0.0, 2.0] + [0.0] * 8), 0)
    assert float((shares - expected).abs().max()) < 0.01


def test_top_k_draws_among_the_likeliest_only() -> None:
    prompt = torch.zeros(500, 1, dtype=torch.int64)
    assert set(generate(Successor(0.1), prompt, tokens=1, top_k=1).flatten().tolist()) == {1}


def test_a_row_s_text_does_not_depend_on_its_company_and_a_seed_gives_it_again() -> None:
    prompt = torch.tensor([[1, 2], [3, 4], [5, 6]])
    three = generate(Successor(1.0), prompt, tokens=6, seed=5)
    assert torch.equal(three, generate(Successor(1.0), prompt, tokens=6, seed=5))
    assert torch.equal(three[:1], generate(Successor(1.0), prompt[:1], tokens=6, seed=5))
    assert not torch.equal(three, generate(Successor(1.0), prompt, tokens=6, seed=6))


def test_after_the_end_token_only_padding_follows() -> None:
    made = generate(Successor(), torch.tensor([[3], [8]]), tokens=4, temperature=0, end=5)
    assert made.tolist() == [[4, 5, 0, 0], [9, 0, 1, 2]]


def test_the_model_sees_at_most_the_given_length() -> None:
    model = Successor()
    generate(model, torch.ones(1, 7, dtype=torch.int64), tokens=5, length=4)
    assert model.seen == 4


def test_an_encoder_decoder_writes_from_its_source_and_reads_its_own_words() -> None:
    model = woken("transformer_encdec", InputSpec("sequence", (8, 9), cardinalities=(12, 12), vocabulary=12), depth=1)
    source, begin = torch.tensor([[3, 4, 5], [6, 7, 0]]), torch.full((2, 1), 2)
    made = generate(model, {"source": source, "target": begin}, tokens=5, temperature=0)
    assert made.shape == (2, 5)
    assert len(torch.unique(made)) > 1
    written = torch.cat([begin, made[:, :-1]], 1)
    assert torch.equal(made, model({"source": source, "target": written}).argmax(-1))


def woken(name: str, spec: InputSpec, **settings: Any) -> nn.Module:
    """A small model whose branches and head say something, though most of them start at zero."""
    outputs = spec.cardinalities[1] if spec.cardinalities else spec.vocabulary
    torch.manual_seed(0)
    model = build(name, {"width": 16, "dropout": 0.1, **settings}, spec, outputs).eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    return model


LANGUAGE = InputSpec("language", (8,), vocabulary=20)
PAIRS = InputSpec("sequence", (8, 30), cardinalities=(15, 20), vocabulary=15)
CARRIED = [
    ("rnn", LANGUAGE, {}),
    ("lstm", LANGUAGE, {"depth": 2}),
    ("gru", LANGUAGE, {}),
    ("transformer", LANGUAGE, {"depth": 2}),
    ("transformer", LANGUAGE, {"depth": 2, "ngrams": 4, "shift": True, "tied": False, "feedforward": "relu2"}),
    ("transformer", LANGUAGE, {"depth": 1, "positions": "learned", "norm": "rms"}),
    ("transformer_encdec", PAIRS, {"depth": 2}),
    ("transformer_encdec", PAIRS, {"depth": 1, "positions": "learned"}),
]


@pytest.mark.parametrize(("name", "spec", "settings"), CARRIED)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_kept_between_tokens_changes_nothing(
    name: str, spec: InputSpec, settings: dict[str, Any], temperature: float
) -> None:
    model = woken(name, spec, **settings)
    source = torch.tensor([[3, 4, 5, 6], [6, 7, 0, 0], [9, 0, 0, 0]])
    text = torch.tensor([[5, 9, 3], [1, 2, 3], [8, 8, 8]])
    prompt = {"source": source, "target": text} if spec is PAIRS else text
    length = 8 if spec is LANGUAGE else 0
    options: dict[str, Any] = {"tokens": 20, "length": length, "temperature": temperature, "seed": 3}
    kept, anew = (generate(model, prompt, cached=cached, **options) for cached in (True, False))
    assert torch.equal(kept, anew)
    assert len(torch.unique(kept)) > 1


@pytest.mark.parametrize(("name", "spec", "settings"), CARRIED)
def test_logits_carried_in_pieces_are_those_of_the_whole(name: str, spec: InputSpec, settings: dict[str, Any]) -> None:
    model: Any = woken(name, spec, **settings).double()
    text = torch.randint(1, 20, (2, 8), generator=torch.Generator().manual_seed(1))
    source = torch.tensor([[3, 4, 5, 6], [6, 7, 0, 0]])

    def inputs(piece: Tensor) -> Any:
        return {"source": source, "target": piece} if spec is PAIRS else piece

    whole, state, parts = model(inputs(text)), None, []
    for start, end in ((0, 3), (3, 4), (4, 8)):
        logits, state = model.carry(inputs(text[:, start:end]), state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-6)


def test_a_window_moves_on_by_half_and_never_holds_more_than_its_length() -> None:
    model = Successor()
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    generate(model, torch.ones(1, 9, dtype=torch.int64), tokens=8, length=4)
    assert seen == [3, 4, 3, 4, 3, 4, 3, 4]


def test_top_p_keeps_the_fewest_tokens_that_sum_to_it() -> None:
    p = torch.tensor([0.5, 0.25, 0.15, 0.1])

    class Known(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return p.log().expand(*tokens.shape, 4)

    prompt = torch.zeros(4000, 1, dtype=torch.int64)
    for top_p, kept in ((0.4, 1), (0.6, 2), (0.74, 2), (0.76, 3), (1.0, 4)):
        made = generate(Known(), prompt, tokens=1, top_p=top_p, seed=1)[:, 0]
        shares = torch.bincount(made, minlength=4) / len(made)
        expected = torch.cat([p[:kept] / p[:kept].sum(), torch.zeros(4 - kept)])
        assert float((shares - expected).abs().max()) < 0.03


def test_a_token_that_is_never_to_be_drawn_is_not() -> None:
    made = generate(Successor(), torch.tensor([[3], [8]]), tokens=3, temperature=0, never=(5, 0))
    assert not {5, 0} & set(made.flatten().tolist())


def test_rows_say_which_draws_are_whose() -> None:
    prompt = torch.tensor([[1, 2], [3, 4], [5, 6]])
    three = generate(Successor(1.0), prompt, tokens=6, seed=5)
    last = generate(Successor(1.0), prompt[2:], tokens=6, seed=5, rows=torch.tensor([2]))
    assert torch.equal(three[2:], last)


def test_writing_stops_when_all_texts_have_ended() -> None:
    model = Successor()
    generate(model, torch.tensor([[3]]), tokens=50, temperature=0, end=6)
    assert model.seen == 3


def test_the_mode_of_the_model_is_kept() -> None:
    model = Successor().train()
    generate(model, torch.tensor([1]), tokens=1)
    assert model.training


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ModelError, match="the prompt is empty"):
        generate(Successor(), torch.zeros(1, 0, dtype=torch.int64), tokens=1)
    with pytest.raises(ModelError, match="must not be negative"):
        generate(Successor(), torch.tensor([1]), tokens=1, temperature=-1)
    with pytest.raises(ModelError, match=r"top_p 0 is out of range; it must be above 0"):
        generate(Successor(), torch.tensor([1]), tokens=1, top_p=0)
