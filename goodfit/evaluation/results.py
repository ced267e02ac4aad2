"""Everything evaluation says about one part, as plain values that the screen, the report and results.json share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goodfit.errors import DataError
from goodfit.evaluation.calibration import Temperature, reliability
from goodfit.evaluation.classification import class_counts, confusion
from goodfit.evaluation.hardest import hardest_classes, hardest_values, hardest_windows, mislabelled
from goodfit.evaluation.intervals import FEW, RESAMPLES, Interval, block_length, bootstrap, interval, proportion, wilson
from goodfit.evaluation.language import single_characters, token_losses, window_sums
from goodfit.evaluation.metrics import METRICS, SHOWN, headline, names_for
from goodfit.evaluation.predictions import point, probabilities, refuse_non_finite
from goodfit.evaluation.ranking import both_curves
from goodfit.evaluation.threshold import Threshold, at_threshold
from goodfit.evaluation.weighted import Array, NotAvailable, ratio
from goodfit.types import Task

_CURVES = ("roc_auc", "average_precision")
_WORK = 1.5e8  # samples x resamples x curves that are affordable: about a second
_LARGEST_TABLE = 50


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
        found = _classes(task, logits, targets, own, temperature, threshold, draw, resamples, confidence, hardest)
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


def points(task: Task, targets: Array, answers: Array, **more: float | None) -> dict[str, float | None]:
    """The task's metrics as bare numbers, None where not available: what the baselines' rows hold.

    answers: probabilities ``(samples, classes)``; values in original units; or for language the windows' summed nats,
    with targets the number of tokens. more: ``scale`` for MASE, ``characters_per_token`` for language.
    """
    values: dict[str, float | None] = {}
    for name, metric in _metrics(task, targets, answers, more).items():
        try:
            values[name] = float(metric(None))
        except NotAvailable:
            values[name] = None
    return values


Draw = Callable[..., dict[str, Array]]
Metric = Callable[[Array | None], Any]


def _metrics(task: Task, targets: Array, answers: Array, more: Mapping[str, float | None]) -> dict[str, Metric]:
    """Each metric of the task as a function of the weights alone."""
    made: dict[str, Metric] = {}
    for name in names_for(task):
        function: Callable[..., Any] = METRICS[name]
        if name == "mase":
            function = partial(function, scale=more.get("scale"))
        if name in ("nats_per_character", "bits_per_character"):
            function = partial(function, characters_per_token=more.get("characters_per_token"))
        first, second = (answers, targets) if task.kind == "language" else (targets, answers)
        made[name] = partial(function, first, second)
    return made


def _entry(name: str, value: float | None, bounds: Interval, note: str = "") -> dict[str, Any]:
    shown = SHOWN[name]
    return {
        "title": shown.title,
        "value": value,
        "low": bounds.low,
        "high": bounds.high,
        "better": shown.better,
        "unit": shown.unit,
        "method": bounds.method,
        "note": note or bounds.note,
    }


def _entries(
    metrics: Mapping[str, Metric], draws: Mapping[str, Array], samples: int, confidence: float
) -> dict[str, dict[str, Any]]:
    made = {}
    for name, metric in metrics.items():
        try:
            value = float(metric(None))
            made[name] = _entry(
                name, value, interval(value, draws.get(name), samples, confidence=confidence, basic=name == "ece")
            )
        except NotAvailable as reason:
            made[name] = _entry(name, None, Interval(None, None, ""), str(reason))
    return made


def _classes(
    task: Task,
    logits: Tensor,
    targets: Tensor,
    index: Array,
    temperature: Temperature | None,
    threshold: Threshold | None,
    draw: Draw,
    resamples: int,
    confidence: float,
    hardest: int,
) -> dict[str, Any]:
    y = targets.cpu().numpy().astype(np.int64)
    raw = probabilities(logits, task).numpy()
    warm = 1.0 if temperature is None else temperature.value
    p = raw if warm == 1.0 else probabilities(logits, task, temperature=warm).numpy()
    classes = p.shape[1]
    names = list(task.classes) or [str(k) for k in range(classes)]

    metrics = _metrics(task, y, p, {})
    one_class = ("precision", "recall", "f1")
    wanted: dict[str, Metric] = {n: m for n, m in metrics.items() if n not in (*_CURVES, *one_class)}
    wanted["per_class"] = lambda w: _recall_precision_f1(y, p, w)
    curves = {"curves": partial(both_curves, y, p)}
    affordable = min(resamples, int(_WORK / (len(y) * (1 if classes == 2 else classes))))
    draws = draw(wanted | (curves if affordable >= resamples else {}), resamples=resamples)
    if resamples > affordable >= 50:
        draws |= draw(curves, resamples=affordable)
    draws |= dict(zip(_CURVES, draws.get("curves", ()), strict=False))

    entries = _entries(metrics, draws, len(y), confidence)
    per_class = _per_class(names, y, p, draws["per_class"], confidence)
    hits = float((p.argmax(1) == y).sum())
    entries["accuracy"] = _entry(
        "accuracy", hits / len(y), proportion(hits, len(y), draws["accuracy"], confidence=confidence)
    )
    if any(min(row["hits"], row["support"] - row["hits"]) < FEW for row in per_class if row["support"]):
        bounds = _mean_of_shares([(row["hits"], row["support"]) for row in per_class if row["support"]], confidence)
        entries["balanced_accuracy"] = _entry("balanced_accuracy", entries["balanced_accuracy"]["value"], bounds)
    for name in one_class if task.binary else ():
        entries[name] |= per_class[1][name]
    absent = [name for name, row in zip(names, per_class, strict=True) if not row["support"]]
    if absent and classes > 2:
        for name in ("balanced_accuracy", "macro_f1", *_CURVES):
            entries[name]["note"] = "; ".join(
                filter(None, [entries[name]["note"], f"{len(absent)} of {classes} classes do not occur in this part"])
            )
    table = confusion(y, p.argmax(1), classes=classes)
    rows, count = mislabelled(y, p, index, count=hardest)
    return {
        "metrics": entries,
        "classes": names,
        "per_class": per_class,
        "confusion": table.tolist() if classes <= _LARGEST_TABLE else None,
        "confused": _confused(table),
        "reliability": {"before": reliability(y, raw), "after": reliability(y, p)},
        "temperature": None if temperature is None else temperature.to_json(),
        "threshold": None if threshold is None or not task.binary else _threshold_here(threshold, y, p),
        "hardest": hardest_classes(y, p, index, count=hardest),
        "mislabelled": {"count": count, "rows": rows},
    }


def _recall_precision_f1(y: Array, p: Array, w: Array | None) -> Array:
    """``(3 x classes, resamples)``: all recalls, then all precisions, then all F1."""
    hit, there, said = class_counts(y, p, w)
    return np.concatenate([ratio(hit, there), ratio(hit, said), ratio(2 * hit, there + said)])


def _per_class(names: list[str], y: Array, p: Array, draws: Array, confidence: float) -> list[dict[str, Any]]:
    hit, there, said = (counts[:, 0] for counts in class_counts(y, p))
    classes, rows = len(names), []
    for k, name in enumerate(names):
        h, t, s = float(hit[k]), float(there[k]), float(said[k])
        recall = _share(h, t, draws[k], confidence, "no sample of this class occurs")
        precision = _share(h, s, draws[classes + k], confidence, "the class is never predicted")
        either = t + s - h
        if either and min(h, either - h) < FEW:
            # F1 = 2J / (1 + J) with J = TP / (TP + FP + FN), a proportion: Wilson's bounds carry over.
            bounds = wilson(h, either, confidence=confidence)
            low, high = (None if b is None else 2 * b / (1 + b) for b in (bounds.low, bounds.high))
            bounds = Interval(low, high, "Wilson, transformed")
        else:
            bounds = interval(2 * h / (t + s) if either else 0, draws[2 * classes + k], len(y), confidence=confidence)
        f1: dict[str, Any] = {"value": 2 * h / (t + s) if either else None, "low": bounds.low, "high": bounds.high}
        f1 |= {"method": bounds.method, "note": bounds.note}
        if not either:
            f1 |= {"low": None, "high": None, "method": "", "note": "the class neither occurs nor is predicted"}
        rows.append(
            {
                "class": name,
                "support": int(t),
                "predicted": int(s),
                "hits": int(h),
                "precision": precision,
                "recall": recall,
                "f1": f1,
            }
        )
    return rows


def _share(hits: float, of: float, draws: Array, confidence: float, missing: str) -> dict[str, Any]:
    if not of:
        return {"value": None, "low": None, "high": None, "method": "", "note": missing}
    bounds = proportion(hits, of, draws, confidence=confidence)
    return {"value": hits / of, "low": bounds.low, "high": bounds.high, "method": bounds.method, "note": bounds.note}


def _mean_of_shares(shares: list[tuple[float, float]], confidence: float) -> Interval:
    """Interval of a mean of independent proportions from their Wilson intervals (MOVER: Zou and Donner 2008)."""
    below = above = 0.0
    for hits, of in shares:
        bounds = wilson(hits, of, confidence=confidence)
        below += (hits / of - float(bounds.low or 0.0)) ** 2
        above += (float(bounds.high or 0.0) - hits / of) ** 2
    middle = sum(hits / of for hits, of in shares) / len(shares)
    return Interval(
        max(0.0, middle - below**0.5 / len(shares)), min(1.0, middle + above**0.5 / len(shares)), "Wilson, averaged"
    )


def _confused(table: Array) -> list[dict[str, int]]:
    """The pairs of classes most often confused: up to ten of ``target, predicted, count``."""
    wrong = table - np.diag(np.diag(table))
    order = np.argsort(-wrong.ravel(), kind="stable")[:10]
    pairs = [(int(k // len(table)), int(k % len(table))) for k in order]
    return [{"target": i, "predicted": j, "count": int(wrong[i, j])} for i, j in pairs if wrong[i, j]]


def _threshold_here(threshold: Threshold, y: Array, p: Array) -> dict[str, Any]:
    here = {"at_default": at_threshold(y, p, 0.5), "at_value": at_threshold(y, p, threshold.value)}
    return {**threshold.to_json(), "here": here}


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
    metrics = _metrics(task, y, answers, {"scale": scale})
    errors = np.square(answers - y).reshape(len(y), -1).mean(1)
    block = block_length(errors, at_least=y.shape[1] if y.ndim == 2 else 1) if task.kind == "forecast" else 1
    affordable = max(100, min(resamples, int(_WORK / len(y))))
    draws = draw(metrics, resamples=affordable, block=block)
    entries = _entries(metrics, draws, len(y) // block, confidence)
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
    metrics = _metrics(task, tokens, nats, {"characters_per_token": ratio_known})
    affordable = max(100, min(resamples, int(_WORK / len(nats))))
    entries = _entries(metrics, draw(metrics, resamples=affordable), len(nats), confidence)
    return {
        "metrics": entries,
        "hardest": hardest_windows(nats, tokens, index, count=hardest),
        "tokens": int(tokens.sum()),
    }


def _slices(logits: Tensor, targets: Tensor, size: int = 64) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(logits, size), torch.split(targets, size), strict=True))
