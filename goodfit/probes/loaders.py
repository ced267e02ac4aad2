"""What loaders give: their order in each epoch, the labels of neighbours, samples trained and judged on."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, RandomSampler, SequentialSampler, Subset
from typing_extensions import override

from goodfit.observer.events import Listener
from goodfit.observer.live import Live

FIRST = 3
"""Batches at the start of an epoch that tell its order."""
ROWS = 4096
"""Training samples whose fingerprints are kept: of the first batches, then of every eighth."""
EACH = 64


@dataclass
class LoaderFacts:
    """What one loader did.

    where: the line that iterates it. batches: in an epoch, as its length says. trains: whether a backward pass
    followed its batches; judged: whether forward passes without gradients did. shuffles: whether its sampler says so;
    sequential: whether it is PyTorch's sequential sampler. orders: a fingerprint of the first batches of each epoch.
    begins: how often it was begun; singles: how often only its first batch was taken before it was begun again.
    labels: how many batches held one class only, of how many with labels, and how many classes there were.
    empty: how often it gave nothing. shared, compared: of what it judges, samples that were trained on.
    generators: random generators that its dataset holds, where several workers copy them.
    """

    where: str
    batches: int
    size: int
    shuffles: bool
    sequential: bool
    workers: int
    trains: bool = False
    judged: bool = False
    orders: list[tuple[float, ...]] = field(default_factory=list)
    begins: int = 0
    singles: int = 0
    single_steps: int = 0
    single_prints: list[float] = field(default_factory=list)
    pure: int = 0
    labelled: int = 0
    classes: int = 0
    turns: int = 0
    empty: int = 0
    shared: int = 0
    compared: int = 0
    by_index: bool = False
    generators: tuple[str, ...] = ()


@dataclass
class _State:
    prints: list[float] = field(default_factory=list)
    given: int = 0
    step: int = 0
    classes: set[int] = field(default_factory=set)
    last: int | None = None


class Loaders(Listener):
    """Records ``loaders``: ``LoaderFacts`` for each ``DataLoader`` that was iterated."""

    signals = ("loaders",)
    absent = "saw no DataLoader"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.facts: MutableMapping[Any, LoaderFacts] = weakref.WeakKeyDictionary()
        self.states: MutableMapping[Any, _State] = weakref.WeakKeyDictionary()
        self.now: weakref.ref[Any] | None = None
        self.trained: set[float] = set()
        self.rows: list[float] = []
        self.subsets: list[tuple[Callable[[], Any], frozenset[int]]] = []
        self.sources: list[Callable[[], Any]] = []
        self.fresh = False

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("batch", "backward", "before_forward") if self.facts else ())

    @override
    def loader_begins(self, loader: Any) -> None:
        facts = self.facts.get(loader)
        if facts is None:
            facts = self.facts[loader] = self._new(loader)
            self.live.values.setdefault("loaders", {})[len(self.facts)] = facts
        state = self.states.setdefault(loader, _State())
        if facts.begins and state.given == 1 and facts.batches > 1:
            facts.singles += 1
            facts.single_steps += self.live.step - state.step > 0
            facts.single_prints = [*facts.single_prints, *state.prints][-20:]
        if state.given >= min(FIRST, facts.batches) and len(facts.orders) < 5:
            facts.orders.append(tuple(state.prints))
        facts.begins += 1
        state.prints, state.given, state.step, state.last = [], 0, self.live.step, None

    @override
    def batch(self, loader: Any, number: int, batch: Any) -> None:
        self.now, self.fresh = weakref.ref(loader), True
        facts, state = self.facts.get(loader), self.states.get(loader)
        if facts is None or state is None:
            return
        state.given += 1
        if number < FIRST:
            state.prints.append(_fingerprint(batch))
        if facts.begins == 1 and facts.labelled < 30:
            self._labels(facts, state, batch)
        known = facts.begins > 1 or (facts.trains and len(self.trained) >= ROWS) or facts.compared >= 512
        known = known or (facts.trains and number > EACH and number % 8 > 0)
        self.rows = [] if known else _rows(batch)
        if facts.judged:
            self._compare(facts)

    def _compare(self, facts: LoaderFacts) -> None:
        if not facts.trains and not facts.by_index:
            facts.compared += len(self.rows)
            facts.shared += sum(row in self.trained for row in self.rows)
            self.rows = []

    @override
    def loader_ends(self, loader: Any, batches: int) -> None:
        facts = self.facts.get(loader)
        if facts is not None and batches == 0:
            facts.empty += 1

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        facts = self._current()
        if facts is None or not self.fresh:
            return
        if len(self.trained) < ROWS:
            self.trained.update(self.rows)
        self.rows = []
        if not facts.trains:
            facts.trains = True
            loader = self.now() if self.now is not None else None
            dataset = getattr(loader, "dataset", None)
            if isinstance(dataset, Subset):
                self.subsets.append((_weak(dataset.dataset), frozenset(map(int, dataset.indices))))
            self.sources.append(_weak(dataset))

    @override
    def before_forward(self, module: Any, inputs: tuple[Any, ...], depth: int) -> None:
        if depth or torch.is_grad_enabled() or not self.fresh:
            return
        facts = self._current()
        if facts is not None and not facts.trains and not facts.judged:
            facts.judged = True
            loader = self.now() if self.now is not None else None
            self._overlap(loader, facts)
            self._compare(facts)

    def _current(self) -> LoaderFacts | None:
        loader = None if self.now is None else self.now()
        return None if loader is None else self.facts.get(loader)

    def _overlap(self, loader: Any, facts: LoaderFacts) -> None:
        """Samples of two subsets of one dataset, compared by their numbers."""
        mine = loader.dataset
        if any(mine is source() for source in self.sources):
            facts.by_index = True  # judged on the training data itself, which is said openly
            return
        for whole, indices in self.subsets:
            if isinstance(mine, Subset) and mine.dataset is whole():
                facts.by_index = True
                facts.compared = len(mine.indices)
                facts.shared = max(facts.shared, len(indices & set(map(int, mine.indices))))

    def _labels(self, facts: LoaderFacts, state: _State, batch: Any) -> None:
        labels = _labels_of(batch)
        if labels is None or labels.numel() < 4:
            return
        distinct = sorted(set(labels.tolist()))
        state.classes.update(distinct)
        facts.classes = len(state.classes)
        facts.labelled += 1
        facts.pure += len(distinct) == 1

    def _new(self, loader: Any) -> LoaderFacts:
        sampler = getattr(loader, "sampler", None)
        try:
            batches = len(loader)
        except TypeError:  # a stream has no length
            batches = 0
        dataset: Any = getattr(loader, "dataset", None)
        workers = int(getattr(loader, "num_workers", 0))
        said = bool(getattr(sampler, "shuffle", False)) or isinstance(sampler, RandomSampler)
        held = _generators(dataset) if workers >= 2 and getattr(loader, "worker_init_fn", None) is None else ()
        size = len(dataset) if hasattr(dataset, "__len__") else 0
        return LoaderFacts(
            str(self.live.where()),
            batches,
            size,
            said,
            isinstance(sampler, SequentialSampler),
            workers,
            generators=held,
        )


def _weak(thing: Any) -> Callable[[], Any]:
    """A weak reference, or for things that allow none (lists) a function that gives nothing."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: None


