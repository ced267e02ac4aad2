"""A run of seconds with everything that has state: augmentation, dropout, batch norms, averages, pieces, a plateau."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from goodfit import job, record, store
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen

RECIPE = {
    "model.name": "cnn", "model.width": 4, "model.depth": 1, "model.dropout": 0.3, "batch_size": 24, "epochs": 5,
    "batch.crop": True, "batch.mixup.alpha": 0.4, "gradient.name": "accumulate", "gradient.microbatch": 16,
    "optimizer.name": "adamw", "schedule.name": "plateau", "clip.auto": 90, "average.name": "ema",
    "average.decay": 0.9, "numerics.precision": "fp32", "numerics.compile": False,
    "numerics.memory_format": "contiguous",
}  # fmt: skip
CLOCKS = ("seconds", "samples_per_second", "crc")


def pictures(samples: int = 120) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Small grey pictures of three classes: ``(samples, 1, 8, 8)`` uint8 and their classes."""
    random = np.random.default_rng(0)
    kinds = random.integers(0, 3, samples)
    pixels = random.integers(0, 60, (samples, 1, 8, 8)).astype(np.uint8)
    for picture, kind in zip(pixels, kinds, strict=True):
        picture[0, 2 * kind : 2 * kind + 2] += 120
    return pixels, kinds


def train(folder: Path, *, source: Any = None, every: float = 0.0, **changes: Any) -> Run:
    """Train, or go on with, the little run in a folder.

    every: seconds between checkpoints; one a step unless said. changes: of the recipe; None takes a key out.
    """
    record.SAVE_EVERY, record.SHARE = every, float("inf")
    values = {**RECIPE, **{key.replace("__", "."): value for key, value in changes.items()}}
    recipe = Recipe().patched({key: value for key, value in values.items() if value is not None})
    return job.train(
        pictures() if source is None else source, out=folder, recipe=recipe, screen=Screen(quiet=True), device="cpu"
    )


def outcome(folder: Path) -> dict[str, Any]:
    """What must be the same to the last bit: weights, metrics without the clock, predictions."""
    run = Run(folder)
    rows = [{k: v for k, v in row.items() if k not in CLOCKS} for row in run.metrics]
    found = {"digest": run.results["digest"], "metrics": rows, "ended": run.results["ended"]}
    table = folder / "predictions.parquet"
    if table.exists():
        found["predictions"] = pd.read_parquet(table).to_dict("list")
    return found


def strays(folder: Path) -> list[str]:
    """Names in a run folder that a finished run does not leave."""
    return [
        str(p.relative_to(folder))
        for p in folder.rglob("*")
        if store.is_staged(p) or p.name == "lock.json" or p.name.endswith(".damaged")
    ]
