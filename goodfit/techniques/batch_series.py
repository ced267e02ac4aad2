"""Series made larger or smaller, and played a little slower; jitter is ``noise``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from goodfit import keyed
from goodfit.errors import RecipeError
from goodfit.technique import Positive, Until, technique
from goodfit.techniques.batch_inputs import active, one_by_one
from goodfit.techniques.fitted import some_of
from goodfit.types import Batch, InputSpec, Moment, Part

Window = Annotated[float, Field(gt=0, lt=1)]


class Scaled(NamedTuple):
    """What ``scaling`` knows of its series. channels: ``(channels,)`` float, 1 where a channel is scaled, or None for
    all. targets: whether they are the series' own future."""

    channels: Tensor | None
    targets: bool


@technique("batch")
class Scaling:
    """Make each series larger or smaller by a random factor; in a forecast its future with it.

    The shape of a series counts, and not how far it swings.

    Formula: ``x = f x``, f = exp(std * n), n standard normal, one factor for each sample and epoch. Inputs and targets
    are standardised, so it is the distance from the training mean that is scaled: 1.1 makes every swing a tenth larger
    and leaves the level. Of a forecast, all measured channels and all targets take the same f; the calendar and
    channels of zeros and ones stay. Of arrays, the inputs alone are scaled.
    Source: Um et al. 2017 (f normal around 1, std 0.1). Ours draws f from a log-normal distribution, so that no series
    is ever turned upside down.
    Helps: few series, sensors that differ in gain. Hurts: where the size itself decides (a threshold, an alarm level),
    and values of arrays that are to be predicted in proportion to the inputs.

    std: spread of the factor: about two thirds of all factors lie within that share of 1.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("series", "tensor")

    std: Positive = 0.1
    until: Until | None = None

    def read(self, part: Part, spec: InputSpec, device: torch.device) -> Scaled:
        """Which channels of a series are measured numbers."""
        if spec.kind != "series":
            return Scaled(None, False)
        values = some_of(part, device).inputs
        assert isinstance(values, Tensor)
        measured = ~((values == 0) | (values == 1)).flatten(0, 1).all(0)
        measured[0] = True
        measured[spec.numeric or len(measured) :] = False
        return Scaled(measured.float(), True)

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with all its numbers scaled, its targets as they were."""
        return self.change(batch, moment, Scaled(None, False))

    def change(self, batch: Batch, moment: Moment, known: Scaled) -> Batch:
        """The batch with its series scaled."""
        inputs = batch.inputs
        if not active(self, moment):
            return batch
        if isinstance(inputs, dict) or not inputs.is_floating_point():
            raise RecipeError(["'batch.scaling' scales series of numbers, and these samples are none; remove it"])
        drawn = keyed.normal(keyed.key(moment.seed, "scaling", moment.epoch), batch.index)[:, 0]
        factor = torch.exp(self.std * drawn)
        by = one_by_one(factor, inputs)
        if known.channels is not None:
            by = 1.0 + (by - 1.0) * known.channels
        targets = batch.targets * one_by_one(factor, batch.targets).to(batch.targets.dtype) if known.targets else None
        return batch._replace(
            inputs=inputs * by.to(inputs.dtype), targets=batch.targets if targets is None else targets
        )


def stretch(values: Tensor, start: Tensor, length: int) -> Tensor:
    """From each series the window of ``length`` steps that begins at ``start``, stretched back to the whole length.

    values: ``(batch, time, ...)`` float. start: ``(batch,)`` int64. Between steps the value is interpolated linearly;
    the window's first and last step become the result's.
    """
    steps = values.shape[1]
    place = torch.linspace(0.0, length - 1.0, steps, dtype=torch.float64, device=values.device)
    below = place.floor().long().clamp_max(max(length - 2, 0))
    between = (place - below).to(values.dtype)
    rows = torch.arange(len(values), device=values.device)[:, None]
    at = start[:, None] + below
    share = between.reshape(-1, *[1] * (values.dim() - 2))
    return torch.lerp(values[rows, at], values[rows, (at + 1).clamp_max(steps - 1)], share)


@technique("batch")
class WindowSlice:
    """Cut a window out of each series and stretch it back to the whole length.

    The model sees each series begin and end elsewhere and run a little slower.

    Formula: a window of ``w = share * T`` steps, rounded, at least 2, at a random start in [0, T - w], one for each
    sample and epoch; step i of T is the value at ``start + i (w - 1) / (T - 1)``, interpolated linearly.
    Source: Le Guennec et al. 2016 (share 0.9). Ours works on whole batches and cuts all channels alike.
    Helps: few series to be told into classes. Hurts: where the time itself decides (a rate, a delay, an event at a
    fixed place). Refused for forecasts: stretched, a day would last longer than the calendar and the horizon say.

    share: part of the series that is kept, below 1.
    axis: which axis of a sample is time: the ``first`` of (time, channels), or the ``last`` of (channels, time).
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("tensor", "series")

    share: Window = 0.9
    axis: Literal["first", "last"] = "first"
    until: Until | None = None

    @staticmethod
    def refuses(spec: InputSpec, model: str) -> str:
        """Why a series cannot be stretched here, or nothing."""
        if spec.kind == "series":
            return "stretches time, and in a forecast a day would then last longer than calendar and horizon say"
        return ""

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with a stretched window of each series."""
        inputs = batch.inputs
        if not active(self, moment):
            return batch
        if isinstance(inputs, dict) or not inputs.is_floating_point() or inputs.dim() < 2:
            raise RecipeError(["'batch.window_slice' cuts series of numbers, and these samples are none; remove it"])
        values = inputs if self.axis == "first" else inputs.movedim(-1, 1)
        steps = values.shape[1]
        length = min(steps, max(2, round(self.share * steps)))
        place = keyed.key(moment.seed, "window_slice", moment.epoch)
        start = keyed.integers(place, batch.index, 0, steps - length + 1)[:, 0]
        cut = stretch(values, start, length)
        return batch._replace(inputs=cut if self.axis == "first" else cut.movedim(1, -1))
