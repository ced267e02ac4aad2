"""A strong network for tables: several members in one, on numbers cut into pieces and values that are recognised."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import Activation, Dropout, activation, pixels, trimmed
from goodfit.models.mixing import mixed
from goodfit.models.mlp import image_tower
from goodfit.models.numbers import Numbers
from goodfit.models.weights import GeneratorFor, normal_, uniform_
from goodfit.technique import Chance, Count, Positive, Share, technique
from goodfit.types import Inputs, InputSpec

Whole = Annotated[int, Field(ge=0)]


@technique("model")
class Tabular:
    """An ensemble of ``members`` fully connected networks that share their weights but for a scale per input and
    output.

    Each number becomes a vector (see ``goodfit.models.numbers``): a line, a curve over the column's quantile bins, a
    few waves, and a vector of its own for each exact value that recurs. Categories are embedded, small ones as
    one-hot rows. Layers: member m computes ``s_m * ((r_m * x) W) + b_m``, then the activation and dropout; each
    member has a head. Logits are ``(batch, members, outputs)``: the loss is the mean of the members' losses, the
    prediction the mean of their probabilities. Bins and recurring values are read from the training part
    (``fit_to``). Source: Gorishniy et al. (2025), TabM, after BatchEnsemble (Wen et al., 2020); the recurring values
    are ours. Takes tables, with their text and image columns. Helps: level with boosted trees on thousands of rows
    and more.

    embedding: numbers per column. bins: pieces per numeric column. waves: frequencies per numeric column, N(0,
    ``sigma``^2) turns per unit at first (0: none). values: recurring values recognised per column, at most (0: none),
    in columns whose most frequent value holds ``spike`` of the rows or more: zero incomes, default entries.
    """

    members: Count = 8
    width: Count = 128
    depth: Count = 3
    activation: Activation = "relu"
    dropout: Chance = 0.25
    embedding: Count = 16
    bins: Count = 48
    waves: Whole = 16
    sigma: Positive = 0.1
    values: Whole = 256
    spike: Share = 0.2

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for tables like ``spec`` and ``outputs`` logits. Raises ModelError for any other input."""
        if spec.kind != "table":
            raise ModelError(f"model 'tabular' takes tables, but the data is {spec.kind}; use model.name = 'mlp'")
        return TabularModel(spec, outputs, settings=self)


class TabularModel(nn.Module):
    """Column embeddings, shared layers with a scale per member, one head per member; see ``Tabular``."""

    def __init__(self, spec: InputSpec, outputs: int, *, settings: Tabular) -> None:
        super().__init__()
        self.members = settings.members
        size = settings.embedding
        tower = 4 * size
        self.numbers = (
            Numbers(
                spec.numeric,
                size,
                bins=settings.bins,
                waves=settings.waves,
                sigma=settings.sigma,
                values=settings.values,
                spike=settings.spike,
            )
            if spec.numeric
            else None
        )
        self.categories = nn.ModuleList(nn.Embedding(count, min(count, size)) for count in spec.cardinalities)
        self.tokens = nn.EmbeddingBag(spec.vocabulary, tower, mode="mean", padding_idx=0) if spec.length else None
        self.image = image_tower(spec.image, tower, kind=settings.activation) if spec.image else None
        blocks = [size] * spec.numeric + [min(count, size) for count in spec.cardinalities]
        blocks += [tower] * ((self.tokens is not None) + (self.image is not None))
        if not blocks:
            raise ModelError("the table has no usable column left: there is nothing to learn from")
        widths = [sum(blocks)] + [settings.width] * settings.depth
        self.layers = nn.ModuleList(
            SharedLinear(wide, narrow, settings.members, blocks=blocks if number == 0 else None)
            for number, (wide, narrow) in enumerate(pairwise(widths))
        )
        self.activation = activation(settings.activation)
        self.dropout = Dropout(settings.dropout)
        self.head = MemberLinear(settings.width, outputs, settings.members)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Categories with few codes start as one-hot rows, others N(0, 1 / size); text tokens N(0, 1)."""
        for number, table in enumerate(self.categories):
            assert isinstance(table, nn.Embedding)
            if table.num_embeddings == table.embedding_dim:
                nn.init.eye_(table.weight)
            else:
                std = 1.0 / math.sqrt(table.embedding_dim)
                normal_(table.weight, std, generator=generator_for(f"categories.{number}.weight"))
        if self.tokens is not None:
            normal_(self.tokens.weight, 1.0, generator=generator_for("tokens.weight"))
            nn.init.zeros_(self.tokens.weight[0].detach())

    def fit_to(self, inputs: Inputs, targets: Tensor | None = None) -> None:
        """Read the numeric columns' bins and recurring values from training inputs, best all of them."""
        if self.numbers is not None and isinstance(inputs, dict):
            self.numbers.fit_to(inputs["numeric"])

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """A table's inputs to logits ``(batch, members, outputs)``."""
        row = mixed(self.embed, inputs)
        stream = row.expand(self.members, *row.shape)
        for layer in self.layers:
            stream = self.dropout(self.activation(layer(stream)))
        return torch.as_tensor(self.head(stream).transpose(0, 1))

    def embed(self, inputs: dict[str, Tensor]) -> Tensor:
        """All columns' vectors side by side, ``(batch, features)``."""
        parts: list[Tensor] = []
        if self.numbers is not None:
            parts.append(self.numbers(inputs["numeric"]).flatten(1))
        parts += [table(inputs["category"][:, number]) for number, table in enumerate(self.categories)]
        if self.tokens is not None:
            parts.append(self.tokens(trimmed(inputs["tokens"])))
        if self.image is not None:
            parts.append(self.image(pixels(inputs["image"])))
        return torch.cat(parts, 1)


