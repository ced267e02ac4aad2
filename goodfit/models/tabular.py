"""A strong network for tables: several members in one, on numbers that are cut into pieces and values that are
recognised."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import Activation, activation, lengths_of, pixels
from goodfit.models.mlp import image_tower
from goodfit.models.weights import GeneratorFor, normal_, uniform_
from goodfit.technique import Chance, Count, NotNegative, technique
from goodfit.types import Inputs, InputSpec


@technique("model")
class Tabular:
    """An ensemble of ``members`` fully connected networks that share their weights but for a scale per input and
    output.

    Each number x of a column becomes ``a x + b + sum_t W_t p_t(x) + V_v``: p_t(x) in [0, 1] says how far x has come
    through bin t of the column's quantiles (piecewise-linear encoding, Gorishniy et al., 2022), and V_v is a vector
    of its own for an exact value v that many samples share (such as a capital gain of 0), zero at first. Categories
    are embedded, small ones as one-hot rows. Layers: member m computes ``s_m * ((r_m * x) W) + b_m``. Source:
    Gorishniy et al. (2025), TabM, after BatchEnsemble (Wen et al., 2020); the exact-value vectors are ours. The bins
    and values are read from the training inputs (``fit_to``). Logits are ``(batch, members, outputs)``: the loss is
    the mean of the members' losses, the prediction the mean of their probabilities. Takes tables.

    embedding: numbers per column. bins: pieces per numeric column. values: most exact values recognised per column
    (0: none).
    """

    members: Count = 16
    width: Count = 256
    depth: Count = 3
    activation: Activation = "relu"
    dropout: Chance = 0.1
    embedding: Count = 16
    bins: Count = 48
    values: int = 128
    value_share: NotNegative = 0.002

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for tables like ``spec`` and ``outputs`` logits. Raises ModelError for any other input."""
        if spec.kind != "table":
            raise ModelError(f"model 'tabular' takes tables, but the data is {spec.kind}; 'mlp' takes most kinds")
        return TabularModel(spec, outputs, settings=self)


class TabularModel(nn.Module):
    """Column embeddings, shared layers with a scale per member, one head per member; see ``Tabular``."""

    def __init__(self, spec: InputSpec, outputs: int, *, settings: Tabular) -> None:
        super().__init__()
        self.members = settings.members
        size = settings.embedding
        blocks = [size] * spec.numeric + [min(count, size) for count in spec.cardinalities]
        tower = 4 * size
        self.numbers = Numbers(spec.numeric, size, settings) if spec.numeric else None
        self.categories = nn.ModuleList(nn.Embedding(count, min(count, size)) for count in spec.cardinalities)
        self.tokens = nn.Embedding(spec.vocabulary, tower, padding_idx=0) if spec.length else None
        self.image = image_tower(spec.image, tower, kind=settings.activation) if spec.image else None
        blocks += [tower] * ((self.tokens is not None) + (self.image is not None))
        if not blocks:
            raise ModelError("the table has no usable column left: there is nothing to learn from")
        widths = [sum(blocks)] + [settings.width] * settings.depth
        self.layers = nn.ModuleList(
            SharedLinear(wide, narrow, settings.members, blocks=blocks if number == 0 else None)
            for number, (wide, narrow) in enumerate(pairwise(widths))
        )
        self.activation = activation(settings.activation)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = MemberLinear(settings.width, outputs, settings.members)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Categories with few codes start as one-hot rows, others N(0, 1 / size)."""
        for number, table in enumerate(self.categories):
            assert isinstance(table, nn.Embedding)
            if table.num_embeddings == table.embedding_dim:
                nn.init.eye_(table.weight)
            else:
                std = 1.0 / math.sqrt(table.embedding_dim)
                normal_(table.weight, std, generator=generator_for(f"categories.{number}.weight"))

    def fit_to(self, inputs: Inputs) -> None:
        """Read the numeric columns' bins and frequent values from training inputs."""
        if self.numbers is not None and isinstance(inputs, dict):
            self.numbers.fit_to(inputs["numeric"])

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """A table's inputs to logits ``(batch, members, outputs)``."""
        parts: list[Tensor] = []
        if self.numbers is not None:
            parts.append(self.numbers(inputs["numeric"]).flatten(1))
        parts += [table(inputs["category"][:, number]) for number, table in enumerate(self.categories)]
        if self.tokens is not None:
            tokens = inputs["tokens"]
            parts.append(self.tokens(tokens).sum(1) / lengths_of(tokens)[:, None].sqrt())
        if self.image is not None:
            parts.append(self.image(pixels(inputs["image"])))
        row = torch.cat(parts, 1)
        stream = row.expand(self.members, *row.shape)
        for layer in self.layers:
            stream = self.dropout(self.activation(layer(stream)))
        return torch.as_tensor(self.head(stream).transpose(0, 1))


