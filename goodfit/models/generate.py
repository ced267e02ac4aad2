"""Continue a text: draw one token after another from a language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goodfit import keyed
from goodfit.errors import ModelError
from goodfit.types import Inputs


@torch.no_grad()
def generate(
    model: nn.Module,
    prompt: Inputs,
    *,
    tokens: int,
    length: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    end: int | None = None,
) -> Tensor:
    """New tokens after a prompt, from any model of tokens to logits ``(batch, T, vocabulary)``.

    prompt: token ids ``(T,)`` or ``(batch, T)`` int64, T at least 1; or ``{"source": (batch, S)}`` for an
    encoder-decoder. tokens: how many to draw. length: how many of the latest tokens the model sees (0: all).
    temperature: 0 takes the likeliest token, 1 draws from the model's probabilities. top_k: draw among the k
    likeliest (0: all). end: a token that ends a text; 0 follows it.

    Returns ``(batch, tokens)`` int64 without the prompt, or ``(tokens,)`` for a prompt without batch axis. The draw
    of row i at place t depends on (seed, i, t) alone: the same prompt gives the same text in any batch. The model is
    used in eval mode and left as it was. Raises ModelError for an empty prompt or a negative temperature.
    """
    if temperature < 0 or tokens < 0:
        raise ModelError(f"temperature {temperature} and tokens {tokens} must not be negative")
    pair = isinstance(prompt, dict)
    given = prompt["source"] if isinstance(prompt, dict) else prompt
    first = given[None] if given.dim() == 1 else given
    if first.dim() != 2 or first.shape[1] == 0:
        raise ModelError("the prompt is empty; give at least one token")
    rows = torch.arange(len(first), device=first.device)
    made = first[:, :0]
    training = model.training
    model.eval()
    try:
        done = torch.zeros(len(first), dtype=torch.bool, device=first.device)
        for place in range(tokens):
            if pair:
                # The model shifts its target right: the last column is a place to predict, its value is never read.
                logits = model({"source": first, "target": torch.cat([made, made.new_zeros(len(made), 1)], 1)})
            else:
                seen = torch.cat([first, made], 1)
                logits = model(seen[:, -length:] if length else seen)
            chosen = _choose(logits[:, -1].float(), rows, place, temperature=temperature, top_k=top_k, seed=seed)
            chosen = torch.where(done, 0, chosen)
            made = torch.cat([made, chosen[:, None]], 1)
            if end is not None:
                done |= chosen == end
    finally:
        model.train(training)
    return made if given.dim() == 2 else made[0]


def _choose(logits: Tensor, rows: Tensor, place: int, *, temperature: float, top_k: int, seed: int) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    steps = torch.softmax(logits.double() / temperature, -1).cumsum(-1)
    point = keyed.uniform(keyed.key(seed, "generate", place), rows).double() * steps[:, -1:]
    return torch.searchsorted(steps, point, right=True)[:, 0].clamp_max(logits.shape[-1] - 1)
