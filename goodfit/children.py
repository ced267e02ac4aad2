"""Reaching the processes that a watched program starts: ``torchrun``, ``mp.spawn``, ``subprocess``, ``fork``.

New interpreters find our ``sitecustomize`` on PYTHONPATH, which starts a watch when the first optimizer is built: a
process that builds none, such as a loader's worker, pays nothing. Forked ones have the watch already. Each hands back a
JSON file in a folder that an environment variable names.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import current_process, util
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from goodfit import store
from goodfit.check import Log, run_rules
from goodfit.observer.events import Listener
from goodfit.probes.replicas import Replica
from goodfit.rules.live import REPLICA_RULES
from goodfit.types import Finding
from goodfit.watching import Watch

VARIABLE = "GOODFIT_CHECK"
SITE = Path(__file__).parent / "observer" / "site"


@dataclass(frozen=True)
class Others:
    """What child processes told, merged: a finding of several is one, and its evidence names them."""

    findings: tuple[Finding, ...] = ()
    not_checked: tuple[tuple[str, str], ...] = ()
    steps: int = 0
    stopped: bool = False


class Limit(Listener):
    """Ends the process by this exception after so many steps."""

    def __init__(self, watch: Watch, steps: int, end: type[BaseException]) -> None:
        self.watch, self.steps, self.end = watch, steps, end

    @override
    def after_step(self, optimizer: object) -> None:
        if self.watch.live.step >= self.steps:
            raise self.end


@contextlib.contextmanager
def reached(watch: Watch, *, steps: int | None, ignore: Sequence[str]) -> Iterator[Callable[[], Others]]:
    """Inside, processes that are started are watched too; the function that is given collects what they told."""
    folder = Path(tempfile.mkdtemp(prefix="goodfit-"))
    asked = {"folder": str(folder), "package": str(SITE.parents[2]), "steps": steps, "ignore": list(ignore)}
    paths = os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH"))))
    before = {name: os.environ.get(name) for name in (VARIABLE, "PYTHONPATH")}
    os.environ |= {VARIABLE: json.dumps(asked), "PYTHONPATH": paths}
    util.register_after_fork(watch, lambda held: _forked(held, folder))
    try:
        yield lambda: collected(folder)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


def collected(folder: Path) -> Others:
    """Merge what processes have written into this folder."""
    found: dict[tuple[str, str], tuple[Finding, list[str]]] = {}
    missing: list[tuple[str, str]] = []
    steps, stopped = 0, False
    replicas: list[Replica] = []
    for mark in sorted(folder.iterdir(), key=lambda p: (len(p.name), p.name)):
        try:
            told = store.read_json(mark / "told.json")
            name, findings = told["name"], [Finding(**{**f, "folded": tuple(f["folded"])}) for f in told["findings"]]
        except Exception:  # a child that was killed while it wrote, or could not import what it needs
            missing.append(("child processes", f"process {mark.name} built an optimizer, but could not be watched"))
            continue
        if told.get("replica"):
            sums = {int(step): total for step, total in told["replica"]["sums"].items()}
            replicas.append(Replica(**{**told["replica"], "sums": sums}))
        for one in findings:
            found.setdefault((one.rule, one.where), (one, []))[1].append(name)
        missing += [(rule, why) for rule, why in told["not_checked"] if (rule, why) not in missing]
        if not told["ended"]:
            missing.append(("child processes", f"{name} ended without a last word, after step {told['steps']:,}"))
        steps, stopped = max(steps, told["steps"]), stopped or told["stopped"]
    named = (replace(one, evidence={**one.evidence, "in": ", ".join(names)}) for one, names in found.values())
    merged, known = list(named), {one.rule for one, _ in found.values()}
    if len(replicas) > 1:
        told_apart = run_rules(REPLICA_RULES, Log({"replicas": replicas}))
        followed = {rule.name for rule in REPLICA_RULES if known & set(rule.follows)}
        merged += [one for verdict in told_apart if verdict.name not in followed for one in verdict.findings]
    return Others(tuple(merged), tuple(missing), steps, stopped)


class _Stop(SystemExit):
    """Ends a child after the steps that were asked for, as a success."""

    code = 0


class _Messenger:
    """Writes what a child's watch has found: at every finding, and at the end."""

    def __init__(self, watch: Watch, folder: Path, *, steps: int | None) -> None:
        self.watch, self.folder, self.steps = watch, folder, steps
        self.first, self.inherited = watch.live.step, set(watch._first)
        self.ended, self.name = False, ""

    def write(self, *_: Any) -> None:
        """Everything known so far takes the place of what was written before."""
        steps = self.watch.live.step - self.first
        findings = [f for f in self.watch.findings if (f.rule, f.where) not in self.inherited]
        self.name = _rank() or self.name  # at the end the process group may be gone, and with it the rank
        told = {
            "name": self.name or f"process {os.getpid()}",
            "findings": [asdict(f) for f in findings],
            "not_checked": self.watch.not_checked,
            "steps": steps,
            "stopped": self.steps is not None and steps >= self.steps,
            "ended": self.ended,
            "replica": asdict(replica) if (replica := self.watch.live.values.get("replica")) is not None else None,
        }
        store.write_json(self.folder / str(os.getpid()) / "told.json", told)

    def end(self) -> None:
        """Once: ask the rules a last time, and write."""
        if self.ended or self.watch.live.step == self.first:
            return
        self.ended = True
        with contextlib.suppress(Exception):  # nothing of ours may make the user's process fail
            self.watch.__exit__(None, None, None)
            self.write()


def begin() -> None:
    """Called in a new interpreter when its first optimizer is built."""
    asked = json.loads(os.environ[VARIABLE])
    watch = Watch(ignore=asked["ignore"])
    folder = Path(asked["folder"])
    messenger = _Messenger(watch, folder, steps=asked["steps"])
    watch.say = messenger.write
    if asked["steps"] is not None:
        watch.hooks.listeners.append(Limit(watch, asked["steps"], _Stop))
    watch.hooks.install()
    util.register_after_fork(watch, lambda held: _forked(held, folder))
    atexit.register(messenger.end)
    util.Finalize(None, messenger.end, exitpriority=100)  # processes of multiprocessing know no atexit


def _forked(watch: Watch, folder: Path) -> None:
    """Called in a process that multiprocessing has forked, which inherits the watch."""
    if getattr(getattr(current_process(), "_target", None), "__name__", "") == "_worker_loop":
        watch.hooks.remove()
        return
    limits = [one for one in watch.hooks.listeners if isinstance(one, Limit)]
    for one in limits:
        one.end = _Stop
    messenger = _Messenger(watch, folder, steps=limits[0].steps if limits else None)
    watch.say = messenger.write
    util.Finalize(None, messenger.end, exitpriority=100)


def _rank() -> str:
    rank = os.environ.get("RANK")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank = str(torch.distributed.get_rank())
    return "" if rank is None else f"rank {rank}"


__all__ = ["Limit", "Others", "begin", "collected", "reached"]
