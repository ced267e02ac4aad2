"""Learning-rate schedules as pure functions of the step: nothing to call in the right place, nothing to save.

``factor(moment)`` multiplies the learning rate of every parameter group. Step t counts optimizer updates from 0 to
T - 1. Warm-up over W steps multiplies by ``(t + 1) / W``, so that the first step moves. After it, the progress
``u = (t - W) / (T - 1 - W)`` runs from 0 to exactly 1 at the last step, where a schedule reaches its floor; ``floor``
is a share of the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Protocol

from pydantic import Field

from goodfit.technique import Chance, Duration, NotNegative, Positive, Share, Span, technique
from goodfit.types import Moment

NONE = Duration(amount=0, unit="steps")
Decay = Annotated[float, Field(gt=0, le=1)]


class Schedule(Protocol):
    """What fills the slot ``schedule``."""

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate. ``history``: validation values so far, the smaller the better."""

    def momentum(self, moment: Moment) -> float | None:
        """The momentum (or first beta) at this step, None to leave the optimizer's own."""


@technique("schedule")
class Constant:
    """The same learning rate throughout, after the warm-up.

    Formula: 1, after a warm-up of ``(t + 1) / W`` over W steps.
    warmup: how long the rate first climbs in a straight line; the first step is at ``1 / warmup``, not at 0.
    Helps: with averaged weights (``ema``, ``swa``) or a schedule-free optimizer, when the length of the run is open.
        Hurts: without decay the last steps keep the noise of the learning rate.
    """

    warmup: Span = NONE

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        return rise(moment, self.warmup)

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


@technique("schedule")
class Cosine:
    """Down along half a cosine, flat at both ends; the usual choice when the length of the run is known.

    Formula: ``floor + (1 - floor) (1 + cos(pi u)) / 2``.
    floor: where it ends, as a share of the learning rate.
    warmup: how long the rate first climbs in a straight line; the first step is at ``1 / warmup``, not at 0.
    Source: Loshchilov and Hutter, 2017; linear warm-up: Goyal et al., 2017.
    Ours: per step, and the floor is reached exactly at the last step.
    Helps: nearly everywhere. Hurts: stopping early means stopping at a high learning rate; use ``wsd``.
    Often wrong: stepped once an epoch after the epoch, it trains the first epoch at the full rate and never reaches
        the floor. ``step / warmup`` starts at a rate of 0. Warm-up of 5 to 10 epochs, 10 % and 5 % are all advised:
        here the unit is written. Fine-tuning profits from warm-up as soon as Adam's averages start empty.
    """

    floor: Share = 0.0
    warmup: Span = NONE

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        return rise(moment, self.warmup) * _cosine(progress(moment, self.warmup), self.floor)

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


@technique("schedule")
class Linear:
    """Straight down from the learning rate to the floor.

    Formula: ``1 - (1 - floor) u``. Source: Defazio et al., 2023 find it the best of the simple schedules.
    floor: where it ends, as a share of the learning rate.
    warmup: how long the rate first climbs in a straight line; the first step is at ``1 / warmup``, not at 0.
    Helps: short budgets, fine-tuning. Hurts: nothing in particular; ``cosine`` spends longer at both ends.
    """

    floor: Share = 0.0
    warmup: Span = NONE

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        return rise(moment, self.warmup) * (1 - (1 - self.floor) * progress(moment, self.warmup))

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


@technique("schedule")
class Polynomial:
    """Down along a power of what is left of the run.

    Formula: ``floor + (1 - floor) (1 - u) ** power``; power 1 is ``linear``.
    power: 1 is a straight line; above 1 falls faster at first, below 1 later.
    floor: where it ends, as a share of the learning rate.
    warmup: how long the rate first climbs in a straight line; the first step is at ``1 / warmup``, not at 0.
    Source: Chen et al., 2017 (DeepLab, power 0.9). Helps: segmentation recipes use it.
    Hurts: a power above 1 is soon too small to learn.
    """

    power: Positive = 2.0
    floor: Share = 0.0
    warmup: Span = NONE

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        left = math.pow(1 - progress(moment, self.warmup), self.power)
        return rise(moment, self.warmup) * (self.floor + (1 - self.floor) * left)

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


