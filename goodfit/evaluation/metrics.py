"""The list of all metrics: name -> function, whose docstring is its page, and how each is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from goodfit.evaluation import classification, language, ranking, regression, written
from goodfit.evaluation.weighted import Value
from goodfit.types import Task

METRICS: dict[str, Callable[..., Value]] = {
    "accuracy": classification.accuracy,
    "balanced_accuracy": classification.balanced_accuracy,
    "macro_f1": classification.macro_f1,
    "precision": classification.precision,
    "recall": classification.recall,
    "f1": classification.f1,
    "roc_auc": ranking.roc_auc,
    "average_precision": ranking.average_precision,
    "log_loss": classification.log_loss,
    "brier": classification.brier,
    "ece": classification.ece,
    "rmse": regression.rmse,
    "mae": regression.mae,
    "r2": regression.r2,
    "mase": regression.mase,
    "nats_per_token": language.nats_per_token,
    "perplexity": language.perplexity,
    "nats_per_character": language.nats_per_character,
    "bits_per_character": language.bits_per_character,
    "exact_match": written.exact_match,
    "character_error_rate": written.character_error_rate,
}

CLASSIFICATION = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "roc_auc",
    "average_precision",
    "log_loss",
    "brier",
    "ece",
)
BINARY = ("precision", "recall", "f1")
REGRESSION = ("rmse", "mae", "r2")
FORECAST = ("mase", "rmse", "mae", "r2")
SEQUENCE = ("exact_match", "character_error_rate", "nats_per_token", "perplexity")
LANGUAGE = ("nats_per_character", "bits_per_character", "nats_per_token", "perplexity")

RARE_POSITIVE = 0.05


class Shown(NamedTuple):
    """How a metric appears: its title, which direction is better, its unit ("target" for the target's own)."""

    title: str
    better: Literal["higher", "lower"]
    unit: str = ""


SHOWN: dict[str, Shown] = {
    "accuracy": Shown("accuracy", "higher"),
    "balanced_accuracy": Shown("balanced accuracy", "higher"),
    "macro_f1": Shown("macro F1", "higher"),
    "precision": Shown("precision", "higher"),
    "recall": Shown("recall", "higher"),
    "f1": Shown("F1", "higher"),
    "roc_auc": Shown("ROC-AUC", "higher"),
    "average_precision": Shown("average precision", "higher"),
    "log_loss": Shown("log loss", "lower", "nats"),
    "brier": Shown("Brier score", "lower"),
    "ece": Shown("calibration error (ECE)", "lower"),
    "rmse": Shown("RMSE", "lower", "target"),
    "mae": Shown("MAE", "lower", "target"),
    "r2": Shown("R²", "higher"),
    "mase": Shown("MASE", "lower"),
    "nats_per_token": Shown("nats per token", "lower", "nats"),
    "perplexity": Shown("perplexity", "lower"),
    "nats_per_character": Shown("nats per character", "lower", "nats"),
    "bits_per_character": Shown("bits per character", "lower", "bits"),
    "exact_match": Shown("exact match", "higher"),
    "character_error_rate": Shown("character error rate", "lower"),
}


def names_for(task: Task) -> tuple[str, ...]:
    """The metrics a task's results hold, the most telling first."""
    if task.kind == "classification":
        return CLASSIFICATION + (BINARY if task.binary else ())
    return {"regression": REGRESSION, "forecast": FORECAST, "language": LANGUAGE, "sequence": SEQUENCE}[task.kind]


def headline(task: Task, *, positive_share: float | None = None) -> str:
    """The one metric a run is judged by.

    Accuracy for classes; average precision for two classes when class 1 has a share below 0.05, where accuracy would
    praise a model that never calls it; RMSE for regression and forecasts; nats per character for language; exact match
    for sequences.
    positive_share: share of class 1 in the training part, if known.
    """
    if task.binary and positive_share is not None and positive_share < RARE_POSITIVE:
        return "average_precision"
    return {
        "classification": "accuracy",
        "regression": "rmse",
        "forecast": "rmse",
        "language": "nats_per_character",
        "sequence": "exact_match",
    }[task.kind]
