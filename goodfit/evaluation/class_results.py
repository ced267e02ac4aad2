"""The results of a classifier: metrics, each class, confusion, calibration, threshold and the hardest samples."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from goodfit.evaluation.calibration import Temperature, reliability
from goodfit.evaluation.classification import class_counts, confusion
from goodfit.evaluation.entries import WORK, Draw, Metric, entries_of, entry, metrics_of
from goodfit.evaluation.hardest import hardest_classes, mislabelled
from goodfit.evaluation.intervals import FEW, Interval, interval, proportion, wilson
from goodfit.evaluation.predictions import probabilities
from goodfit.evaluation.ranking import both_curves
from goodfit.evaluation.threshold import Threshold, at_threshold
from goodfit.evaluation.weighted import Array, ratio
from goodfit.types import Task

_CURVES = ("roc_auc", "average_precision")
_LARGEST_TABLE = 50


def class_results(
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
    """The part of `results` that is about classes."""
    y = targets.cpu().numpy().astype(np.int64)
    raw = probabilities(logits, task).numpy()
    warm = 1.0 if temperature is None else temperature.value
    p = raw if warm == 1.0 else probabilities(logits, task, temperature=warm).numpy()
    classes = p.shape[1]
    names = list(task.classes) or [str(k) for k in range(classes)]

    metrics = metrics_of(task, y, p, {})
    one_class = ("precision", "recall", "f1")
    wanted: dict[str, Metric] = {n: m for n, m in metrics.items() if n not in (*_CURVES, *one_class)}
    wanted["per_class"] = lambda w: _recall_precision_f1(y, p, w)
    curves = {"curves": partial(both_curves, y, p)}
    affordable = min(resamples, int(WORK / (len(y) * (1 if classes == 2 else classes))))
    draws = draw(wanted | (curves if affordable >= resamples else {}), resamples=resamples)
    if resamples > affordable >= 50:
        draws |= draw(curves, resamples=affordable)
    draws |= dict(zip(_CURVES, draws.get("curves", ()), strict=False))

    entries = entries_of(metrics, draws, len(y), confidence)
    per_class = _per_class(names, y, p, draws["per_class"], confidence)
    hits = float((p.argmax(1) == y).sum())
    entries["accuracy"] = entry(
        "accuracy", hits / len(y), proportion(hits, len(y), draws["accuracy"], confidence=confidence)
    )
    if any(min(row["hits"], row["support"] - row["hits"]) < FEW for row in per_class if row["support"]):
        bounds = _mean_of_shares([(row["hits"], row["support"]) for row in per_class if row["support"]], confidence)
        entries["balanced_accuracy"] = entry("balanced_accuracy", entries["balanced_accuracy"]["value"], bounds)
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
