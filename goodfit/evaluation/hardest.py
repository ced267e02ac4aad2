"""Which samples does the model get most wrong, and which of them are probably labelled wrongly?"""

from __future__ import annotations

from typing import Any

import numpy as np

from goodfit.evaluation.classification import losses
from goodfit.evaluation.weighted import Array


def hardest_classes(targets: Array, probabilities: Array, index: Array, *, count: int = 20) -> list[dict[str, Any]]:
    """The samples of largest loss, worst first.

    index: ``(samples,)`` the samples' own numbers. Each row: ``index``, ``position`` (in this part), ``target``,
    ``predicted`` (class indices), ``loss`` in nats, ``probability`` of the predicted class, ``target_probability``.
    """
    loss = losses(targets, probabilities)
    return [_row(int(k), targets, probabilities, loss, index) for k in np.argsort(-loss, kind="stable")[:count]]


def mislabelled(
    targets: Array, probabilities: Array, index: Array, *, count: int = 20
) -> tuple[list[dict[str, Any]], int]:
    """Wrong predictions as confident as right ones usually are: candidates for wrong labels, and how many there are.

    A sample is one when the predicted class is not its label and has a probability of at least the mean probability
    which that class gets on samples labelled so (the self-confidence threshold of Northcutt, Jiang and Chuang 2021,
    "Confident learning"). Ours looks at the most probable class only. Rows as `hardest_classes` gives, the most
    confident first. Look at them before changing a label: hard but right samples are among them.
    """
    predicted = np.argmax(probabilities, 1)
    confidence = probabilities[np.arange(len(targets)), predicted]
    usual = np.full(probabilities.shape[1], np.inf)
    for k in np.unique(targets):
        usual[k] = probabilities[targets == k, k].mean()
    found = np.flatnonzero((predicted != targets) & (confidence >= usual[predicted]))
    ordered = found[np.argsort(-confidence[found], kind="stable")]
    loss = losses(targets, probabilities)
    return [_row(int(k), targets, probabilities, loss, index) for k in ordered[:count]], len(found)


def hardest_values(targets: Array, predictions: Array, index: Array, *, count: int = 20) -> list[dict[str, Any]]:
    """The samples of largest squared error (its mean over the horizon), worst first.

    Each row: ``index``, ``position``, ``target``, ``predicted`` (a number, or a list over the horizon), ``loss``.
    """
    loss = np.square(predictions - targets).reshape(len(targets), -1).mean(1)
    return [
        {
            "index": int(index[k]),
            "position": int(k),
            "target": targets[k].tolist(),
            "predicted": predictions[k].tolist(),
            "loss": float(loss[k]),
        }
        for k in np.argsort(-loss, kind="stable")[:count]
    ]


def hardest_windows(nats: Array, tokens: Array, index: Array, *, count: int = 20) -> list[dict[str, Any]]:
    """The windows of text with the most nats per token, worst first: ``index``, ``position``, ``loss``."""
    loss = np.divide(nats, tokens, out=np.zeros(len(nats)), where=tokens > 0)
    order = np.argsort(-loss, kind="stable")[:count]
    return [{"index": int(index[k]), "position": int(k), "loss": float(loss[k])} for k in order]


def _row(k: int, targets: Array, probabilities: Array, loss: Array, index: Array) -> dict[str, Any]:
    predicted = int(np.argmax(probabilities[k]))
    return {
        "index": int(index[k]),
        "position": k,
        "target": int(targets[k]),
        "predicted": predicted,
        "loss": float(loss[k]),
        "probability": float(probabilities[k, predicted]),
        "target_probability": float(probabilities[k, targets[k]]),
    }
