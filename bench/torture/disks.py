"""Disks that remember what was done to them, lose what was not synced, or refuse."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import override

from goodfit.disk import Disk


@dataclass(frozen=True)
class Step:
    """One change of the disk. what: make, write, append, sync, sync folder, rename, remove, remove folder."""

    what: str
    path: Path
    content: bytes = b""
    target: Path | None = None


class Recording(Disk):
    """Does everything, and notes it. marks: how much was done when something was finished, by its name."""

    def __init__(self) -> None:
        self.log: list[Step] = []
        self.marks: list[tuple[int, object]] = []

    def mark(self, name: object) -> None:
        """Note that something is finished by now, and must outlive any crash from here on."""
        self.marks.append((len(self.log), name))

    @override
    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self.log.append(Step("make", path))

    @override
    def write(self, path: Path, content: bytes) -> None:
        self.log.append(Step("write", path, bytes(content)))
        super().write(path, content)

    @override
    def append(self, path: Path, content: bytes) -> None:
        self.log.append(Step("append", path, bytes(content)))
        super().append(path, content)

    @override
    def sync(self, path: Path, handle: int) -> None:
        self.log.append(Step("sync folder" if path.is_dir() else "sync", path))

    @override
    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.log.append(Step("rename", source, target=target))

    @override
    def remove(self, path: Path) -> None:
        super().remove(path)
        self.log.append(Step("remove", path))

    @override
    def remove_folder(self, path: Path) -> None:
        super().remove_folder(path)
        self.log.append(Step("remove folder", path))


class Careless(Disk):
    """Syncs nothing, which is faster: for what no crash will follow."""

    @override
    def sync(self, path: Path, handle: int) -> None:
        pass


@dataclass
class _File:
    now: bytes = b""
    safe: bytes = b""


@dataclass
class _Folder:
    """Names as processes see them, those that are on the disk, and the changes in between."""

    now: dict[str, _File | _Folder] = field(default_factory=dict)
    safe: dict[str, _File | _Folder] = field(default_factory=dict)
    pending: list[tuple[str, str, _File | _Folder | None]] = field(default_factory=list)


class Crashed:
    """What a disk may hold after a crash: only what was synced is sure.

    An unsynced file may be old, new, torn anywhere or full of zeros; of the names made, changed and removed in a folder
    since its last sync any subset may have reached the disk. A rename is one change. This is stricter than any file
    system in use: a synced file whose folder was not synced may be gone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = _Folder()

    def play(self, steps: Sequence[Step], *, without: Callable[[Step], bool] = lambda step: False) -> None:
        """Do steps. without: syncs that are left out, to see what they are good for."""
        for step in steps:
            if not without(step):
                self._do(step)

    def _do(self, step: Step) -> None:
        if step.what in ("sync", "sync folder") and step.path == self.root:
            self._sync(self.top)
            return
        if not step.path.is_relative_to(self.root):  # the folders above are another test's
            return
        folder, name = self._folder(step.path.parent), step.path.name
        if step.what == "make":
            self._link(folder, name, _Folder())
        elif step.what in ("write", "append"):
            file = folder.now.get(name)
            if not isinstance(file, _File):
                file = _File()
                self._link(folder, name, file)
            file.now = step.content if step.what == "write" else file.now + step.content
        elif step.what in ("sync", "sync folder"):
            self._sync(folder.now[name])
        elif step.what == "rename":
            assert step.target is not None
            assert step.target.parent == step.path.parent
            node = folder.now.pop(name)
            folder.now[step.target.name] = node
            folder.pending.append((name, step.target.name, node))
        else:
            folder.now.pop(name)
            folder.pending.append((name, "", None))

    def _folder(self, path: Path) -> _Folder:
        at = self.top
        for part in path.relative_to(self.root).parts:
            inner = at.now[part]
            assert isinstance(inner, _Folder)
            at = inner
        return at

    def _link(self, folder: _Folder, name: str, node: _File | _Folder) -> None:
        folder.now[name] = node
        folder.pending.append(("", name, node))

    def _sync(self, node: _File | _Folder) -> None:
        node.safe = node.now if isinstance(node, _File) else dict(node.now)  # type: ignore[assignment]
        if isinstance(node, _Folder):
            node.pending.clear()

    def leave(self, place: Path, chance: random.Random | None) -> None:
        """Write what is left into ``place``. chance: draws what became of all that was not synced; None: all of it."""
        self._leave(self.top, place, chance)

    def _leave(self, node: _File | _Folder, place: Path, chance: random.Random | None) -> None:
        if isinstance(node, _File):
            place.write_bytes(node.now if chance is None else _torn(node, chance))
            return
        place.mkdir(exist_ok=True)
        names = dict(node.now)
        if chance is not None:
            names = dict(node.safe)
            share = chance.choice((0.0, 0.5, 0.8, 1.0))
            changes = [one for one in node.pending if chance.random() < share]
            for old, new, inner in changes:
                names.pop(old, None)
                if inner is not None:
                    names[new] = inner
        for name, inner in names.items():
            self._leave(inner, place / name, chance)


def _torn(file: _File, chance: random.Random) -> bytes:
    if file.now == file.safe:
        return file.now
    cut = chance.randrange(len(file.now) + 1)
    return chance.choice((file.safe, file.now, file.now[:cut], file.now[:cut] + bytes(len(file.now) - cut)))


class Refusing(Disk):
    """Refuses one call, or all from there on, of some methods with an error of the system.

    which: names of methods. first: how many calls of them go well before. ever: refuse all that follow too.
    """

    def __init__(self, which: Sequence[str], number: int, *, first: int, ever: bool) -> None:
        self.which, self.number, self.first, self.ever = which, number, first, ever
        self.calls = self.refused = 0
        self.mended = False

    def _refuse(self, method: str, path: Path) -> None:
        if method not in self.which or self.mended:
            return
        self.calls += 1
        if self.calls == self.first + 1 or (self.ever and self.calls > self.first):
            self.refused += 1
            raise OSError(self.number, os.strerror(self.number), str(path))

    @override
    def make_folder(self, path: Path) -> None:
        self._refuse("make_folder", path)
        super().make_folder(path)

    @override
    def write(self, path: Path, content: bytes) -> None:
        if "write" in self.which and not self.mended:
            with path.open("wb") as file:  # a disk that fills up has taken the beginning
                file.write(content[: len(content) // 2])
        self._refuse("write", path)
        super().write(path, content)

    @override
    def append(self, path: Path, content: bytes) -> None:
        self._refuse("append", path)
        super().append(path, content)

    @override
    def sync(self, path: Path, handle: int) -> None:
        self._refuse("sync", path)

    @override
    def rename(self, source: Path, target: Path) -> None:
        self._refuse("rename", source)
        super().rename(source, target)

    @override
    def remove(self, path: Path) -> None:
        self._refuse("remove", path)
        super().remove(path)

    @override
    def remove_folder(self, path: Path) -> None:
        self._refuse("remove_folder", path)
        super().remove_folder(path)

    @override
    def free(self, path: Path) -> int:
        if "free" in self.which and not self.mended:
            self.refused += 1
            return 1000
        return super().free(path)
