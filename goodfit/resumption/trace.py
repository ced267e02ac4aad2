"""What a training process was at each optimizer step, as digests: written by the process itself, a line a step.

Nothing is drawn, changed or kept alive; the lines go to a folder that the asking process names, never to the program's.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import random
import signal
import sys
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from typing_extensions import override

from goodfit import store
from goodfit.observer.events import Listener, LossCall
from goodfit.observer.hooks import Hooks

VARIABLE = "GOODFIT_CHECK"
LINES = "steps.jsonl"


def digest(value: Any) -> str:
    """A short hash of tensors, arrays and plain values, however nested; equal only for equal bits.

    >>> digest({"a": torch.ones(2), "b": 1}) == digest({"b": 1, "a": torch.ones(2)})
    True
    >>> digest([1.0]) == digest([1.5])
    False
    """
    whole = hashlib.blake2b(digest_size=8)
    _feed(whole, value)
    return whole.hexdigest()


def _feed(whole: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        held = value.detach()
        held = held.to_dense() if held.layout != torch.strided else held
        whole.update(f"{held.dtype}{tuple(held.shape)}".encode())
        whole.update(held.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data if held.numel() else b"")
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            whole.update(repr(key).encode())
            _feed(whole, value[key])
    elif isinstance(value, list | tuple):
        whole.update(f"[{len(value)}]".encode())
        for one in value:
            _feed(whole, one)
    elif hasattr(value, "tobytes") and hasattr(value, "dtype"):
        whole.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif hasattr(value, "state_dict") and not isinstance(value, type):
        _feed(whole, value.state_dict())
    else:  # an object's own text may hold its address, so its kind alone counts
        plain = isinstance(value, int | float | str | bytes | bool | complex | None)
        whole.update(repr(value).encode() if plain else type(value).__name__.encode())


def generators() -> dict[str, str]:
    """Digests of the states of the random generators that are in use here."""
    found = {"python": digest(random.getstate()), "torch": digest(torch.get_rng_state())}
    if (numpy := sys.modules.get("numpy")) is not None:
        found["numpy"] = digest(list(numpy.random.get_state()))
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["cuda"] = digest(torch.cuda.get_rng_state_all())
    return found


class Trace(Listener):
    """Writes what each step began with, and what it came to.

    kill: after so many steps the whole process group is killed, before the next step or right after the last one
    (``after``). stop: after so many steps the process ends itself, as if it were done.
    """

    def __init__(self, folder: Path, *, kill: int | None, after: bool, stop: int | None) -> None:
        self.path, self.kill, self.after, self.stop = folder / LINES, kill, after, stop
        self.pid, self.steps = os.getpid(), 0
        self.optimizers: list[weakref.ref[Optimizer]] = []
        self.schedulers: list[weakref.ref[Any]] = []
        self.roots: list[weakref.ref[nn.Module]] = []
        self.averages: list[weakref.ref[Any]] = []
        self.scalers: list[weakref.ref[Any]] = []
        self.loader: Any = None
        self.begun: dict[str, Any] | None = None
        self.losses: list[str] = []
        self.targets: list[str] = []
        self.write("begin", generators=generators())

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("backward", "before_step", "after_step", "before_forward", "loss"))

    def write(self, kind: str, **values: Any) -> None:
        """Append a line; a forked child, which is another process, writes none."""
        if os.getpid() == self.pid:
            store.append_line(self.path, {"kind": kind, "step": self.steps, **values})

    @override
    def optimizer_made(self, optimizer: Optimizer) -> None:
        _add(self.optimizers, optimizer)

    @override
    def scheduler_made(self, scheduler: Any) -> None:
        _add(self.schedulers, scheduler)

    @override
    def scaler(self, scaler: Any, what: str, optimizer: Optimizer | None) -> None:
        _add(self.scalers, scaler)

    @override
    def loader_begins(self, loader: Any) -> None:
        if self.begun is None and torch.is_grad_enabled():
            self.loader = weakref.ref(loader)

    def averaged(self, average: Any) -> None:
        """An average of weights was brought up to date."""
        _add(self.averages, average)

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth or not torch.is_grad_enabled() or next(module.parameters(), None) is None:
            return
        _add(self.roots, module)
        if self.begun is None:
            self.begun = {**self.state(), "batch": digest(inputs)}

    def scales(self) -> dict[str, str]:
        """Digests of the loss scalers that this process has met."""
        return {str(k): digest(one) for k, one in enumerate(_alive(self.scalers))}

    def state(self) -> dict[str, Any]:
        """Everything that a resumed process must have put back, as far as it can be seen."""
        optimizers, roots = _alive(self.optimizers), _alive(self.roots)
        held = {id(p): p for one in optimizers for group in one.param_groups for p in group["params"]}
        kept: dict[str, list[Any]] = {}
        for one in optimizers:
            for group in one.param_groups:
                for parameter in group["params"]:
                    for name, value in sorted(one.state.get(parameter, {}).items()):
                        kept.setdefault(str(name), []).append(value)
        loader = self.loader() if self.loader is not None else None
        own = getattr(loader, "generator", None)
        return {
            "weights": digest(list(held.values())),
            "frozen": {_name(m): digest([p for p in m.parameters() if id(p) not in held]) for m in roots},
            "buffers": {_name(m): digest(list(m.buffers())) for m in roots},
            "optimizer": {name: digest(values) for name, values in kept.items()},
            "schedule": {f"{_name(s)} {k}": _schedule(s) for k, s in enumerate(_alive(self.schedulers))},
            "counts": [int(getattr(s, "last_epoch", 0)) for s in _alive(self.schedulers)],
            "average": {str(k): digest(list(a.parameters())) for k, a in enumerate(_alive(self.averages))},
            "generators": {**generators(), **({"loader": digest(own.get_state())} if own is not None else {})},
        }

    @override
    def loss(self, call: LossCall) -> None:
        if call.output.requires_grad:  # targets are not augmented as inputs are, so they tell which samples these are
            self.targets.append(digest(call.target))

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        self.losses += [repr(one.item()) if one.numel() == 1 else digest(one) for one in roots]

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        _add(self.optimizers, optimizer)
        if self.kill == self.steps and not self.after:
            self.die()
        values = self.begun or {**self.state(), "batch": ""}
        lr = [group["lr"] if not isinstance(group["lr"], Tensor) else group["lr"].item()
              for one in _alive(self.optimizers) for group in one.param_groups]  # fmt: skip
        values["scaler"] = self.scales()  # a process meets its scaler after the step has begun
        self.write("step", **values, lr=lr, losses=self.losses, targets=self.targets)
        self.begun, self.losses, self.targets = None, [], []

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        self.steps += 1
        if self.kill == self.steps and self.after:
            self.die()
        if self.stop == self.steps:
            self.end()
            sys.stdout.flush()
            os._exit(0)

    @override
    def saved(self, what: Any) -> None:
        known = (
            {"": what} if not isinstance(what, Mapping) or all(isinstance(v, Tensor) for v in what.values()) else what
        )
        self.write("saved", what={str(key): digest(value) for key, value in known.items()})

    def opened(self, path: str) -> None:
        """A file was opened for writing, in Python."""
        if self.steps and not path.endswith((".pyc", LINES)) and not path.startswith(("/dev/", "/proc/")):
            self.write("wrote")

    def end(self, why: str = "") -> None:
        """The last word. why: what kept this from being recorded to the end."""
        held = [p for one in _alive(self.optimizers) for group in one.param_groups for p in group["params"]]
        self.write("end", weights=digest(held), failed=why)

    def die(self) -> None:
        """As ``kill -9`` does it, workers and all."""
        os.killpg(os.getpgid(0), signal.SIGKILL)


def begin() -> None:
    """Called in a new interpreter when its first optimizer is built."""
    if os.environ.get("RANK", "0") != "0":
        return
    asked = json.loads(os.environ[VARIABLE])
    trace = Trace(
        Path(asked["folder"]) / str(os.getpid()), kill=asked["kill"], after=asked["after"], stop=asked["stop"]
    )
    hooks = Hooks([trace])
    hooks.install()
    update = AveragedModel.update_parameters

    def updated(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = update(self, *args, **kwargs)
        trace.averaged(self)
        return result

    AveragedModel.update_parameters = updated  # type: ignore[method-assign]

    def heard(event: str, words: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(words[0], str | os.PathLike) and words[2] & (os.O_WRONLY | os.O_RDWR):
            trace.opened(os.fsdecode(words[0]))

    sys.addaudithook(heard)
    atexit.register(lambda: trace.end("; ".join(f"{type(e).__name__}: {e}" for e in hooks.failed.values())))


def _add(held: list[weakref.ref[Any]], thing: Any) -> None:
    if all(one() is not thing for one in held):
        held.append(weakref.ref(thing))


def _alive(held: Iterable[weakref.ref[Any]]) -> list[Any]:
    return [thing for one in held if (thing := one()) is not None]


def _name(thing: Any) -> str:
    return type(thing).__name__


def _schedule(scheduler: Any) -> str:
    # `_last_lr` is what it gave the optimizer, which is looked at there.
    state = scheduler.state_dict()
    return digest({k: v for k, v in state.items() if not k.startswith("_") and not k.endswith("lambdas")})