@technique("schedule")
class Exponential:
    """The same factor in the same time, all the way: a straight line on a logarithmic scale.

    Formula: ``gamma ** (t / every)``, continuous in the step; equal to ``torch.optim.lr_scheduler.ExponentialLR`` at
        whole epochs for ``every = "1 epoch"``.
    gamma: what the rate is multiplied by in every ``every``.
    every: the time in which the rate falls by ``gamma``.
    warmup: how long the rate first climbs in a straight line; the first step is at ``1 / warmup``, not at 0.
    Helps: runs of unknown length. Hurts: it soon falls below usefulness; it depends on ``every``, not on the run.
    Often wrong: ``exp(-k t)``, ``gamma ** epoch`` and ``decay ** (epoch / steps)`` are one family under three names,
        with ``k = -ln(gamma) / every``; none of them is a staircase, which is ``step``.
    """

    gamma: Decay = 0.95
    every: Span = Duration(amount=1, unit="epochs")
    warmup: Span = NONE

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        return rise(moment, self.warmup) * math.pow(self.gamma, moment.step / max(_steps(self.every, moment), 1))

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


@technique("schedule")
class Step:
    """A staircase of equal steps.

    Formula: ``gamma ** floor(t / every)``, as ``torch.optim.lr_scheduler.StepLR``.
    every: how long a step of the staircase is.
    gamma: what each step down multiplies the rate by.
    warmup: how long the rate first climbs in a straight line; the first step is at ``1 / warmup``, not at 0.
    Source: the ImageNet recipes from 2012 on (divide by 10 every 30 epochs).
    Helps: comparing with older work. Hurts: ``cosine`` usually ends better for the same budget.
    Often wrong: ``decay ** (epoch / steps)`` without the floor is no staircase (0.316 instead of 1 half-way).
    """

    every: Span = Duration(amount=30, unit="epochs")
    gamma: Decay = 0.1
    warmup: Span = NONE

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        return rise(moment, self.warmup) * math.pow(self.gamma, moment.step // max(_steps(self.every, moment), 1))

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


@technique("schedule")
class MultiStep:
    """A staircase with steps where you say.

    Formula: ``gamma ** (milestones passed)``, as ``torch.optim.lr_scheduler.MultiStepLR``.
    milestones: where the steps are.
    gamma: what each step down multiplies the rate by.
    warmup: how long the rate first climbs in a straight line; the first step is at ``1 / warmup``, not at 0.
    Source: He et al., 2016 (at 50 % and 75 % of the run).
    Helps: known recipes. Hurts: milestones in epochs stay where they are when the run's length changes; use percent.
    """

    milestones: Annotated[tuple[Span, ...], Field(min_length=1)] = (
        Duration(amount=50, unit="percent"),
        Duration(amount=75, unit="percent"),
    )
    gamma: Decay = 0.1
    warmup: Span = NONE

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        passed = sum(moment.step >= max(_steps(one, moment), 1) for one in self.milestones)
        return rise(moment, self.warmup) * self.gamma**passed

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


@technique("schedule")
class OneCycle:
    """Up to the learning rate and far down again, with the momentum going the other way.

    Formula: from ``1 / div`` up to 1 over the first ``up`` of the run, then down to ``1 / (div final_div)`` at the last
        step, both along half a cosine; momentum from ``high`` down to ``low`` and back.
    up: how long the way up is.
    div: how many times smaller the first rate is than ``lr``, the top.
    final_div: how many times smaller again the last one is.
    cycle_momentum: whether the momentum goes the other way.
    low, high: the momentum at the top of the rate, and at both ends.
    Source: Smith and Topin, 2018; equal to ``torch.optim.lr_scheduler.OneCycleLR``.
    Ours: ``lr`` is the top of the cycle. Momentum is the first beta for the Adam family; ``cycle_momentum = false``
        leaves it alone.
    Helps: short runs at high rates. Hurts: stopping before the end wastes it.
    """

    up: Span = Duration(amount=30, unit="percent")
    div: Annotated[float, Field(ge=1)] = 25.0
    final_div: Annotated[float, Field(ge=1)] = 1e4
    cycle_momentum: bool = True
    low: Chance = 0.85
    high: Chance = 0.95

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        return self._between(moment, 1 / self.div, 1.0, end=1 / (self.div * self.final_div))

    def momentum(self, moment: Moment) -> float | None:
        """High where the rate is low, low where it is high."""
        return self._between(moment, self.high, self.low, end=self.high) if self.cycle_momentum else None

    def _between(self, moment: Moment, start: float, top: float, *, end: float) -> float:
        turn = max(_exact(self.up, moment) - 1, 0.0)
        if moment.step <= turn and turn > 0:
            return top + (start - top) * _cosine(moment.step / turn, 0.0)
        share = (moment.step - turn) / max(moment.total - 1 - turn, 1)
        return end + (top - end) * _cosine(min(share, 1.0), 0.0)


@technique("schedule")
class Wsd:
    """Warm-up, then stable, then a short decay at the end: a run that can be prolonged from its stable part.

    Formula: 1 until the last ``decay`` of the run, then straight down to the floor at the last step.
    decay: how long the way down at the end is.
    floor: where it ends, as a share of the learning rate.
    warmup: how long the rate first climbs in a straight line; the first step is at ``1 / warmup``, not at 0.
    Source: Hu et al., 2024 (MiniCPM); Hägele et al., 2024 (the linear cooldown).
    Helps: language models, open budgets: one stable run, several cooldowns. Hurts: nothing much at a decay of 20 %.
    """

    decay: Span = Duration(amount=20, unit="percent")
    floor: Share = 0.0
    warmup: Span = NONE

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        down = 1 - (1 - self.floor) * _tail(moment, self.decay)
        return rise(moment, self.warmup) * down

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


@technique("schedule")
class FlatCosine:
    """Flat for the first part of the run, then down along half a cosine.

    Formula: 1 for ``flat`` of the run, then ``cosine`` to the floor at the last step.
    flat: the share of the run before the way down.
    floor: where it ends, as a share of the learning rate.
    warmup: how long the rate first climbs in a straight line; the first step is at ``1 / warmup``, not at 0.
    Source: fastai (Howard and Gugger, 2020); Holzmüller et al., 2024 (RealMLP) with a flat half.
    Helps: optimizers that need time at the full rate; tables. Hurts: as ``cosine`` when stopped early.
    """

    flat: Share = 0.5
    floor: Share = 0.0
    warmup: Span = NONE

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        share = moment.step / max(moment.total - 1, 1)
        u = 0.0 if share <= self.flat else (share - self.flat) / (1 - self.flat)
        return rise(moment, self.warmup) * _cosine(u, self.floor)

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


@technique("schedule")
class CosineLog:
    """Several cosine waves, each twice as long as the one before: every scale of learning rate is visited often.

    Formula: ``(1 - cos(2 pi log2(1 + (2 ** waves - 1) s))) / 2`` with ``s = (t + 1) / T``.
    waves: how many there are.
    Source: Holzmüller et al., 2024 (RealMLP's coslog4).
    Ours: s counts from the end of the step, so that the first one moves (in a run of ``2 ** waves`` steps or more) and
        the last one stands at 0.
    Helps: tables with small nets, where a good stopping point comes several times. Hurts: runs of few steps.
    """

    waves: Annotated[int, Field(ge=1, le=20)] = 4

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        share = min((moment.step + 1) / max(moment.total, 2), 1.0)
        return 0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + (2**self.waves - 1) * share)))

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


