"""Turns each number of a table into a vector, so that a network can treat its parts differently."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from goodfit.models.weights import GeneratorFor, normal_, uniform_


class Numbers(nn.Module):
    """Embeds numeric columns, each by itself: ``e(x) = a x + b + sum_t C_t p_t(x) + sum_f P_f cos(w_f x + c_f) + V_v``.

    p_t(x) in [0, 1] says how far x has come through bin t of the column's quantiles (piecewise-linear encoding;
    Gorishniy et al., 2022). The waves are that paper's periodic encoding with learned frequencies w. V_v is a vector
    for the exact value v, for values that recur in a column with a spike: a boosted tree tells "exactly 0" from "near
    0" by a split, a smooth curve cannot.

    columns, size: numeric columns, and numbers each becomes. bins, waves, sigma, values, spike: see ``Tabular``.
    """

    edges: Tensor
    recurring: Tensor

    def __init__(
        self, columns: int, size: int, *, bins: int, waves: int, sigma: float, values: int, spike: float
    ) -> None:
        super().__init__()
        self.sigma, self.spike = sigma, spike
        self.slope = nn.Parameter(torch.zeros(columns, size))
        self.offset = nn.Parameter(torch.zeros(columns, size))
        self.pieces = nn.Parameter(torch.zeros(columns, bins, size))
        quantiles = torch.linspace(0.001, 0.999, bins + 1, dtype=torch.float64)
        self.register_buffer("edges", torch.special.ndtri(quantiles).float().repeat(columns, 1))
        self.frequency = nn.Parameter(torch.zeros(columns, waves)) if waves else None
        self.phase = nn.Parameter(torch.zeros(columns, waves)) if waves else None
        self.waves = nn.Parameter(torch.zeros(columns, waves, size)) if waves else None
        self.register_buffer("recurring", torch.full((columns, values), float("inf")))
        self.values = nn.Embedding(columns * (values + 1), size) if values else None

    def initialise(self, generator_for: GeneratorFor) -> None:
        """A random line and small waves per column; pieces and values are zero and bend it where the data asks for
        it."""
        for part, name in ((self.slope, "slope"), (self.offset, "offset")):
            uniform_(part, 1.0, generator=generator_for(name))
        nn.init.zeros_(self.pieces)
        if self.frequency is not None and self.phase is not None and self.waves is not None:
            normal_(self.frequency, 2.0 * math.pi * self.sigma, generator=generator_for("frequency"))
            uniform_(self.phase, math.pi, generator=generator_for("phase"))
            uniform_(self.waves, 1.0 / math.sqrt(self.waves.shape[1]), generator=generator_for("waves"))
        if self.values is not None:
            nn.init.zeros_(self.values.weight)

    @torch.no_grad()
    def fit_to(self, numeric: Tensor) -> None:
        """Set bins and recurring values from ``numeric`` ``(samples, columns)``.

        A value recurs where two samples hold it; of more than fit, the most frequent are kept.
        """
        bins, most = self.edges.shape[1] - 1, self.recurring.shape[1]
        for column, sample in enumerate(numeric.detach().cpu().unbind(1)):
            distinct, counts = torch.unique(sample, return_counts=True)
            grid = torch.linspace(0.0, 1.0, bins + 1, dtype=torch.float64)
            edges = torch.unique(quantile(sample, grid))
            if len(edges) < 0.75 * (bins + 1):  # repeated values eat quantiles: spend the rest on distinct values
                left = torch.linspace(0.0, 1.0, bins + 2 - len(edges), dtype=torch.float64)
                edges = torch.unique(torch.cat([edges, quantile(distinct, left)]))
            edges = torch.unique(edges.float())
            if len(edges) < 2:
                edges = torch.stack([edges[0], edges[0] + 1.0])
            self.edges[column] = float("inf")
            self.edges[column, : len(edges)] = edges.to(self.edges)
            self.recurring[column] = float("inf")
            if not most or int(counts.max()) < self.spike * len(sample):
                continue
            often = counts.argsort(descending=True, stable=True)[: min(most, int((counts >= 2).sum()))]
            self.recurring[column, : len(often)] = distinct[often].sort().values.to(self.recurring)

    def forward(self, numeric: Tensor) -> Tensor:
        """numeric: ``(batch, columns)``. Returns ``(batch, columns, size)``."""
        made = numeric[:, :, None] * self.slope + self.offset
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        used = high.isfinite()
        start, wide = torch.where(used, low, 0.0), torch.where(used, high - low, torch.inf)
        place = ((numeric[:, :, None] - start) / wide).clamp(0.0, 1.0)
        made = made + _each_column(place, self.pieces)
        if self.frequency is not None and self.phase is not None and self.waves is not None:
            made = made + _each_column(torch.cos(numeric[:, :, None] * self.frequency + self.phase), self.waves)
        return made if self.values is None else made + self._value(numeric)

    def _value(self, numeric: Tensor) -> Tensor:
        assert self.values is not None
        columns, most = self.recurring.shape
        rows = numeric.T.contiguous()
        found = torch.searchsorted(self.recurring, rows).clamp_max(most - 1)
        known = self.recurring.gather(1, found) == rows
        start = torch.arange(columns, device=rows.device)[:, None] * (most + 1)
        vectors = self.values((start + torch.where(known, found + 1, 0)).T)
        return torch.as_tensor(vectors * known.T[:, :, None])


def quantile(values: Tensor, shares: Tensor) -> Tensor:
    """Linear quantiles in float64 of any number of values (``torch.quantile`` refuses more than 16 million)."""
    ordered = values.double().sort().values
    place = shares * (len(ordered) - 1)
    below = place.floor().long()
    above = (below + 1).clamp_max(len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], place - below)


def _each_column(parts: Tensor, weights: Tensor) -> Tensor:
    """``(batch, columns, parts)`` times ``(columns, parts, size)`` of its own for each column."""
    return torch.bmm(parts.transpose(0, 1), weights).transpose(0, 1)
