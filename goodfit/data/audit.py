"""What is wrong with data before anything is trained on it: leaks, duplicates, contradictions, rare classes, gaps.

Each check is one function of plain arrays; ``table`` and ``arrays`` choose those that apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goodfit.data.columns import Column
from goodfit.data.prepare import Prepared
from goodfit.data.split import Split
from goodfit.data.target import class_counts
from goodfit.types import Finding

_PARTS = ("train", "valid", "test")
_PERFECT_AUC, _PERFECT_CORRELATION, _PERFECT_SHARE = 0.9995, 0.9999, 0.9995
_SOME = 0.01
"""Duplicates across parts below this share of the smaller part change no result that can be seen."""
Places = Callable[[Sequence[int]], list[str]]


def table(ready: Prepared) -> list[Finding]:
    """All findings about a prepared table."""
    values, spec, sheet = ready.target.values, ready.target.spec, ready.sheet

    def places(positions: Sequence[int]) -> list[str]:
        return sheet.places(ready.rows[np.asarray(positions, np.int64)].tolist())

    hashes = row_hashes(ready.columns)
    found = list(duplicates(hashes, ready.split, places))
    found += conflicts(hashes, values, places, classes=spec.kind == "classification")
    for column in ready.columns:
        found += gives_away(column, values, classes=spec.classes)
        found += gaps(column)
    if spec.kind == "classification":
        found += class_sizes(values, ready.split, spec.classes, spec.name)
    return found


def row_hashes(columns: Iterable[Column]) -> NDArray[np.uint64]:
    """One 64-bit number for each row; equal rows have equal numbers."""
    total: NDArray[np.uint64] | None = None
    with np.errstate(over="ignore"):
        for place, column in enumerate(columns, 1):
            if column.kind in ("number", "date"):
                bits = (np.where(column.missing, np.nan, column.values) + 0.0).view(np.uint64)
            elif column.kind == "category":
                bits = column.values.astype(np.uint64)
            else:
                bits = np.fromiter(
                    (hash(value) & 0x7FFFFFFFFFFFFFFF for value in column.values), np.uint64, len(column.values)
                )
            mixed = _mix(bits + np.uint64(place) * np.uint64(0x9E3779B97F4A7C15))
            total = mixed if total is None else _mix(total ^ mixed)
    return np.zeros(0, np.uint64) if total is None else total


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def duplicates(hashes: NDArray[np.uint64], split: Split, places: Places) -> Iterator[Finding]:
    """Samples that are in two parts: what is tested on has been seen."""
    told: list[str] = []
    evidence: dict[str, int] = {}
    largest, where = 0.0, ""
    for first, second in ((0, 1), (0, 2), (1, 2)):
        here, there = hashes[split[first]], hashes[split[second]]
        same = np.isin(there, here)
        count = int(same.sum())
        if not count:
            continue
        position = int(split[second][np.argmax(same)])
        twin = int(split[first][np.argmax(here == hashes[position])])
        one, other = places([position, twin])
        told.append(
            f"{count:,} of {len(there):,} {_PARTS[second]} samples are also in {_PARTS[first]}"
            + (f" (such as {one} and {other})" if not told else "")
        )
        evidence[f"{_PARTS[second]} in {_PARTS[first]}"] = count
        largest, where = max(largest, count / len(there)), where or one
    if told:
        yield Finding(
            "duplicates-across-parts",
            "warning" if largest >= _SOME else "advice",
            "; ".join(told),
            where=where,
            evidence=evidence,
            fix="remove the copies, or keep copies together with data.groups, else the scores flatter the model",
        )


def conflicts(hashes: NDArray[np.uint64], values: NDArray[Any], places: Places, *, classes: bool) -> Iterator[Finding]:
    """Equal inputs with different targets: no model can be right about all of them."""
    _, first, same = np.unique(hashes, return_index=True, return_inverse=True)
    differs = values != values[first][same]
    if not differs.any():
        return
    mixed = np.isin(same, same[differs])
    count = int(mixed.sum())
    position = int(np.argmax(differs))
    one, other = places([int(first[same[position]]), position])
    least = 0
    if classes:
        pairs = same[mixed].astype(np.int64) * (int(values.max()) + 1) + values[mixed].astype(np.int64)
        kinds, counts = np.unique(pairs, return_counts=True)
        group = kinds // (int(values.max()) + 1)
        most = np.zeros(int(group.max()) + 1, np.int64)
        np.maximum.at(most, group, counts)
        least = count - int(most.sum())
    share = count / len(values)
    yield Finding(
        "label-conflicts",
        "warning" if (least / len(values) if classes else share) >= _SOME else "advice",
        f"{count:,} samples ({share:.1%}) have the same inputs as another with another target, such as {one} and "
        f"{other}" + (f"; at least {least:,} answers must be wrong" if classes else ""),
        where=one,
        evidence={"samples": count, "share": round(share, 6), "wrong_at_least": least},
        fix="check how they were labelled, or add the column that tells them apart",
    )


def gives_away(column: Column, values: NDArray[Any], *, classes: Sequence[str]) -> Iterator[Finding]:
    """A single column from which the target can be read off: it will not be there when predictions are needed."""
    known = ~column.missing
    if known.sum() < 20 or column.kind in ("text", "image"):
        return
    how = ""
    here, target = column.values[known], values[known]
    if not classes:
        if column.kind != "category":
            how = _affine(here, target)
    elif column.kind == "category":
        how = _pure(here, target, levels=len(column.levels))
    else:
        how = _separates(here, target)
    if how:
        yield Finding(
            "target-given-away",
            "warning",
            f"column '{column.name}' gives the target away: {how}",
            where=column.name,
            evidence={"rows": int(known.sum())},
            fix=f'leave it out with data.ignore = ["{column.name}"] unless it is really known before the target is',
        )


def _affine(here: NDArray[np.float64], target: NDArray[np.float64]) -> str:
    x, y = here - here.mean(), target - target.mean()
    spread = float(np.sqrt((x @ x) * (y @ y)))
    if not spread:
        return ""
    correlation = float(x @ y) / spread
    if bool((here == target).all()):
        return "it is a copy of it"
    return f"its correlation with it is {correlation:.5f}" if abs(correlation) >= _PERFECT_CORRELATION else ""


def _separates(here: NDArray[np.float64], target: NDArray[np.int64]) -> str:
    """Whether thresholds on one number tell the classes apart: few changes of class along its order."""
    order = np.argsort(here, kind="stable")
    present = np.unique(target)
    if len(present) < 2 or min(np.bincount(target)[present]) < 5:
        return ""
    if len(present) == 2:
        from_low = _auc(here, target == present[1])
        if max(from_low, 1 - from_low) >= _PERFECT_AUC:
            return f"ranking by it alone tells the two classes apart (ROC-AUC {max(from_low, 1 - from_low):.4f})"
        return ""
    changes = int((np.diff(target[order]) != 0).sum())
    different = len(np.unique(here))
    if changes == len(present) - 1 and (different >= len(present)):
        return f"its order alone separates all {len(present)} classes"
    return ""


def _auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve from ranks, ties counted half (Mann and Whitney 1947)."""
    _, same, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[same]
    yes = int(positive.sum())
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * (len(scores) - yes)))


