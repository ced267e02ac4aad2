"""Images that are decoded while training runs, in loader processes, because together they do not fit in memory."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from goodfit.data.decode import Item, Layout, decode
from goodfit.types import Batch


@dataclass(frozen=True)
class Streamed:
    """A part whose images stay on disk.

    items: where each image is. targets, index: as in every part. place: names an image for a message, by position.
    workers: loader processes; 0 decodes in this one.

    An image that turns out to be damaged gets weight 0, so it teaches nothing, and a warning names it.
    """

    items: Sequence[Item]
    layout: Layout
    targets: Tensor
    index: Tensor
    place: Callable[[int], str]
    workers: int = 0

    def __len__(self) -> int:
        return len(self.index)

    def take(self, positions: Tensor) -> Batch:
        """Decode the images at ``positions`` ``(batch,)`` int64, here and now."""
        return self._batch(positions.cpu(), *_decoded(self.items, self.layout, positions.cpu()))

    def batches(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        """One batch for each tensor of positions, decoded ahead of time by the loader processes."""
        loader = DataLoader(
            _Decoding(self.items, self.layout),
            sampler=plan,
            batch_size=None,
            num_workers=min(self.workers, len(plan)),
            worker_init_fn=_quiet,
            pin_memory=torch.cuda.is_available(),
        )
        for positions, (pixels, failed) in zip(plan, loader, strict=True):
            yield self._batch(positions.cpu(), pixels, failed)

    def _batch(self, positions: Tensor, pixels: Tensor, failed: dict[int, str]) -> Batch:
        weight = None
        if failed:
            weight = torch.ones(len(positions))
            weight[list(failed)] = 0.0
            for row, reason in failed.items():
                name = self.place(int(positions[row]))
                warnings.warn(f"{name} cannot be decoded ({reason}); it is left out", RuntimeWarning, stacklevel=3)
        return Batch(pixels, self.targets[positions], weight, self.index[positions])


def loader_processes(asked: int | None) -> int:
    """As many as asked for, or one for each core."""
    return asked if asked is not None else os.cpu_count() or 1


class _Decoding(Dataset[tuple[Tensor, dict[int, str]]]):
    """What a loader process holds: it is asked for whole batches, by their positions."""

    def __init__(self, items: Sequence[Item], layout: Layout) -> None:
        self.items, self.layout = items, layout

    def __getitem__(self, positions: Tensor) -> tuple[Tensor, dict[int, str]]:
        return _decoded(self.items, self.layout, positions)


def _decoded(items: Sequence[Item], layout: Layout, positions: Tensor) -> tuple[Tensor, dict[int, str]]:
    decoded = decode([items[n] for n in positions.tolist()], layout)
    assert decoded is not None  # only a strict decoding gives up
    return decoded


def _quiet(_: int) -> None:
    """Ctrl-C is for the main process, which then ends the loaders."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
