"""Numbers of any shape as the model wants them: float32, standardised as the train part was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from goodfit.data.array_targets import check_finite, encode_targets
from goodfit.data.files import check_npz, refuse_special
from goodfit.data.image_column import as_tensor
from goodfit.data.loaders import DatasetPart, as_inputs, joined, split_pair
from goodfit.data.table import target_from_json
from goodfit.data.target import TargetSpec
from goodfit.errors import DataError
from goodfit.types import Batch, Finding, Inputs, InputSpec, Part, Tensors

_INPUT_NAMES = ("x", "inputs", "input", "data", "features", "images")
_TARGET_NAMES = ("y", "targets", "target", "labels", "label")


@dataclass(frozen=True)
class TensorEncoder:
    """Turns arrays ``(n, ...)`` into float32 tensors, standardised.

    shape: of one sample; empty where a user's own loader gives something else than one tensor.
    mean, std: for each feature of samples with one axis, one for all otherwise; empty: inputs stay as they are.
    target: the classes, or how numbers are standardised. width: targets per sample, 0 for one.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    target: TargetSpec
    width: int = 0

    kind: ClassVar[str] = "tensor"

    @property
    def spec(self) -> InputSpec:
        """What the inputs look like."""
        return InputSpec("tensor", self.shape)

    def encode(self, source: Any, *, targets: bool = False) -> Part:
        """New data as a part.

        source: ``X`` or ``(X, y)``, a mapping of them, a ``.npy`` or ``.npz`` file, a Dataset or a DataLoader.

        Raises DataError for samples of another shape, NaN and infinity, and classes that training did not know.
        """
        if isinstance(source, DataLoader):
            return self._from_loader(source, targets)
        if isinstance(source, Dataset):
            return self._from_dataset(source, targets)
        if isinstance(source, str | Path):
            source = load(Path(source))
        x, y = pair_of(source, needed=targets)
        values = features(x, "X")
        if self.shape and tuple(values.shape[1:]) != self.shape:
            raise DataError(f"samples of shape {tuple(values.shape[1:])}, where the model was trained on {self.shape}")
        if targets and len(y) != len(values):
            raise DataError(f"{len(values):,} samples but {len(y):,} targets; give one target for each sample")
        converted = self.convert(y) if targets else self._zeros(len(values))
        return Tensors(self.scaled(values), converted, torch.arange(len(values)))

    def scaled(self, values: Tensor) -> Tensor:
        """``(value - mean) / std`` as float32; the same tensor where nothing is scaled."""
        if not self.mean:
            return values
        mean, std = torch.tensor(self.mean, dtype=torch.float64), torch.tensor(self.std, dtype=torch.float64)
        return ((values.double() - mean) / std).float()

    def convert(self, raw: Any) -> Tensor:
        """Raw targets as the loss wants them."""
        return encode_targets(self.target, raw)

    def prepare(self, inputs: Inputs) -> Inputs:
        """Nothing is left to do."""
        return inputs

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "mean": list(self.mean),
            "std": list(self.std),
            "target": self.target._asdict() | {"classes": list(self.target.classes), "names": list(self.target.names)},
            "width": self.width,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The encoder that ``to_json`` described."""
        mean, std = tuple(map(float, values["mean"])), tuple(map(float, values["std"]))
        return cls(tuple(values["shape"]), mean, std, target_from_json(values["target"]), values["width"])

    def _from_loader(self, loader: Any, targets: bool) -> Part:
        batches, start = [], 0
        for given in loader:
            inputs, y = split_pair(given) if targets else (given[0] if isinstance(given, tuple | list) else given, None)
            tensors = as_inputs(inputs)
            count = len(next(iter(tensors.values())) if isinstance(tensors, dict) else tensors)
            values = self.convert(y) if targets else self._zeros(count)
            batches.append(Batch(tensors, values, None, torch.arange(start, start + count)))
            start += count
        if not batches:
            raise DataError("the DataLoader gives no batch; an iterator can be used once only, give the loader")
        return joined(batches)

    def _from_dataset(self, dataset: Any, targets: bool) -> Part:
        index = torch.arange(len(dataset))
        if not targets:
            return DatasetPart(_Untargeted(dataset), index, self._zeros(len(index)), lambda y: self._zeros(len(y)))
        labels = [split_pair(dataset[n], f"sample {n} of the dataset is")[1] for n in range(len(dataset))]
        return DatasetPart(dataset, index, self.convert(np.asarray(labels)), self.convert)

    def _zeros(self, count: int) -> Tensor:
        if self.target.kind == "classification":
            return torch.zeros(count, dtype=torch.int64)
        return torch.zeros((count, self.width) if self.width else (count,))


class _Untargeted(Dataset[tuple[Any, int]]):
    """A dataset whose samples may come with or without a target."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        sample = self.dataset[number]
        return (sample[0] if isinstance(sample, tuple | list) else sample), 0


