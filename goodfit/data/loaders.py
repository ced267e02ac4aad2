"""Parts that the user's own ``Dataset`` or ``DataLoader`` feeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from goodfit.data.image_column import is_nhwc
from goodfit.errors import DataError
from goodfit.types import Batch, Inputs, Tensors

Targets = Callable[[Any], Tensor]
"""How raw targets become those that the loss wants."""


@dataclass(frozen=True)
class DatasetPart:
    """Some samples of a map-style ``Dataset``, asked for by position.

    dataset: gives ``(input, target)``. numbers: ``(n,)`` int64, which samples. targets: ``(n,)``, all of them.
    convert: raw targets of a batch to those of the task. collate: joins samples, PyTorch's own unless given.
    workers: loader processes; 0 asks in this one.
    """

    dataset: Any
    index: Tensor
    targets: Tensor
    convert: Targets
    collate: Callable[[list[Any]], Any] = field(default=default_collate)
    workers: int = 0

    def __len__(self) -> int:
        """How many samples."""
        return len(self.index)

    def take(self, positions: Tensor) -> Batch:
        """The samples at ``positions``, asked for here and now."""
        numbers = self.index[positions.cpu()]
        return _batch(_Asking(self.dataset, self.collate)[numbers], numbers, self.convert)

    def batches(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        """One batch for each tensor of positions."""
        wanted = [self.index[positions.cpu()] for positions in plan]
        asking = _Asking(self.dataset, self.collate)
        if not self.workers:
            pairs: Any = (asking[numbers] for numbers in wanted)
        else:
            pairs = DataLoader(asking, sampler=wanted, batch_size=None, num_workers=min(self.workers, len(wanted)))
        for numbers, pair in zip(wanted, pairs, strict=True):
            yield _batch(pair, numbers, self.convert)


@dataclass(frozen=True)
class LoaderPart:
    """A train part that is the user's own ``DataLoader``: its order, its batch size, its sampler.

    ``batches`` gives one of the loader's batches for each entry of the plan and starts the loader again where it
    ends; the positions themselves are ignored. A sample's number is its place in that pass over the loader.
    targets: of one pass, for statistics; in a shuffled loader not in the order of any other pass.
    """

    loader: Any
    targets: Tensor
    convert: Targets

    @property
    def batch_size(self) -> int:
        """The loader's own, or the mean where its batches differ."""
        return getattr(self.loader, "batch_size", None) or max(1, round(len(self.targets) / max(len(self.loader), 1)))

    @property
    def index(self) -> Tensor:
        """``(n,)`` int64: places in one pass."""
        return torch.arange(len(self.targets))

    def __len__(self) -> int:
        """Samples in one pass."""
        return len(self.targets)

    def take(self, positions: Tensor) -> Batch:
        """Samples by their place in a new pass over the loader, which ends after the last of them."""
        wanted = positions.cpu()
        last = int(wanted.max())
        got: list[Batch] = []
        count = 0
        for batch in self._pass():
            got.append(batch)
            count += len(batch.index)
            if count > last:
                break
        return joined(got).take(wanted)

    def batches(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        """As many of the loader's own batches as the plan has entries."""
        left = len(plan)
        while left:
            given = 0
            for batch in self._pass():
                yield batch
                left, given = left - 1, given + 1
                if not left:
                    return
            if not given:
                raise DataError(
                    "the DataLoader gave no batch in this pass; an iterator can be used once only, give the loader"
                )

    def _pass(self) -> Iterator[Batch]:
        start = 0
        for pair in self.loader:
            inputs, targets = split_pair(pair)
            index = torch.arange(start, start + len(targets))
            start += len(targets)
            yield _batch((inputs, targets), index, self.convert)


def draws(part: DatasetPart, samples: int = 4) -> bool:
    """Whether a data set gives other inputs when it is asked for the same samples again: it draws random numbers."""
    asked = torch.arange(min(samples, len(part)))
    one, other = (part.take(asked).inputs for _ in range(2))
    pairs = [(one, other)] if isinstance(one, Tensor) else [(one[k], other[k]) for k in one]  # type: ignore[index]
    return not all(torch.equal(a, b) for a, b in pairs)  # type: ignore[arg-type]


def split_pair(pair: Any, where: str = "the DataLoader gives") -> tuple[Any, Any]:
    """Inputs and targets of what a dataset or loader gives. Raises DataError where it is not a pair."""
    if isinstance(pair, tuple | list) and len(pair) == 2:
        return pair[0], pair[1]
    what = f"{len(pair)} things" if isinstance(pair, tuple | list) else f"a {type(pair).__name__}"
    raise DataError(f"{where} {what}, where (inputs, targets) is needed; return a pair")


def as_inputs(raw: Any) -> Inputs:
    """A batch's inputs as tensors: uint8 images as (batch, channels, height, width), float64 as float32."""
    if isinstance(raw, dict):
        return {str(key): torch.as_tensor(value) for key, value in raw.items()}
    values = torch.as_tensor(raw)
    if values.dtype == torch.uint8 and values.dim() == 4 and is_nhwc(tuple(values.shape)):
        values = values.permute(0, 3, 1, 2).contiguous()
    return values.float() if values.dtype in (torch.float64, torch.float16) else values


class _Asking(Dataset[tuple[Any, Any]]):
    """Asks a dataset for whole batches, by sample numbers."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any]) -> None:
        self.dataset, self.collate = dataset, collate

    def __getitem__(self, numbers: Tensor) -> tuple[Any, Any]:
        samples = []
        for number in numbers.tolist():
            inputs, target = split_pair(self.dataset[number], f"sample {number} of the dataset is")
            samples.append((_opened(inputs), target))
        try:
            return split_pair(self.collate(samples))
        except (RuntimeError, TypeError) as error:
            shapes = sorted({str(tuple(getattr(one, "shape", ()))) for one, _ in samples})
            raise DataError(
                f"samples {numbers[0]} to {numbers[-1]} of the dataset cannot be joined into a batch (shapes "
                f"{', '.join(shapes[:4])}): {str(error).splitlines()[0][:120]}; make them alike"
            ) from None


def _opened(value: Any) -> Any:
    """A Pillow image as ``(channels, height, width)`` uint8; anything else as it is."""
    if not isinstance(value, Image.Image):
        return value
    pixels = np.array(value.convert("L" if value.mode in ("1", "L") else "RGB"))
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _batch(pair: tuple[Any, Any], index: Tensor, convert: Targets) -> Batch:
    inputs, targets = pair
    return Batch(as_inputs(inputs), convert(targets), None, index)


def joined(batches: Sequence[Batch]) -> Tensors:
    """Batches as one part in memory."""
    first = batches[0].inputs
    inputs: Inputs
    if isinstance(first, dict):
        inputs = {key: torch.cat([one.inputs[key] for one in batches]) for key in first}  # type: ignore[index]
    else:
        inputs = torch.cat([one.inputs for one in batches])  # type: ignore[misc]
    return Tensors(inputs, torch.cat([one.targets for one in batches]), torch.cat([one.index for one in batches]))
