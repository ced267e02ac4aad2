"""The rules about a finished run of goodfit's: its metrics tell what only the whole course shows."""

from goodfit.check import Rule
from goodfit.rules import calibration_drift, overfitting, still_improving

RUN_RULES: tuple[Rule, ...] = (overfitting.RULE, calibration_drift.RULE, still_improving.RULE)