def fit_encoder(
    inputs: Tensor, train: NDArray[np.int64], target: TargetSpec, width: int
) -> tuple[TensorEncoder, list[Finding]]:
    """The encoder for these inputs ``(n, ...)``, measured on the train part."""
    known = inputs[torch.from_numpy(train)].double()
    flat = known if known.dim() == 2 else known.reshape(-1, 1)
    std, mean = torch.std_mean(flat, 0, correction=0)
    constant = std <= 1e-12 * mean.abs().clamp(min=1.0)
    findings = []
    if bool(constant.all()):
        raise DataError("all inputs of the train part are the same; there is nothing to learn from")
    if bool(constant.any()):
        columns = torch.nonzero(constant)[:, 0].tolist()
        shown = ", ".join(map(str, columns[:5])) + (f" and {len(columns) - 5} more" if len(columns) > 5 else "")
        findings.append(
            Finding(
                "constant-features",
                "advice",
                f"{len(columns)} of {len(constant)} features are the same in every train sample (number {shown})",
                where="X",
                evidence={"features": len(columns)},
                fix="nothing has to be done; they could be left out",
            )
        )
    std = torch.where(constant, 1.0, std)
    encoder = TensorEncoder(tuple(inputs.shape[1:]), tuple(mean.tolist()), tuple(std.tolist()), target, width)
    return encoder, findings


def features(raw: Any, name: str) -> Tensor:
    """An array, tensor or nested list as a tensor ``(n, ...)``: uint8 with four axes as it is, all else float32.

    Raises DataError for text, ragged lists, complex numbers, no samples, NaN and infinity, with the place.
    """
    if isinstance(raw, Tensor):
        values = as_tensor(raw)
    else:
        try:
            array = np.asarray(raw)
        except ValueError as error:
            raise DataError(f"{name} holds samples of different shapes; make them alike ({error})") from None
        if array.dtype.kind not in "biuf":
            what = {"U": "text", "S": "text", "O": "objects", "c": "complex numbers"}.get(
                array.dtype.kind, str(array.dtype)
            )
            raise DataError(f"{name} holds {what}; give numbers, or a DataFrame for mixed columns")
        array = array.astype(np.float32) if array.dtype.kind == "u" and array.dtype != np.uint8 else array
        values = as_tensor(array)
    if not values.dim() or not values.numel():
        raise DataError(f"{name} has shape {tuple(values.shape)}; give at least one sample")
    if values.is_complex():
        raise DataError(f"{name} holds complex numbers; give their real and imaginary parts as features")
    values = values[:, None] if values.dim() == 1 else values
    if values.dtype == torch.uint8 and values.dim() == 4:
        return values
    if values.is_floating_point():
        check_finite(values, name)
        if values.dtype == torch.float64 and bool((values.abs() > torch.finfo(torch.float32).max).any()):
            raise DataError(f"{name} holds numbers beyond 3e38, which float32 cannot; scale them down")
    return values.float()


def pair_of(source: Any, *, needed: bool = True) -> tuple[Any, Any]:
    """``(X, y)`` from a pair or a mapping; without ``needed``, y may be missing and is None."""
    if isinstance(source, Mapping):
        names = {str(key).lower(): value for key, value in source.items()}
        x = next((names[key] for key in _INPUT_NAMES if key in names), None)
        y = next((names[key] for key in _TARGET_NAMES if key in names), None)
        if x is None or (y is None and needed):
            raise DataError(f"a mapping with {', '.join(map(str, source))}; call the inputs 'X' and the targets 'y'")
        return x, y
    if isinstance(source, tuple) and len(source) == 2:
        return source[0], source[1]
    if needed:
        raise DataError(f"a {type(source).__name__} without targets; give (X, y)")
    return source, None


def load(path: Path) -> Any:
    """The arrays of a ``.npy`` or ``.npz`` file."""
    refuse_special(path)
    try:
        check_npz(path)
        loaded = np.load(path, allow_pickle=False)
        return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except DataError:
        raise
    except Exception as error:  # a damaged zip, header or array: NumPy, zipfile and zlib have errors of their own
        raise DataError(
            f"{path} is no readable NumPy file ({(str(error).splitlines() or ['damaged'])[0][:120]}); save it anew"
        ) from None
