"""From labelled images to data: one shape for all, decoded once or streamed, split, audited, ready to be trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goodfit import keyed
from goodfit.data import image_audit as audit
from goodfit.data.data import Data
from goodfit.data.decode import Item, Layout, Seen, Unreadable, decode, look
from goodfit.data.image_column import check_readable, choose_layout, decoded, to_layout
from goodfit.data.image_encoder import MEMORY, ImageEncoder
from goodfit.data.like import Pixels, image_statistics, run_encoder
from goodfit.data.split import Split
from goodfit.data.streamed import Streamed, loader_processes
from goodfit.data.table import target_tensor, task_of
from goodfit.data.target import TargetSpec
from goodfit.errors import DataError
from goodfit.recipe import DataSettings
from goodfit.types import Finding, Part, Tensors

_HEAD = 64
_SAMPLE = 2000
"""Images from which mean and deviation are estimated where they are streamed; the error is far below the deviation."""


@dataclass(frozen=True)
class Labelled:
    """Images with targets and a split, before any is decoded.

    images: what to decode, or all pixels ``(n, channels, height, width)`` uint8.
    values: ``(n,)`` class numbers or numbers in original units. index: ``(n,)`` int64 own numbers.
    place: names one for a message, by position. column: of a table.
    """

    name: str
    images: Sequence[Item] | Tensor
    values: NDArray[Any]
    target: TargetSpec
    index: NDArray[np.int64]
    split: Split
    place: Callable[[int], str]
    fingerprint: str
    column: str = ""
    findings: tuple[Finding, ...] = ()
    summary: tuple[tuple[str, str], ...] = ()
    unreadable: dict[int, str] = field(default_factory=dict)


def build(source: Labelled, settings: DataSettings) -> Data:
    """Decode or stream, leave out what cannot be read, audit, and measure the train part's mean and deviation.

    Raises DataError where more than half cannot be read, or a part or a class is left with nothing.
    """
    settings, wanted = _like(settings)
    pixels, layout, failed, seen = _pixels(source.images, settings, source.name)
    wanted = None if wanted is None else wanted.of(layout.channels)
    findings = [*source.findings, *audit.headers(seen, layout, place=source.place)]
    if failed:
        findings.append(audit.unreadable(failed, place=source.place))
    good = np.ones(len(source.values), bool)
    good[list(failed)] = False
    split = Split(*(part[good[part]] for part in source.split))
    _check_classes(source, split, good)
    if pixels is not None:
        findings += audit.repeated(
            audit.pixel_hashes(pixels, good), source.values, source.target, split=split, place=source.place
        )
    elif not isinstance(source.images, Tensor):
        findings += audit.repeated(
            audit.file_hashes(source.images), source.values, source.target, split=split, place=source.place
        )
    targets, index = target_tensor(source.values, source.target), torch.from_numpy(source.index)

    def part(positions: NDArray[np.int64]) -> Part:
        if pixels is not None:
            chosen = torch.from_numpy(positions)
            return Tensors(pixels[chosen], targets[chosen], index[chosen])
        assert not isinstance(source.images, Tensor)
        items = [source.images[n] for n in positions.tolist()]
        workers = loader_processes(settings.workers)
        return Streamed(
            items, layout, targets[positions], index[positions], lambda n: source.place(int(positions[n])), workers
        )

    train, valid, test = (part(positions) for positions in split)
    mean, std = (wanted.mean, wanted.std) if wanted is not None else statistics(train)
    encoder = ImageEncoder(layout, mean, std, source.target, source.column)
    kept = f"{pixels.numel() / 2**20:,.0f} MiB in memory" if pixels is not None else "decoded as they are needed"
    summary = (("images", f"{int(good.sum()):,}, brought to {_shape(layout)}, {kept}"), *source.summary)
    return Data(
        source.name,
        encoder.spec,
        task_of(source.target),
        train,
        valid,
        test,
        encoder,
        encoder.prepare,
        summary,
        tuple(findings),
        source.fingerprint,
        source.target.mean,
        source.target.std,
    )


def _like(settings: DataSettings) -> tuple[DataSettings, Pixels | None]:
    """The settings with the side that the model named by ``data.like`` wants, and its mean and deviation of pixels."""
    known = run_encoder(settings.like, "image")
    if known is not None:
        old = ImageEncoder.from_json(known)
        square = old.layout.width == old.layout.height
        wanted: Pixels | None = Pixels(old.mean, old.std, old.layout.width if square else None)
    else:
        wanted = image_statistics(settings.like)
    if wanted is not None and wanted.side is not None and settings.image_size is None:
        settings = replace(settings, image_size=wanted.side)
    return settings, wanted


def fingerprint(names: Sequence[str], items: Sequence[Item]) -> str:
    """sha256 of names and of contents: of a file its size and first 4 KiB, so that folders of any size stay quick."""
    digest = hashlib.sha256()
    for name, item in zip(names, items, strict=True):
        digest.update(f"{name}\x00".encode("utf-8", "surrogateescape"))
        if isinstance(item, Path):
            with item.open("rb") as file:
                digest.update(file.read(4096) + str(item.stat().st_size).encode())
        elif isinstance(item, bytes):
            digest.update(item)
    return digest.hexdigest()


def _pixels(
    images: Sequence[Item] | Tensor, settings: DataSettings, name: str
) -> tuple[Tensor | None, Layout, dict[int, str], Sequence[Seen | Unreadable]]:
    """All pixels, or None where they must be streamed; the layout; what cannot be read; headers that were looked at."""
    size, memory = settings.image_size, settings.memory if settings.memory is not None else MEMORY
    if isinstance(images, Tensor):
        if images.shape[1] not in (1, 3):
            return images, Layout(*images.shape[1:]), {}, []
        one = [Seen(images.shape[3], images.shape[2], images.shape[1] == 1)]
        layout = choose_layout(one, size)
        return to_layout(images, layout), layout, {}, one
    head = look(images[:_HEAD])
    first = head[0] if head else None
    if isinstance(first, Seen) and all(one == first for one in head):
        layout = choose_layout(head, size)
        same = tuple(layout[1:]) == (first.height, first.width)
        # Most sources hold images of one size: one pass over the files then does without reading headers first.
        if same and len(images) * int(np.prod(layout)) <= memory and (got := decode(images, layout, strict=True)):
            check_readable(got[1], len(images), name)
            return got[0], layout, got[1], [first]
    seen = look(images)
    failed = {n: one.reason for n, one in enumerate(seen) if isinstance(one, Unreadable)}
    check_readable(failed, len(images), name)
    layout = choose_layout(seen, size)
    if len(images) * int(np.prod(layout)) > memory:
        return None, layout, failed, seen
    pixels, failed = decoded(images, layout)
    check_readable(failed, len(images), name)
    return pixels, layout, failed, seen


def _check_classes(source: Labelled, split: Split, good: NDArray[np.bool_]) -> None:
    for part, positions in zip(("train", "valid"), split, strict=False):
        if not len(positions) and len(source.split[0 if part == "train" else 1]):
            raise DataError(f"{source.name}: no image of the {part} part can be read; replace them")
    if source.target.kind != "classification" or good.all():
        return
    counts = np.bincount(source.values[split.train].astype(np.int64), minlength=len(source.target.classes))
    before = np.bincount(source.values[source.split.train].astype(np.int64), minlength=len(counts))
    gone = [name for name, left, had in zip(source.target.classes, counts, before, strict=True) if had and not left]
    if gone:
        raise DataError(f"{source.name}: no image of class '{gone[0]}' can be read; replace them, or remove the class")


def statistics(train: Part) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel of uint8 images; of a part in memory exactly, else from 2,000 of them."""
    if isinstance(train, Tensors):
        assert isinstance(train.inputs, Tensor)
        pixels = train.inputs
    else:
        chosen = keyed.permutation(keyed.key(0, "image-statistics"), len(train))[:_SAMPLE]
        batch = train.take(chosen)
        assert isinstance(batch.inputs, Tensor)
        pixels = batch.inputs if batch.weight is None else batch.inputs[batch.weight > 0]
    levels = torch.arange(256, dtype=torch.float64)
    means, deviations = [], []
    for channel in pixels.unbind(1):
        counts = torch.bincount(channel.reshape(-1), minlength=256).double()
        mean = float((counts * levels).sum() / counts.sum())
        deviation = float(((counts * (levels - mean) ** 2).sum() / counts.sum()).sqrt())
        means.append(mean)
        # A channel that is the same everywhere keeps its scale.
        deviations.append(deviation if deviation > 1e-6 else 255.0)
    return tuple(means), tuple(deviations)


def _shape(layout: Layout) -> str:
    return f"{layout.width} x {layout.height} pixels, {'gray' if layout.channels == 1 else 'colour'}"
