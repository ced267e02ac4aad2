"""Reads images: a folder of class folders, a table with a column of images, or a well-known set by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goodfit.data import split as splits
from goodfit.data.data import Data
from goodfit.data.decode import suffixes
from goodfit.data.image_column import column_items, images_from_column
from goodfit.data.image_data import Labelled, build, fingerprint
from goodfit.data.image_encoder import ImageEncoder, image_files, is_hidden, thumbnail
from goodfit.data.image_sets import NAMES, download
from goodfit.data.prepare import Prepared, describe_target, prepare
from goodfit.data.sheet import PARTS, Sheet, join, parts_in, read_sheet
from goodfit.data.split import Split
from goodfit.data.table import standardised
from goodfit.data.target import class_counts, read_target
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Finding

__all__ = [
    "NAMES",
    "ImageEncoder",
    "image_files",
    "images_from_column",
    "is_image_folder",
    "only_images",
    "read_image_table",
    "read_images",
    "thumbnail",
]


def read_images(source: Any, settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    """Read images with their classes (or numbers).

    source: a folder of class folders, with or without ``train/``, ``valid/`` and ``test/`` above them; a table whose
        only other column holds images (a path, a DataFrame, a Sheet); or a name such as ``cifar10``.
    Raises DataError for what cannot be trained on: no images, one class, class folders that differ only in case,
    more than half unreadable.
    """
    if isinstance(source, str) and source.lower().replace("_", "-") in NAMES and not Path(source).exists():
        return _read_set(source.lower().replace("_", "-"), settings, task, seed=seed)
    if isinstance(source, str | Path) and Path(source).is_dir() and not parts_in(Path(source)):
        return _read_folder(Path(source), settings, task, seed=seed)
    sheet = source if isinstance(source, Sheet) else read_sheet(source)
    if settings.test_source is not None:
        sheet = join({"train": sheet, "test": read_sheet(settings.test_source)})
    return read_image_table(prepare(sheet, settings, task, seed=seed), settings)


def is_image_folder(folder: Path) -> bool:
    """Whether a folder holds images, at whatever depth."""
    return bool(folder.is_dir() and any(_is_image(path) for path in folder.rglob("*")))


def only_images(ready: Prepared) -> bool:
    """Whether a prepared table has nothing to learn from but one column of images."""
    return [column.kind for column in ready.columns] == ["image"]


def read_image_table(ready: Prepared, settings: DataSettings) -> Data:
    """A prepared table with one column of images as data. Raises DataError where there are other columns."""
    if not only_images(ready):
        kinds = ", ".join(f"'{column.name}' ({column.kind})" for column in ready.columns)
        raise DataError(f"{ready.sheet.name}: the columns to learn from are not one of images but {kinds}")
    (column,) = ready.columns
    return build(
        Labelled(
            ready.sheet.name,
            column_items(column.values, ready.sheet.folder),
            ready.target.values,
            standardised(ready),
            ready.rows,
            ready.split,
            lambda n: ready.sheet.place(int(ready.rows[n])),
            ready.sheet.fingerprint,
            column.name,
            ready.findings,
            tuple(row for row in ready.summary if row[0] not in ("columns", "missing")),
        ),
        settings,
    )


class _Found(NamedTuple):
    """A folder's images: files, their class folders, and the part that each is in."""

    files: list[Path]
    classes: list[str]
    part: list[int]
    findings: list[Finding]


