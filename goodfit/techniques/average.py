"""Averages of the weights over the last part of the run, which predict better than the last weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from goodfit.technique import Chance, Count, Duration, Span, technique
from goodfit.types import Moment


class Averager(Protocol):
    """Averaged weights beside a model that trains."""

    def update(self, model: nn.Module, moment: Moment) -> None:
        """Take in the weights after this step."""

    def copy_to(self, model: nn.Module) -> None:
        """Write the averaged weights into a model."""

    def applied(self, model: nn.Module) -> AbstractContextManager[object]:
        """Inside, the model holds the averaged weights; afterwards its own again."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that resuming needs."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved state."""


@technique("average", name="none")
class NoAverage:
    """The last weights, as they are."""

    def build(self, model: nn.Module) -> Averager:
        """An averager that does nothing."""
        return Nothing()


@technique("average")
class Ema:
    """An exponential moving average of the weights.

    Formula: ``a <- d a + (1 - d) w`` every ``every`` steps, ``d = min(decay, (1 + n) / (10 + n))`` at the n-th update
        with ``warmup``.
    Source: Polyak and Juditsky, 1992; the warm-up: TensorFlow's ``ExponentialMovingAverage``, 2015.
    Ours: in place, one fused kernel for all weights. Floating-point buffers (running statistics of batch norm) are
        averaged as well, whole-number ones are copied; for exact statistics estimate them anew.
    Helps: nearly always a little, most at high learning rates; validation curves become smooth. Hurts: a decay too
        slow for the run keeps the first weights in it: the memory is about ``every / (1 - decay)`` steps.
    """

    decay: Chance = 0.999
    every: Count = 1
    warmup: bool = True

    def build(self, model: nn.Module) -> Averager:
        """An averager that starts from the model's weights; call it after moving the model to its device."""
        return MovingAverage(model, decay=self.decay, every=self.every, warmup=self.warmup)


@technique("average")
class Swa:
    """The plain mean of the weights over the last part of the run.

    Formula: ``a <- a + (w - a) / n`` at the end of every ``every``, from ``start`` on.
    Source: Izmailov et al., 2018 (SWA).
    Ours: before ``start`` the average is the model itself. Use it with a learning rate that does not fall to zero.
    Helps: constant or cyclic rates. Hurts: batch-norm statistics are those of the mean of buffers; estimate them anew.
    """

    start: Span = Duration(amount=75, unit="percent")
    every: Span = Duration(amount=1, unit="epochs")

    def build(self, model: nn.Module) -> Averager:
        """An averager that is empty until ``start``."""
        return WindowAverage(model, start=self.start, every=self.every, window=0)


@technique("average")
class Lawa:
    """The mean of the last ``window`` snapshots of the weights.

    Formula: ``a = (w_1 + ... + w_k) / k`` over the snapshots at the last k multiples of ``every``.
    Source: Kaddour, 2022 (latest weight averaging).
    Helps: long runs at high rates, with curves ahead of the run itself. Hurts: holds ``window`` copies in memory.
    """

    window: Count = 5
    every: Span = Duration(amount=1, unit="epochs")

    def build(self, model: nn.Module) -> Averager:
        """An averager that is empty until the first snapshot."""
        return WindowAverage(model, start=Duration(amount=0, unit="steps"), every=self.every, window=self.window)


ALL = (NoAverage, Ema, Swa, Lawa)


