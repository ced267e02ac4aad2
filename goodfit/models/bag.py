"""Bags of n-grams: a text is what occurs in it, in no order, and each word speaks for or against each class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import Dropout, trimmed
from goodfit.models.mixing import mixed
from goodfit.models.weights import GeneratorFor
from goodfit.technique import Chance, Count, Positive, technique
from goodfit.types import Inputs, InputSpec


@technique("model")
class Bag:
    """A linear classifier of n-grams whose inputs are scaled by how strongly each n-gram speaks for each class.

    Formula: ``logit_c = scale * sum_f x_f r_fc w_fc + b_c``. x_f is the n-gram's inverse document frequency where it
    occurs (smoothed, as scikit-learn's), the whole normalised to length 1; with several kinds of n-grams each kind by
    itself first. r_fc is the logarithm of how much more of the n-gram's weight lies in class c than in the others
    (naive Bayes), clipped to +-4 and then kept; w is learned and starts at zero. Source: Wang and Manning (2012),
    NBSVM; ours learns w by gradient descent for any number of classes.

    idf and r are read from the training part (``fit_to``). Train it by SGD with momentum at a rate near 1: Adam gives
    rare n-grams, whose r has seen the labels already, steps as large as common ones, and it learns the training set
    by heart. Takes text. With ``data.tokens = "grams"`` the n-grams are the data's own (words, pairs, pieces of
    words); with any other tokens, n-grams of up to ``ngrams`` tokens are hashed into ``buckets`` rows. Helps:
    thousands of texts, topics and opinions. Hurts: where word order decides, or much data; use ``gru`` or
    ``transformer``.

    smoothing: added to every count of r. dropout: share of the n-grams left out at random while training.
    """

    ngrams: Count = 2
    buckets: Count = 262144
    scale: Positive = 4.0
    smoothing: Positive = 0.1
    dropout: Chance = 0.0

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for texts like ``spec``. Raises ModelError for any other input."""
        if spec.kind != "text":
            raise ModelError(f"model 'bag' takes text, but the data is {spec.kind}; use model.name = 'mlp'")
        return BagModel(spec, outputs, settings=self)


class BagModel(nn.Module):
    """Weights per n-gram and class; see ``Bag``."""

    idf: Tensor
    ratio: Tensor

    def __init__(self, spec: InputSpec, outputs: int, *, settings: Bag) -> None:
        super().__init__()
        self.outputs, self.settings = outputs, settings
        self.words = spec.length if spec.cardinalities else 0
        if spec.cardinalities:  # the data's own n-grams: numbers behind those of the words, one range for each kind
            self.ends = tuple(sum(spec.cardinalities[: end + 1]) for end in range(1, len(spec.cardinalities)))
        else:
            self.ends = (spec.vocabulary + (settings.buckets if settings.ngrams > 1 else 0),)
        self.vocabulary = spec.vocabulary
        rows = self.ends[-1]
        self.weight = nn.Parameter(torch.zeros(rows, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.dropout = Dropout(settings.dropout)
        self.register_buffer("idf", torch.ones(rows))
        self.register_buffer("ratio", torch.ones(rows, outputs))
        self.idf[0] = 0.0

    def initialise(self, generator_for: GeneratorFor) -> None:
        """All zero: there is no hidden layer, and what is known about an n-gram stands in ``ratio``."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def fit_to(self, inputs: Inputs, targets: Tensor | None = None) -> None:
        """Count in how many texts each n-gram occurs, and with class targets how it divides among them.

        inputs: ``(samples, length)`` int64, best the whole training part. targets: ``(samples,)`` class indices;
        anything else leaves the ratios at one.
        """
        assert isinstance(inputs, Tensor)
        seen = torch.zeros(len(self.idf), dtype=torch.float64)
        for chunk in torch.split(inputs, 1024):
            grams = self.grams(chunk).cpu().flatten()
            seen += torch.bincount(grams, minlength=len(seen))
        idf = torch.log((1.0 + len(inputs)) / (1.0 + seen)) + 1.0
        idf[0] = 0.0
        self.idf.copy_(idf)
        if targets is None or targets.is_floating_point() or targets.dim() != 1 or self.outputs < 2:
            return
        mass = torch.zeros(len(self.idf), self.outputs)
        for chunk, labels in zip(torch.split(inputs, 1024), torch.split(targets, 1024), strict=True):
            grams = self.grams(chunk)
            place = grams * self.outputs + labels[:, None]
            mass.view(-1).index_add_(0, place.cpu().flatten(), self.weigh(grams).cpu().flatten())
        mine = mass + self.settings.smoothing
        other = mass.sum(1, keepdim=True) - mass + self.settings.smoothing
        self.ratio.copy_(torch.log(mine / mine.sum(0) / (other / other.sum(0))).clamp_(-4.0, 4.0))

    def forward(self, inputs: Inputs) -> Tensor:
        """inputs: ``(batch, length)`` int64, 0 is padding. Returns logits ``(batch, outputs)``."""
        return mixed(self.logits, inputs)

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits of one text each; they are linear in the n-grams, so mixing them mixes the texts."""
        grams = self.grams(inputs)
        share = self.dropout(self.weigh(grams) * self.settings.scale)
        return F.embedding_bag(grams, self.weight * self.ratio, mode="sum", per_sample_weights=share) + self.bias

    def weigh(self, grams: Tensor) -> Tensor:
        """x of the formula, ``(batch, n-grams)`` float: idf, each kind of length 1, then all together."""
        weights = self.idf[grams]
        total = torch.zeros_like(weights)
        kinds = torch.zeros(len(grams), 1, device=grams.device)
        start = 0
        for end in self.ends:
            of_kind = weights * ((grams >= start) & (grams < end))
            length = of_kind.norm(dim=1, keepdim=True)
            total += of_kind / length.clamp_min(1e-12)
            kinds += length > 0
            start = end
        return total / kinds.clamp_min(1.0).sqrt()

    def grams(self, inputs: Tensor) -> Tensor:
        """The n-grams of each text, each once, ``(batch, n-grams)`` int64; 0 is padding."""
        if self.words:
            return trimmed(inputs[:, self.words :])
        tokens = trimmed(inputs)
        rows, mix, real = [tokens], tokens, tokens != 0
        for size in range(2, min(self.settings.ngrams, tokens.shape[1]) + 1):
            after = tokens[:, size - 1 :]
            mix = mix[:, :-1] * 1000003 + after * 8191 + size
            real = real[:, :-1] & (after != 0)
            rows.append(torch.where(real, self.vocabulary + (mix ^ (mix >> 17)) % self.settings.buckets, 0))
        ordered = torch.cat(rows, 1).sort(1, descending=True).values
        again = F.pad(ordered[:, 1:] == ordered[:, :-1], (1, 0))
        return ordered.masked_fill(again, 0)
