"""Whether graphs of losses live on after their step: something of the program holds them, and memory grows."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live

LOOKS = (40, 100, 200)


@dataclass(frozen=True)
class Kept:
    """Of the last ``of`` losses at one line that were back-propagated and stepped on, how many graphs are alive."""

    where: str
    alive: int
    of: int


class _Life:
    """Put on the last node of a graph; gone when the node is."""


class Graphs(Listener):
    """Records ``graphs.kept``: ``Kept`` for each line that calls ``backward``."""

    signals = ("graphs.kept",)
    matters = True
    absent = "saw fewer than 40 backward passes at a line"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.lives: dict[str, list[tuple[weakref.ref[_Life], int]]] = {}

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("backward",) if any(len(one) < LOOKS[-1] for one in self.lives.values()) else ())

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        node = roots[0].grad_fn if len(roots) == 1 else None
        if node is None:
            return
        where = str(self.live.where())
        held = self.lives.setdefault(where, [])
        if len(held) >= LOOKS[-1] or len(self.lives) > 20:
            return
        life = _Life()
        node.metadata["goodfit"] = life  # type: ignore[index]
        held.append((weakref.ref(life), self.live.step))
        if len(held) in LOOKS:
            earlier = [ref for ref, step in held[-40:-2] if step < self.live.step]
            kept = Kept(where, sum(ref() is not None for ref in earlier), len(earlier))
            self.live.values.setdefault("graphs.kept", {})[where] = kept
