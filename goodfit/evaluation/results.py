"""Everything evaluation says about one part, as plain values that the screen, the report and results.json share."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goodfit.errors import DataError
from goodfit.evaluation.calibration import Temperature
from goodfit.evaluation.class_results import class_results
from goodfit.evaluation.entries import WORK, Draw, entries_of, metrics_of
from goodfit.evaluation.hardest import hardest_values, hardest_windows
from goodfit.evaluation.intervals import RESAMPLES, block_length, bootstrap
from goodfit.evaluation.language import single_characters, token_losses, window_sums
from goodfit.evaluation.metrics import headline
from goodfit.evaluation.predictions import point, refuse_non_finite
from goodfit.evaluation.threshold import Threshold
from goodfit.evaluation.weighted import Array
from goodfit.types import Task


def results(
    task: Task,
    logits: Tensor,
    targets: Tensor,
    *,
    index: Tensor | None = None,
    temperature: Temperature | None = None,
    threshold: Threshold | None = None,
    mean: float = 0.0,
    std: float = 1.0,
    scale: float | None = None,
    characters_per_token: float | None = None,
    positive_share: float | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    hardest: int = 20,
) -> dict[str, Any]:
    """Metrics with intervals, confusion, calibration and the hardest samples of one part.

    logits: as the model gives them: ``(samples, outputs)``, ``(samples, members, outputs)``; for language
        ``(windows, length, vocabulary)``, or ``(windows, length)`` nats as `token_losses` gives.
    targets: as the part holds them (standardised for regression and forecasts).
    index: ``(samples,)`` the samples' own numbers; positions unless given. Forecast windows stand in order of time.
    temperature, threshold: found on the validation part by `fit_temperature` and `tune_threshold`.
    mean, std: what targets were standardised with; metrics are in original units.
    scale: the training series' seasonal naive error in original units (`seasonal_error`), for MASE.
    characters_per_token: of this text, for nats and bits per character; 1 is assumed where all token names are single
    characters.
    positive_share: share of class 1 in the training part, which decides the headline metric of rare classes.

    Returns plain JSON values (never NaN): ``headline``, ``samples``, ``confidence`` and ``metrics`` {name: {title,
    value, low, high, better, unit, method, note}}, where value None means not available and note says why. For
    classes also ``classes, per_class, confusion, confused, reliability, temperature, threshold, hardest,
    mislabelled``; else ``hardest`` and ``shown``. Raises ModelError for NaN or infinite logits, DataError without
    samples.
    """
    if len(targets) == 0:
        raise DataError("there are no samples to evaluate on; give this part some rows")
    if len(logits) != len(targets):
        raise DataError(f"{len(logits):,} predictions for {len(targets):,} targets; both must come from the same part")
    own = np.arange(len(targets)) if index is None else index.cpu().numpy()
    draw = partial(bootstrap, samples=len(targets), seed=seed)
    if task.kind == "classification":
        found = class_results(task, logits, targets, own, temperature, threshold, draw, resamples, confidence, hardest)
    elif task.kind == "language":
        found = _language(task, logits, targets, own, characters_per_token, draw, resamples, confidence, hardest)
    else:
        found = _values(task, logits, targets, own, mean, std, scale, draw, resamples, confidence, hardest)
    best = headline(task, positive_share=positive_share)
    if found["metrics"][best]["value"] is None:  # a headline that cannot be had makes way for the next that can
        best = next((name for name, one in found["metrics"].items() if one["value"] is not None), best)
    return {
        "task": task.kind,
        "target": task.target,
        "headline": best,
        "samples": len(targets),
        "confidence": confidence,
        **found,
    }


def _values(
    task: Task,
    logits: Tensor,
    targets: Tensor,
    index: Array,
    mean: float,
    std: float,
    scale: float | None,
    draw: Draw,
    resamples: int,
    confidence: float,
    hardest: int,
) -> dict[str, Any]:
    y = (targets.cpu().double() * std + mean).numpy()
    answers = point(logits, mean=mean, std=std).numpy().reshape(y.shape)
    metrics = metrics_of(task, y, answers, {"scale": scale})
    errors = np.square(answers - y).reshape(len(y), -1).mean(1)
    block = block_length(errors, at_least=y.shape[1] if y.ndim == 2 else 1) if task.kind == "forecast" else 1
    affordable = max(100, min(resamples, int(WORK / len(y))))
    draws = draw(metrics, resamples=affordable, block=block)
    entries = entries_of(metrics, draws, len(y) // block, confidence)
    some = np.unique(np.linspace(0, len(y) - 1, min(len(y), 500)).astype(int))
    shown: dict[str, Any] = {"target": y[some].tolist(), "predicted": answers[some].tolist()}
    if y.ndim == 2:
        # Whole windows are large: a few of them, and the error of each step ahead.
        few = some[:: max(1, len(some) // 8)]
        shown = {"position": few.tolist(), "target": y[few].tolist(), "predicted": answers[few].tolist()}
        shown["rmse_by_step"] = np.sqrt(np.square(answers - y).mean(0)).tolist()
    return {
        "metrics": entries,
        "block": block,
        "hardest": hardest_values(y, answers, index, count=hardest),
        "shown": shown,
    }


def _language(
    task: Task,
    logits: Tensor,
    targets: Tensor,
    index: Array,
    characters_per_token: float | None,
    draw: Draw,
    resamples: int,
    confidence: float,
    hardest: int,
) -> dict[str, Any]:
    losses = logits if logits.ndim == 2 else torch.cat([token_losses(z, y) for z, y in _slices(logits, targets)])
    refuse_non_finite(losses, "losses")
    nats, tokens = window_sums(losses, targets)
    ratio_known = characters_per_token or single_characters(task)
    metrics = metrics_of(task, tokens, nats, {"characters_per_token": ratio_known})
    affordable = max(100, min(resamples, int(WORK / len(nats))))
    entries = entries_of(metrics, draw(metrics, resamples=affordable), len(nats), confidence)
    return {
        "metrics": entries,
        "hardest": hardest_windows(nats, tokens, index, count=hardest),
        "tokens": int(tokens.sum()),
    }


def _slices(logits: Tensor, targets: Tensor, size: int = 64) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(logits, size), torch.split(targets, size), strict=True))