@technique("schedule")
class Triangle:
    """Straight up, straight down.

    Formula: through ``(0, start)``, ``(peak, 1)`` and ``(1, floor)``, the first value a share of the run.
    start: the first rate, as a share of the learning rate.
    peak: the share of the run at which it is at its top.
    floor: where it ends, as a share of the learning rate.
    Source: the 94 % CIFAR-10 recipe of Jordan, 2024 (start 0.2, peak 0.23, floor 0.07).
    Helps: very short runs of small convolutional nets. Hurts: long runs spend too long at high rates.
    """

    start: Decay = 0.2
    peak: Chance = 0.23
    floor: Share = 0.07

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        share = moment.step / max(moment.total - 1, 1)
        if share < self.peak:
            return self.start + (1 - self.start) * share / self.peak
        return 1 - (1 - self.floor) * min((share - self.peak) / (1 - self.peak), 1.0)

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


@technique("schedule")
class Plateau:
    """Lower the learning rate when the validation value has stopped getting better.

    Formula: ``max(gamma ** drops, floor)``; a drop after more than ``patience`` evaluations without an improvement by
        ``threshold`` (relative), then ``cooldown`` evaluations of grace.
    gamma: what each drop multiplies the rate by.
    patience: evaluations without an improvement that are borne.
    threshold: the relative improvement that counts as one.
    cooldown: evaluations of grace after a drop.
    smoothing: of the value that is watched; 0 takes it as it is.
    floor: the least there is, as a share of the learning rate.
    warmup: how long the rate first climbs in a straight line; the first step is at ``1 / warmup``, not at 0.
    Source: ``torch.optim.lr_scheduler.ReduceLROnPlateau``, to which it is equal with ``smoothing = 0``.
    Ours: a function of the whole validation history, recounted each time, so resuming needs no state; the history may
        be smoothed first (exponential mean), since a noisy value looks like a plateau.
    Helps: runs of unknown length. Hurts: it reacts late; ``cosine`` is better when the length is known.
    """

    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 10
    threshold: NotNegative = 1e-4
    cooldown: Annotated[int, Field(ge=0)] = 0
    smoothing: Chance = 0.0
    floor: Share = 0.0
    warmup: Span = NONE

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate, given the validation values so far (smaller is better)."""
        return rise(moment, self.warmup) * max(self.gamma ** self.drops(history), self.floor)

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None

    def drops(self, history: Sequence[float]) -> int:
        """How often the rate has been lowered so far."""
        best, bad, rest, count = math.inf, 0, 0, 0
        for value in exponential_mean(history, self.smoothing):
            slack = self.threshold * (abs(best) if math.isfinite(best) else 0.0)
            if value < best - slack:
                best, bad = value, 0
            else:
                bad += 1
            if rest > 0:
                rest, bad = rest - 1, 0
            if bad > self.patience:
                count, rest, bad = count + 1, self.cooldown, 0
        return count


ALL = (
    Constant,
    Cosine,
    Linear,
    Polynomial,
    Exponential,
    Step,
    MultiStep,
    OneCycle,
    Wsd,
    FlatCosine,
    CosineLog,
    Triangle,
    Plateau,
)


def rise(moment: Moment, warmup: Duration) -> float:
    """The warm-up's factor: ``(t + 1) / W`` in its W steps, 1 after them."""
    steps = _steps(warmup, moment)
    return (moment.step + 1) / steps if moment.step < steps else 1.0


