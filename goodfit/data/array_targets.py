"""Targets that come as an array: told apart into classes, numbers, and several numbers each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goodfit.data import split as splits
from goodfit.data.image_column import as_tensor
from goodfit.data.split import Split
from goodfit.data.table import target_tensor, task_of
from goodfit.data.target import TargetSpec, class_counts
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Finding, Task

_MANY_CLASSES = 0.5
"""Whole numbers of which more than half are different are a quantity, not classes."""


@dataclass(frozen=True)
class ArrayTarget:
    """Targets, read. values: ``(n,)`` int64 class numbers, or ``(n,)`` or ``(n, width)`` float64 in original units.

    width: targets per sample where there are several, else 0. why: how the task was told.
    """

    spec: TargetSpec
    values: NDArray[Any]
    why: str
    width: int = 0
    findings: tuple[Finding, ...] = ()

    def standardised(self, train: NDArray[np.int64]) -> ArrayTarget:
        """The same with the train part's mean and deviation (one of each, also for several targets)."""
        if self.spec.kind == "classification":
            return self
        known = self.values[train]
        std = float(known.std())
        if not std:
            raise DataError(f"all targets of the train part are {known.flat[0]:g}; there is nothing to predict")
        return replace(self, spec=self.spec._replace(mean=float(known.mean()), std=std))

    def tensor(self) -> Tensor:
        """Targets as the loss wants them: int64 classes, or standardised float32."""
        return target_tensor(self.values, self.spec)

    def task(self) -> Task:
        """The task they set."""
        task = task_of(self.spec)
        return replace(task, outputs=self.width) if self.width else task

    def described(self) -> str:
        """In one line: the classes with their shares, or the range."""
        if self.spec.kind == "regression":
            what = f"{self.width} numbers each" if self.width else "one number"
            return f"{what}, {self.values.min():.6g} to {self.values.max():.6g}, mean {self.values.mean():.4g}"
        counts = class_counts(self.values, self.spec.classes)
        names = self.spec.classes
        if len(names) == 2:
            return f"2 classes, {counts[1] / counts.sum():.1%} '{names[1]}' (the positive one)"
        least, most = int(counts.argmin()), int(counts.argmax())
        return (
            f"{len(names)} classes, from '{names[least]}' ({counts[least] / counts.sum():.1%}) to "
            f"'{names[most]}' ({counts[most] / counts.sum():.1%})"
        )


def read_targets(raw: NDArray[Any], settings: TaskSettings, *, names: tuple[str, ...] = ()) -> ArrayTarget:
    """Tell the task from an array: whole numbers, booleans and names are classes, floats are values.

    raw: ``(n,)``, ``(n, 1)``, ``(n, k)`` floats for k values each, or ``(n, classes)`` with a single 1 in each row.
    names: of classes 0, 1, ..., where known. Raises DataError for NaN, infinity, one class, and other shapes.
    """
    if settings.kind in ("language", "sequence", "forecast"):
        raise DataError(f"task.kind = '{settings.kind}' needs texts or a time series, not arrays; leave it out")
    values = raw[:, 0] if raw.ndim == 2 and raw.shape[1] == 1 else raw
    if values.dtype.kind not in "biufUSO" or values.ndim not in (1, 2):
        raise DataError(
            f"targets of type {raw.dtype} and shape {raw.shape}; give (n,) classes or numbers, or (n, k) numbers"
        )
    if values.dtype.kind == "f":
        check_finite(values, "y")
    if values.ndim == 2:
        if _one_hot(values) and settings.kind != "regression":
            return _classes(values.argmax(1), settings, names, "classification: each row of y has a single 1")
        if values.dtype.kind not in "iuf" or (values.dtype.kind != "f" and settings.kind != "regression"):
            raise DataError(f"y holds {raw.shape[1]} classes for each sample, and one is read; give (n,) targets")
        if settings.kind == "classification":
            raise DataError(
                f"task.kind = 'classification', but y has {raw.shape[1]} numbers for each sample; give (n,) classes"
            )
        why = f"regression: y has {values.shape[1]} numbers for each sample"
        return ArrayTarget(TargetSpec("y", "regression"), values.astype(np.float64), why, values.shape[1])
    if values.dtype.kind == "O":
        values = _from_objects(values)
    numeric = values.dtype.kind in "iuf"
    if settings.kind == "regression" or (settings.kind == "auto" and values.dtype.kind == "f"):
        if not numeric:
            raise DataError(f"task.kind = 'regression', but y holds {values[0]!r}; give numbers")
        why = "regression: " + ("y holds floats" if settings.kind == "auto" else "as asked")
        return ArrayTarget(TargetSpec("y", "regression"), values.astype(np.float64), why, 0, _like_classes(values))
    different = len(np.unique(values))
    if settings.kind == "auto" and numeric and len(values) >= 20 and different > _MANY_CLASSES * len(values):
        why = f"regression: y holds {different:,} different whole numbers in {len(values):,} samples"
        return ArrayTarget(TargetSpec("y", "regression"), values.astype(np.float64), why)
    if values.dtype.kind == "f":
        if (values != np.floor(values)).any():
            raise DataError(
                "task.kind = 'classification', but y holds numbers with fractions; give whole numbers or names"
            )
        values = values.astype(np.int64)
    what = "as asked" if settings.kind != "auto" else "y holds " + ("whole numbers" if numeric else "names")
    return _classes(values, settings, names, f"classification: {what}")


