"""Is the model wrong in the same way each time, or another way each time? Bias and variance over resampled data.

Several models, each trained on another sample of the training data, predict the same rows. What they have in common is
bias (with the noise of the targets, which no model can be told apart from); what differs between them is variance.

=============  ==========================================================  ==================================
loss           main prediction                                             source
=============  ==========================================================  ==================================
squared error  the mean                                                    Geman, Bienenstock, Doursat 1992
cross-entropy  the normalised geometric mean of the probabilities          Heskes 1998
0/1            the most frequent class (ties: the first)                   Domingos 2000
=============  ==========================================================  ==================================

Squared error and cross-entropy add up: ``loss = bias + variance`` for each row, exactly. With 0/1 loss a deviation from
a wrong main prediction may hit the right class, so variance helps there: ``loss = bias + unbiased - biased variance``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from goodfit.errors import DataError

Array = NDArray[np.float64]
FEWEST = 3
DOMINATES = 2.0
"""A term dominates where it is this many times the other."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """A loss and its parts, means over rows; loss = bias + variance.

    bias: that of the main prediction, with the noise of the targets. variance: for 0/1 loss the net effect, made of
    ``unbiased`` (spoils right answers) less ``biased`` (mends wrong ones); elsewhere those are None. rows:
    ``(rows, 2)`` bias and variance of each.
    """

    loss: Literal["squared error", "cross-entropy", "0/1 loss"]
    total: float
    bias: float
    variance: float
    models: int
    rows: Array
    unbiased: float | None = None
    biased: float | None = None

    @property
    def dominates(self) -> str:
        """``bias``, ``variance``, or ``neither`` where they are within a factor of two."""
        if self.variance > DOMINATES * self.bias:
            return "variance"
        return "bias" if self.bias > DOMINATES * max(self.variance, 0.0) else "neither"


def squared_error(predictions: Array, targets: Array) -> Split:
    """``E (f - y)^2 = (mean f - y)^2 + var f``.

    predictions: ``(models, rows)`` or ``(models, rows, outputs)``; targets: ``(rows)`` or ``(rows, outputs)``; outputs
    are averaged. With B models the mean of f itself still varies by ``var / B``, which the plain estimate counts as
    bias; here it is counted as variance, so both are unbiased.
    """
    f, y = _checked(predictions, targets)
    models = len(f)
    variance = f.var(axis=0, ddof=1)
    total = ((f - y) ** 2).mean(0)
    bias = total - variance
    rows = np.stack([one.reshape(len(y), -1).mean(1) for one in (bias, variance)], 1)
    return Split(
        loss="squared error", total=float(total.mean()), bias=float(bias.mean()), variance=float(variance.mean()),
        models=models, rows=rows,
    )  # fmt: skip


def cross_entropy(probabilities: Array, classes: NDArray[np.int64]) -> Split:
    """``E -log p_y = -log q_y + E KL(q || p)`` with ``q_k = exp(E log p_k) / Z``; the variance is ``-log Z``.

    probabilities: ``(models, rows, classes)``; classes: ``(rows,)``. Probabilities below 1e-12 are taken for 1e-12.
    As with squared error, the share ``1 / B`` of the variance that the plain estimate leaves in the bias is moved to
    the variance: to first order, since KL is quadratic near its minimum.
    """
    p, y = _checked(probabilities, classes)
    models = len(p)
    logs = np.log(np.clip(p, 1e-12, None))
    mean = logs.mean(0)
    z = np.log(np.exp(mean - mean.max(1, keepdims=True)).sum(1)) + mean.max(1)
    total = -mean[np.arange(len(y)), y]
    variance = -z * models / (models - 1)
    rows = np.stack([total - variance, variance], 1)
    return Split(
        loss="cross-entropy", total=float(total.mean()), bias=float(rows[:, 0].mean()),
        variance=float(variance.mean()), models=models, rows=rows,
    )  # fmt: skip


def zero_one(answers: NDArray[np.int64], classes: NDArray[np.int64]) -> Split:
    """Domingos' split of the error rate: bias 1 where the main prediction is wrong; variance: how often others differ.

    answers: ``(models, rows)`` predicted classes. Where the main prediction is right, every deviation is an error
    (unbiased variance); where it is wrong, a deviation helps as often as it hits the true class (biased variance).
    """
    f, y = _checked(answers, classes)
    count = int(max(f.max(), y.max())) + 1
    votes = np.stack([(f == k).sum(0) for k in range(count)], 1)
    main = votes.argmax(1)
    wrong = (main != y).astype(float)
    differs = (f != main).mean(0)
    hits = ((f == y) & (f != main)).mean(0)
    unbiased, biased = (1 - wrong) * differs, wrong * hits
    rows = np.stack([wrong, unbiased - biased], 1)
    return Split(
        loss="0/1 loss", total=float((f != y).mean()), bias=float(wrong.mean()),
        variance=float((unbiased - biased).mean()), models=len(f), rows=rows,
        unbiased=float(unbiased.mean()), biased=float(biased.mean()),
    )  # fmt: skip


def _checked(predictions: NDArray[np.generic], targets: NDArray[np.generic]) -> tuple[NDArray, NDArray]:  # type: ignore[type-arg]
    f, y = np.asarray(predictions), np.asarray(targets)
    if len(f) < FEWEST:
        raise DataError(f"bias and variance need {FEWEST} models at least, and there are {len(f)}")
    if f.shape[1] != len(y):
        raise DataError(f"{f.shape[1]:,} predictions for {len(y):,} targets; both must be of the same rows")
    return f, y
