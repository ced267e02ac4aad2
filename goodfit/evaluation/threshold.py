"""At which probability should a rare class be called? The threshold tuned on validation, next to 0.5."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from goodfit.evaluation.weighted import Array

Objective = Literal["f1", "balanced_accuracy"]
RARE = 0.2
FEWEST = 10


@dataclass(frozen=True)
class Threshold:
    """From which probability of class 1 on class 1 is predicted.

    objective: what it maximises. at_default, at_value: precision, recall, f1, balanced_accuracy, accuracy and the
    counts tp, fp, fn, tn at 0.5 and at the threshold, on the samples it was tuned on. note: why it was left at 0.5,
    or an empty text.
    """

    value: float
    objective: str
    at_default: dict[str, float | None]
    at_value: dict[str, float | None]
    samples: int
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values; ``Threshold(**values)`` gives it back."""
        return asdict(self)


def wants_threshold(targets: Array) -> bool:
    """True for two classes whose rarer one has a share below 0.2: there 0.5 is seldom the best place to cut.

    targets: ``(samples,)`` class indices, normally of the training or validation part.
    """
    share = float(np.mean(np.asarray(targets) == 1)) if len(targets) else 0.5
    return 0 < min(share, 1 - share) < RARE


def tune_threshold(targets: Array, scores: Array, *, objective: Objective = "f1") -> Threshold:
    """The threshold on the probability of class 1 that maximises the objective on these samples, normally the
    validation part.

    targets: ``(samples,)`` 0 or 1. scores: ``(samples,)`` probabilities of class 1, or ``(samples, 2)``
    probabilities.

    Every cut between two different scores is tried, exactly; the threshold lies halfway between them, and of equally
    good ones the nearest to 0.5 is taken. Left at 0.5 when a class has fewer than ten samples: the best cut would
    then be chance.
    Source: Lipton, Elkan and Narayanaswamy 2014 for F1, whose best threshold is half the best F1 for calibrated
    probabilities. The value on the tuning samples is optimistic; the test part's is not.
    """
    targets, scores = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    scores = scores[:, 1] if scores.ndim == 2 else scores
    positives = int((targets == 1).sum())
    fewest = min(positives, len(targets) - positives)
    default = at_threshold(targets, scores, 0.5)
    if fewest < FEWEST:
        why = f"kept at 0.5: {fewest} samples of a class are too few to tune it"
        return Threshold(0.5, objective, default, default, len(targets), why)
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    cuts = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # last position still called class 1
    tp = np.cumsum(targets[order] == 1)[cuts]
    fp = cuts + 1 - tp
    negatives = len(targets) - positives
    if objective == "f1":
        gained = 2 * tp / (tp + fp + positives)
    else:
        gained = (tp / positives + (negatives - fp) / negatives) / 2
    below = np.append(ordered[cuts[:-1] + 1], 0.0)
    values = (ordered[cuts] + below) / 2
    best = np.flatnonzero(gained >= gained.max() - 1e-12)
    value = float(values[best[np.argmin(np.abs(values[best] - 0.5))]])
    if default[objective] is not None and float(default[objective] or 0) >= float(gained.max()) - 1e-12:
        value = 0.5
    return Threshold(value, objective, default, at_threshold(targets, scores, value), len(targets))


def at_threshold(targets: Array, scores: Array, value: float) -> dict[str, float | None]:
    """Precision, recall, F1, balanced accuracy, accuracy and counts when class 1 is called from ``value`` on.

    targets, scores: as `tune_threshold` takes them. What is undefined (precision when nothing is called) is None.
    """
    targets, scores = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    scores = scores[:, 1] if scores.ndim == 2 else scores
    said, there = scores >= value, targets == 1
    tp, fp = int((said & there).sum()), int((said & ~there).sum())
    fn, tn = int((~said & there).sum()), int((~said & ~there).sum())
    recall, specificity = _share(tp, tp + fn), _share(tn, tn + fp)
    both = None if recall is None or specificity is None else (recall + specificity) / 2
    return {
        "precision": _share(tp, tp + fp),
        "recall": recall,
        "f1": _share(2 * tp, 2 * tp + fp + fn),
        "balanced_accuracy": both,
        "accuracy": _share(tp + tn, len(targets)),
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": tn,
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
