"""The data of the claims: small pieces of real sets, cut the same way every time."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pair = tuple[NDArray[np.uint8], NDArray[np.int64]]
SIDE = 16


@cache
def _cifar(folder: Path, count: int) -> Pair:
    """The first ``count`` images of the training file, as many of each class, averaged down to 16x16 pixels."""
    import pyarrow.parquet as pq
    from PIL import Image

    # 10 % more than needed is read, so that every class has its share.
    table = pq.ParquetFile(folder / "cifar10" / "train.parquet")
    pixels: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    taken = [0] * 10
    for batch in table.iter_batches(batch_size=1000, columns=["image", "label"]):
        for row in batch.to_pylist():
            if taken[row["label"]] < count // 10:
                taken[row["label"]] += 1
                image = (
                    Image.open(io.BytesIO(row["image"]["bytes"]))
                    .convert("RGB")
                    .resize((SIDE, SIDE), Image.Resampling.BOX)
                )
                pixels.append(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))
                labels.append(int(row["label"]))
        if len(labels) == 10 * (count // 10):
            break
    return np.stack(pixels), np.asarray(labels, dtype=np.int64)


def cifar(folder: Path, *, classes: Sequence[int] = tuple(range(10)), train: int = 1600, valid: int = 1500) -> Any:
    """CIFAR-10 of 4,000 images at 16x16 pixels, in three parts; ``classes`` are renumbered from 0.

    With some classes only, train and valid say how many images of those each part holds.
    """
    images, labels = _cifar(folder, 4000)
    keep = np.flatnonzero(np.isin(labels, classes))
    number = {old: new for new, old in enumerate(classes)}
    x, y = images[keep], np.asarray([number[int(one)] for one in labels[keep]], dtype=np.int64)
    # Classes take turns, so that every part and every beginning of a part has the same shares of them.
    turn = np.zeros(len(y), dtype=np.int64)
    for one in range(len(classes)):
        turn[y == one] = np.arange(int((y == one).sum()))
    order = np.lexsort((y, turn))
    x, y = x[order], y[order]
    cuts = {"train": slice(0, train), "valid": slice(train, train + valid), "test": slice(train + valid, None)}
    return {name: (x[cut], y[cut]) for name, cut in cuts.items()}


def rows_of(path: Path, out: Path, count: int, columns: Sequence[str]) -> Path:
    """The first ``count`` rows of a CSV file and some of its columns, as a file of its own in ``out``."""
    made = out / f"{path.stem}-{count}.csv"
    with path.open(encoding="utf-8", newline="") as source:
        rows = [[row[name] for name in columns] for row, _ in zip(csv.DictReader(source), range(count), strict=False)]
    with made.open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows([list(columns), *rows])
    return made
