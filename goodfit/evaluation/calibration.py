"""Do probabilities mean what they say? One number, the temperature, makes them.

Logits are divided by a temperature T found on the validation part. T above 1 makes an overconfident model humbler, T
below 1 a timid one bolder; which class comes first never changes (for ensembles inside one model, whose members'
probabilities are averaged, it may, rarely).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from goodfit.evaluation.classification import BINS, bin_of, ece, log_loss
from goodfit.evaluation.intervals import wilson
from goodfit.evaluation.predictions import members, probabilities
from goodfit.evaluation.weighted import Array

COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class Temperature:
    """The temperature and what it did to the samples it was found on.

    value: 1.0 where it was refused. note: why, or an empty text.
    """

    value: float = 1.0
    log_loss_before: float | None = None
    log_loss_after: float | None = None
    ece_before: float | None = None
    ece_after: float | None = None
    samples: int = 0
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values; ``Temperature(**values)`` gives it back."""
        return asdict(self)


def fit_temperature(logits: Tensor, targets: Tensor) -> Temperature:
    """The temperature that minimises the log loss of these samples, normally the validation part.

    logits: as `probabilities` takes them. targets: ``(samples,)`` class indices.

    Method: with b = 1/T the log loss of softmax(b z) is convex in b; the zero of its derivative, the mean of E_p[z] -
    z_target, is bracketed in T from 0.05 to 20 and found by Brent's method in float64. Refused (T = 1) when the log
    loss has no minimum in that range, as when all samples are right, or falls by less than one nat in total: that
    much one fitted number gains from noise alone (Akaike 1974), and it would not carry over to new data.
    Source: Guo et al. 2017, "On calibration of modern neural networks". Ours differs in the exact solver and the
    refusals. Raises ModelError for NaN or infinite logits.
    """
    z, y = members(logits), targets.detach().cpu().long()
    probabilities(logits)  # refuses what is not finite
    if len(y) == 0:
        return Temperature(note="no samples to find it on")

    def slope(log_b: float) -> float:
        return _slope(z, y, math.exp(log_b))

    low, high = -math.log(HOTTEST), -math.log(COLDEST)
    before = _scores(logits, y, 1.0)
    if slope(high) <= 0:
        return _refused(
            before, len(y), "the log loss keeps falling as the temperature goes to 0: (nearly) all samples are right"
        )
    if slope(low) >= 0:
        return _refused(before, len(y), "no temperature helps: the logits say nothing about the targets")
    value = math.exp(-float(optimize.brentq(slope, low, high, xtol=1e-10)))
    after = _scores(logits, y, value)
    if (before[0] - after[0]) * len(y) < 1:
        return _refused(before, len(y), "the probabilities are as well calibrated as a temperature can make them")
    return Temperature(value, before[0], after[0], before[1], after[1], len(y))


def reliability(targets: Array, probabilities: Array) -> dict[str, Any]:
    """The reliability diagram as plain values: ``{"bins": [...], "log_loss", "ece"}``.

    Each bin that holds samples: ``low, high`` (its edges), ``count``, mean ``confidence``, ``accuracy`` and its
    Wilson interval ``accuracy_low, accuracy_high``. A calibrated model has accuracy = confidence in each bin.
    """
    confidence, right = probabilities.max(1), np.argmax(probabilities, 1) == targets
    which = bin_of(confidence)
    bins = []
    for k in np.unique(which):
        here = which == k
        count, hits = int(here.sum()), int(right[here].sum())
        bounds = wilson(hits, count)
        bins.append(
            {
                "low": float(k / BINS),
                "high": float((k + 1) / BINS),
                "count": count,
                "confidence": float(confidence[here].mean()),
                "accuracy": hits / count,
                "accuracy_low": bounds.low,
                "accuracy_high": bounds.high,
            }
        )
    return {"bins": bins, "log_loss": log_loss(targets, probabilities), "ece": ece(targets, probabilities)}


def _slope(z: Tensor, y: Tensor, b: float) -> float:
    """Derivative of the mean log loss with respect to b, the inverse temperature.

    For averaged members each member's derivative counts by its share of the target's probability.
    """
    log_p = torch.log_softmax(z * b, -1)
    rows = y[:, None, None].expand(-1, z.shape[1], 1)
    expected = (log_p.exp() * z).sum(-1)
    own = z.gather(2, rows).squeeze(2)
    share = torch.softmax(log_p.gather(2, rows).squeeze(2), 1)
    return float((share * (expected - own)).sum(1).mean())


def _scores(logits: Tensor, y: Tensor, temperature: float) -> tuple[float, float]:
    p = probabilities(logits, temperature=temperature).numpy()
    return log_loss(y.numpy(), p), ece(y.numpy(), p)


def _refused(before: tuple[float, float], samples: int, why: str) -> Temperature:
    return Temperature(1.0, before[0], before[0], before[1], before[1], samples, f"kept at 1: {why}")
