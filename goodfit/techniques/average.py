"""Averages of the weights over the last part of the run, which predict better than the last weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from goodfit.technique import Chance, Count, Duration, Span, technique
from goodfit.types import Moment


class Averager(Protocol):
    """Averaged weights beside a model that trains."""

    @property
    def ready(self) -> bool:
        """Whether there is an average by now, rather than the model's own weights."""

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
        averaged as well, whole-number ones are copied. For validation and for the weights that are kept, the statistics
        of batch norms are estimated anew from training data (``refresh_norms``).
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
    Ours: before ``start`` the average is the model itself. Batch-norm statistics are estimated anew from training data
        for validation and for the weights that are kept. Use it with a learning rate that does not fall to zero.
    Helps: constant or cyclic rates. Hurts: with a rate that falls to zero it only adds older, worse weights.
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

    ready = False

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

    @property
    def ready(self) -> bool:
        """Whether anything was averaged yet."""
        return self.count > 0

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

    @property
    def ready(self) -> bool:
        """Whether there is a snapshot yet."""
        return self.count > 0

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


class Soup(NamedTuple):
    """Averaged weights, which ingredients are in them (by position, in the order they were taken), their score, and
    that of each ingredient alone."""

    weights: dict[str, Tensor]
    taken: list[int]
    score: float
    alone: list[float]


@torch.no_grad()
def greedy_soup(
    ingredients: Sequence[Mapping[str, Tensor]],
    score: Callable[[Mapping[str, Tensor]], float],
    *,
    larger_is_better: bool,
) -> Soup:
    """The mean of those weights that make it better: the best first, each other one kept if the score does not fall.

    ingredients: state dicts of one architecture, of runs that began from the same weights (a pretrained model, or the
    same seed): only then does a mean of them lie in the same valley. score: on validation data; called once for each
    alone and once for each mean that is tried.

    Formula: ``w = (1 / k) sum_i w_i`` over the k ingredients taken; whole-number tensors come from the first.
    Source: Wortsman et al. (2022), model soups.
    Helps: fine-tuning with several settings; costs nothing at prediction. Hurts: runs trained from nothing with
        different seeds, whose mean is worthless; the greedy choice then keeps the best one alone.
    """
    if not ingredients:
        raise ValueError("a soup needs at least one ingredient")
    sign = 1.0 if larger_is_better else -1.0
    alone = [score(one) for one in ingredients]
    order = sorted(range(len(alone)), key=lambda k: (math.isnan(alone[k]), -sign * alone[k]))
    taken, best = [order[0]], alone[order[0]]
    weights = dict(ingredients[order[0]])
    for one in order[1:]:
        trial = mean_weights([ingredients[k] for k in (*taken, one)])
        found = score(trial)
        if sign * found >= sign * best:
            taken, best, weights = [*taken, one], found, trial
    return Soup(weights, taken, best, alone)


@torch.no_grad()
def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The plain mean of state dicts, in float64 on the way; whole-number tensors come from the first."""
    first = states[0]
    if any(state.keys() != first.keys() for state in states):
        raise ValueError("the weights have different names: they are not of one architecture")
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }


@torch.no_grad()
def refresh_norms(model: nn.Module, forwards: Iterable[object]) -> None:
    """Estimate the running statistics of batch norms anew, from some batches of training data.

    forwards: an iterator each of whose items ran the model forward on one batch; exhausted here, in eval mode but for
    the batch norms, which normalise each batch by its own statistics, as they do in training. Needed after weights were
    averaged: the average of running statistics is not the statistic of the averaged weights.

    Formula: mean and unbiased variance of all numbers that a channel was given, over all batches together (Chan, Golub
        and LeVeque, 1983), in float64. ``torch.optim.swa_utils.update_bn`` takes the mean of the batches' variances.
    Ours: dropout is off, as at prediction. Frozen norms keep their statistics, norms that no batch reached too.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None and _learns(m)]
    if not norms:
        return
    seen = {norm: _Pooled(norm) for norm in norms}
    modes = {module: module.training for module in model.modules()}
    handles = [norm.register_forward_pre_hook(seen[norm].take) for norm in norms]
    model.eval()
    try:
        for _ in forwards:
            pass
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
        for pooled in seen.values():
            pooled.write()


class FreshNorms:
    """Batch-norm statistics of the weights that are predicted with, estimated anew and put back afterwards.

    forwards: makes an iterator that runs a model forward on batches of training data, the same ones each time; so the
    estimate is a function of the weights, and a resumed run needs nothing for it.
    """

    def __init__(self, forwards: Callable[[nn.Module], Iterable[object]]) -> None:
        self.forwards = forwards
        self._known: tuple[int, list[Tensor]] | None = None

    @contextmanager
    def estimated(self, model: nn.Module, step: int) -> Iterator[None]:
        """Inside, the model's batch norms have the statistics of its weights now; afterwards their own again.

        step: tells whether the weights are those of the estimate before, which then serves again.
        """
        buffers = [
            buffer
            for module in model.modules()
            if isinstance(module, _BatchNorm)
            for buffer in (module.running_mean, module.running_var)
            if buffer is not None
        ]
        own = [buffer.clone() for buffer in buffers]
        if self._known is None or self._known[0] != step:
            refresh_norms(model, self.forwards(model) if buffers else ())
            self._known = (step, [buffer.clone() for buffer in buffers])
        try:
            _copy(buffers, self._known[1])
            yield
        finally:
            _copy(buffers, own)


class _Pooled:
    """The statistics of what one batch norm is given, over all batches."""

    def __init__(self, norm: _BatchNorm) -> None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.mean, self.var = norm.running_mean, norm.running_var
        self.own = self.mean.clone(), self.var.clone()
        self.count = 0
        self.centre = torch.zeros_like(self.mean, dtype=torch.float64)
        self.squares = torch.zeros_like(self.centre)

    def take(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """Before the norm runs: add a batch, and let the norm normalise by the batch's own statistics."""
        inputs = arguments[0].detach()
        values = inputs.float() if inputs.dtype in (torch.float16, torch.bfloat16) else inputs
        axes, count = (0, *range(2, inputs.dim())), inputs.numel() // inputs.shape[1]
        var, mean = torch.var_mean(values, axes, correction=0)
        self.mean.copy_(mean)
        self.var.copy_(var)
        away = mean.double() - self.centre
        self.squares += var.double() * count + away.square() * (self.count * count / (self.count + count))
        self.count += count
        self.centre += away * (count / self.count)

    def write(self) -> None:
        """Give the norm the statistics of all batches; its own again where there were none."""
        self.mean.copy_(self.centre if self.count else self.own[0])
        self.var.copy_(self.squares / max(self.count - 1, 1) if self.count else self.own[1])


def _learns(norm: nn.Module) -> bool:
    own = list(norm.parameters(recurse=False))
    return not own or any(parameter.requires_grad for parameter in own)


def _copy(into: list[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(into, values, strict=True):
        tensor.copy_(value)


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
