"""Which backward passes a step consumes: windows of micro-batches, what is cleared, how they are weighted."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from goodfit.observer.events import Listener, LossCall
from goodfit.observer.live import Live

WINDOWS = 300
"""Steps of each optimizer that are looked at."""


@dataclass(frozen=True)
class Micro:
    """One backward pass.

    where: its line. divisor: what the loss was divided by, 0 where that cannot be read. mean: whether it comes from
    one call of a loss that takes a mean. valid, given: targets that count and targets in all, 0 where none are ignored.
    fresh: whether a loader had given a new batch before it.
    """

    where: str
    divisor: float
    mean: bool
    valid: int
    given: int
    fresh: bool


@dataclass(frozen=True)
class Window:
    """The backward passes, all at one line, that one step consumed.

    wasted: backward passes at the same line that were cleared since the step before, each
    from a new batch where loaders give them. scaled_later: whether the
    gradients were changed by hand before the step.
    """

    where: str
    size: int
    wasted: int
    divisors: tuple[float, ...]
    mean: bool
    valid: tuple[int, ...]
    given: tuple[int, ...]
    fresh: bool
    scaled_later: bool


@dataclass
class AccumulationFacts:
    """The windows of one optimizer. cleared_where: the line that cleared what was never used; tails: sizes of windows
    that were cleared, unused, after a loader had run out."""

    name: str
    windows: list[Window] = field(default_factory=list)
    cleared_where: str = ""
    tails: list[int] = field(default_factory=list)

    @property
    def usual(self) -> int:
        """The size that most windows have."""
        sizes = [one.size for one in self.windows]
        return max(set(sizes), key=sizes.count) if sizes else 0


class _Open:
    """What is pending for one optimizer."""

    def __init__(self) -> None:
        self.micros: list[Micro] = []
        self.wasted: list[Micro] = []
        self.ended = False
        self.clips = 0
        self.version = -1
        self.weights = -1


class Accumulation(Listener):
    """Records ``accumulation``: ``AccumulationFacts`` for each optimizer."""

    signals = ("accumulation",)
    matters = True
    absent = "saw no optimizer step"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.open: MutableMapping[Optimizer, _Open] = weakref.WeakKeyDictionary()
        self.facts: MutableMapping[Optimizer, AccumulationFacts] = weakref.WeakKeyDictionary()
        self.calls: list[tuple[bool, int, int]] = []
        self.fresh = False
        self.scaled = False
        self.loaders = False
        self.inside: Optimizer | None = None

    @property
    @override
    def always(self) -> frozenset[str]:
        """Everything, in programs that accumulate; nothing more in others."""
        several = any(one.usual > 1 or any(w.wasted for w in one.windows) for one in self.facts.values())
        looks = several and self._looks()
        names = ("zero_grad", "backward", "after_backward", "before_step", "after_step", "loss", "clip", "batch")
        return frozenset(names if looks else ())

    @override
    def woken(self) -> None:
        if not self.always:
            self.calls = []
            for one in self.open.values():
                one.micros, one.wasted, one.ended = [], [], False

    @override
    def optimizer_made(self, optimizer: Optimizer) -> None:
        self.open[optimizer] = _Open()

    @override
    def batch(self, loader: Any, number: int, batch: Any) -> None:
        self.fresh = self.loaders = True

    @override
    def loader_ends(self, loader: Any, batches: int) -> None:
        for one in self.open.values():
            one.ended = bool(one.micros)

    @override
    def loss(self, call: LossCall) -> None:
        if len(self.calls) > 20 or not isinstance(call.output, Tensor) or not call.output.requires_grad:
            return
        mean = call.options.get("reduction", "mean") == "mean" and call.output.numel() == 1
        valid = given = 0
        if call.name in ("cross_entropy", "nll_loss") and not call.target.is_floating_point() and self._looks():
            given = call.target.numel()
            valid = int((call.target != int(call.options.get("ignore_index", -100))).sum())
        self.calls.append((mean, valid, given))

    @override
    def scaler(self, scaler: Any, what: str, optimizer: Optimizer | None) -> None:
        self.scaled = self.scaled or bool(scaler.is_enabled())

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        calls, self.calls = self.calls, []
        fresh, self.fresh = self.fresh, False
        if self.inside is not None or not self._looks():
            return
        divisor = _divisor(roots[0]) if len(roots) == 1 and not self.scaled else 0.0
        mean = len(calls) == 1 and calls[0][0]
        valid, given = calls[0][1:] if len(calls) == 1 else (0, 0)
        micro = Micro(str(self.live.where()), divisor, mean, valid, given, fresh)
        for one in self.open.values():
            one.micros.append(micro)

    @override
    def after_backward(self, roots: tuple[Tensor, ...]) -> None:
        for optimizer, one in self.open.items():
            if len(one.micros) == 1:
                one.weights = _weights(optimizer)
            if len(one.micros) > 1:
                one.version, one.clips = _version(optimizer), 0

    @override
    def clip(self, parameters: list[Tensor], kind: str, limit: float, norm: Tensor | None) -> None:
        for one in self.open.values():
            one.clips += 1

    @override
    def zero_grad(self, owner: Optimizer | nn.Module) -> None:
        if self.inside is not None:
            return
        for optimizer, one in self.open.items():
            if not one.micros or (owner is not optimizer and not _owns(owner, optimizer)):
                continue
            facts = self.facts.get(optimizer)
            if not self.scaled and facts is not None and one.ended and len({m.where for m in one.micros}) == 1:
                facts.tails.append(len(one.micros))
                facts.cleared_where = str(self.live.where())
            elif one.weights != _weights(optimizer):
                pass  # something used them by hand: sharpness-aware steps move the weights there and back
            elif not self.scaled and len(one.wasted) < 100:
                one.wasted += one.micros
                if facts is None or len(facts.windows) < 20:
                    self._facts(optimizer).cleared_where = str(self.live.where())
            one.micros, one.ended = [], False

    def _facts(self, optimizer: Optimizer) -> AccumulationFacts:
        if optimizer not in self.facts:
            self.facts[optimizer] = AccumulationFacts(type(optimizer).__name__)
            self.live.values.setdefault("accumulation", {})[len(self.facts)] = self.facts[optimizer]
        return self.facts[optimizer]

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        self.inside = optimizer
        one = self.open.setdefault(optimizer, _Open())
        facts = self._facts(optimizer)
        lines = {m.where for m in one.micros}
        if len(lines) == 1 and len(facts.windows) < WINDOWS:
            line = next(iter(lines))
            later = len(one.micros) > 1 and _version(optimizer) - one.version > one.clips + self.scaled
            facts.windows.append(
                Window(
                    line,
                    len(one.micros),
                    sum(m.where == line and m.fresh >= self.loaders for m in one.wasted),
                    tuple(m.divisor for m in one.micros),
                    all(m.mean for m in one.micros),
                    tuple(m.valid for m in one.micros),
                    tuple(m.given for m in one.micros),
                    all(m.fresh for m in one.micros),
                    later,
                )
            )
        one.micros, one.wasted, one.ended = [], [], False

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        self.inside = None
        self.open[optimizer].micros = []

    def _looks(self) -> bool:
        return any(len(one.windows) < WINDOWS for one in self.facts.values()) or not self.facts


def _parameters(owner: Optimizer | nn.Module) -> Iterator[Tensor]:
    if isinstance(owner, Optimizer):
        for group in owner.param_groups:
            yield from group["params"]
    else:
        yield from owner.parameters()


def _owns(owner: Optimizer | nn.Module, optimizer: Optimizer) -> bool:
    """Whether clearing the owner's gradients clears this optimizer's."""
    first = next((p for p in _parameters(optimizer) if p.requires_grad), None)
    return first is not None and any(p is first for p in _parameters(owner))


def _version(optimizer: Optimizer) -> int:
    return next((p.grad._version for p in _parameters(optimizer) if p.grad is not None), 0)


def _weights(optimizer: Optimizer) -> int:
    return next((p._version for p in _parameters(optimizer) if p.requires_grad), 0)


def _divisor(root: Tensor) -> float:
    """What a loss was divided by last: 1 where it is a loss function's own output, 0 where that cannot be read."""
    node = root.grad_fn
    name = "" if node is None else node.name()
    other = getattr(node, "_saved_other", None) if name in ("DivBackward0", "MulBackward0") else None
    if other is not None and other.numel() == 1:
        value = float(other)
        return 0.0 if value == 0 else value if name == "DivBackward0" else 1 / value
    return 1.0 if name.startswith(("NllLoss", "MseLoss", "BinaryCrossEntropy", "SmoothL1", "HuberLoss")) else 0.0
