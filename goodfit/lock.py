"""Two processes in one run folder are told apart; the lock of one that died is taken over."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from goodfit import store
from goodfit.errors import RunError

LOCK = "lock.json"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock of a process that is gone is taken over.

    The lock names its owner by process number, the time at which that process began, the machine's boot and its host
    name; so a number that was given out again, or the same number after a restart, is not taken for the owner.
    Looking and taking are one step: of many processes that find a dead owner's lock, one gets it.
    Raises RunError when a live process on this machine, or any on another, holds it.
    """
    path = folder / LOCK
    mine = _me()
    with _alone(folder):
        owner = _owner(path)
        if owner is not None and _alive(owner):
            raise RunError(
                f"{folder} is in use by process {owner.get('pid')} on {owner.get('host')}; "
                f"wait for it, or choose another --out. If no such process runs, remove {path}"
            )
        store.write_json(path, mine)
    try:
        yield
    finally:
        with _alone(folder), contextlib.suppress(OSError):
            if _owner(path) == mine:
                path.unlink()


def held(folder: Path) -> bool:
    """Whether a live process holds a run folder, this one included."""
    owner = _owner(folder / LOCK)
    return owner is not None and _alive(owner)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process on this machine at a time; the system frees this lock of a process that ends in any way."""
    handle = None
    try:
        with contextlib.suppress(OSError):  # a file system without such locks: then there is the lock's own file only
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _owner(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _me() -> dict[str, Any]:
    return {"pid": os.getpid(), "began": _began(os.getpid()), "boot": _boot(), "host": _host()}


def _alive(owner: Mapping[str, Any]) -> bool:
    if owner.get("host") != _host():
        return True  # another machine's process cannot be asked, so its lock is believed
    pid = owner.get("pid")
    if owner.get("boot") != _boot() or not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return False
    return store.running(pid) and owner.get("began") == _began(pid)


def _began(pid: int) -> int | None:
    """When a process began, in clock ticks since the boot; None where the system does not tell, -1 for a dead one that
    its parent has not taken notice of."""
    try:
        # The second field, the program's name in brackets, may hold spaces: count from the last bracket.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _host() -> str:
    """A short digest of the machine's name: enough to tell machines apart, and not the name itself."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12]