def progress(moment: Moment, warmup: Duration = NONE) -> float:
    """How much of the time after the warm-up has passed: 0 at its end, exactly 1 at the last step of the run."""
    start, end = _steps(warmup, moment), moment.total - 1
    return 0.0 if moment.step <= start or end <= start else min((moment.step - start) / (end - start), 1.0)


def curve(schedule: Schedule, total: int, steps_per_epoch: int) -> list[float]:
    """The factor at every step of a run, for drawing it before training."""
    return [
        schedule.factor(
            Moment(seed=0, epoch=t // steps_per_epoch, step=t, total=total, steps_per_epoch=steps_per_epoch)
        )
        for t in range(total)
    ]


def exponential_mean(values: Sequence[float], smoothing: float) -> list[float]:
    """Each value's exponentially weighted mean with those before it, free of the bias of the start."""
    if smoothing == 0:
        return list(values)
    means, total, weight = [], 0.0, 0.0
    for value in values:
        if math.isfinite(value):
            total, weight = smoothing * total + (1 - smoothing) * value, smoothing * weight + 1 - smoothing
        means.append(total / weight if weight and math.isfinite(value) else value)
    return means


def _steps(span: Duration, moment: Moment) -> int:
    return span.steps(moment.total, moment.steps_per_epoch)


def _exact(span: Duration, moment: Moment) -> float:
    scale = {"epochs": float(moment.steps_per_epoch), "steps": 1.0, "percent": moment.total / 100}[span.unit]
    return span.amount * scale


def _cosine(u: float, floor: float) -> float:
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * u))


def _tail(moment: Moment, span: Duration) -> float:
    """0 until the last ``span`` of the run, then up to 1 at the last step."""
    last = moment.total - 1
    length = min(max(_steps(span, moment), 1), last)
    return min(max((moment.step - (last - length)) / length, 0.0), 1.0) if length > 0 else 0.0
