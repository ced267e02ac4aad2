"""Linear models whose one setting, how much to shrink, is chosen on a fifth of the training samples."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from goodfit import keyed
from goodfit.evaluation.weighted import Array

_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
_INNER, _INNER_ITERATIONS = 2_500, 40


def logistic(x: Any, y: Array, z: Any, *, classes: int, seed: int) -> tuple[Array, str]:
    """Probabilities ``(samples of z, classes)`` of a logistic regression on ``x``, and a note.

    x, z: dense or sparse ``(samples, features)``. The inverse penalty C is the one of 0.01, 0.1, 1, 10 with the
    lowest log loss on a fifth of at most 2,500 training samples. A class that ``y`` lacks gets probability 0.
    """
    best = _strength(x, y, classes, seed)
    model, note = _fit(x, y, best, 200), f"C = {best:g}"
    if int(np.max(model.n_iter_)) >= 200:
        note += ", stopped after 200 iterations"
    return _all_classes(model, z, classes), note


def ridge(x: Array, y: Array, z: Array) -> tuple[Array, str]:
    """Ridge regression of ``y`` ``(samples,)`` or ``(samples, outputs)``, predicted for ``z``, and a note.

    The penalty is the power of ten, as a share of the features' mean variance, with the lowest squared error on the
    last fifth.
    """
    level, spread = x.mean(0), x.std(0)
    spread = np.where(spread < 1e-9, 1.0, spread)
    a, targets = (x - level) / spread, y.reshape(len(y), -1)
    cut = max(1, len(a) * 4 // 5)
    penalties = [10.0**k for k in range(-5, 3)]
    errors = [np.inf] * len(penalties)
    if cut < len(a):
        guesses = _ridge_solutions(a[:cut], targets[:cut], penalties)
        errors = [float(np.square(a[cut:] @ w + b - targets[cut:]).mean()) for w, b in guesses]
    best = penalties[int(np.argmin(errors))] if cut < len(a) else 1e-2
    ((weights, bias),) = _ridge_solutions(a, targets, [best])
    answers = ((z - level) / spread) @ weights + bias
    return answers.reshape(len(z), *y.shape[1:]), f"penalty {best:g}"


def _ridge_solutions(x: Array, y: Array, penalties: list[float]) -> list[tuple[Array, Array]]:
    middle, bias = x.mean(0), y.mean(0)
    centred = x - middle
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    turned = vectors.T @ (centred.T @ (y - bias) / len(x))
    made = []
    for penalty in penalties:
        weights = vectors @ (turned / (np.maximum(values, 0)[:, None] + penalty))
        made.append((weights, bias - middle @ weights))
    return made


def _strength(x: Any, y: Array, classes: int, seed: int) -> float:
    count = min(x.shape[0], _INNER)
    order = keyed.permutation(keyed.key(seed, "logistic"), x.shape[0])[:count].numpy()
    fit, score = order[: count * 4 // 5], order[count * 4 // 5 :]
    if len(score) < 10 or len(np.unique(y[fit])) < 2:
        return 1.0
    found = []
    for strength in _STRENGTHS:
        p = _all_classes(_fit(x[fit], y[fit], strength, _INNER_ITERATIONS), x[score], classes)[
            np.arange(len(score)), y[score]
        ]
        found.append(float(-np.log(np.maximum(p, 1e-12)).mean()))
    return _STRENGTHS[int(np.argmin(found))]


def _fit(x: Any, y: Array, strength: float, most: int) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=most).fit(x, y)


def _all_classes(model: LogisticRegression, z: Any, classes: int) -> Array:
    made = np.zeros((z.shape[0], classes))
    made[:, model.classes_.astype(int)] = model.predict_proba(z)
    return made
