"""What is wrong with a set of images: unreadable ones, tiny ones, mixed sizes, the same picture twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from goodfit.data import audit
from goodfit.data.decode import Item, Layout, Seen, Unreadable
from goodfit.data.split import Split
from goodfit.data.target import TargetSpec
from goodfit.types import Finding

Place = Callable[[int], str]
Hashes = NDArray[np.uint64]
_TINY = 4
_SHOWN = 3


def unreadable(failed: dict[int, str], *, place: Place) -> Finding:
    """Images that are left out because they cannot be decoded."""
    shown = "; ".join(f"{place(n)}: {reason}" for n, reason in list(failed.items())[:_SHOWN])
    more = f"; and {len(failed) - _SHOWN:,} more" if len(failed) > _SHOWN else ""
    return Finding(
        "unreadable-images",
        "warning",
        f"{_count(len(failed), 'image')} left out, which cannot be read ({shown}{more})",
        where=place(next(iter(failed))),
        evidence={"images": len(failed), "files": [place(n) for n in list(failed)[:100]]},
        fix="replace or remove these files",
    )


def headers(seen: Sequence[Seen | Unreadable], layout: Layout, *, place: Place) -> list[Finding]:
    """Images so small that there is nothing to see, and sizes that differ."""
    sizes = {n: (one.width, one.height) for n, one in enumerate(seen) if isinstance(one, Seen)}
    findings = []
    tiny = [n for n, size in sizes.items() if min(size) < _TINY]
    if tiny:
        first = tiny[0]
        findings.append(
            Finding(
                "tiny-images",
                "warning",
                f"{_count(len(tiny), 'image')} of less than {_TINY} pixels on a side, "
                f"such as {place(first)} ({_size(sizes[first])})",
                where=place(first),
                evidence={"images": len(tiny)},
                fix="look at them; a failed download or a placeholder is best removed",
            )
        )
    different = sorted(set(sizes.values()), key=lambda size: size[0] * size[1])
    if len(different) > 1 or (different and different[0] != (layout.width, layout.height)):
        what = f"images measure {_size(different[0])}"
        if len(different) > 1:
            what += f" to {_size(different[-1])}"
        findings.append(
            Finding(
                "mixed-sizes" if len(different) > 1 else "resized",
                "advice",
                f"{what}; the short side is scaled and the centre cut to {_size((layout.width, layout.height))}",
                evidence={"sizes": len(different)},
                fix="data.image_size sets another side",
            )
        )
    return findings


def repeated(hashes: Hashes, values: NDArray[Any], target: TargetSpec, *, split: Split, place: Place) -> list[Finding]:
    """The same picture in two parts, the same picture with two labels, and classes that are rare or absent."""

    def places(rows: Sequence[int]) -> list[str]:
        return [place(int(row)) for row in rows]

    classes = target.kind == "classification"
    found = [*audit.duplicates(hashes, split, places), *audit.conflicts(hashes, values, places, classes=classes)]
    if classes:
        found += audit.class_sizes(values, split, target.classes, target.name)
    return found


def pixel_hashes(pixels: Tensor, good: NDArray[np.bool_]) -> Hashes:
    """64 bits for each image's pixels; those that could not be read are like no other."""
    rows = pixels.numpy()
    return np.asarray(
        [_hash(row) if fine else n for n, (row, fine) in enumerate(zip(rows, good, strict=True))], np.uint64
    )


def file_hashes(items: Sequence[Item]) -> Hashes:
    """64 bits for each file's bytes, read only where another file has the same length; all others are like no other."""
    sizes = [item.stat().st_size if isinstance(item, Path) and item.exists() else -n for n, item in enumerate(items, 1)]
    _, same, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    twins = (counts[same] > 1) & (np.asarray(sizes) > 0)
    hashes = np.arange(len(items), dtype=np.uint64)
    for n in np.flatnonzero(twins).tolist():
        item = items[n]
        assert isinstance(item, Path)
        hashes[n] = _hash(item.read_bytes())
    return hashes


def _hash(content: Any) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
