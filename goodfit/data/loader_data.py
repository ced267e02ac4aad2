"""From the user's own ``Dataset`` or ``DataLoader`` objects to data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from goodfit.data.array_encoder import TensorEncoder
from goodfit.data.array_targets import ArrayTarget, check_finite, encode_targets, read_targets, split_of
from goodfit.data.data import Data
from goodfit.data.decode import Layout
from goodfit.data.image_data import statistics
from goodfit.data.image_encoder import MEMORY, ImageEncoder
from goodfit.data.loaders import DatasetPart, LoaderPart, as_inputs, draws, joined, split_pair
from goodfit.data.target import TargetSpec
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Batch, Finding, Part, Tensors

_PARTS = ("train", "valid", "test")
_LOOK = 32


def read_datasets(parts: Mapping[str, Any], settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    """Map-style datasets that give ``(input, target)``. What is missing of valid and test is taken from train.

    Inputs are asked for during training, so a dataset's own random changes stay random. All targets are asked for once
    at the start, unless the dataset holds them as ``targets`` or ``labels``.
    """
    for name, dataset in parts.items():
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise DataError(
                f"the {name} dataset has no length; wrap it in a DataLoader and give that, with one for valid"
            )
        if not len(dataset):
            raise DataError(f"the {name} dataset is empty; give at least one sample")
    raw = [_targets(dataset) for dataset in parts.values()]
    part = np.repeat([_PARTS.index(name) for name in parts], [len(one) for one in raw])
    target = read_targets(np.concatenate(raw), task, names=_class_names(parts["train"]))
    split, how = split_of(target, part, settings=settings, seed=seed)
    target = target.standardised(split.train)
    values, whole = target.tensor(), _Chained(list(parts.values()))

    def made(numbers: Any) -> DatasetPart:
        chosen = torch.from_numpy(np.asarray(numbers, np.int64))
        return DatasetPart(whole, chosen, values[chosen], _converter(target.spec), workers=settings.workers or 0)

    return _data("dataset", [made(one) for one in split], target, how, findings=list(target.findings))


def read_loaders(parts: Mapping[str, Any], settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    """DataLoaders. The train part keeps its loader's order and batch size; valid and test are read once into memory.

    A single loader over a map-style dataset is split like that dataset, and its order is goodfit's. Without a test
    loader, half of the valid part becomes the test part (unless ``data.test`` is 0).
    """
    if len(parts) == 1:
        loader = parts["train"]
        if isinstance(loader.dataset, IterableDataset):
            raise DataError("one DataLoader over a stream cannot be split; give (train_loader, valid_loader)")
        return read_datasets({"train": loader.dataset}, settings, task, seed=seed)
    loaded = {name: _read_once(loader, name, settings) for name, loader in parts.items() if name != "train"}
    train_raw = _loader_targets(parts["train"])
    raw = [train_raw, *(np.asarray(y) for _, y in loaded.values())]
    target = read_targets(np.concatenate(raw), task, names=_class_names(getattr(parts["train"], "dataset", None)))
    target = target.standardised(np.arange(len(train_raw)))
    convert = _converter(target.spec)
    start = len(train_raw)
    findings = list(target.findings)
    made: dict[str, Part] = {"train": LoaderPart(parts["train"], convert(train_raw), convert)}
    for name, (inputs, y) in loaded.items():
        index = torch.arange(start, start + len(y))
        made[name] = Tensors(inputs, convert(y), index)
        start += len(y)
    if "test" not in made:
        made["valid"], made["test"], found = _halved(made["valid"], target, settings, seed)
        findings += found
    return _data("loader", [made[name] for name in _PARTS], target, "as given", findings=findings)


def _halved(valid: Part, target: ArrayTarget, settings: DataSettings, seed: int) -> tuple[Part, Part, list[Finding]]:
    assert isinstance(valid, Tensors)
    if not settings.test:
        nothing = torch.zeros(0, dtype=torch.int64)
        return valid, _chosen(valid, nothing), []
    values = target.values[len(target.values) - len(valid) :]
    halves = ArrayTarget(target.spec, values, target.why, target.width)
    settings = DataSettings(valid=0.0, test=0.5)
    try:
        split, _ = split_of(halves, np.zeros(len(values), np.int64), settings=settings, seed=seed)
    except DataError as error:
        raise DataError(f"no test loader is given, and the valid part cannot be halved: {error}") from None
    finding = Finding(
        "no-test-part",
        "advice",
        f"no test loader is given: {len(split.test):,} of the valid part's {len(values):,} samples are the test part",
        evidence={"samples": len(split.test)},
        fix="give a third loader, or set data.test = 0",
    )
    first, second = (_chosen(valid, torch.from_numpy(one)) for one in (split.train, split.test))
    return first, second, [finding]


def _chosen(part: Tensors, positions: Tensor) -> Tensors:
    batch = part.take(positions)
    return Tensors(batch.inputs, batch.targets, batch.index)


def _data(name: str, parts: list[Any], target: ArrayTarget, how: str, *, findings: list[Finding]) -> Data:
    """Look at some samples to tell what the inputs are, check them, and join everything."""
    train, valid, test = parts
    sample = train.take(torch.arange(min(_LOOK, len(train))))
    inputs = sample.inputs
    for key, value in inputs.items() if isinstance(inputs, dict) else [("the inputs", inputs)]:
        if value.is_floating_point():
            check_finite(value, key)
    encoder: ImageEncoder | TensorEncoder
    if isinstance(inputs, Tensor) and inputs.dtype == torch.uint8 and inputs.dim() == 4:
        mean, std = statistics(parts[0])
        layout = Layout(*inputs.shape[1:])
        encoder = ImageEncoder(layout, mean, std, target.spec)
    else:
        shape = tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else ()
        encoder = TensorEncoder(shape, (), (), target.spec, target.width)
    sizes = ", ".join(f"{len(one):,} {part}" for part, one in zip(_PARTS, parts, strict=True))
    what = " x ".join(map(str, encoder.spec.shape)) or ", ".join(inputs)
    digest = hashlib.sha256(target.values.tobytes())
    # What is drawn anew each time tells nothing of whether the data are the same.
    fixed = isinstance(train, DatasetPart) and not draws(train)
    for value in () if not fixed else inputs.values() if isinstance(inputs, dict) else [inputs]:
        digest.update(value.contiguous().numpy().tobytes())
    return Data(
        name,
        encoder.spec,
        target.task(),
        train,
        valid,
        test,
        encoder,
        encoder.prepare,
        (
            ("samples", f"{sum(map(len, parts)):,} of {what}"),
            ("target", target.described()),
            ("task", target.why),
            ("split", f"{sizes}, {how}"),
        ),
        tuple(findings),
        digest.hexdigest(),
        target.spec.mean,
        target.spec.std,
    )


class _Chained:
    """Several map-style datasets, one after the other."""

    def __init__(self, datasets: list[Any]) -> None:
        self.datasets = datasets
        self.ends = np.cumsum([len(one) for one in datasets])

    def __getitem__(self, number: int) -> Any:
        which = int(np.searchsorted(self.ends, number, side="right"))
        return self.datasets[which][number - (int(self.ends[which - 1]) if which else 0)]


def _converter(spec: TargetSpec) -> Any:
    def convert(raw: Any) -> Tensor:
        return encode_targets(spec, raw)

    return convert


def _targets(dataset: Any) -> Any:
    """All raw targets: the dataset's own list where it agrees with its samples, else every sample is asked for."""
    inner: Any = dataset.dataset if isinstance(dataset, Subset) else dataset
    chosen = np.asarray(dataset.indices) if isinstance(dataset, Subset) else np.arange(len(dataset))
    held = next((getattr(inner, name) for name in ("targets", "labels") if hasattr(inner, name)), None)
    if held is not None and hasattr(held, "__len__") and len(held) == len(inner):
        values = np.asarray(held)[chosen]
        probes = sorted({0, len(chosen) // 2, len(chosen) - 1})
        if all(np.array_equal(_target_of(dataset, n), values[n]) for n in probes):
            return values
    return np.asarray([_target_of(dataset, n) for n in range(len(dataset))])


def _target_of(dataset: Any, number: int) -> Any:
    target = split_pair(dataset[number], f"sample {number} of the dataset is")[1]
    return np.asarray(target.detach().cpu() if isinstance(target, Tensor) else target)


def _loader_targets(loader: Iterable[Any]) -> Any:
    got = [np.asarray(split_pair(pair)[1]) for pair in loader]
    if not got:
        raise DataError("the train DataLoader gives no batch; is its dataset smaller than a batch, with drop_last?")
    return np.concatenate(got)


def _read_once(loader: DataLoader[Any], name: str, settings: DataSettings) -> tuple[Any, Any]:
    """A whole loader in memory: evaluation wants the same samples in the same order each time."""
    batches, raw, size, start = [], [], 0, 0
    memory = settings.memory or MEMORY
    for pair in loader:
        inputs, y = split_pair(pair, f"the {name} DataLoader gives")
        tensors = as_inputs(inputs)
        labels = np.asarray(y)
        batches.append(Batch(tensors, torch.zeros(len(labels)), None, torch.arange(start, start + len(labels))))
        raw.append(labels)
        start += len(labels)
        size += sum(
            t.numel() * t.element_size() for t in (tensors.values() if isinstance(tensors, dict) else [tensors])
        )
        if size > memory:
            raise DataError(
                f"the {name} DataLoader gives more than {memory / 2**30:.1f} GiB, which are kept in memory; raise "
                "data.memory, give fewer samples, or give the datasets instead, which stream"
            )
    if not batches:
        raise DataError(f"the {name} DataLoader gives no batch; give at least one sample")
    return joined(batches).inputs, np.concatenate(raw)


def _class_names(dataset: Any) -> tuple[str, ...]:
    """Names that torchvision's and similar datasets carry."""
    held = getattr(getattr(dataset, "dataset", dataset) if isinstance(dataset, Subset) else dataset, "classes", None)
    return tuple(str(one) for one in held) if isinstance(held, list | tuple) else ()
