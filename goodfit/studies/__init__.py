"""Studies: lists of runs (a recipe, a patch, a seed) in one folder, and what can be believed of them."""

from __future__ import annotations

from goodfit.studies.study import Arm, Outcome, Study

__all__ = ["Arm", "Outcome", "Study"]
