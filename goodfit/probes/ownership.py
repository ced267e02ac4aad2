"""Who trains which parameter: the leaves of the loss's graph against what optimizers hold."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live

WALKS = 12
"""Backward passes whose graph is walked one by one; after them at every 50th step."""


@dataclass(frozen=True)
class Orphan:
    """A parameter that gets gradients, which no optimizer holds and nobody changes.

    name, shape; registered: whether a module that was called holds it. steps: in how many it was seen unchanged.
    stands_for: an optimizer holds a tensor of this shape that is in no module any more.
    """

    name: str
    shape: tuple[int, ...]
    registered: bool
    steps: int
    stands_for: bool


@dataclass(frozen=True)
class Idle:
    """A parameter that an optimizer holds and that never entered the graph. called: its module was run meanwhile."""

    name: str
    shape: tuple[int, ...]
    called: bool


@dataclass(frozen=True)
class Holding:
    """What one optimizer holds of the graph.

    where: the line that made it. steps: its own. held: parameters that it holds and that want gradients; of these
    ``used`` were in the graph at least once. frozen: parameters that it holds and that want none. leaves: parameters
    in the graph.
    """

    name: str
    where: str
    steps: int
    held: int
    used: int
    frozen: int
    leaves: int
    idle: tuple[Idle, ...]


class Ownership(Listener):
    """Records ``ownership.holdings`` (by optimizer) and ``ownership.orphans`` (by parameter)."""

    signals = ("ownership.holdings", "ownership.orphans")
    matters = True
    absent = "saw no step of an optimizer after a backward pass"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.made: weakref.WeakKeyDictionary[Optimizer, str] = weakref.WeakKeyDictionary()
        self.steps: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()
        self.seen: MutableMapping[Tensor, int] = WeakTensorKeyDictionary()
        self.sums: MutableMapping[Tensor, tuple[float, int]] = WeakTensorKeyDictionary()
        self.called: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.leaves: list[weakref.ref[Tensor]] = []
        self.walks = 0

    @override
    def optimizer_made(self, optimizer: Optimizer) -> None:
        self.made[optimizer] = str(self.live.where())

    @override
    def forward(self, module: nn.Module, inputs: tuple[object, ...], output: object, depth: int) -> None:
        if self.walks < WALKS:
            self.called.add(module)

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        self.walks += 1
        self.leaves = []
        if self.walks > WALKS and self.live.step % 50:
            return
        leaves = [leaf for leaf in leaves_of(roots) if isinstance(leaf, nn.Parameter)]
        for leaf in leaves:
            self.seen[leaf] = self.seen.get(leaf, 0) + 1
        self.leaves = [weakref.ref(leaf) for leaf in leaves]

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        count = self.steps[optimizer] = self.steps.get(optimizer, 0) + 1
        if not self.leaves and count <= WALKS:
            self.walks = 0  # an optimizer that begins late: its graphs are to be walked as well
        if not self.leaves or (count > WALKS and count % 50):
            return
        self.made.setdefault(optimizer, str(self.live.where()))
        holdings = self.live.values.setdefault("ownership.holdings", {})
        orphans = self.live.values.setdefault("ownership.orphans", {})
        held = [p for group in optimizer.param_groups for p in group["params"]]
        wanted = [p for p in held if p.requires_grad]
        used = [p for p in wanted if p in self.seen]
        idle = [] if count < 10 or not used else [p for p in wanted if p not in self.seen]
        leaves = [leaf for one in self.leaves if (leaf := one()) is not None]
        name = type(optimizer).__name__
        key = f"{name} {self.made[optimizer]}"
        holdings[key] = Holding(
            name,
            self.made[optimizer],
            count,
            len(wanted),
            len(used),
            len(held) - len(wanted),
            len(leaves),
            tuple(Idle(self.live.names.of(p), tuple(p.shape), self._was_called(p)) for p in idle[:20]),
        )
        self._orphans(leaves, orphans)

    def _orphans(self, leaves: list[Tensor], orphans: dict[int, Orphan]) -> None:
        every = [p for optimizer in self.made for group in optimizer.param_groups for p in group["params"]]
        owned = {id(p) for p in every}
        lost = Counter(tuple(p.shape) for p in every if p not in self.seen and not self.live.names.known(p))
        for leaf in leaves:
            if id(leaf) in owned:
                orphans.pop(id(leaf), None)
                continue
            with torch.no_grad():
                total = float(leaf.detach().double().sum())
            before, steps = self.sums.get(leaf, (total, 0))
            same = before == total or (before != before and total != total)
            self.sums[leaf] = (total, steps + 1 if same else -1_000_000)  # changed by hand: not an orphan, ever
            if same and leaf.grad is not None and steps >= 1:
                name = self.live.names.of(leaf)
                shape = tuple(leaf.shape)
                orphans[id(leaf)] = Orphan(name, shape, self.live.names.known(leaf), steps, lost[shape] > 0)

    def _was_called(self, parameter: Tensor) -> bool:
        return any(one is parameter for module in self.called for one in module._parameters.values())


def leaves_of(roots: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """The tensors in which back-propagation from these roots will leave gradients."""
    waiting = [root.grad_fn for root in roots if root.grad_fn is not None]
    known = set(waiting)
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)
        if variable is not None:
            yield variable
        for after, _ in node.next_functions:
            if after is not None and after not in known:
                known.add(after)
                waiting.append(after)
