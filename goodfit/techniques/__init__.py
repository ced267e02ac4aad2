"""All techniques, one file a slot; ``TABLE[slot][name]`` is the class."""

from __future__ import annotations

from typing import Any

from goodfit.models import MODELS
from goodfit.techniques import (
    average,
    batch,
    clip,
    gradient,
    init,
    loss,
    numerics,
    optimizer,
    penalty,
    phases,
    sampling,
    schedule,
    stopping,
    transfer,
)

_SLOTS: dict[str, tuple[type[Any], ...]] = {
    "model": MODELS,
    "init": init.ALL,
    "sampling": sampling.ALL,
    "batch": batch.ALL,
    "loss": loss.ALL,
    "penalty": penalty.ALL,
    "gradient": gradient.ALL,
    "clip": clip.ALL,
    "optimizer": optimizer.ALL,
    "phase": phases.ALL,
    "schedule": schedule.ALL,
    "average": average.ALL,
    "stopping": stopping.ALL,
    "numerics": numerics.ALL,
    "transfer": transfer.ALL,
}

TABLE: dict[str, dict[str, type[Any]]] = {slot: {c.name: c for c in classes} for slot, classes in _SLOTS.items()}
