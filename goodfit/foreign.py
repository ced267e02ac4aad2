"""Weights in files of others: safetensors, or a ``.pt`` file read in a process of its own that can do nothing else.

A ``.pt`` file is a pickle, and a pickle is a program. ``as_safetensors`` lets PyTorch's reader that takes tensors and
nothing else look at it (``weights_only=True``; PyTorch 2.10 or newer, since older ones had holes), after the sizes that
its zip declares were checked, in a child process with limits of memory, time and an audit hook that refuses to start
programs or open connections. What the file wanted is named; there is no second, laxer try.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from goodfit.errors import ModelError
from goodfit.visible import visible

SECONDS = 120
PICKLE = 1 << 26
"""Bytes of the pickle itself at most: it holds names and shapes, no numbers."""
_INSIDE = ("state_dict", "model_state_dict", "model", "module")
_FORBIDDEN = (
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.spawn",
    "socket.",
    "pty.",
    "shutil.",
)


def as_safetensors(path: Path, out: Path, *, seconds: int = SECONDS) -> None:
    """Write the tensors of a ``.pt``, ``.pth`` or ``.bin`` file to ``out`` as safetensors.

    seconds: after which the child is ended. Raises ModelError, naming what was refused, where the file holds more than
    tensors, is damaged, declares other sizes than it has, or needs more than its limits.
    """
    name = visible(str(path), keep="")
    problem = declared_problem(path)
    if problem:
        raise ModelError(f"{name} is not read: {problem}; ask for the weights as safetensors")
    command = [sys.executable, "-P", "-m", "goodfit.foreign", str(path), str(out), str(seconds)]
    quiet = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, env={**os.environ, **quiet}, check=False)
        told = (
            json.loads(done.stdout.splitlines()[-1])["refused"] if done.stdout else f"its reader ended ({_end(done)})"
        )
    except subprocess.TimeoutExpired:
        told = f"reading it took more than {seconds} s"
    except (ValueError, KeyError, TypeError):
        told = "its reader gave no answer"
    if told:
        out.unlink(missing_ok=True)
        raise ModelError(f"{name} is not read: {visible(str(told), keep='')[:300]}; ask for the weights as safetensors")


@contextmanager
def safe_copy(pickled: Path, config: Path) -> Iterator[Path]:
    """A folder, for as long as it is wanted, with the tensors of a pickle as safetensors, and the model's config.json.

    Raises ModelError where the pickle is refused.
    """
    with tempfile.TemporaryDirectory(prefix="goodfit-") as folder:
        as_safetensors(pickled, Path(folder) / "model.safetensors")
        (Path(folder) / "config.json").write_bytes(config.read_bytes())
        yield Path(folder)


def declared_problem(path: Path) -> str:
    """What speaks against a ``.pt`` file before any of it is read, from its zip's own list; else an empty text."""
    try:
        if not path.is_file():
            return "it is no file"
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        return "it is no zip archive, as PyTorch writes since 2020, or it is damaged"
    names = [one.filename for one in members]
    pickles = [one for one in members if one.filename.endswith("data.pkl")]
    if len(set(names)) < len(names):
        return "its zip holds two files of one name"
    if any(one.compress_type != zipfile.ZIP_STORED for one in members):
        return "its zip is compressed, which PyTorch's never is"
    if sum(one.file_size for one in members) > path.stat().st_size:
        return "its zip declares more bytes than the file has"
    if any("/code/" in one or one.endswith("constants.pkl") for one in names):
        return "it is a TorchScript program"
    if len(pickles) != 1:
        return "its zip holds no data.pkl, so it is no file of torch.save"
    return "its pickle takes more than 64 MiB" if pickles[0].file_size > PICKLE else ""


def _end(done: subprocess.CompletedProcess[bytes]) -> str:
    return f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"


def _read(path: Path, out: Path, seconds: int) -> str:
    """In the child: read, write, and say what was refused; an empty text if nothing."""
    version = tuple(int(one) for one in re.findall(r"\d+", torch.__version__)[:2])
    if version < (2, 10):
        return f"PyTorch {torch.__version__} reads such files unsafely; install 2.10 or newer"
    size = path.stat().st_size
    _limit(seconds, 4 * size + (1 << 28))
    sys.addaudithook(_refuse)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        return "it needs more memory than its size allows"
    except Exception as error:  # damage has many names
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted:
            return f"it wants {wanted.group(1)}, and nothing but tensors is taken"
        return f"it is damaged or holds more than tensors ({type(error).__name__}: {str(error).splitlines()[0][:120]})"
    for key in _INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        return f"it holds a {type(found).__name__}, where names and tensors are wanted"
    for name, value in found.items():
        what = type(value).__name__
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            return f"{str(name)[:80]!r} is a {what}, where names and tensors are wanted"
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            return f"{name[:80]!r} is no plain tensor (sparse, quantised or without numbers)"
    if sum(value.numel() * value.element_size() for value in found.values()) > 4 * size:
        return "its tensors are larger than the file, so they share their numbers"
    plain = {name: value.detach().contiguous().clone() for name, value in found.items()}
    out.write_bytes(safetensors.torch.save(plain))
    return ""


def _limit(seconds: int, memory: int) -> None:
    """Cap this process: processor seconds, and memory beyond what it holds already."""
    status = Path("/proc/self/statm")
    if status.exists():
        held = int(status.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def _refuse(event: str, arguments: Any) -> None:
    if event.startswith(_FORBIDDEN):
        raise RuntimeError(f"{event} is refused while weights are read")


if __name__ == "__main__":
    source, target, limit = sys.argv[1:]
    try:
        answer = _read(Path(source), Path(target), int(limit))
    except (MemoryError, RuntimeError, OSError) as problem:
        answer = f"it needs more than its size allows ({type(problem).__name__})"
    print(json.dumps({"refused": answer}))
