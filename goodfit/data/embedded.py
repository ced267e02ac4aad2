"""Data that comes with scikit-learn: digits as images, four small tables. Nothing has to be downloaded."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import sklearn.datasets
import torch

from goodfit.data.data import Data
from goodfit.data.image_data import Labelled, build
from goodfit.data.prepare import prepare
from goodfit.data.sheet import read_sheet
from goodfit.data.split import stratified
from goodfit.data.table import read_table
from goodfit.data.target import TargetSpec
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings

NAMES = ("digits", "iris", "wine", "breast-cancer", "diabetes")
_CLASSES = {"iris": "species", "wine": "cultivar", "breast-cancer": "diagnosis"}


def read_embedded(name: str, settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    """One of ``NAMES``. Digits are gray images of 8 x 8 pixels, 0 to 16 stretched to 0 to 255."""
    if name == "digits":
        return _digits(settings, task, seed=seed)
    from_sklearn: Any = getattr(sklearn.datasets, f"load_{name.replace('-', '_')}")(as_frame=True)
    frame = from_sklearn.data.copy()
    target = _CLASSES.get(name, "progression")
    values = from_sklearn.target.to_numpy()
    frame[target] = np.asarray(from_sklearn.target_names)[values] if name in _CLASSES else values
    sheet = replace(read_sheet(frame), name=name, places=lambda rows: [f"{name} row {row}" for row in rows])
    return read_table(prepare(sheet, settings, task, seed=seed), settings)


def _digits(settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    if task.kind not in ("auto", "classification"):
        raise DataError(f"task.kind = '{task.kind}', but digits are to be classified; leave it out")
    loaded: Any = sklearn.datasets.load_digits()
    pixels = np.round(loaded.images[:, None] * (255 / 16)).astype(np.uint8)
    labels = loaded.target.astype(np.int64)
    classes = tuple(str(digit) for digit in range(10))
    split = stratified(labels, settings.valid, test=settings.test, seed=seed, names=classes)
    return build(
        Labelled(
            "digits",
            torch.from_numpy(pixels),
            labels,
            TargetSpec("digit", "classification", classes),
            np.arange(len(labels)),
            split,
            lambda position: f"digit {position}",
            hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest(),
            summary=(
                ("target", "digit: 10 classes of about equal size"),
                (
                    "split",
                    f"{len(split.train):,} train, {len(split.valid):,} valid, {len(split.test):,} test, stratified "
                    f"by class",
                ),
            ),
        ),
        settings,
    )
