"""Reads what only Python can give: arrays, tensors, and the user's own ``Dataset`` or ``DataLoader``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from goodfit.data import audit
from goodfit.data.array_encoder import TensorEncoder, features, fit_encoder, load, pair_of
from goodfit.data.array_targets import ArrayTarget, read_targets, split_of
from goodfit.data.data import Data
from goodfit.data.image_column import as_images
from goodfit.data.image_data import Labelled, build
from goodfit.data.loader_data import read_datasets, read_loaders
from goodfit.data.split import Split
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Finding, Tensors

__all__ = ["TensorEncoder", "is_arrays", "read_arrays"]

_PARTS = ("train", "valid", "test")


def is_arrays(source: Any) -> bool:
    """Whether ``read_arrays`` is the reader for this: arrays, datasets or loaders, alone, in pairs or by name."""
    if isinstance(source, Dataset | DataLoader):
        return True
    if isinstance(source, str | Path):
        return str(source).lower().endswith((".npz", ".npy"))
    inner = source.values() if isinstance(source, Mapping) else source if isinstance(source, tuple) else ()
    return len(inner) > 0 and all(_is_array(one) or is_arrays(one) for one in inner if not isinstance(one, str | Path))


def read_arrays(source: Any, settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    """Read arrays with their targets.

    source: ``(X, y)`` of arrays, tensors or lists; a mapping ``{"X": ..., "y": ...}`` or of such pairs named train,
        valid and test, or a ``.npz`` file of those; a map-style ``Dataset``; a ``DataLoader``; or two or three of
        those for train, valid and test. ``X``: ``(n, ...)``; uint8 with four axes are images.

    The task is told from ``y``: whole numbers, booleans and names are classes, floats are values, ``(n, k)`` floats are
    k values each. Raises DataError for lengths that differ, NaN and infinity (with their place), and unusable shapes.
    """
    for key in ("target", "time", "groups"):
        if getattr(settings, key) is not None:
            raise DataError(f"data.{key} names a column, and arrays have none; leave it out")
    if isinstance(source, str | Path):
        source = load(Path(source))
    parts = _by_part(source)
    kinds = sorted({_kind(one) for one in parts.values()})
    if len(kinds) > 1:
        raise DataError(f"train, valid and test are given as {' and '.join(kinds)}; give all of them in one way")
    if all(isinstance(one, TensorDataset) and len(one.tensors) == 2 for one in parts.values()):
        parts = {name: one.tensors for name, one in parts.items()}
    elif kinds == ["datasets"]:
        return read_datasets(parts, settings, task, seed=seed)
    elif kinds == ["loaders"]:
        return read_loaders(parts, settings, task, seed=seed)
    return _read_pairs({name: pair_of(one) for name, one in parts.items()}, settings, task, seed=seed)


def _by_part(source: Any) -> dict[str, Any]:
    """What was given for train, valid and test."""
    if isinstance(source, Mapping) and set(source) <= set(_PARTS) and "train" in source:
        return {name: source[name] for name in _PARTS if name in source}
    if isinstance(source, tuple | list) and len(source) in (2, 3):
        if all(isinstance(one, Dataset | DataLoader) for one in source) or all(_is_pair(one) for one in source):
            return dict(zip(_PARTS, source, strict=False))
        if len(source) == 2:
            return {"train": tuple(source)}
    if isinstance(source, Dataset | DataLoader | Mapping):
        return {"train": source}
    raise DataError(f"a {type(source).__name__} is no data with targets; give (X, y), a Dataset or a DataLoader")


def _kind(value: Any) -> str:
    return "loaders" if isinstance(value, DataLoader) else "datasets" if isinstance(value, Dataset) else "arrays"


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_is_array(one) for one in value)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor | list) or (
        hasattr(value, "__array__") and hasattr(value, "shape") and not hasattr(value, "columns")
    )


def _read_pairs(pairs: Mapping[str, tuple[Any, Any]], settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    """Arrays that lie in memory."""
    of = {name: "" if len(pairs) == 1 else f" of {name}" for name in pairs}
    given = [features(x, f"X{of[name]}") for name, (x, _) in pairs.items()]
    labels = [np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y) for _, y in pairs.values()]
    for name, x, y in zip(pairs, given, labels, strict=True):
        if not y.shape or len(x) != len(y):
            found = f"{len(y):,} targets" if y.shape else "a single target"
            raise DataError(f"{len(x):,} samples{of[name]} but {found}; give one target for each sample")
        if x.shape[1:] != given[0].shape[1:] or x.dtype != given[0].dtype:
            raise DataError(f"samples{of[name]} are {_shape(x)}, where train has {_shape(given[0])}; make them alike")
    part = np.repeat([_PARTS.index(name) for name in pairs], [len(x) for x in given])
    inputs = torch.cat(given) if len(given) > 1 else given[0]
    target = read_targets(np.concatenate(labels), task)
    split, how = split_of(target, part, settings=settings, seed=seed)
    target = target.standardised(split.train)
    sizes = f"{len(split.train):,} train, {len(split.valid):,} valid, {len(split.test):,} test, {how}"
    summary = (("target", target.described()), ("task", target.why), ("split", sizes))
    if inputs.dtype == torch.uint8:
        return _images(inputs, target, split, settings, summary=summary)
    encoder, constant = fit_encoder(inputs, split.train, target.spec, target.width)
    whole = Tensors(encoder.scaled(inputs), target.tensor(), torch.arange(len(inputs)))
    taken = [whole.take(torch.from_numpy(np.asarray(one, np.int64))) for one in split]
    train, valid, test = (Tensors(one.inputs, one.targets, one.index) for one in taken)
    return Data(
        "arrays",
        encoder.spec,
        target.task(),
        train,
        valid,
        test,
        encoder,
        encoder.prepare,
        (("samples", f"{len(inputs):,} of {_shape(inputs)}"), *summary),
        (*target.findings, *constant, *_audit(inputs, target, split)),
        _fingerprint(inputs, target.values),
        target.spec.mean,
        target.spec.std,
    )


def _images(
    inputs: Tensor,
    target: ArrayTarget,
    split: Split,
    settings: DataSettings,
    *,
    summary: tuple[tuple[str, str], ...],
) -> Data:
    if target.width:
        raise DataError("images with several targets each are not read; give one target for each image")
    labelled = Labelled(
        "arrays",
        as_images(inputs),
        target.values,
        target.spec,
        np.arange(len(inputs)),
        split,
        "sample {}".format,
        _fingerprint(inputs, target.values),
        findings=target.findings,
        summary=summary,
    )
    return build(labelled, settings)


def _audit(inputs: Tensor, target: ArrayTarget, split: Split) -> list[Finding]:
    rows = np.ascontiguousarray(inputs.numpy()).reshape(len(inputs), -1)
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    hashes = np.frombuffer(b"".join(digests), np.uint64)

    def places(numbers: Sequence[int]) -> list[str]:
        return [f"sample {number}" for number in numbers]

    found = list(audit.duplicates(hashes, split, places))
    if not target.width:
        classes = target.spec.kind == "classification"
        found += audit.conflicts(hashes, target.values, places, classes=classes)
        if classes:
            found += audit.class_sizes(target.values, split, target.spec.classes, target.spec.name)
    return found


def _fingerprint(inputs: Tensor, values: NDArray[Any]) -> str:
    digest = hashlib.sha256(inputs.contiguous().numpy().tobytes())
    digest.update(values.tobytes())
    return digest.hexdigest()


def _shape(values: Tensor) -> str:
    kind = "bytes" if values.dtype == torch.uint8 else "numbers"
    return f"{' x '.join(map(str, values.shape[1:]))} {kind}"
