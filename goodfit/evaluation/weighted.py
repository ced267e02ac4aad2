"""Weighted sums over samples: what lets one formula give a metric and all its bootstrap resamples at once.

Every metric takes ``weights`` ``(samples, resamples)``: how often each sample occurs in each resample. With None each
counts once and the answer is one float; with weights it is an array ``(resamples,)`` that holds NaN where a resample
leaves the metric undefined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Array = npt.NDArray[Any]
Value = Any
"""A float, or ``(resamples,)`` where weights were given."""


class NotAvailable(ValueError):
    """A metric that these samples leave undefined; the message is the reason, written for the report."""


def columns(weights: Array | None, samples: int) -> Array:
    """The weights as ``(samples, resamples)``; one column of ones for None. Raises NotAvailable without samples."""
    if samples == 0:
        raise NotAvailable("there are no samples")
    return np.ones((samples, 1)) if weights is None else weights


def settle(values: Array, weights: Array | None, reason: str = "undefined for these samples") -> Value:
    """The resamples' values, or the one float; raises NotAvailable with ``reason`` where that is no finite number."""
    if weights is not None:
        return values
    value = float(values[0])
    if not np.isfinite(value):
        raise NotAvailable(reason)
    return value


def ratio(above: Array, below: Array) -> Array:
    """``above / below``, NaN where ``below`` is zero."""
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    made: Array = np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)
    return made


def total(values: Array, weights: Array | None) -> Array:
    """Weighted sums of ``values`` ``(..., samples)``: ``(..., resamples)`` float64."""
    w = columns(weights, values.shape[-1])
    return np.asarray(values.astype(w.dtype, copy=False) @ w, dtype=np.float64)


def average(values: Array, weights: Array | None) -> Array:
    """Weighted means of ``values`` ``(..., samples)``: ``(..., resamples)``."""
    w = columns(weights, values.shape[-1])
    return ratio(total(values, weights), w.sum(0, dtype=np.float64))


def group_sums(labels: Array, weights: Array | None, *, groups: int) -> Array:
    """Total weight of the samples of each label in ``range(groups)``: ``(groups, resamples)``, of the weights' type."""
    w = columns(weights, len(labels))
    ones = np.ones(len(labels), dtype=w.dtype)
    indicator = sparse.csr_array((ones, (labels, np.arange(len(labels)))), shape=(groups, len(labels)))
    return np.asarray(indicator @ w)


def mean_of_defined(values: Array) -> Array:
    """Mean over the first axis without its NaNs; NaN where nothing is left."""
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0.0).sum(0), defined.sum(0))
