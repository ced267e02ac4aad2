"""What batch techniques ask of a batch: its images, its targets as shares of classes, and whether they are still on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from goodfit.errors import RecipeError
from goodfit.types import Batch, Inputs, Moment


def active(technique: Any, moment: Moment) -> bool:
    """Whether a technique is on: always, or before its ``until`` (``"80%"``, ``"20 epochs"``, ``"-5 epochs"``).

    A pure function of the step, so that a resumed run turns it off at the same one.
    """
    until = technique.until
    return until is None or moment.step < until.end(moment.total, moment.steps_per_epoch)


def on_images(name: str, batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with its images changed.

    The images are the inputs themselves, or a table's ``"image"``: ``(batch, channels, height, width)``, uint8 or
    float in [0, 255]. Raises RecipeError where the batch holds none.
    """
    inputs = batch.inputs
    images = inputs.get("image") if isinstance(inputs, dict) else inputs
    if images is None or images.dim() != 4:
        shape = "" if images is None else f", but inputs of shape {tuple(images.shape)}"
        raise RecipeError([f"'batch.{name}' changes images, and these samples hold none{shape}; remove it"])
    changed = change(images)
    return batch._replace(inputs={**inputs, "image": changed} if isinstance(inputs, dict) else changed)


def like(values: Tensor, images: Tensor) -> Tensor:
    """Float pixel values in the images' dtype: rounded and kept in [0, 255] for uint8, clamped only for float."""
    values = values.clamp(0, 255)
    # By way of int16: straight from float to bytes is not vectorised, and takes three times as long on a CPU.
    return values.round_().to(torch.int16).to(torch.uint8) if images.dtype == torch.uint8 else values.to(images.dtype)


def choose(first: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """Elements of ``first`` where ``chosen`` (bool, broadcastable), of ``other`` elsewhere; both of the same dtype."""
    if first.dtype != torch.uint8:
        return torch.where(chosen, first, other)
    # Bit arithmetic is vectorised where torch.where on bytes is not: a tenth of the time on a CPU.
    return other ^ ((first ^ other) & chosen.to(torch.uint8).neg())


def soft_targets(name: str, targets: Tensor, classes: int) -> Tensor:
    """Targets that can be mixed: class indices ``(batch,)`` become shares ``(batch, classes)`` float32, floats stay.

    Raises RecipeError for token ids and for class indices whose number of classes is unknown.
    """
    if targets.is_floating_point():
        return targets
    if targets.dim() != 1 or classes < 1:
        raise RecipeError(
            [f"'batch.{name}' mixes classes or values, not targets of shape {tuple(targets.shape)}; remove it"]
        )
    shares = torch.zeros(len(targets), classes, device=targets.device)
    return shares.scatter_(1, targets[:, None], 1.0)


def one_by_one(values: Tensor, like: Tensor) -> Tensor:
    """One value per sample, shaped to be broadcast over everything ``like`` holds per sample."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def mixed(name: str, inputs: Inputs, mix: Callable[[str, Tensor], Tensor]) -> Inputs:
    """Every tensor of the inputs, mixed; token ids are refused, since a mixture of two tokens is none."""
    if isinstance(inputs, dict):
        if "tokens" in inputs:
            raise RecipeError([f"'batch.{name}' cannot mix text, and this table has text columns; remove it"])
        return {key: mix(key, value) for key, value in inputs.items()}
    if not inputs.is_floating_point() and inputs.dtype != torch.uint8:
        raise RecipeError([f"'batch.{name}' cannot mix token ids: the mean of two words is no word; remove it"])
    return mix("", inputs)


def rising(limits: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range whose lower end is above its upper one."""
    if limits[0] > limits[1]:
        raise ValueError(f"the lower end {limits[0]:g} is above the upper end {limits[1]:g}")
    return limits
