"""How far off are predicted numbers? RMSE, MAE, R² and, for series, MASE.

Arguments everywhere: targets and predictions in original units, ``(samples,)`` or ``(samples, horizon)``; weights as
in `goodfit.evaluation.weighted`.
"""

from __future__ import annotations

import numpy as np

from goodfit.evaluation.weighted import Array, NotAvailable, Value, average, columns, ratio, settle


def rmse(targets: Array, predictions: Array, weights: Array | None = None) -> Value:
    """Root of the mean squared error, in the target's unit; large errors weigh most.

    Formula: sqrt(mean of (prediction - target)^2), over samples and horizon. Range: 0 to infinity, lower is better;
    always giving the mean scores the target's standard deviation.
    Misleading: with outliers or heavy tails, where a few samples decide it; read MAE next to it.
    Source: Gauss 1809; Chai and Draxler 2014 for RMSE against MAE.
    """
    return settle(np.sqrt(average(_per_sample(np.square(predictions - targets)), weights)), weights)


def mae(targets: Array, predictions: Array, weights: Array | None = None) -> Value:
    """Mean absolute error, in the target's unit.

    Formula: mean of |prediction - target|, over samples and horizon. Range: 0 to infinity, lower is better; always
    giving the median scores the mean absolute deviation.
    Misleading: where rare large errors are what costs; a model trained on squared error aims at the mean, not the
    median.
    Source: Laplace 1774; Willmott and Matsuura 2005.
    """
    return settle(average(_per_sample(np.abs(predictions - targets)), weights), weights)


def r2(targets: Array, predictions: Array, weights: Array | None = None) -> Value:
    """Share of the targets' variance that the predictions explain (coefficient of determination).

    Formula: 1 - sum (prediction - target)^2 / sum (target - mean target)^2, the mean being that of these samples.
    Range: minus infinity to 1, higher is better; 0 is always giving the mean.
    Misleading: across data with different spread; the same errors give a better R² where targets vary more. Over
    several steps of a horizon all steps share one mean. Not available where all targets are equal.
    Source: Wright 1921.
    """
    wrong = average(_per_sample(np.square(predictions - targets)), weights)
    # Around a fixed point near the mean, so that the difference of two large sums loses no digits.
    centred = targets - targets.mean() if targets.size else targets
    spread = average(_per_sample(np.square(centred)), weights) - average(_per_sample(centred), weights) ** 2
    spread = np.where(
        spread > 1e-28 * max(float(np.square(targets).mean()) if targets.size else 0.0, 1e-300), spread, 0
    )
    return settle(1 - ratio(wrong, spread), weights, "all targets are equal")


def mase(targets: Array, predictions: Array, weights: Array | None = None, *, scale: float | None = None) -> Value:
    """Mean absolute error in units of the seasonal naive forecast's error on the training part.

    Formula: MAE / scale, where scale is the mean of |y(t) - y(t - season)| over the training series. Range: 0 to
    infinity, lower is better; below 1 beats what repeating the last season did, one season ahead, on the training
    part.
    Misleading: for horizons longer than a season even a good forecast may exceed 1; compare with the seasonal naive
    row of the baselines, which is scored on the same part. Not available where the training series repeats exactly or
    is too short.
    Source: Hyndman and Koehler 2006, "Another look at measures of forecast accuracy".
    """
    if scale is None:
        raise NotAvailable("the training series' seasonal error is not known")
    if not scale > 0:
        raise NotAvailable("the training series repeats itself exactly, so its naive error is 0")
    return settle(average(_per_sample(np.abs(predictions - targets)), weights) / scale, weights)


def _per_sample(errors: Array) -> Array:
    columns(None, len(errors))
    means: Array = errors.reshape(len(errors), -1).mean(1)
    return means