class Numbers(nn.Module):
    """Embeds numeric columns: a line, a piecewise-linear curve, and a vector for each frequent exact value."""

    edges: Tensor
    frequent: Tensor

    def __init__(self, columns: int, size: int, settings: Tabular) -> None:
        super().__init__()
        self.share = settings.value_share
        self.slope = nn.Parameter(torch.empty(columns, size))
        self.offset = nn.Parameter(torch.empty(columns, size))
        self.pieces = nn.Parameter(torch.empty(columns, settings.bins, size))
        quantiles = torch.linspace(0.001, 0.999, settings.bins + 1, dtype=torch.float64)
        self.register_buffer("edges", torch.special.ndtri(quantiles).float().repeat(columns, 1))
        self.register_buffer("frequent", torch.full((columns, settings.values), float("inf")))
        self.values = nn.Embedding(columns * (settings.values + 1), size) if settings.values else None

    def initialise(self, generator_for: GeneratorFor) -> None:
        """A random line per column; pieces and values start at zero and bend it where the data asks for it."""
        uniform_(self.slope, 1.0, generator=generator_for("slope"))
        uniform_(self.offset, 1.0, generator=generator_for("offset"))
        nn.init.zeros_(self.pieces)
        if self.values is not None:
            nn.init.zeros_(self.values.weight)

    @torch.no_grad()
    def fit_to(self, numeric: Tensor) -> None:
        """numeric: ``(samples, columns)``. Sets quantile bins, and the values that at least max(10, share of samples)
        rows hold."""
        bins, values = self.edges.shape[1] - 1, self.frequent.shape[1]
        for column, all_of in enumerate(numeric.detach().cpu().unbind(1)):
            distinct, counts = torch.unique(all_of, return_counts=True)
            grid = torch.linspace(0.0, 1.0, bins + 1, dtype=torch.float64)
            edges = torch.unique(torch.quantile(all_of.double()[:1_000_000], grid))
            if len(edges) < 0.75 * (bins + 1):  # repeated values eat quantiles: spend the rest on distinct ones
                left = torch.linspace(0.0, 1.0, bins + 2 - len(edges), dtype=torch.float64)
                edges = torch.unique(torch.cat([edges, torch.quantile(distinct.double()[:1_000_000], left)]))
            edges = torch.unique(edges.float())
            if len(edges) < 2:
                edges = torch.stack([edges[0], edges[0] + 1.0])
            self.edges[column] = float("inf")
            self.edges[column, : len(edges)] = edges.to(self.edges)
            least = max(10.0, self.share * len(all_of))
            often = distinct[counts >= least]
            if len(often) > values:
                often = distinct[counts.argsort(descending=True, stable=True)[:values]].sort().values
            self.frequent[column] = float("inf")
            self.frequent[column, : len(often)] = often.to(self.frequent)

    def forward(self, numeric: Tensor) -> Tensor:
        """numeric: ``(batch, columns)``. Returns ``(batch, columns, size)``."""
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        wide = torch.where(high.isfinite(), high - low, torch.inf)
        place = ((numeric[:, :, None] - torch.where(low.isfinite(), low, 0.0)) / wide).clamp(0.0, 1.0)
        curve = torch.bmm(place.transpose(0, 1), self.pieces).transpose(0, 1)
        out = numeric[:, :, None] * self.slope + self.offset + curve
        if self.values is None:
            return out
        found = torch.searchsorted(self.frequent, numeric.T.contiguous()).clamp_max(self.frequent.shape[1] - 1)
        same = self.frequent.gather(1, found) == numeric.T
        starts = torch.arange(len(found), device=found.device)[:, None] * (self.frequent.shape[1] + 1)
        rows = starts + torch.where(same, found + 1, 0)
        return out + torch.as_tensor(self.values(rows.T)) * same.T[:, :, None]


class SharedLinear(nn.Module):
    """One weight for all members, between a scale per input and a scale per output of each member's own.

    Formula: ``y_m = ((x_m * r_m) W) * s_m + b_m``. blocks: widths of the first layer's input columns, whose scales r
    start N(0, 1), one per column; elsewhere scales start at 1.
    """

    def __init__(self, inputs: int, outputs: int, members: int, *, blocks: list[int] | None) -> None:
        super().__init__()
        self.blocks = blocks
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.r = nn.Parameter(torch.empty(members, inputs))
        self.s = nn.Parameter(torch.empty(members, outputs))
        self.bias = nn.Parameter(torch.empty(members, outputs))

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Weights and biases U(-1, 1) / sqrt(inputs), as TabM's."""
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
        weight = self.weight * self.r[:, :, None] * self.s[:, None]
        return torch.baddbmm(self.bias[:, None], inputs, weight)


class MemberLinear(nn.Module):
    """A linear layer of its own for each member: ``y_m = x_m W_m + b_m``."""

    def __init__(self, inputs: int, outputs: int, members: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(members, outputs))

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Weights U(-1, 1) / sqrt(inputs), no bias."""
        uniform_(self.weight, 1.0 / math.sqrt(self.weight.shape[1]), generator=generator_for("weight"))
        nn.init.zeros_(self.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(members, batch, inputs)``. Returns ``(members, batch, outputs)``."""
        return torch.baddbmm(self.bias[:, None], inputs, self.weight)
