"""The next token foreseen by counting: what followed the same one, two, ... tokens in the training text."""

from __future__ import annotations

import math

import numpy as np
import torch

from goodfit.evaluation.language import IGNORED
from goodfit.evaluation.weighted import Array
from goodfit.types import Part


def ngram_nats(
    train: Part, other: Part, *, vocabulary: int, order: int, tokens: int = 4_000_000
) -> tuple[list[Array], int]:
    """-ln p of each target token of ``other`` under counting models that see 0, 1, ... ``order - 1`` tokens before it.

    Parts hold inputs and targets ``(windows, length)``; a target's context is what its own window shows before it.
    Returns one array ``(windows, length)`` for each order, 0 where ignored, and how many training tokens were counted
    (at most ``tokens``).

    Formula: p_k(w | h) = (c(hw) + N(h) p_{k-1}(w | h')) / (c(h) + N(h)), where N(h) is how many different tokens
    followed h, h' is h without its first token, and p_{-1} = 1 / vocabulary.
    Source: Witten and Bell 1991 (method C), interpolated as in Chen and Goodman 1999.
    """
    seen, told = _windows(train, tokens)
    inputs, targets = _all(other)
    kept, answered = told != IGNORED, targets != IGNORED
    p = np.full(targets.shape, 1.0 / vocabulary)
    context, asked = np.zeros_like(seen), np.zeros_like(inputs)
    losses = []
    for k in range(order):
        if k:
            # One more token to the left; windows too short for it drop out of this order.
            if vocabulary ** (k + 1) >= 2**62 or k > seen.shape[1]:
                break
            context = _longer(context, seen, k, vocabulary)
            asked = _longer(asked, inputs, k, vocabulary)
            kept, answered = _without_start(kept, k), _without_start(answered, k)
        p = _refine(p, context[kept] * vocabulary + told[kept], asked, targets, answered, vocabulary)
        losses.append(np.where(targets != IGNORED, -np.log(p), 0.0))
    return losses, int((told != IGNORED).sum())


def _refine(p: Array, codes: Array, asked: Array, targets: Array, answered: Array, vocabulary: int) -> Array:
    """One order more: ``p`` mixed with the counts of ``codes`` (context x vocabulary + token)."""
    pairs, times = np.unique(codes, return_counts=True)
    if not len(pairs):
        return p
    contexts, starts = np.unique(pairs // vocabulary, return_index=True)
    total = np.add.reduceat(times, starts)
    different = np.diff(np.append(starts, len(pairs)))
    history = asked[answered]
    at = np.minimum(np.searchsorted(contexts, history), len(contexts) - 1)
    there = contexts[at] == history
    wanted = history * vocabulary + targets[answered]
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    count = np.where(pairs[place] == wanted, times[place], 0)
    mixed = (count + different[at] * p[answered]) / (total[at] + different[at])
    made = p.copy()
    made[answered] = np.where(there, mixed, p[answered])
    return made


def _longer(context: Array, inputs: Array, k: int, vocabulary: int) -> Array:
    """Add the k-th token back from each position; input t is the token just before target t."""
    made = context.copy()
    made[:, k - 1 :] += inputs[:, : inputs.shape[1] - k + 1] * vocabulary ** (k - 1)
    return made


def _without_start(mask: Array, k: int) -> Array:
    made = mask.copy()
    made[:, : k - 1] = False
    return made


def _windows(part: Part, tokens: int) -> tuple[Array, Array]:
    """Inputs and targets of windows that do not overlap, evenly spread, ``tokens`` tokens at most."""
    length = part.targets.shape[1]
    step = _overlap(part, length)
    step *= max(1, math.ceil(len(part) / step * length / tokens))
    batch = part.take(torch.arange(0, len(part), step))
    assert isinstance(batch.inputs, torch.Tensor)
    return batch.inputs.cpu().numpy(), batch.targets.cpu().numpy()


def _overlap(part: Part, length: int) -> int:
    """How many windows on the next one begins that shares no token with this one."""
    if len(part) < 2 or length < 2:
        return 1
    first = part.take(torch.arange(2)).inputs
    assert isinstance(first, torch.Tensor)
    for shift in range(1, length):
        if torch.equal(first[0, shift:], first[1, : length - shift]) and length - shift >= 8:
            return math.ceil(length / shift)
    return 1


def _all(part: Part) -> tuple[Array, Array]:
    batch = part.take(torch.arange(len(part)))
    assert isinstance(batch.inputs, torch.Tensor)
    return batch.inputs.cpu().numpy(), batch.targets.cpu().numpy()
