"""The only module that writes files: staged, fsynced, hashed, renamed into place, verified when read.

A file or folder under its final name is whole, or it is not there. A checkpoint is a folder whose ``MANIFEST.json``,
written last, holds the size and SHA-256 of every other file in it, and a seal of its own. Other files of a run folder
are checked in the same way: those written before training against the copies in ``kept/``, which are read where one is
damaged; those written after it against the ``MANIFEST.json`` of the run folder. No pickle: tensors are safetensors,
everything else is JSON.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor

from goodfit.disk import Disk
from goodfit.errors import RunError
from goodfit.visible import guarded

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "MANIFEST.json"
KEPT = "kept"
"""Copies of what a run wrote before training, and of its sealed files: read where the first of them is damaged."""
UNLISTED = (MANIFEST, "lock.json", "status.json", "test.json")
"""What the manifest of a run folder does not list: these change after it is written, and have seals of their own."""
_STAGING = ".staging-"
disk = Disk()


class DamageWarning(UserWarning):
    """A file of a run is damaged, and a good copy of it was used."""


def write_file(path: Path, content: bytes) -> None:
    """Replace or make one file in one atomic step. Raises RunError with path and reason; the old file then stays.

    An error of the system is given a second chance, with everything written anew.
    """
    staged = _staging(path)

    def work() -> None:
        _make_folders(path.parent)
        _write_synced(staged, content)
        disk.rename(staged, path)
        _sync_folder(path.parent)

    _twice(path, work, staged)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON; numbers that are not finite become null, as JSON has none."""
    write_file(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Plain values as indented UTF-8 JSON."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"


def read_json(path: Path) -> Any:
    """Read JSON, checked as `read_file` does. Raises RunError naming the file."""
    try:
        return json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from error


def read_file(path: Path) -> bytes:
    """The content of a file, checked against what was noted when it was written, if anything was.

    Where it is damaged and ``kept/`` holds a good copy, that one, with a DamageWarning; else raises RunError.
    """
    content, problem = b"", "its content does not match the manifest"
    try:
        content = path.read_bytes()
        noted = _noted(path, content)
        if noted is None or noted == sha256(content):
            return content
    except OSError as error:
        problem, noted = f"cannot be read: {error.strerror or error}", _noted(path, b"")
    with contextlib.suppress(OSError):
        copy = (path.parent / KEPT / path.name).read_bytes()
        if sha256(copy) == noted:
            warnings.warn(f"{path} is damaged; its copy in {KEPT}/ was used", DamageWarning, stacklevel=3)
            return copy
    raise RunError(f"{path} {problem}" if problem.startswith("cannot") else f"{path} is damaged: {problem}")


def listed(path: Path) -> str | None:
    """The SHA-256 of a file as the manifests beside it tell; None where none lists it."""
    return _noted(path, b"")


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a table as JSON with the SHA-256 of itself in it; a copy goes to ``kept/`` where the folder has that."""
    content = _sealed(value)
    if (path.parent / KEPT).is_dir():
        write_file(path.parent / KEPT / path.name, content)
    write_file(path, content)


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what ``write_sealed`` wrote, its copy where it is damaged. Raises RunError where both are."""
    try:
        return _opened(path)
    except RunError:
        copy = path.parent / KEPT / path.name
        if not copy.is_file():
            raise
        found = _opened(copy)
        warnings.warn(f"{path} is damaged; its copy in {KEPT}/ was used", DamageWarning, stacklevel=2)
        return found


def write_twice(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder in this order, after copies of them into ``kept/``, which `read_file` falls back on."""
    write_folder(folder / KEPT, files)
    for name, content in files.items():
        write_file(folder / name, content)


def list_files(folder: Path, names: Iterable[str] | None = None) -> None:
    """Write the manifest of a run folder: all files that lie in it now; with ``names``, those anew and the rest as
    noted (nothing where there is no manifest)."""
    path = folder / MANIFEST
    if names is not None and not path.exists():
        return
    listed = {} if names is None else _opened(path)
    chosen = (one.name for one in sorted(folder.iterdir()) if one.is_file()) if names is None else names
    for name in chosen:
        if name not in UNLISTED and not name.startswith("."):
            listed[name] = _entry((folder / name).read_bytes())
    write_file(path, _sealed(listed))


def unlist(folder: Path) -> None:
    """Take the manifest of a run folder away: its files are about to be written anew."""
    with contextlib.suppress(FileNotFoundError):
        disk.remove(folder / MANIFEST)


def damaged(folder: Path) -> list[str]:
    """Everything in a run folder that does not match what was noted when it was written, one sentence each."""
    found: list[str] = []

    def look(work: Callable[[], object]) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DamageWarning)
                work()
        except (RunError, DamageWarning) as error:
            found.append(str(error))

    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and (path / MANIFEST).exists():
            look(lambda path=path: read_folder(path))  # type: ignore[misc]
        elif path.name in ("status.json", "test.json"):
            look(lambda path=path: read_sealed(path))  # type: ignore[misc]
        elif path.is_file() and path.name not in UNLISTED:
            look(lambda path=path: read_file(path))  # type: ignore[misc]
        if path.name == "metrics.jsonl":
            look(lambda path=path: _whole_lines(path))  # type: ignore[misc]
    if (folder / MANIFEST).exists():
        look(lambda: [read_file(folder / name) for name in _opened(folder / MANIFEST)])
    for name in ("status.json", "test.json"):
        if (folder / KEPT / name).exists():
            look(lambda name=name: _opened(folder / KEPT / name))  # type: ignore[misc]
    for step in steps_in(folder / "checkpoints"):
        look(lambda step=step: read_folder(folder / "checkpoints" / f"{step:06d}"))  # type: ignore[misc]
    return found


def read_json_bytes(content: bytes) -> Any:
    """JSON from verified bytes."""
    return json.loads(content)


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as .parquet or .csv. In CSV a text that a spreadsheet would run as a formula gets a leading
    quote."""
    if path.suffix == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        write_file(path, buffer.getvalue())
    elif path.suffix == ".csv":
        safe = frame.map(guarded).rename(columns=lambda name: guarded(str(name)))
        write_file(path, safe.to_csv(index=False).encode("utf-8", "replace"))
    else:
        raise RunError(f"{path}: write predictions to a .csv or .parquet file")


def line_of(value: Mapping[str, Any]) -> bytes:
    """One line of JSON that ends with a checksum of itself, ``crc``."""
    line = json.dumps(_finite(dict(value)), allow_nan=False)
    return json.dumps({**json.loads(line), "crc": f"{zlib.crc32(line.encode()):08x}"}).encode() + b"\n"


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one line of JSON and hand it to the system; a torn line at the end is ignored when read."""
    append_bytes(path, line_of(value))


def append_bytes(path: Path, content: bytes) -> None:
    """Append to a file and hand it to the system. Raises RunError; part of the content may then have been written."""
    try:
        disk.append(path, content)
    except OSError as error:
        raise _refused(path, error) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The longest valid prefix of a file of JSON lines; an empty list where there is none."""
    return parse_lines(path.read_bytes()) if path.exists() else []


def parse_lines(content: bytes) -> list[dict[str, Any]]:
    """The longest valid prefix of JSON lines: up to the first that is torn or does not match its checksum."""
    rows: list[dict[str, Any]] = []
    for line in content.split(b"\n")[:-1]:
        try:
            row = json.loads(line)
            told = row.pop("crc")
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            break
        if f"{zlib.crc32(json.dumps(row).encode()):08x}" != told or line_of(row) != line + b"\n":
            break
        rows.append(row)
    return rows


def cut_lines(path: Path, keep: int) -> None:
    """Keep the first ``keep`` lines: what a resumed run does with rows written after its checkpoint."""
    if not path.exists():
        return
    content = path.read_bytes()
    kept = content.split(b"\n")[: min(keep, len(parse_lines(content)))]
    whole = b"".join(line + b"\n" for line in kept)
    if whole != content:
        write_file(path, whole)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files with its manifest, staged beside its place and renamed into it.

    An existing folder of that name is replaced; a crash between the two renames of that is put right by `sweep`.
    Raises RunError with path and reason; what stood there then stays. Tried twice, as in `write_file`.
    """
    staged, old = _staging(path), _staging(path.with_name(f"{path.name}.old"))
    needed = sum(map(len, files.values()))

    def work() -> None:
        _make_folders(path.parent)
        free = disk.free(path.parent)
        if free < needed + (1 << 20):
            raise OSError(errno.ENOSPC, f"{needed / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free")
        _discard(staged)
        disk.make_folder(staged)
        for name, content in files.items():
            _write_synced(staged / name, content)
        _write_synced(staged / MANIFEST, _sealed({name: _entry(content) for name, content in files.items()}))
        _sync_folder(staged)
        if path.exists():
            disk.rename(path, old)
            try:
                disk.rename(staged, path)
            except BaseException:
                disk.rename(old, path)
                raise
        else:
            disk.rename(staged, path)
        _sync_folder(path.parent)
        _discard(old)

    _twice(path, work, staged)


def read_folder(path: Path) -> dict[str, bytes]:
    """Every file of a folder that ``write_folder`` wrote, checked against its manifest. Raises RunError when
    damaged."""
    try:
        content = (path / MANIFEST).read_bytes()
        manifest = json.loads(content)
    except OSError as error:
        raise RunError(f"{path / MANIFEST} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path / MANIFEST} is damaged: {error}") from error
    if not isinstance(manifest, dict):
        raise RunError(f"{path / MANIFEST} is damaged: no table of files")
    manifest.pop("seal", None)
    files = {}
    for name, expected in manifest.items():
        if not isinstance(expected, dict) or Path(name).name != name:
            raise RunError(f"{path / MANIFEST} is damaged: {name!r} is no file of this folder")
        try:
            files[name] = (path / name).read_bytes()
        except (OSError, ValueError) as error:
            raise RunError(f"{path / name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
        if _entry(files[name]) != expected:
            raise RunError(f"{path / name} is damaged: its content does not match the manifest")
    if content != _sealed(manifest):
        raise RunError(f"{path / MANIFEST} is damaged: it does not match its seal")
    return files


def steps_in(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, the highest first, whole or not."""
    names = (p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else ()
    return sorted((int(n) for n in names if n.isascii() and n.isdecimal() and n == f"{int(n):06d}"), reverse=True)


def newest(folder: Path) -> tuple[int, dict[str, bytes], list[str]] | None:
    """The checkpoint with the highest step that is whole: ``(step, files, notes)``; None without one.

    A damaged one is set aside as ``.damaged`` and named in the notes.
    """
    notes: list[str] = []
    for step in steps_in(folder):
        path = folder / f"{step:06d}"
        try:
            return step, read_folder(path), notes
        except RunError as error:
            notes.append(set_aside(path, error))
    return None


def set_aside(path: Path, error: RunError) -> str:
    """Rename a damaged checkpoint to ``.damaged``; returns the line that says so."""
    aside = path.with_name(path.name + ".damaged")
    _discard(aside)
    with contextlib.suppress(OSError):
        disk.rename(path, aside)
    return f"checkpoint {int(path.name)} is damaged and set aside as {aside.name}: {error}"


def prune(folder: Path, *, keep: int) -> None:
    """Remove all but the ``keep`` highest steps, and staging left by processes that died."""
    old = [folder / f"{step:06d}" for step in steps_in(folder)[keep:]]
    with contextlib.suppress(OSError):
        for path in old:
            disk.rename(path, _staging(path))
        if old:  # so that half of a checkpoint never stands under its name, after a crash either
            _sync_folder(folder)
    sweep(folder)


def sweep(folder: Path) -> None:
    """Remove what dead processes left staged in a folder; a folder that one of them was replacing goes back."""
    for left in sorted(folder.glob(f".*{_STAGING}*")) if folder.is_dir() else []:
        name, _, pid = left.name[1:].rpartition(_STAGING)
        if pid.isascii() and pid.isdecimal() and int(pid) != os.getpid() and running(int(pid)):
            continue
        if name.endswith(".old") and not (folder / name.removesuffix(".old")).exists():
            with contextlib.suppress(OSError):
                disk.rename(left, folder / name.removesuffix(".old"))
        else:
            _discard(left)


def is_staged(path: Path) -> bool:
    """Whether a name is one of those under which things are written before they are whole."""
    return path.name.startswith(".") and _STAGING in path.name


def probe(folder: Path, *, keep: bool = True) -> None:
    """Make the folder and prove that it can be written. Raises RunError with the reason at second zero.

    keep: leave a folder behind that was not there before.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    test = folder / f".probe{_STAGING}{os.getpid()}"
    try:
        write_file(test, b"probe")
    except RunError as error:
        raise RunError(str(error).replace(str(test), str(folder), 1)) from error
    with contextlib.suppress(OSError):
        disk.remove(test)
        for one in made if not keep else ():
            disk.remove_folder(one)


@contextlib.contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Try to claim something for this process; yields whether it was free. wait: until it is.

    ``path``, an empty file, stands for it. The system itself frees the claim of a process that ends in any way, so
    nothing is ever taken over, and of many that come at once exactly one gets it; on network file systems too, where
    they pass on locks (NFS 4 does).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            raise _refused(path, error) from error
        yield True
    finally:
        os.close(handle)


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as safetensors bytes; dtype and values are kept exactly."""
    return safetensors.torch.save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})


def unpack_tensors(content: bytes) -> dict[str, Tensor]:
    """Read what ``pack_tensors`` made. Raises RunError when it is no safetensors content."""
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # the library raises its own type, ValueError or OverflowError by the kind of damage
        raise RunError(f"damaged tensors: {error}") from error


def pack_tree(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Split nested dicts and lists into their tensors and a JSON tree that names them (an optimizer's state, say)."""
    tensors: dict[str, Tensor] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, Tensor):
            name = str(len(tensors))
            tensors[name] = node
            return {"__tensor__": name}
        if isinstance(node, Mapping):
            return {"__items__": [[k, walk(v)] for k, v in node.items()]}
        if isinstance(node, list | tuple):
            return {"__tuple__" if isinstance(node, tuple) else "__list__": [walk(v) for v in node]}
        if isinstance(node, float) and not math.isfinite(node):
            return {"__float__": repr(node)}
        return node

    return tensors, walk(tree)


def unpack_tree(tensors: Mapping[str, Tensor], tree: Any) -> Any:
    """Put back together what ``pack_tree`` split."""
    if not isinstance(tree, dict):
        return tree
    ((kind, value),) = tree.items()
    if kind == "__tensor__":
        return tensors[value]
    if kind == "__float__":
        return float(value)
    if kind == "__items__":
        return {k: unpack_tree(tensors, v) for k, v in value}
    made = [unpack_tree(tensors, v) for v in value]
    return tuple(made) if kind == "__tuple__" else made


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of tensors: equal digests mean bit-identical weights."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


def running(pid: int) -> bool:
    """Whether a process of that number runs on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _write_synced(path: Path, content: bytes) -> None:
    disk.write(path, content)


def _sync_folder(path: Path) -> None:
    disk.sync_folder(path)


def _staging(path: Path) -> Path:
    return path.with_name(f".{path.name}{_STAGING}{os.getpid()}")


def _twice(path: Path, work: Callable[[], None], staged: Path) -> None:
    """Do something that writes, and once more where the system refused it; nothing staged is left behind."""
    for last in (False, True):
        try:
            work()
            return
        except BaseException as error:
            _discard(staged)
            if not isinstance(error, OSError):
                raise
            if last:
                raise _refused(path, error) from error


def _make_folders(path: Path) -> None:
    """Make a folder and those above it, so that their names outlive a crash."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):
            disk.make_folder(one)
        _sync_folder(one.parent)


def _discard(path: Path) -> None:
    """Remove a file, or a folder with all in it, as far as the system lets us."""
    with contextlib.suppress(OSError):
        if not path.is_dir() or path.is_symlink():
            disk.remove(path)
            return
        for inner in path.iterdir():
            _discard(inner)
        disk.remove_folder(path)


def sha256(content: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _entry(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "sha256": sha256(content)}


def _sealed(value: Mapping[str, Any]) -> bytes:
    return json_bytes({**value, "seal": sha256(json_bytes(value))})


def _opened(path: Path) -> dict[str, Any]:
    """A sealed table whose seal holds."""
    try:
        content = path.read_bytes()
        value = json.loads(content)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
    if isinstance(value, dict):
        value.pop("seal", None)
        if _sealed(value) == content:
            return value
    raise RunError(f"{path} is damaged: it does not match its seal")


def _whole_lines(path: Path) -> None:
    """Raises RunError where a file of lines is not whole to its end, or lacks what the newest checkpoint has of it."""
    content = path.read_bytes()
    if len(parse_lines(content)) != content.count(b"\n") or content[-1:] not in (b"\n", b""):
        raise RunError(f"{path} is damaged: a line is torn or does not match its checksum")
    for step in steps_in(path.parent / "checkpoints")[:1]:
        with contextlib.suppress(OSError):
            if not content.startswith((path.parent / "checkpoints" / f"{step:06d}" / path.name).read_bytes()):
                raise RunError(f"{path} is damaged: it lacks lines that the newest checkpoint holds")


def _noted(path: Path, content: bytes) -> str | None:
    """The SHA-256 that a file had when it was written, as the manifests beside it tell; None where none lists it."""
    for manifest in (path.parent / KEPT / MANIFEST, path.parent / MANIFEST):
        if not manifest.is_file():
            continue
        try:
            entry = _opened(manifest).get(path.name)
        except RunError:
            copy = manifest.parent / path.name
            if manifest.parent != path.parent and copy.is_file() and copy.read_bytes() == content:
                return sha256(content)  # two that are equal are right, whatever is wrong with the list of them
            if manifest.parent != path.parent and not copy.is_file():
                continue
            raise
        if isinstance(entry, dict):
            return str(entry.get("sha256"))
    return None


def _refused(path: Path, error: OSError) -> RunError:
    reason = error.strerror or str(error)
    return RunError(f"{path} cannot be written: {reason}; free space or choose another folder with --out")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return _finite(value.item())
    return value
