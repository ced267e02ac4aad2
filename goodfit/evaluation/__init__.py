"""How good is it, and how sure is that? Metrics with intervals, calibration, thresholds, baselines, hard samples."""

from goodfit.evaluation.baselines import baselines
from goodfit.evaluation.calibration import Temperature, fit_temperature, reliability
from goodfit.evaluation.entries import points
from goodfit.evaluation.intervals import Interval, bootstrap, interval, wilson
from goodfit.evaluation.language import characters_per_token, token_losses
from goodfit.evaluation.metrics import METRICS, SHOWN, headline
from goodfit.evaluation.predictions import point, probabilities
from goodfit.evaluation.results import results
from goodfit.evaluation.seasons import mase_scale, season_of, seasonal_error, series_of
from goodfit.evaluation.sequence import sequence_results
from goodfit.evaluation.threshold import Threshold, tune_threshold, wants_threshold
from goodfit.evaluation.training import TrainingMetric, rows_right, selection_metric, training_metric
from goodfit.evaluation.weighted import NotAvailable

__all__ = [
    "METRICS",
    "SHOWN",
    "Interval",
    "NotAvailable",
    "Temperature",
    "Threshold",
    "TrainingMetric",
    "baselines",
    "bootstrap",
    "characters_per_token",
    "fit_temperature",
    "headline",
    "interval",
    "mase_scale",
    "point",
    "points",
    "probabilities",
    "reliability",
    "results",
    "rows_right",
    "season_of",
    "seasonal_error",
    "selection_metric",
    "sequence_results",
    "series_of",
    "token_losses",
    "training_metric",
    "tune_threshold",
    "wants_threshold",
    "wilson",
]
