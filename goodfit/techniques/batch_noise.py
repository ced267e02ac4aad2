"""Noise on numbers: tables, series and arrays."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from goodfit import keyed
from goodfit.errors import RecipeError
from goodfit.technique import Positive, Until, technique
from goodfit.techniques.batch_inputs import active
from goodfit.techniques.fitted import some_of
from goodfit.types import Batch, InputSpec, Moment, Part


def noisy(values: Tensor, index: Tensor, scale: Tensor | float, *, place: int) -> Tensor:
    """``values + scale * n``, n standard normal for each number, keyed by the sample.

    values: ``(batch, ...)`` float. index: ``(batch,)``. scale: one number, or what broadcasts against one sample; where
    it ends before the last axis does, the rest stays.
    """
    if isinstance(scale, Tensor) and scale.shape[-1] < values.shape[-1]:
        front = noisy(values[..., : scale.shape[-1]], index, scale, place=place)
        return torch.cat([front, values[..., scale.shape[-1] :]], -1)
    drawn = normal(place, index, values[0].numel()).reshape(values.shape)
    return values + (drawn * scale).to(values.dtype)


def normal(place: int, index: Tensor, draws: int) -> Tensor:
    """Standard normal numbers, float32 ``(batch, draws)``, two from each 64 random bits.

    Formula: ``sqrt(-2 ln u) cos(2 pi v)`` and ``... sin(2 pi v)`` (Box and Muller 1958), u and v of 32 bits each. A
    quarter of the time of ``keyed.normal``, which draws twice for each number.
    """
    bits = keyed.bits(place, index, -(-draws // 2))
    radius = ((bits >> 32).float() + (2.0**31 + 0.5)).mul_(2.0**-32).log_().mul_(-2.0).clamp_(min=0.0).sqrt_()
    angle = (bits & 0xFFFFFFFF).float().mul_(2.0 * math.pi * 2.0**-32)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)[:, :draws]


@technique("batch")
class Noise:
    """Add a little random noise to every number of tables, series and arrays (for series: jitter).

    Small differences stop to matter, which smooths what the model learns, as an L2 penalty on its slope does.

    Formula: ``x + std * s * n``, n standard normal, drawn for each number of each sample and epoch; s is the number's
    own standard deviation over the training part (one for each channel of a series), so that columns of all spreads
    get the same relative noise.
    Source: Sietsma and Dow 1991; Bishop 1995 shows that it is Tikhonov regularisation; jitter of series: Um et al.
    2017 (std 0.05). Ours draws by a key, so any batch size and order gives the same noise. Categories, flags, texts,
    images, the calendar of a series and its channels of zeros and ones stay as they are.
    Helps: small tables, noisy measurements, series. Hurts: where exact values matter: counts, codes written as numbers,
    columns with a spike (``tabular`` knows exact zeros by heart, and noise hides them).

    std: size of the noise, in standard deviations of the number it is added to.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("table", "series", "tensor")

    std: Positive = 0.05
    until: Until | None = None

    @staticmethod
    def refuses(spec: InputSpec, model: str) -> str:
        """Why these inputs cannot have noise, or nothing."""
        return "adds noise to numbers, and this table has no numeric column" if _numberless(spec) else ""

    def read(self, part: Part, spec: InputSpec, device: torch.device) -> Tensor:
        """The deviation of each number of a sample: ``(columns,)``, ``(measured channels,)`` or its shape; 0 stays."""
        inputs = some_of(part, device).inputs
        values = (inputs["numeric"] if isinstance(inputs, dict) else inputs).double()
        if spec.kind != "series":
            return values.std(0, correction=0).float()
        deviation = values.std((0, 1), correction=0)
        flags = ((values == 0) | (values == 1)).flatten(0, 1).all(0)
        deviation[flags] = 0.0
        return deviation[: spec.numeric or len(deviation)].float()  # the calendar follows, and stays

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with noisy numbers; their deviations count as 1."""
        return self.change(batch, moment, None)

    def change(self, batch: Batch, moment: Moment, known: Tensor | None) -> Batch:
        """The batch with noisy numbers, for deviations that ``read`` gave."""
        if not active(self, moment):
            return batch
        place = keyed.key(moment.seed, "noise", moment.epoch)
        scale = self.std if known is None else self.std * known
        inputs = batch.inputs
        if isinstance(inputs, dict):
            if "numeric" not in inputs or not inputs["numeric"].numel():
                return batch
            changed = noisy(inputs["numeric"], batch.index, scale, place=place)
            return batch._replace(inputs={**inputs, "numeric": changed})
        if not inputs.is_floating_point():
            raise RecipeError(["'batch.noise' adds noise to numbers, and these inputs are codes or bytes; remove it"])
        return batch._replace(inputs=noisy(inputs, batch.index, scale, place=place))


def _numberless(spec: InputSpec) -> bool:
    return spec.kind == "table" and not spec.numeric
