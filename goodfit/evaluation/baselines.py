"""What simple methods reach on the same samples: a network is worth its trouble only where it beats them.

All are fitted on the train part alone and scored on the other part, with the metrics of the results and without
tuning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from goodfit.evaluation.entries import points
from goodfit.evaluation.features import chosen, gathered, linear_matrices, tree_matrices
from goodfit.evaluation.forecasts import forecasts
from goodfit.evaluation.language import IGNORED, characters_per_token
from goodfit.evaluation.linear import logistic, ridge
from goodfit.evaluation.metrics import headline
from goodfit.evaluation.ngrams import ngram_nats
from goodfit.evaluation.probe import FROZEN, Probe, close_enough, linear_probe
from goodfit.evaluation.seasons import mase_scale
from goodfit.evaluation.sequence import sequence_points, simple_writers
from goodfit.evaluation.weighted import Array
from goodfit.types import InputSpec, Part, Task

if TYPE_CHECKING:
    from goodfit.data.data import Data

_WIDEST_RIDGE = 1_500

Answer = tuple[Any, str]
"""Class probabilities, values in the targets' units, windows' summed nats or written texts; and a note."""


def baselines(
    train: Part,
    other: Part,
    task: Task,
    spec: InputSpec,
    data: Data | None = None,
    *,
    seconds: float = 15.0,
    seed: int = 0,
    probes: Mapping[str, Probe] | None = None,
) -> list[dict[str, Any]]:
    """Rows ``{name, metrics: {name: value or None}, seconds, note}``, the simplest first.

    other: the part to score on, normally the validation part. data: gives the targets' original units and, for
    series, the part between.
    seconds: no further baseline is begun once so many are gone; each one is sized (by subsampling train, which its
    note says) to take about a quarter of that on two cores. seed: of the subsamples and of the trees.

    - classes: the train part's class shares (whose most probable class is the majority); logistic regression on
      standardised numbers and one-hot categories, on TF-IDF of words and word pairs, or on pixels; gradient-boosted
      trees for columns.
    - values: the train part's mean; ridge regression; gradient-boosted trees.
    - series: the last value; the last season (found in the train part); ridge regression on the last values.
    - sequences: the source itself; the most frequent target; the answer to the most similar source.
    - language: shares of the tokens; counts of pairs; counts of up to five tokens, interpolated (Witten and Bell
      1991).
    - probes: for each of these features, a linear model on them; the first one's note says what they are worth.
    """
    mean, std = (0.0, 1.0) if data is None else (data.target_mean, data.target_std)
    started, rows = time.monotonic(), []
    for name, make in _makers(train, other, task, spec, data, seed, probes or {}):
        began = time.monotonic()
        if began - started > seconds:
            rows.append(
                {"name": name, "metrics": {}, "seconds": 0.0, "note": f"left out: {seconds:g} seconds were gone"}
            )
            continue
        try:
            found = make()
        except (ValueError, ArithmeticError, np.linalg.LinAlgError, MemoryError) as error:
            # A baseline that cannot be had must not cost the run its results; the row says so.
            spent = time.monotonic() - began
            rows.append({"name": name, "metrics": {}, "seconds": spent, "note": f"failed: {error}"})
            continue
        if found is None:
            continue
        metrics = _score(task, other, found[0], mean, std, train)
        rows.append({"name": name, "metrics": metrics, "seconds": time.monotonic() - began, "note": found[1]})
    told = close_enough(rows, headline(task), larger_is_better=task.kind == "classification") if probes else ""
    for row in rows:
        if told and row["name"] == FROZEN:
            row["note"] = f"{told} ({row['note']})"
    return rows


def _makers(
    train: Part,
    other: Part,
    task: Task,
    spec: InputSpec,
    data: Data | None,
    seed: int,
    probes: Mapping[str, Probe],
) -> Iterator[tuple[str, Callable[[], Answer | None]]]:
    if len(train) == 0 or len(other) == 0:
        return
    if task.kind == "language":
        yield from _counting(train, other, spec)
    elif task.kind == "sequence":
        yield from simple_writers(train, other)
    elif task.kind == "forecast":
        history = [data.valid] if data is not None and other is data.test else []
        yield "mean", lambda: _mean(train, other)
        yield from forecasts(train, other, history=history, seed=seed)
    elif task.kind == "regression":
        yield "mean", lambda: _mean(train, other)
        yield "ridge regression", lambda: _linear(train, other, task, spec, seed)
        yield "gradient-boosted trees", lambda: _trees(train, other, task, spec, seed)
    else:
        yield "class shares (majority class)", lambda: _shares(train, other, task)
        if len(torch.unique(train.targets)) > 1:
            texts = spec.kind == "text"
            linear = "TF-IDF + logistic regression" if texts else "logistic regression"
            yield linear, lambda: _linear(train, other, task, spec, seed)
            yield "gradient-boosted trees", lambda: _trees(train, other, task, spec, seed)
    for name, one in probes.items():
        yield name, partial(linear_probe, one, task, seed=seed)


def _score(task: Task, other: Part, answer: Any, mean: float, std: float, train: Part) -> dict[str, float | None]:
    if task.kind == "classification":
        return points(task, other.targets.cpu().numpy().astype(np.int64), answer)
    if task.kind == "sequence":
        return sequence_points(answer, other)
    if task.kind == "language":
        kept = (other.targets != IGNORED).sum(1).double().cpu().numpy()
        return points(task, kept, answer, characters_per_token=characters_per_token(task, other))
    targets = other.targets.cpu().double().numpy() * std + mean
    scale = mase_scale(train, std=std) if task.kind == "forecast" else None
    return points(task, targets, answer.reshape(targets.shape) * std + mean, scale=scale)


def _shares(train: Part, other: Part, task: Task) -> Answer:
    """Shares with half a sample added to each class (Krichevsky and Trofimov 1981), so that none is impossible."""
    counts = np.bincount(train.targets.cpu().numpy(), minlength=len(task.classes)) + 0.5
    return np.tile(counts / counts.sum(), (len(other), 1)), ""


def _mean(train: Part, other: Part) -> Answer:
    level = train.targets.cpu().double().numpy().mean(0)
    return np.broadcast_to(level, other.targets.shape).copy(), ""


def _linear(train: Part, other: Part, task: Task, spec: InputSpec, seed: int) -> Answer:
    positions, note = chosen(len(train), _linear_limit(task, spec), seed)
    fitted, scored = gathered(train, positions), gathered(other, torch.arange(len(other)))
    x, z = linear_matrices(fitted, scored, spec)
    if task.kind == "classification":
        answer, how = logistic(x, fitted.targets, z, classes=len(task.classes), seed=seed)
    elif x.shape[1] > _WIDEST_RIDGE:
        model = Ridge(alpha=1.0).fit(x, fitted.targets)
        answer, how = model.predict(z), "penalty 1"
    else:
        answer, how = ridge(_dense(x), fitted.targets, _dense(z))
    return answer, "; ".join(filter(None, [note, how]))


def _trees(train: Part, other: Part, task: Task, spec: InputSpec, seed: int) -> Answer | None:
    trees_a_round = len(task.classes) if len(task.classes) > 2 else 1
    positions, note = chosen(len(train), max(2_000, 60_000 // trees_a_round), seed)
    fitted = gathered(train, positions)
    matrices = tree_matrices(fitted, gathered(other, torch.arange(len(other))), spec)
    if matrices is None:
        return None
    x, z, kinds = matrices
    settings: dict[str, Any] = {"categorical_features": kinds if any(kinds) else None, "random_state": seed % 2**32}
    if task.kind == "regression":
        return HistGradientBoostingRegressor(**settings).fit(x, fitted.targets).predict(z), note
    model = HistGradientBoostingClassifier(**settings).fit(x, fitted.targets)
    answer = np.zeros((len(z), len(task.classes)))
    answer[:, model.classes_.astype(int)] = model.predict_proba(z)
    return answer, note


def _linear_limit(task: Task, spec: InputSpec) -> int:
    """Samples for a few seconds: dense inputs are what costs."""
    if spec.kind in ("image", "tensor", "series"):
        width = int(np.prod(spec.shape))
        if spec.kind == "image" and width > 1024:
            width = spec.shape[0] * 256
        return max(1_000, int(6e7 / (max(width, 1) * max(1, len(task.classes)) ** 0.5)))
    if spec.length:  # counting pairs of words takes 4 microseconds a word
        return min(60_000, max(10_000, 4_000_000 // spec.length))
    return 60_000


def _dense(matrix: Any) -> Array:
    return np.asarray(matrix.toarray() if sparse.issparse(matrix) else matrix)


def _counting(train: Part, other: Part, spec: InputSpec) -> Iterator[tuple[str, Callable[[], Answer | None]]]:
    made: list[tuple[list[Array], int]] = []

    def order(k: int) -> Answer | None:
        if not made:
            made.append(ngram_nats(train, other, vocabulary=spec.vocabulary, order=5))
        losses, counted = made[0]
        note = "" if counted >= train.targets.numel() else f"counted on {counted:,} tokens"
        return (losses[k].sum(1), note) if k < len(losses) else None

    yield "token shares (unigram)", lambda: order(0)
    yield "counts of pairs (bigram)", lambda: order(1)
    yield "counts of up to 5 tokens, interpolated", lambda: order(4)
