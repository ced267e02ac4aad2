"""How well is the next token foreseen? Nats per token, perplexity, nats and bits per character, token accuracy.

Arguments everywhere: nats ``(windows,)``, each window's summed -ln p(token), and tokens ``(windows,)``, how many
tokens that sums over; weights as in `goodfit.evaluation.weighted`. Windows, not tokens, are resampled: tokens of one
window are not independent.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from goodfit.evaluation.weighted import Array, NotAvailable, Value, ratio, settle, total
from goodfit.types import Part, Task

IGNORED = -100


def nats_per_token(nats: Array, tokens: Array, weights: Array | None = None) -> Value:
    """Mean surprise at the next token, in nats: the loss of a language model.

    Formula: sum of -ln p(token | tokens before) / number of tokens. Range: 0 to infinity, lower is better; guessing
    gives ln(vocabulary).
    Misleading: between different tokenizers; longer tokens are harder to foresee, so compare nats per character.
    It also depends on how much text the model sees before each token. Source: Shannon 1948.
    """
    return settle(ratio(total(nats, weights), total(tokens, weights)), weights, "no token is counted")


def perplexity(nats: Array, tokens: Array, weights: Array | None = None) -> Value:
    """As many equally likely tokens would be this hard to choose from.

    Formula: exp(nats per token). Range: 1 to infinity, lower is better; guessing gives the vocabulary's size.
    Misleading: between different tokenizers, as nats per token. Source: Jelinek et al. 1977.
    """
    return np.exp(nats_per_token(nats, tokens, weights))


def nats_per_character(
    nats: Array, tokens: Array, weights: Array | None = None, *, characters_per_token: float | None = None
) -> Value:
    """Mean surprise per character of text, in nats; can be compared between tokenizers.

    Formula: nats per token / characters per token of this text. Range: 0 to infinity, lower is better.
    Misleading: across texts; poetry is harder than logs. Not available where the number of characters is unknown.
    Source: Shannon 1951, "Prediction and entropy of printed English".
    """
    if not characters_per_token:
        raise NotAvailable("how many characters a token holds is not known")
    return nats_per_token(nats, tokens, weights) / characters_per_token


def bits_per_character(
    nats: Array, tokens: Array, weights: Array | None = None, *, characters_per_token: float | None = None
) -> Value:
    """Nats per character in bits: the size to which this model could compress the text.

    Formula: nats per character / ln 2. Range: 0 to infinity, lower is better; plain ASCII text takes 8.
    Misleading: as nats per character. Source: Shannon 1951.
    """
    return nats_per_character(nats, tokens, weights, characters_per_token=characters_per_token) / math.log(2)


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Each position's -ln p(token), so that a large vocabulary's logits need not be kept.

    logits: ``(batch, length, vocabulary)`` or ``(batch, members, length, vocabulary)``, whose members' probabilities
    are averaged. targets: ``(batch, length)``, -100 is ignored. Returns ``(batch, length)`` float32 on the same
    device, 0 where ignored.
    """
    log_p = torch.log_softmax(logits.float(), -1)
    if log_p.ndim == 4:
        log_p = torch.logsumexp(log_p, 1) - math.log(log_p.shape[1])
    kept = targets != IGNORED
    found = log_p.gather(-1, targets.where(kept, 0).unsqueeze(-1)).squeeze(-1)
    return torch.where(kept, -found, 0.0)


def window_sums(losses: Tensor, targets: Tensor) -> tuple[Array, Array]:
    """Sum of nats and number of tokens of each window, each ``(windows,)`` float64.

    losses: ``(windows, length)`` as ``token_losses`` gives; targets the same shape.
    """
    kept = (targets != IGNORED).double()
    return (losses.detach().cpu().double() * kept.cpu()).sum(1).numpy(), kept.sum(1).cpu().numpy()


def characters_per_token(task: Task, part: Part) -> float | None:
    """Characters that a token of this part stands for, or None where that is not known.

    From ``part.characters`` (how many characters its targets hold) where the part has it, else from the tokens' names
    in ``task.classes``, each of which stands for as many characters as it has.
    """
    targets = part.targets.cpu()
    kept = targets[targets != IGNORED]
    characters = getattr(part, "characters", None)
    if characters and len(kept):
        return float(characters) / len(kept)
    if not task.classes or not len(kept) or int(kept.max()) >= len(task.classes):
        return None
    lengths = torch.tensor([len(name) for name in task.classes], dtype=torch.float64)
    return float(lengths[kept].mean()) or None


def single_characters(task: Task) -> float | None:
    """1.0 where every token's name is one character, else None."""
    return 1.0 if task.classes and all(len(name) == 1 for name in task.classes) else None
