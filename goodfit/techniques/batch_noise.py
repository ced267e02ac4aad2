"""Changes of inputs that are no images: noise on numbers, and words left out of texts."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from goodfit import keyed
from goodfit.errors import RecipeError
from goodfit.technique import Chance, Positive, Span, technique
from goodfit.techniques.batch_inputs import active
from goodfit.types import Batch, Moment


@technique("batch")
class Noise:
    """Add a little random noise to every number of tables, series and arrays.

    Small differences stop to matter, which smooths what the model learns, as an L2 penalty on its slope does.

    Formula: ``x + std * n``, n standard normal, drawn for each number of each sample and epoch.
    Source: Sietsma and Dow 1991; Bishop 1995 shows that it is Tikhonov regularisation. Ours draws by a key, so any
    batch size and order gives the same noise, and leaves categories alone.
    Helps: small tables, noisy measurements, series (as jitter). Hurts: where exact values matter (counts, flags, codes
    written as numbers), and trees of thresholds are already coarse.

    std: deviation of the noise, in deviations of the feature (inputs are standardised).
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("table", "series", "tensor")

    std: Positive = 0.05
    until: Span | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with noisy numbers."""
        if not active(self, moment):
            return batch
        place = keyed.key(moment.seed, "noise", moment.epoch)

        def noisy(values: Tensor) -> Tensor:
            drawn = keyed.normal(place, batch.index, values[0].numel()).reshape(values.shape)
            return values + self.std * drawn.to(values.dtype)

        inputs = batch.inputs
        if isinstance(inputs, dict):
            return batch._replace(
                inputs={**inputs, "numeric": noisy(inputs["numeric"])} if "numeric" in inputs else inputs
            )
        if not inputs.is_floating_point():
            raise RecipeError(["'batch.noise' adds noise to numbers, and these inputs are codes or bytes; remove it"])
        return batch._replace(inputs=noisy(inputs))


def drop_words(tokens: Tensor, dropped: Tensor) -> Tensor:
    """Leave tokens out and close the gaps; 0, the padding, fills the end.

    tokens: ``(batch, length)`` int64. dropped: ``(batch, length)`` bool. A text that would lose all keeps its first.
    """
    dropped = dropped & (tokens != 0)
    dropped[:, 0] &= ~(dropped | (tokens == 0)).all(1)
    order = torch.argsort((dropped | (tokens == 0)).to(torch.int8), dim=1, stable=True)
    return tokens.masked_fill(dropped, 0).gather(1, order)


@technique("batch")
class WordDrop:
    """Leave each word (token) of a text out with probability ``p``.

    The model cannot lean on single words.

    Formula: each token is removed with probability p, those after it move up, padding fills the end; one always stays.
    Source: random deletion of Wei and Zou 2019 (EDA, p 0.1), word dropout of Iyyer et al. 2015 (p 0.3). Ours works on
    tokens of whole batches, also on the text columns of tables.
    Helps: little data, long texts, bags of words. Hurts: short texts, in which the word left out was the point ("not").

    p: probability for each token. until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("text", "table")

    p: Chance = 0.1
    until: Span | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with shorter texts."""
        if not active(self, moment):
            return batch
        inputs = batch.inputs
        tokens = inputs.get("tokens") if isinstance(inputs, dict) else inputs
        if tokens is None or tokens.is_floating_point() or tokens.dim() != 2:
            raise RecipeError(["'batch.word_drop' leaves words out, and these samples hold no text; remove it"])
        draw = keyed.uniform(keyed.key(moment.seed, "word_drop", moment.epoch), batch.index, tokens.shape[1])
        shorter = drop_words(tokens, draw < self.p)
        return batch._replace(inputs={**inputs, "tokens": shorter} if isinstance(inputs, dict) else shorter)