class Nothing:
    """No averaging."""

    def update(self, model: nn.Module, moment: Moment) -> None:
        """Nothing."""

    def copy_to(self, model: nn.Module) -> None:
        """Nothing."""

    def applied(self, model: nn.Module) -> AbstractContextManager[object]:
        """Nothing."""
        return nullcontext()

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing."""


class MovingAverage:
    """The exponential moving average that ``Ema`` describes."""

    def __init__(self, model: nn.Module, *, decay: float, every: int = 1, warmup: bool = True) -> None:
        self.decay, self.every, self.warmup, self.count = decay, every, warmup, 0
        self.mean, self.copied = _copies(model)
        self._live: tuple[nn.Module, list[Tensor], list[Tensor]] | None = None

    @torch.no_grad()
    def update(self, model: nn.Module, moment: Moment) -> None:
        """Take in the weights after the step of this moment."""
        if (moment.step + 1) % self.every:
            return
        if self._live is None or self._live[0] is not model:
            self._live = (model, *_live(model))
        _, floats, others = self._live
        keep = min(self.decay, (1 + self.count) / (10 + self.count)) if self.warmup else self.decay
        torch._foreach_lerp_(list(self.mean.values()), floats, 1 - keep)
        if others:
            torch._foreach_copy_(list(self.copied.values()), others)
        self.count += 1

    def copy_to(self, model: nn.Module) -> None:
        """Write the averaged weights into a model."""
        _write(model, self.mean, self.copied)

    def applied(self, model: nn.Module) -> AbstractContextManager[object]:
        """Inside, the model holds the averaged weights; afterwards its own again."""
        return _swapped(model, {**self.mean, **self.copied})

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by name, and the number of updates."""
        return {**self.mean, **self.copied, "average.count": torch.tensor(self.count)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved state, in place."""
        _restore(self.mean, state)
        _restore(self.copied, state)
        self.count = int(state["average.count"])


class WindowAverage:
    """The mean of snapshots: of all since ``start`` (``window`` 0), or of the last ``window``."""

    def __init__(self, model: nn.Module, *, start: Duration, every: Duration, window: int) -> None:
        self.start, self.every, self.window, self.count = start, every, window, 0
        self.mean, self.copied = _copies(model)
        self.snapshots: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def update(self, model: nn.Module, moment: Moment) -> None:
        """Take a snapshot where this moment ends one ``every`` after ``start``, or is the last of the run."""
        done = moment.step + 1
        every = max(self.every.steps(moment.total, moment.steps_per_epoch), 1)
        last = done == moment.total and self.count == 0
        if done <= self.start.steps(moment.total, moment.steps_per_epoch) or (done % every and not last):
            return
        floats, others = _live(model)
        mean = list(self.mean.values())
        if self.window:
            self.snapshots = [*self.snapshots, dict(zip(self.mean, map(torch.clone, floats), strict=True))][
                -self.window :
            ]
            for name, average in self.mean.items():
                average.copy_(torch.stack([one[name] for one in self.snapshots]).mean(0))
        else:
            torch._foreach_lerp_(mean, floats, 1 / (self.count + 1))
        if others:
            torch._foreach_copy_(list(self.copied.values()), others)
        self.count += 1

    def copy_to(self, model: nn.Module) -> None:
        """Write the averaged weights into a model; nothing before the first snapshot."""
        if self.count:
            _write(model, self.mean, self.copied)

    def applied(self, model: nn.Module) -> AbstractContextManager[object]:
        """Inside, the model holds the averaged weights; afterwards its own again. Nothing before the first snapshot."""
        return _swapped(model, {**self.mean, **self.copied}) if self.count else nullcontext()

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by name, the number of snapshots, and the snapshots of a window."""
        kept = {f"average.{i}.{k}": v for i, one in enumerate(self.snapshots) for k, v in one.items()}
        return {**self.mean, **self.copied, **kept, "average.count": torch.tensor(self.count)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved state, in place."""
        _restore(self.mean, state)
        _restore(self.copied, state)
        self.count = int(state["average.count"])
        held = min(self.count, self.window)
        self.snapshots = [
            {name: state[f"average.{i}.{name}"].to(mean.device, copy=True) for name, mean in self.mean.items()}
            for i in range(held)
        ]


@torch.no_grad()
def refresh_norms(model: nn.Module, forwards: Iterable[object]) -> None:
    """Estimate the running statistics of batch norms anew, as the plain mean over some batches.

    forwards: an iterator each of whose items ran the model forward on one batch of training data; exhausted here, in
    training mode. Needed after weights were averaged, since the averaged running statistics are not those of the
    averaged weights.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    before = [(norm, norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for _ in forwards:
        pass
    for norm, momentum, training in before:
        norm.momentum = momentum
        norm.train(training)


def _named(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _live(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    tensors = [t.detach() for t in _named(model).values()]
    return [t for t in tensors if t.is_floating_point()], [t for t in tensors if not t.is_floating_point()]


def _copies(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    copies = {name: t.detach().clone() for name, t in _named(model).items()}
    floats = {name: t for name, t in copies.items() if t.is_floating_point()}
    return floats, {name: t for name, t in copies.items() if name not in floats}


@torch.no_grad()
def _write(model: nn.Module, mean: dict[str, Tensor], copied: dict[str, Tensor]) -> None:
    for name, tensor in _named(model).items():
        tensor.copy_(mean[name] if name in mean else copied[name])


@contextmanager
def _swapped(model: nn.Module, averaged: dict[str, Tensor]) -> Iterator[None]:
    _exchange(_named(model), averaged)
    try:
        yield
    finally:
        _exchange(_named(model), averaged)


@torch.no_grad()
def _exchange(live: dict[str, Tensor], averaged: dict[str, Tensor]) -> None:
    for name, tensor in live.items():
        held = averaged[name].clone()
        averaged[name].copy_(tensor)
        tensor.copy_(held)


@torch.no_grad()
def _restore(kept: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    for name, tensor in kept.items():
        tensor.copy_(state[name])