def _read_folder(folder: Path, settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    for key in ("target", "time", "groups"):
        if getattr(settings, key) is not None:
            raise DataError(f"data.{key} names a column, and {folder} is a folder of images without any; leave it out")
    found = _scan(folder)
    if settings.test_source is not None:
        other = _scan(Path(settings.test_source))
        found = _Found(
            found.files + other.files,
            found.classes + other.classes,
            found.part + [2] * len(other.files),
            found.findings + other.findings,
        )
    names = [_relative(file, folder) for file in found.files]
    part = np.asarray(found.part, np.int64)
    sheet = Sheet(
        folder.resolve().name,
        pd.DataFrame({"class": found.classes}),
        fingerprint(names, found.files),
        lambda rows: [names[row] for row in rows],
        part=part if part.any() else None,
    )
    return _classified(sheet, list(found.files), settings, task, seed=seed, findings=found.findings)


def _read_set(name: str, settings: DataSettings, task: TaskSettings, *, seed: int) -> Data:
    pixels, labels, part, classes, digest = download(name)
    frame = pd.DataFrame({"class": labels})
    known = {"class": tuple(classes)}
    sheet = Sheet(name, frame, digest, lambda rows: [f"{name} {row}" for row in rows], part=part, classes=known)
    return _classified(sheet, pixels, settings, task, seed=seed, findings=())


def _classified(
    sheet: Sheet, images: Any, settings: DataSettings, task: TaskSettings, *, seed: int, findings: Sequence[Finding]
) -> Data:
    """Images whose classes stand in the sheet's only column, split with those parts kept that the source brings."""
    if task.kind not in ("auto", "classification"):
        raise DataError(f"task.kind = '{task.kind}', but class folders name classes; use a table for other targets")
    target = read_target(sheet, "class", "the folders name them", settings=replace(task, kind="classification"))
    if target.missing.any():
        row = int(np.flatnonzero(target.missing)[0])
        raise DataError(
            f"{sheet.place(row)}: a class folder called '{sheet.frame['class'][row]}' reads as missing; rename it"
        )
    split, how = _split(sheet, target.values, target.spec.classes, settings=settings, seed=seed)
    sizes = f"{len(split.train):,} train, {len(split.valid):,} valid, {len(split.test):,} test, {how}"
    return build(
        Labelled(
            sheet.name,
            images,
            target.values,
            target.spec,
            np.arange(len(target.values)),
            split,
            sheet.place,
            sheet.fingerprint,
            findings=(*findings, *target.findings),
            summary=(("target", describe_target(target)), ("task", target.why), ("split", sizes)),
        ),
        settings,
    )


def _split(
    sheet: Sheet, values: NDArray[np.int64], classes: Sequence[str], *, settings: DataSettings, seed: int
) -> tuple[Split, str]:
    given = splits.by_label(np.zeros(len(values)) if sheet.part is None else sheet.part)
    unknown = np.flatnonzero(class_counts(values[given.train], classes) == 0)
    if len(unknown):
        row = int(np.flatnonzero(values == unknown[0])[0])
        raise DataError(
            f"{sheet.place(row)}: class '{classes[int(unknown[0])]}' is not in the train part; add it there"
        )
    valid = 0.0 if len(given.valid) else settings.valid
    test = 0.0 if len(given.test) else settings.test
    if not valid and not test:
        return given, "as the folders say"
    counts = class_counts(values[given.train], classes)
    for number in np.flatnonzero(counts == 1).tolist():
        row = int(given.train[np.flatnonzero(values[given.train] == number)[0]])
        raise DataError(
            f"class '{classes[number]}' has one image only ({sheet.place(row)}), which cannot be in several parts; "
            "add images, or remove the class"
        )
    inner = splits.stratified(values[given.train], valid, test=test, seed=seed, names=classes)
    how = "stratified by class" + (", the rest as the source gives it" if sheet.part is not None else "")
    return splits.refill(given, inner), how


def _scan(folder: Path) -> _Found:
    """Find class folders. Raises DataError where there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; check the path")
    inside = sorted(path for path in folder.iterdir() if not is_hidden(Path(path.name)))
    folders = [path for path in inside if path.is_dir()]
    tops = [path for path in folders if path.name.lower() in PARTS and any(one.is_dir() for one in path.iterdir())]
    if not any(PARTS[path.name.lower()] == 0 for path in tops):
        tops = []
    found = _Found([], [], [], [])
    taken: dict[int, Path] = {}
    for top in tops:
        number = PARTS[top.name.lower()]
        if number in taken:
            raise DataError(f"{folder} holds {taken[number].name}/ and {top.name}/, which mean the same part; keep one")
        taken[number] = top
    ignored: list[Path] = []
    for number, above in sorted(taken.items()) or [(0, folder)]:
        for path in sorted(above.iterdir()):
            if is_hidden(Path(path.name)):
                continue
            if path.is_dir():
                _add_class(found, path, number, ignored)
            else:
                ignored.append(path)
    if tops:
        ignored += [path for path in inside if path not in tops]
    if not found.files:
        flat = [path for path in ignored if _is_image(path)]
        if flat:
            raise DataError(
                f"{folder} holds images such as {flat[0].name}, but no class folders; put the images of each class "
                "into a folder with its name"
            )
        raise DataError(f"{folder} holds no images; give a folder with one folder of images for each class")
    if ignored:
        found.findings.append(_ignored(folder, ignored))
    return found


def _add_class(found: _Found, path: Path, number: int, ignored: list[Path]) -> None:
    """The images of one class folder, at whatever depth."""
    before = len(found.files)
    for file in sorted(path.rglob("*")):
        if is_hidden(file.relative_to(path)) or not file.is_file():
            continue
        if file.suffix.lower() in suffixes():
            found.files.append(file)
            found.classes.append(path.name)
            found.part.append(number)
        else:
            ignored.append(file)
    if len(found.files) == before:
        found.findings.append(
            Finding(
                "empty-class",
                "warning",
                f"folder '{path.name}' holds no images; it is not a class",
                where=str(path),
                fix="add images, or remove the folder",
            )
        )


def _ignored(folder: Path, ignored: Sequence[Path]) -> Finding:
    shown = ", ".join(_relative(path, folder) + ("/" if path.is_dir() else "") for path in ignored[:3])
    more = f" and {len(ignored) - 3:,} more" if len(ignored) > 3 else ""
    return Finding(
        "ignored-files",
        "advice",
        f"left out of {folder.name}, since no images in a class folder: {shown}{more}",
        where=str(folder),
        evidence={"files": len(ignored)},
        fix="move them elsewhere, or into a class folder",
    )


def _relative(path: Path, folder: Path) -> str:
    text = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
    # Names that are not UTF-8 must still be printable.
    return text.encode("utf-8", "backslashreplace").decode()


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in suffixes() and not is_hidden(Path(path.name)) and path.is_file()