def _pure(codes: NDArray[np.int64], target: NDArray[np.int64], *, levels: int) -> str:
    """Whether each category has one class only, with enough rows a category that this is no accident."""
    if levels > len(codes) / 10:
        return ""
    width = int(target.max()) + 1
    counts = np.bincount(codes * width + target, minlength=levels * width).reshape(-1, width)
    right, plain = counts.max(1).sum() / len(codes), counts.sum(0).max() / len(codes)
    if right >= _PERFECT_SHARE and right - plain >= 0.5 * (1 - plain) and plain < _PERFECT_SHARE:
        return f"knowing it alone, {right:.2%} of the rows are right"
    return ""


def gaps(column: Column) -> Iterator[Finding]:
    """A column that is missing in most rows."""
    share = float(column.missing.mean())
    if share > 0.5:
        yield Finding(
            "mostly-missing",
            "advice",
            f"column '{column.name}' is missing in {share:.1%} of the rows",
            where=column.name,
            evidence={"share": round(share, 6)},
            fix="nothing has to be done; what is missing is learned as such",
        )


def class_sizes(values: NDArray[np.int64], split: Split, classes: Sequence[str], target: str) -> Iterator[Finding]:
    """Classes that are rare, absent from training, or much rarer than the largest."""
    counts = class_counts(values, classes)
    train = class_counts(values[split.train], classes)
    unseen = [classes[n] for n in np.flatnonzero((train == 0) & (counts > 0)).tolist()]
    if unseen:
        yield Finding(
            "class-not-in-train",
            "warning",
            f"no train sample has {_listed(unseen)} of '{target}', so it cannot be learned",
            where=target,
            evidence={"classes": len(unseen)},
            fix="give training samples of it, or split anew",
        )
    empty = [classes[n] for n in np.flatnonzero(counts == 0).tolist()]
    if empty:
        yield Finding(
            "empty-classes",
            "advice",
            f"no sample at all has {_listed(empty)} of '{target}'",
            where=target,
            evidence={"classes": len(empty)},
            fix="nothing has to be done",
        )
    tiny = [
        f"'{classes[n]}' ({counts[n]})" for n in np.flatnonzero((counts > 0) & (counts < 10) & (train > 0)).tolist()
    ]
    if tiny:
        shown = ", ".join(tiny[:5]) + (f" and {len(tiny) - 5} more" if len(tiny) > 5 else "")
        yield Finding(
            "tiny-classes",
            "warning",
            f"fewer than 10 samples: {shown}; their scores will be chance",
            where=target,
            evidence={"classes": len(tiny)},
            fix="collect more of them, or merge them with a class that is alike",
        )
    present = counts[counts > 0]
    if len(present) > 1 and present.min() < 0.1 * present.max():
        often, rare = int(np.argmax(counts)), int(np.argmin(np.where(counts > 0, counts, counts.max() + 1)))
        yield Finding(
            "imbalance",
            "advice",
            f"'{classes[often]}' is {counts[often] / max(counts[rare], 1):.0f} times as frequent as '{classes[rare]}'",
            where=target,
            evidence={"largest": int(counts[often]), "smallest": int(counts[rare])},
            fix="judge by balanced accuracy or average precision, not by accuracy",
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return (
        ("class " if len(names) == 1 else "classes ")
        + shown
        + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    )
