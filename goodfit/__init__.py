"""goodfit trains a neural network well with one command, and explains what it did.

>>> import goodfit
>>> run = goodfit.train("digits")  # doctest: +SKIP
>>> run.predict("new/")            # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from goodfit.errors import DataError, GoodfitError, MissingExtra, ModelError, RecipeError, RunError

if TYPE_CHECKING:
    from goodfit.data import read
    from goodfit.ensemble import Ensemble
    from goodfit.job import dry_run, train
    from goodfit.models.describe import describe
    from goodfit.pages import explain
    from goodfit.plan import Plan
    from goodfit.recipe import Recipe
    from goodfit.run import Run
    from goodfit.studies.ablation import ablate
    from goodfit.studies.cross_validate import cross_validate
    from goodfit.studies.learning_curve import learning_curve
    from goodfit.studies.lr import range_test
    from goodfit.studies.range_test import lr_range
    from goodfit.studies.search import tune
    from goodfit.types import Batch, Finding, InputSpec, Moment, Task
    from goodfit.watching import watch

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "DataError",
    "Ensemble",
    "Finding",
    "GoodfitError",
    "InputSpec",
    "MissingExtra",
    "ModelError",
    "Moment",
    "Plan",
    "Recipe",
    "RecipeError",
    "Run",
    "RunError",
    "Task",
    "ablate",
    "cross_validate",
    "describe",
    "dry_run",
    "explain",
    "learning_curve",
    "lr_range",
    "range_test",
    "read",
    "train",
    "tune",
    "watch",
]

# PyTorch takes a second to import, and what reads tables another: a program pays when it first asks for one of these.
_LATER = {
    "Batch": "goodfit.types",
    "Ensemble": "goodfit.ensemble",
    "Finding": "goodfit.types",
    "InputSpec": "goodfit.types",
    "Moment": "goodfit.types",
    "Task": "goodfit.types",
    "Plan": "goodfit.plan",
    "ablate": "goodfit.studies.ablation",
    "cross_validate": "goodfit.studies.cross_validate",
    "learning_curve": "goodfit.studies.learning_curve",
    "lr_range": "goodfit.studies.range_test",
    "range_test": "goodfit.studies.lr",
    "tune": "goodfit.studies.search",
    "Recipe": "goodfit.recipe",
    "Run": "goodfit.run",
    "describe": "goodfit.models.describe",
    "dry_run": "goodfit.job",
    "explain": "goodfit.pages",
    "read": "goodfit.data",
    "train": "goodfit.job",
    "watch": "goodfit.watching",
    "load_ipython_extension": "goodfit.integrations.notebook",
}
_MODULES = ("integrations", "testing")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"goodfit.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'goodfit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
