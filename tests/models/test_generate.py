"""Drawing tokens: greedy, sampled, in any batch the same."""

from __future__ import annotations

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
    model = build("transformer_encdec", {"width": 16, "depth": 1}, InputSpec("language", (8,), vocabulary=12), 12)
    source = torch.tensor([[3, 4, 5], [6, 7, 0]])
    made = generate(model, {"source": source}, tokens=5, temperature=0)
    assert made.shape == (2, 5)
    model.eval()
    again = model({"source": source, "target": made}).argmax(-1)
    assert torch.equal(made, again)


def test_the_mode_of_the_model_is_kept() -> None:
    model = Successor().train()
    generate(model, torch.tensor([1]), tokens=1)
    assert model.training


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ModelError, match="the prompt is empty"):
        generate(Successor(), torch.zeros(1, 0, dtype=torch.int64), tokens=1)
    with pytest.raises(ModelError, match="must not be negative"):
        generate(Successor(), torch.tensor([1]), tokens=1, temperature=-1)
