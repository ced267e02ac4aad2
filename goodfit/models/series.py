"""Forecasters of one series: linear ones that are hard to beat, and one that learns the calendar first."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import Dropout, activation
from goodfit.models.weights import GeneratorFor, normal_
from goodfit.technique import Chance, Count, technique
from goodfit.types import InputSpec


@technique("model")
class Dlinear:
    """A linear forecast of the trend plus a linear forecast of the remainder.

    Formula: ``trend`` is the moving average over ``window`` steps (ends repeated), ``remainder`` the rest; the
    forecast is ``A trend + B remainder``, summed over channels. Source: Zeng et al. (2023), DLinear; ours sums all
    channels into the one target. Takes series, whose first channel is the target's own past.

    window: steps of the moving average; an even number is made odd. centre: subtract each sample's own level (the
    mean of the first channel's last ``window`` steps) before and add it back after, so that a level never seen in
    training is followed (after RevIN, Kim et al., 2022, without its scale).
    """

    window: Count = 25
    centre: bool = True

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for series like ``spec`` and ``outputs`` steps ahead. Raises ModelError for any other input."""
        lookback, channels = _series("dlinear", spec)
        window = min(self.window, lookback)
        return DLinear(lookback, channels, outputs, window=window - (window + 1) % 2, centre=self.centre)


@technique("model")
class Seasonal:
    """A learned profile of the calendar, and a small network that carries on the deviation from it; ``members`` of
    them in one.

    Formula: ``s(t) = season . calendar(t) + level``; the deviations of the past ``a = x - s`` and the other channels
    give ``s(future) + A a + B gelu(W [a, calendar(first future step)] + b)``. The calendar is the sines and cosines
    that the data holds behind the measured channels (``spec.numeric`` of them), once for the past and once for the
    times that are forecast; without them s is a constant. Forecasts are ``(batch, members, outputs)``: the loss is
    the mean of the members', the prediction their mean. Source: ours, after the residual forecasters of N-BEATS
    (Oreshkin et al., 2020) and harmonic regression. Takes series. Helps: daily and hourly data with a year, week or
    day in them. Hurts: series whose season moves.

    width: hidden units of the network. anchor: forecast the change from the last deviation, for series that drift.
    """

    members: Count = 8
    width: Count = 32
    dropout: Chance = 0.3
    anchor: bool = False

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for series like ``spec`` and ``outputs`` steps ahead. Raises ModelError for any other input."""
        lookback, channels = _series("seasonal", spec)
        measured = spec.numeric or channels
        return SeasonalModel(lookback, measured, (channels - measured) // 2, outputs, settings=self)


class DLinear(nn.Module):
    """Trend and remainder, one linear map each; see ``Dlinear``."""

    def __init__(self, lookback: int, channels: int, outputs: int, *, window: int, centre: bool) -> None:
        super().__init__()
        self.window, self.centre = window, centre
        self.trend = nn.Linear(lookback * channels, outputs)
        self.remainder = nn.Linear(lookback * channels, outputs)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Start at the level: zero weights. There is no hidden layer, so nothing stays equal."""
        for layer in (self.trend, self.remainder):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, lookback, channels)``. Returns ``(batch, outputs)``."""
        level = inputs[:, -self.window :, :1].mean(1) if self.centre else None
        if level is not None:
            inputs = torch.cat([inputs[:, :, :1] - level[:, None], inputs[:, :, 1:]], 2)
        series = inputs.transpose(1, 2)
        half = self.window // 2
        trend = F.avg_pool1d(F.pad(series, (half, half), mode="replicate"), self.window, stride=1)
        forecast = self.trend(trend.flatten(1)) + self.remainder((series - trend).flatten(1))
        return torch.as_tensor(forecast if level is None else forecast + level)


class SeasonalModel(nn.Module):
    """Calendar profile, linear part and hidden layer of each member; see ``Seasonal``."""

    def __init__(self, lookback: int, measured: int, calendar: int, outputs: int, *, settings: Seasonal) -> None:
        super().__init__()
        self.measured, self.calendar, self.outputs, self.anchor = measured, calendar, outputs, settings.anchor
        self.members = members = settings.members
        size = lookback * measured
        self.season = nn.Parameter(torch.zeros(members, calendar)) if calendar else None
        self.level = nn.Parameter(torch.zeros(members, 1, 1))
        self.linear = nn.Parameter(torch.zeros(members, size, outputs))
        self.inner = nn.Parameter(torch.zeros(members, size + calendar, settings.width))
        self.inner_bias = nn.Parameter(torch.zeros(members, 1, settings.width))
        self.activation = activation("gelu")
        self.dropout = Dropout(settings.dropout)
        self.head = nn.Parameter(torch.zeros(members, settings.width, outputs))

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Profile and linear part zero, so the first forecast is near the mean; the hidden layer N(0, 1 / inputs),
        its head small."""
        for part in (self.season, self.level, self.linear, self.inner_bias):
            if part is not None:
                nn.init.zeros_(part)
        normal_(self.inner, 1.0 / math.sqrt(self.inner.shape[1]), generator=generator_for("inner"))
        normal_(self.head, 0.01, generator=generator_for("head"))

    def no_weight_decay(self) -> set[str]:
        """The profile is the forecast itself, not a weight to keep small."""
        return {"season", "level", "inner_bias"}

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, lookback, channels)``. Returns ``(batch, members, outputs)``."""
        measured, calendar = self.measured, self.calendar
        here, ahead = inputs[..., measured : measured + calendar], inputs[..., measured + calendar :]
        ahead = ahead[:, -self.outputs :]
        if (
            ahead.shape[1] < self.outputs
        ):  # the window is shorter than the horizon: its first known time stands for the earlier ones
            missing = ahead[:, :1].expand(-1, self.outputs - ahead.shape[1], -1)
            ahead = torch.cat([missing, ahead], 1)
        deviation = inputs[..., 0] - self.profile(here)
        last = deviation[..., -1:] if self.anchor else torch.zeros_like(deviation[..., -1:])
        others = inputs[..., 1:measured].flatten(1).expand(self.members, -1, -1)
        past = torch.cat([deviation - last, others], 2)
        hidden = torch.cat([past, ahead[:, 0].expand(self.members, -1, -1)], 2)
        hidden = self.dropout(self.activation(torch.baddbmm(self.inner_bias, hidden, self.inner)))
        forecast = self.profile(ahead) + last + torch.bmm(past, self.linear) + torch.bmm(hidden, self.head)
        return forecast.transpose(0, 1)

    def profile(self, calendar: Tensor) -> Tensor:
        """Each member's value at each time: ``(batch, T, calendar)`` to ``(members, batch, T)``."""
        if self.season is None:
            return self.level.expand(-1, *calendar.shape[:2])
        return (calendar @ self.season.T).permute(2, 0, 1) + self.level


def _series(name: str, spec: InputSpec) -> tuple[int, int]:
    if spec.kind != "series":
        raise ModelError(f"model '{name}' takes series, but the data is {spec.kind}; use model.name = 'mlp'")
    lookback, channels = spec.shape
    return lookback, channels
