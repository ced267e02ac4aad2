"""Write tokens: one after another from a language model, or from an encoder-decoder that has read a source.

A model may have ``carry(inputs, state)``, which returns the logits of the tokens that come next and the state behind
them (None before the first call; whatever it needs after that: keys and values of attention, or a hidden state). With
it each token costs one position; without it, the whole text so far.
"""

from __future__ import annotations

from typing import Any

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
    top_p: float = 1.0,
    seed: int = 0,
    end: int | None = None,
    never: tuple[int, ...] = (),
    rows: Tensor | None = None,
    cached: bool = True,
) -> Tensor:
    """New tokens after a prompt, from any model of tokens to logits ``(batch, T, vocabulary)``.

    prompt: token ids ``(T,)`` or ``(batch, T)`` int64, T at least 1; or ``{"source": (batch, S), "target": (batch,
        T)}`` for an encoder-decoder, whose target goes on. tokens: how many to draw.
    length: the most of the latest tokens that the model may see (0: all). When the text has grown longer, its older
        half is forgotten, so that what was kept of the newer half stays usable for a while.
    temperature: 0 takes the likeliest token (greedy), 1 draws from the model's probabilities, less sharpens them.
    top_k: draw among the k likeliest (0: all). top_p: draw among the fewest likeliest whose probabilities sum to at
        least so much (nucleus sampling: Holtzman et al., 2020).
    end: a token that ends a text; 0 follows it, and when all texts have ended no more are drawn.
    never: tokens that are not drawn, such as padding.
    rows: ``(batch,)`` int64, the numbers that key the draws of each row; 0, 1, ... unless said.
    cached: use the model's ``carry`` where it has it; the tokens are the same either way.

    Returns ``(batch, tokens)`` int64 without the prompt, or ``(tokens,)`` for a prompt without batch axis. The draw
    of row i at place t depends on (seed, i, t) alone: the same prompt gives the same text in any batch. The model is
    used in eval mode and left as it was. Raises ModelError for an empty prompt and for settings out of range.
    """
    if temperature < 0 or tokens < 0 or top_k < 0:
        raise ModelError(f"temperature {temperature}, top_k {top_k} and tokens {tokens} must not be negative")
    if not 0 < top_p <= 1:
        raise ModelError(f"top_p {top_p} is out of range; it must be above 0 and at most 1")
    given = prompt["target"] if isinstance(prompt, dict) else prompt
    text = given[None] if given.dim() == 1 else given
    if text.dim() != 2 or text.shape[1] == 0:
        raise ModelError("the prompt is empty; give at least one token")
    rows = torch.arange(len(text), device=text.device) if rows is None else rows.to(text.device)
    carry: Any = getattr(model, "carry", None) if cached else None
    state: Any = None
    start, seen, first = 0, 0, text.shape[1]
    training = model.training
    model.eval()
    try:
        done = torch.zeros(len(text), dtype=torch.bool, device=text.device)
        for place in range(tokens):
            moved = _window(start, text.shape[1], length)
            if moved != start:
                start, seen, state = moved, moved, None
            if carry is None:
                logits = model(_inputs(prompt, text[:, start:]))
            else:
                logits, state = carry(_inputs(prompt, text[:, seen:]), state)
                seen = text.shape[1]
            last = logits[:, -1].float()
            if never:
                last[:, list(never)] = float("-inf")
            chosen = _choose(last, rows, place, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
            text = torch.cat([text, torch.where(done, 0, chosen)[:, None]], 1)
            if end is not None:
                done |= chosen == end
                if bool(done.all()):
                    text = torch.cat([text, text.new_zeros(len(text), tokens - place - 1)], 1)
                    break
    finally:
        model.train(training)
    made = text[:, first:]
    return made if given.dim() == 2 else made[0]


def _window(start: int, count: int, length: int) -> int:
    """Where the text that the model sees begins: where it began, or half a window later as often as it has to."""
    if not length or count - start <= length:
        return start
    half = max(length // 2, 1)
    return start + -(-(count - start - length) // half) * half


def _inputs(prompt: Inputs, text: Tensor) -> Inputs:
    if not isinstance(prompt, dict):
        return text
    source = prompt["source"]
    return {**prompt, "source": source[None] if source.dim() == 1 else source, "target": text}


def _choose(
    logits: Tensor, rows: Tensor, place: int, *, temperature: float, top_k: int, top_p: float, seed: int
) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    p = torch.softmax(logits.double() / temperature, -1)
    if top_p < 1:
        falling, order = torch.sort(p, dim=-1, descending=True, stable=True)
        # A token stays where those before it do not sum to top_p yet; so the likeliest one always stays.
        kept = torch.where(falling.cumsum(-1) - falling < top_p, falling, 0.0)
        p = torch.zeros_like(p).scatter_(-1, order, kept)
    steps = p.cumsum(-1)
    point = keyed.uniform(keyed.key(seed, "generate", place), rows).double() * steps[:, -1:]
    return torch.searchsorted(steps, point, right=True)[:, 0].clamp_max(logits.shape[-1] - 1)
