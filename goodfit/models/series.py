"""Linear forecasters: hard to beat, and the ones every larger forecaster is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.weights import GeneratorFor
from goodfit.technique import Count, technique
from goodfit.types import InputSpec


@technique("model")
class Dlinear:
    """A linear forecast of the trend plus a linear forecast of the remainder.

    Formula: ``trend`` is the moving average over ``window`` steps (ends repeated), ``remainder`` the rest; the
    forecast is ``A trend + B remainder``, summed over channels. Source: Zeng et al. (2023), DLinear; ours sums all
    channels into the one target. Takes series.

    window: steps of the moving average; even numbers are made odd. centre: subtract each sample's own level (the mean
    of the first channel's last ``window`` steps) before and add it back after, so that a level never seen in training
    is followed (after RevIN, Kim et al., 2022, without its scale). The first channel is the target's own past.
    """

    window: Count = 25
    centre: bool = True

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for series like ``spec`` and ``outputs`` steps ahead. Raises ModelError for any other input."""
        if spec.kind != "series":
            raise ModelError(f"model 'dlinear' takes series, but the data is {spec.kind}; use model.name = 'mlp'")
        lookback, channels = spec.shape
        window = min(self.window, lookback)
        return DLinear(lookback, channels, outputs, window=window - (window + 1) % 2, centre=self.centre)


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