class SharedLinear(nn.Module):
    """One weight for all members, between a scale per input and a scale per output of each member's own.

    Formula: ``y_m = ((x_m * r_m) W) * s_m + b_m``. blocks: widths of the first layer's input columns, whose scales r
    start N(0, 1), one per column, so that members look at the columns differently; elsewhere scales start at 1.
    """

    def __init__(self, inputs: int, outputs: int, members: int, *, blocks: list[int] | None) -> None:
        super().__init__()
        self.blocks = blocks
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.r = nn.Parameter(torch.ones(members, inputs))
        self.s = nn.Parameter(torch.ones(members, outputs))
        self.bias = nn.Parameter(torch.zeros(members, outputs))

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Weights and biases U(-1, 1) / sqrt(inputs), as TabM's; members share the biases at first."""
        bound = 1.0 / math.sqrt(len(self.weight))
        uniform_(self.weight, bound, generator=generator_for("weight"))
        shared = torch.empty(self.bias.shape[1])
        uniform_(shared, bound, generator=generator_for("bias"))
        self.bias.data.copy_(shared.expand_as(self.bias))
        nn.init.ones_(self.s)
        nn.init.ones_(self.r)
        if self.blocks is not None:
            scales = torch.empty(len(self.r), len(self.blocks))
            normal_(scales, 1.0, generator=generator_for("r"))
            self.r.data.copy_(scales.repeat_interleave(torch.tensor(self.blocks), 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(members, batch, inputs)``. Returns ``(members, batch, outputs)``."""
        # Scaling the weights is cheaper than scaling the inputs: a batch has more rows than a layer.
        weight = self.weight * self.r[:, :, None] * self.s[:, None]
        return torch.baddbmm(self.bias[:, None], inputs, weight)


class MemberLinear(nn.Module):
    """A linear layer of its own for each member: ``y_m = x_m W_m + b_m``."""

    def __init__(self, inputs: int, outputs: int, members: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(members, outputs))

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Weights U(-1, 1) / sqrt(inputs), no bias."""
        uniform_(self.weight, 1.0 / math.sqrt(self.weight.shape[1]), generator=generator_for("weight"))
        nn.init.zeros_(self.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(members, batch, inputs)``. Returns ``(members, batch, outputs)``."""
        return torch.baddbmm(self.bias[:, None], inputs, self.weight)