def _tensors(batch: Any) -> Iterable[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, dict):
        for one in batch.values():
            yield from _tensors(one)
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        for one in batch:
            yield from _tensors(one)


def _fingerprint(batch: Any) -> float:
    """A number that differs between different batches; the order of rows counts."""
    total = 0.0
    for number, one in enumerate(_tensors(batch)):
        if one.numel() and not one.is_sparse:
            flat = one.detach().reshape(-1)[:4096].double()
            total += (number + 1) * float((flat * torch.arange(1, len(flat) + 1, dtype=torch.float64)).sum())
    return total


def _rows(batch: Any) -> list[float]:
    for one in _tensors(batch):
        if one.dim() >= 2 and one.is_floating_point():
            flat = one.detach().reshape(len(one), -1)[:, :512].double()
            weights = torch.arange(1, flat.shape[1] + 1, dtype=torch.float64).sqrt()
            return [float(v) for v in flat @ weights]
    return []


def _labels_of(batch: Any) -> Tensor | None:
    """The class labels of an ordinary ``(inputs, labels)`` batch."""
    if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) == 2:
        labels = batch[1]
        if isinstance(labels, Tensor) and labels.dim() == 1 and labels.dtype in (torch.int64, torch.int32):
            return labels
    return None


def _generators(dataset: Dataset[Any] | None) -> tuple[str, ...]:
    """Names of attributes of a dataset, and of what it holds, that are random generators of their own."""
    found: list[str] = []
    kinds = (np.random.Generator, np.random.RandomState, random.Random)
    for name, value in list(vars(dataset).items()) if dataset is not None and hasattr(dataset, "__dict__") else []:
        if isinstance(value, kinds):
            found.append(name)
        elif hasattr(value, "__dict__") and not isinstance(value, Tensor):
            found += [f"{name}.{inner}" for inner, one in list(vars(value).items()) if isinstance(one, kinds)]
    return tuple(found)
