"""The only module that writes files: staged, fsynced, hashed, renamed into place, verified when read.

A file or folder under its final name is whole, or it is not there. A checkpoint is a folder whose ``MANIFEST.json``,
written last, holds the size and
SHA-256 of every other file in it. No pickle: tensors are safetensors, everything else is JSON.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor

from goodfit.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "MANIFEST.json"
_STAGING = ".staging-"


def write_file(path: Path, content: bytes) -> None:
    """Replace or make one file in one atomic step. Raises RunError with path and reason; the old file then stays."""
    staged = path.with_name(f".{path.name}{_STAGING}{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(staged, content)
        os.replace(staged, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)
        raise _refused(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON; numbers that are not finite become null, as JSON has none."""
    write_file(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Plain values as indented UTF-8 JSON."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"


def read_json(path: Path) -> Any:
    """Read JSON. Raises RunError naming the file."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from error


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
        safe = frame.map(lambda v: "'" + v if isinstance(v, str) and v[:1] in ("=", "+", "-", "@", "\t", "\r") else v)
        write_file(path, safe.to_csv(index=False).encode())
    else:
        raise RunError(f"{path}: write predictions to a .csv or .parquet file")


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one line of JSON and hand it to the system; a torn line at the end is ignored when read."""
    line = json.dumps(_finite(dict(value)), allow_nan=False)
    try:
        with path.open("ab") as file:
            file.write(line.encode() + b"\n")
    except OSError as error:
        raise _refused(path, error) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The longest valid prefix of a file of JSON lines; an empty list where there is none."""
    rows: list[dict[str, Any]] = []
    if not path.exists():
        return rows
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows


def cut_lines(path: Path, keep: int) -> None:
    """Keep the first ``keep`` lines: what a resumed run does with rows written after its checkpoint."""
    if not path.exists():
        return
    content = path.read_bytes()
    kept = content.split(b"\n")[: min(keep, len(read_lines(path)))]
    whole = b"".join(line + b"\n" for line in kept)
    if whole != content:
        write_file(path, whole)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files with its manifest, staged beside its place and renamed into it.

    An existing folder of that name is replaced. Raises RunError with path and reason; what stood there then stays.
    """
    staged = path.with_name(f".{path.name}{_STAGING}{os.getpid()}")
    needed = sum(map(len, files.values()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < needed + (1 << 20):
            raise OSError(errno.ENOSPC, f"{needed / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        manifest = {}
        for name, content in files.items():
            _write_synced(staged / name, content)
            manifest[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        _write_synced(staged / MANIFEST, json_bytes(manifest))
        _sync_folder(staged)
        if path.exists():
            old = path.with_name(f".{path.name}.old{_STAGING}{os.getpid()}")
            os.replace(path, old)
            os.replace(staged, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(staged, path)
        _sync_folder(path.parent)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise _refused(path, error) from error


def read_folder(path: Path) -> dict[str, bytes]:
    """Every file of a folder that ``write_folder`` wrote, checked against its manifest. Raises RunError when
    damaged."""
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict):
        raise RunError(f"{path / MANIFEST} is damaged: no table of files")
    files = {}
    for name, expected in manifest.items():
        if not isinstance(expected, dict) or Path(name).name != name:
            raise RunError(f"{path / MANIFEST} is damaged: {name!r} is no file of this folder")
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise RunError(f"{path / name} cannot be read: {error.strerror or error}") from error
        if len(content) != expected.get("size") or hashlib.sha256(content).hexdigest() != expected.get("sha256"):
            raise RunError(f"{path / name} is damaged: its content does not match the manifest")
        files[name] = content
    return files


def newest(folder: Path) -> tuple[int, dict[str, bytes], list[str]] | None:
    """The checkpoint with the highest step that is whole: ``(step, files, notes)``; None without one.

    A damaged one is set aside as ``.damaged`` and named in the notes.
    """
    notes: list[str] = []
    found = [(int(p.name), p) for p in folder.glob("*") if p.is_dir() and p.name.isdigit()] if folder.is_dir() else []
    for step, path in sorted(found, reverse=True):
        try:
            return step, read_folder(path), notes
        except RunError as error:
            aside = path.with_name(path.name + ".damaged")
            shutil.rmtree(aside, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.replace(path, aside)
            notes.append(f"checkpoint {step} is damaged and set aside as {aside.name}: {error}")
    return None


def prune(folder: Path, *, keep: int) -> None:
    """Remove all but the ``keep`` highest steps, and staging left by processes that died."""
    steps = sorted((int(p.name) for p in folder.glob("*") if p.name.isdigit()), reverse=True)
    for step in steps[keep:]:
        shutil.rmtree(folder / f"{step:06d}", ignore_errors=True)
    for left in folder.glob(f".*{_STAGING}*"):
        if left.name.rsplit("-", 1)[-1] != str(os.getpid()):
            shutil.rmtree(left, ignore_errors=True)


def probe(folder: Path) -> None:
    """Make the folder and prove that it can be written. Raises RunError with the reason at second zero."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(folder, error) from error
    test = folder / f".probe{_STAGING}{os.getpid()}"
    write_file(test, b"probe")
    with contextlib.suppress(OSError):
        test.unlink()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock of a process that is gone is taken over.

    Raises RunError when a live process on this machine, or any on another, holds it.
    """
    path = folder / "lock.json"
    mine = {"pid": os.getpid(), "boot": _boot(), "host": _host()}
    while True:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            owner = _owner(path)
            if owner is not None and _alive(owner):
                raise RunError(
                    f"{folder} is in use by process {owner.get('pid')} on {owner.get('host')}; "
                    f"wait for it, or choose another --out. If no such process runs, remove {path}"
                ) from None
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            continue
        except OSError as error:
            raise _refused(path, error) from error
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(mine).encode())
        break
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


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


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def _owner(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _alive(owner: Mapping[str, Any]) -> bool:
    if owner.get("host") != _host():
        return True  # another machine's process cannot be asked, so its lock is believed
    if owner.get("boot") != _boot() or owner.get("pid") == os.getpid():
        return False
    try:
        os.kill(int(owner.get("pid", 0)), 0)
    except (ProcessLookupError, ValueError, TypeError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _host() -> str:
    """A short digest of the machine's name: enough to tell machines apart, and not the name itself."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12]
