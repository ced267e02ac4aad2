"""Bags of n-grams: a text is the mean of its words' and word pairs' embeddings, in no order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import small_head, trimmed
from goodfit.models.weights import GeneratorFor, normal_
from goodfit.technique import Chance, Count, technique
from goodfit.types import InputSpec


@technique("model")
class Bag:
    """A bag of n-grams classifier: mean of the embeddings of all token n-grams, dropout, one linear layer.

    n-grams of two and more tokens share a table of ``buckets`` rows by a hash. Source: Joulin et al. (2017),
    fastText; ours adds dropout of whole n-grams (``drop_tokens``) and of features. Small data and topics suit it;
    where word order decides, ``gru`` or ``transformer`` do better. Takes text.

    width: numbers per n-gram. ngrams: longest n-gram.
    """

    width: Count = 64
    ngrams: Count = 2
    buckets: Count = 131072
    dropout: Chance = 0.3
    drop_tokens: Chance = 0.2

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for texts like ``spec``. Raises ModelError for any other input."""
        if spec.kind != "text":
            raise ModelError(f"model 'bag' takes text, but the data is {spec.kind}; use model.name = 'mlp'")
        return BagModel(spec.vocabulary, outputs, settings=self)


class BagModel(nn.Module):
    """n-gram tables, mean, head; see ``Bag``."""

    def __init__(self, vocabulary: int, outputs: int, *, settings: Bag) -> None:
        super().__init__()
        self.vocabulary, self.ngrams, self.buckets = vocabulary, settings.ngrams, settings.buckets
        self.drop_tokens = settings.drop_tokens
        rows = vocabulary + (settings.buckets if settings.ngrams > 1 else 0)
        self.table = nn.EmbeddingBag(rows, settings.width, mode="sum", padding_idx=0)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(settings.width, outputs)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Rows N(0, 1), so that a mean of dozens still has a scale; a small head."""
        normal_(self.table.weight, 1.0, generator=generator_for("table.weight"))
        nn.init.zeros_(self.table.weight[0].detach())
        small_head(self.head, generator_for("head.weight"))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, length)`` int64, 0 is padding. Returns logits ``(batch, outputs)``."""
        grams = self.grams(trimmed(inputs))
        keep = (grams != 0).to(self.table.weight.dtype)
        if self.training and self.drop_tokens:
            keep = keep * (torch.rand(keep.shape, device=keep.device) >= self.drop_tokens)
        share = keep / keep.sum(1, keepdim=True).clamp_min(1.0)
        mixed = self.table(grams, per_sample_weights=share)
        return torch.as_tensor(self.head(self.dropout(mixed)))

    def grams(self, tokens: Tensor) -> Tensor:
        """Rows of the table for every n-gram ``(batch, n-grams)`` int64; 0 where one would reach into padding."""
        rows, mix, real = [tokens], tokens, tokens != 0
        for size in range(2, min(self.ngrams, tokens.shape[1]) + 1):
            after = tokens[:, size - 1 :]
            mix = mix[:, :-1] * 1000003 + after * 8191 + size
            real = real[:, :-1] & (after != 0)
            rows.append(torch.where(real, self.vocabulary + (mix ^ (mix >> 17)) % self.buckets, 0))
        return torch.cat(rows, 1)