def encode_targets(spec: TargetSpec, values: Any) -> Tensor:
    """Raw targets of new data as the loss wants them. Raises DataError for a class that training did not know."""
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if spec.kind == "regression":
        array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        return torch.from_numpy(((array.astype(np.float64) - spec.mean) / spec.std).astype(np.float32))
    if array.ndim == 2 and array.shape[1] > 1:
        array = array.argmax(1)
    if spec.names and array.dtype.kind in "iu":
        codes = array.reshape(len(array)).astype(np.int64)
    else:
        places = {name: code for code, name in enumerate(spec.classes)}
        codes = np.asarray([places.get(_name(one), -1) for one in array.reshape(len(array)).tolist()], np.int64)
    bad = (codes < 0) | (codes >= len(spec.classes))
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(f"y[{first}] is {array[first]!r}, a class that was not there in training")
    return torch.from_numpy(codes)


def split_of(target: ArrayTarget, part: NDArray[np.int64], *, settings: DataSettings, seed: int) -> tuple[Split, str]:
    """Parts that were given stay; those missing are taken from the train part. ``part``: ``(n,)`` 0, 1 or 2."""
    given = splits.by_label(part)
    valid = 0.0 if len(given.valid) else settings.valid
    test = 0.0 if len(given.test) else settings.test
    if not valid and not test:
        return given, "as given"
    if target.spec.kind == "classification":
        inner = splits.stratified(target.values[given.train], valid, test=test, seed=seed, names=target.spec.classes)
        how = "stratified by class"
    else:
        inner, how = splits.at_random(len(given.train), valid, test=test, seed=seed), "at random"
    return splits.refill(given, inner), how + (", the rest as given" if part.any() else "")


def check_finite(values: NDArray[Any] | Tensor, name: str) -> None:
    """Raise DataError that names the first NaN or infinite entry."""
    tensor = as_tensor(values)
    finite = torch.isfinite(tensor)
    if bool(finite.all()):
        return
    bad = torch.nonzero(~finite)
    place = ", ".join(map(str, bad[0].tolist()))
    value = float(tensor[tuple(bad[0])])
    what = "NaN" if value != value else "infinite"
    raise DataError(
        f"{name}[{place}] is {what}, and {len(bad) - 1:,} more entries are NaN or infinite; fill or remove them"
    )


def _classes(values: NDArray[Any], settings: TaskSettings, names: tuple[str, ...], why: str) -> ArrayTarget:
    different, codes = np.unique(values, return_inverse=True)
    if names and values.dtype.kind in "iu" and different[0] >= 0 and different[-1] < len(names):
        return ArrayTarget(TargetSpec("y", "classification", names, names), values.astype(np.int64), why)
    if len(different) == 1:
        raise DataError(
            f"y holds only one class, {_name(different[0].item())!r}; two are needed to learn the difference"
        )
    titles = [_name(one) for one in different.tolist()]
    codes = codes.reshape(-1).astype(np.int64)
    if len(titles) == 2 and settings.positive is not None:
        if settings.positive not in titles:
            raise DataError(f"y has no class '{settings.positive}' (task.positive); it has {titles[0]} and {titles[1]}")
        if titles[0] == settings.positive:
            titles, codes = titles[::-1], 1 - codes
    return ArrayTarget(TargetSpec("y", "classification", tuple(titles)), codes, why)


def _name(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _one_hot(values: NDArray[Any]) -> bool:
    return bool(values.dtype.kind in "biuf" and np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all())


def _from_objects(values: NDArray[Any]) -> NDArray[Any]:
    missing = [n for n, one in enumerate(values) if one is None or one != one]
    if missing:
        raise DataError(f"y[{missing[0]}] is missing, and {len(missing) - 1:,} more; fill or remove them")
    return (
        np.asarray(values.tolist())
        if all(isinstance(one, bool | int | float) for one in values)
        else values.astype(str)
    )


def _like_classes(values: NDArray[Any]) -> tuple[Finding, ...]:
    if values.dtype.kind != "f":
        return ()
    different = np.unique(values)
    if len(different) > 10 or (different != np.floor(different)).any() or len(values) < 5 * len(different):
        return ()
    shown = ", ".join(f"{one:g}" for one in different[:5])
    return (
        Finding(
            "classes-as-floats",
            "advice",
            f"y holds floats of which only {len(different)} differ ({shown}); they are taken as a quantity",
            where="y",
            evidence={"values": len(different)},
            fix="task.kind = 'classification' if they are classes",
            patch={"task.kind": "classification"},
        ),
    )
