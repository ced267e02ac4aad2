"""Fully connected networks, and the towers that turn a table's columns into one row of features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import Activation, Dropout, Norm, activation, norm, pixels, small_head, trimmed, words_of
from goodfit.models.mixing import mixed
from goodfit.models.weights import GeneratorFor, normal_
from goodfit.technique import Chance, Count, Positive, technique
from goodfit.types import Inputs, InputSpec


@technique("model")
class Mlp:
    """A fully connected network: Linear, norm, activation, dropout, ``depth`` times, then the head.

    Formula: ``h <- dropout(f(norm(W h + b)))`` for each hidden layer, ``logits = W h + b`` at the end.
    Source: Rumelhart, Hinton and Williams (1986). One hidden layer with a non-linear f can come as near to any
        continuous function as one likes (Cybenko, 1989); without f all layers together are one linear map.
    Ours: takes tables (numbers beside one embedding per category; a text column as the mean of its tokens' embeddings;
        an image column through a small convolutional net; all side by side), images, series and plain tensors
        (flattened), and text (mean embedding).
    Helps: numbers without known structure; a plain yardstick. Hurts: images and sequences, whose structure it must
        learn from nothing; tables, where ``tabular`` is better.

    width: units of each hidden layer. embedding: numbers per category. tower: features of the text and image towers.
    slope: of ``leaky_relu``.
    """

    width: Count = 256
    depth: Count = 3
    activation: Activation = "relu"
    norm: Norm = "layer"
    dropout: Chance = 0.1
    embedding: Count = 8
    tower: Count = 64
    slope: Positive = 0.01

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for inputs like ``spec`` and ``outputs`` logits. Raises ModelError for language."""
        if spec.kind == "language":
            raise ModelError(
                "model 'mlp' takes tables, tensors, images, series and text, not language; use 'transformer'"
            )
        columns = Columns(spec, embedding=self.embedding, tower=self.tower, kind=self.activation)
        widths = [columns.features] + [self.width] * self.depth
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers.append(
                nn.Sequential(
                    nn.Linear(wide, narrow),
                    norm(self.norm, narrow),
                    activation(self.activation, slope=self.slope),
                    Dropout(self.dropout),
                )
            )
        return MlpModel(columns, layers, nn.Linear(self.width, outputs))


class MlpModel(nn.Module):
    """Columns to features, hidden layers, head; see ``Mlp``."""

    def __init__(self, columns: Columns, layers: Sequence[nn.Module], head: nn.Linear) -> None:
        super().__init__()
        self.columns = columns
        self.layers = nn.Sequential(*layers)
        self.head = head

    def initialise(self, generator_for: GeneratorFor) -> None:
        """A small head: the first loss is near ln C."""
        small_head(self.head, generator_for("head.weight"))

    def forward(self, inputs: Inputs) -> Tensor:
        """Inputs to logits ``(batch, outputs)``."""
        return torch.as_tensor(self.head(self.layers(mixed(self.columns, inputs))))


class Columns(nn.Module):
    """Turns one sample of any kind but language into a row of ``features`` numbers.

    embedding: numbers per category column. tower: features of the text and image towers. kind: the towers' activation.
    """

    def __init__(self, spec: InputSpec, *, embedding: int, tower: int, kind: str) -> None:
        super().__init__()
        self.numeric = spec.numeric if spec.kind == "table" else 0
        codes = spec.cardinalities if spec.kind == "table" else ()
        self.category = CategoryTable(codes, embedding) if codes else None
        vocabulary, self.length = words_of(spec) if spec.kind == "text" else (spec.vocabulary, spec.length)
        self.tokens = TokenMean(vocabulary, tower) if self.length and spec.kind in ("table", "text") else None
        self.image = image_tower(spec.image, tower, kind=kind) if spec.image else None
        flat = math.prod(spec.shape) if spec.kind in ("image", "series", "tensor") else 0
        self.features = flat + self.numeric + embedding * len(codes)
        self.features += tower * ((self.tokens is not None) + (self.image is not None))
        if not self.features:
            raise ModelError("the table has no usable column left: there is nothing to learn from")

    def forward(self, inputs: Inputs) -> Tensor:
        """Inputs of the spec's kind to ``(batch, features)`` float."""
        if not isinstance(inputs, dict):
            flat = pixels(inputs).flatten(1) if self.tokens is None else self.tokens(inputs[:, : self.length])
            return torch.as_tensor(flat)
        parts: list[Tensor] = []
        if self.numeric:
            parts.append(inputs["numeric"])
        if self.category is not None:
            parts.append(self.category(inputs["category"]).flatten(1))
        if self.tokens is not None:
            parts.append(self.tokens(inputs["tokens"]))
        if self.image is not None:
            parts.append(self.image(pixels(inputs["image"])))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class CategoryTable(nn.Module):
    """One embedding per category of all columns, kept as a single table: one look-up a batch."""

    starts: Tensor

    def __init__(self, cardinalities: Sequence[int], width: int) -> None:
        super().__init__()
        ends = torch.tensor((0, *cardinalities)).cumsum(0)
        self.register_buffer("starts", ends[:-1], persistent=False)
        self.table = nn.Embedding(int(ends[-1]), width)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Standard normal rows: beside standardised numbers, a category must not be a whisper."""
        normal_(self.table.weight, 1.0, generator=generator_for("table.weight"))

    def forward(self, codes: Tensor) -> Tensor:
        """codes: ``(batch, columns)`` int64. Returns ``(batch, columns, width)``."""
        return torch.as_tensor(self.table(codes + self.starts))


class TokenMean(nn.Module):
    """The mean of a text's token embeddings, layer-normalised; padding counts nothing."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(vocabulary, width, mode="mean", padding_idx=0)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: ``(batch, length)`` int64. Returns ``(batch, width)``."""
        return torch.as_tensor(self.norm(self.table(trimmed(tokens))))


def image_tower(shape: tuple[int, ...], width: int, *, kind: str) -> nn.Module:
    """A small convolutional net for an image column: three strided 3x3 convolutions, mean over positions, ``width``
    features."""
    channels = [shape[0], max(width // 4, 8), max(width // 2, 8), width]
    layers: list[nn.Module] = []
    for one, two in pairwise(channels):
        layers += [nn.Conv2d(one, two, 3, stride=2, padding=1), norm("group", two, dims=2, groups=8), activation(kind)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
