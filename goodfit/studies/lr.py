"""``goodfit lr``: the range test on a source, by the steps that training itself would make, and the answer drawn."""

from __future__ import annotations

import copy
import math
import shlex
import time as clock
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from goodfit import keyed
from goodfit.data.image_sets import cache_folder
from goodfit.data.variants import rewritten
from goodfit.distributed import World
from goodfit.errors import GoodfitError, RecipeError
from goodfit.interrupt import Signals
from goodfit.job import Job, plan_for, read_data, settled_without_a_stopwatch
from goodfit.loop import Shifting, Slots, State, epoch_batches, seed_generators, train_step
from goodfit.machine import default_device, usable
from goodfit.models.layers import train_mode
from goodfit.plan import Plan
from goodfit.probes.record import generators_kept
from goodfit.recipe import Recipe
from goodfit.screen import Screen
from goodfit.studies.range_test import PER_DECADE, REPEATS, Reading, read_sweeps, sweep, sweep_rates
from goodfit.teacher import taught
from goodfit.techniques.consequences import rate
from goodfit.types import Batch, Moment, to_device

FEWEST_REPEATS, FEWEST_PER_DECADE = 3, 10
SECONDS = 60.0
"""A range test shall take about this long: fewer repeats where steps are slow, then five decades instead of seven and
fewer rates, unless points or repeats are said."""


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """A range test's answer.

    reading: the curve and what it says. planned: the rate that the plan has now. patch: the change of the recipe that
    the answer comes to (empty where it cannot tell). source: as a command says it. name: of what was read.
    """

    reading: Reading
    planned: float
    patch: Mapping[str, float]
    source: str
    name: str
    optimizer: str
    steps: int
    seconds: float

    @property
    def command(self) -> str:
        """The command to type next."""
        if not self.patch:
            return f"goodfit check {self.source}"
        sets = " ".join(f"--set {key}={value:g}" for key, value in self.patch.items())
        return f"goodfit train {self.source} {sets}"

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"format": 1, **asdict(self), "command": self.command}


@dataclass(frozen=True)
class Climb:
    """A schedule that multiplies the rate by the same factor at each step, from ``first`` on."""

    first: float
    factor_per_step: float

    def factor(self, moment: Moment, history: Any = ()) -> float:
        """What multiplies the learning rate."""
        return self.first * self.factor_per_step**moment.step

    def momentum(self, moment: Moment) -> float | None:
        """None: the optimizer's own."""
        return None


def range_test(
    source: Any,
    *,
    target: str | None = None,
    time: str | None = None,
    horizon: int | None = None,
    recipe: Recipe | None = None,
    model: nn.Module | None = None,
    low: float | None = None,
    high: float | None = None,
    points: int | None = None,
    repeats: int | None = None,
    device: str | torch.device | None = None,
    screen: Screen | None = None,
    said: str = "",
) -> RangeTest:
    """Try learning rates from a ten-thousandth of the planned one to a thousand times of it, and suggest one.

    source, target, time, horizon, recipe, model, device: as `goodfit.train` takes them. low, high, points, repeats: of
    the sweep. Each repeat has other initial weights and other batches (with a module of your own: other batches; it
    is copied and stays as it is). said: what stands behind ``goodfit train`` in the command to type next; the source
    unless given. Nothing is written; random generators stand afterwards where they stood.
    """
    began = clock.monotonic()
    screen = screen or Screen()
    given = {"data.target": target, "data.time": time, "data.horizon": horizon}
    recipe = (recipe or Recipe()).patched({k: v for k, v in given.items() if v is not None})
    if (repeats is not None and repeats < 2) or (points is not None and points < 20):
        raise GoodfitError("a range test needs 2 repeats (to see the noise) and 20 points at least")
    place = usable(device) if device else default_device()
    with generators_kept(), Signals() as signals:
        data = read_data(source, recipe, screen)
        plan = settled_without_a_stopwatch(_one_phase(plan_for(recipe, data, place, model)))
        plan, tutor = taught(plan, data, place, None)
        data = rewritten(data, plan.many("batch"), cache=cache_folder() / "variants", device=place, say=screen.line)
        planned = float(plan["optimizer.lr"])
        base = rate(plan.one("optimizer"), plan.batch_size(len(data.train)))[0]
        if not base > 0:
            raise RecipeError(["a range test needs optimizer.lr above 0; it multiplies the rates of all groups"])
        job = Job(Path(), data, plan, recipe, Screen.silent(), place, model, signals, "", World(), tutor)
        many, count, span = _afford(job, model, planned, low, high, points, repeats)
        rates = sweep_rates(*span, count)
        sweeps: list[list[float]] = []
        name = plan["optimizer.name"]
        screen.heading(f"Range test  {span[0]:.1e} to {span[1]:.1e}, {name}, batches of {job.batch_size}")
        while len(sweeps) < many and not signals.requested:
            started = clock.monotonic()
            sweeps.append(_one_sweep(job, model, seed=int(plan["seed"]) + len(sweeps), rates=rates, planned=planned))
            screen.line(
                f"  sweep {len(sweeps)} of {many}: {len(sweeps[-1])} of {count} rates in "
                f"{clock.monotonic() - started:.1f} s" + ("" if len(sweeps[-1]) == count else ", then it diverged")
            )
        if signals.requested:
            raise GoodfitError("the range test was stopped; nothing was changed or written")
    reading = read_sweeps(rates, sweeps)
    patch = _patch(plan, reading)
    said = said or (shlex.quote(str(source)) if isinstance(source, str | Path) else "SOURCE")
    return RangeTest(
        reading=reading,
        planned=planned,
        patch=patch,
        source=said,
        name=data.name,
        optimizer=str(plan["optimizer.name"]),
        steps=sum(map(len, sweeps)),
        seconds=clock.monotonic() - began,
    )


def _afford(
    job: Job,
    model: nn.Module | None,
    planned: float,
    low: float | None,
    high: float | None,
    points: int | None,
    repeats: int | None,
) -> tuple[int, int, tuple[float, float]]:
    """Repeats, points and the range of rates that fit the time: a few steps at the smallest rate are timed first."""
    whole = (low or planned * 1e-4, high or planned * 1e3)
    decades = math.log10(whole[1] / whole[0]) if whole[1] > whole[0] else 1.0
    count = points or max(20, round(PER_DECADE * decades) + 1)
    if points is not None and repeats is not None:
        return repeats, points, whole
    marks: list[float] = []
    _one_sweep(job, model, seed=int(job.plan["seed"]), rates=[whole[0]] * 4, planned=planned, at=marks)
    step = min(b - a for a, b in pairwise(marks)) if len(marks) > 2 else 0.0
    most = SECONDS / max(step, 1e-9)
    many = repeats or max(FEWEST_REPEATS, min(REPEATS, int(most / count)))
    if points is None and many * count > 2 * most:
        whole = (low or planned * 1e-3, high or planned * 1e2)
        decades = max(math.log10(whole[1] / whole[0]), 1.0)
        count = max(FEWEST_PER_DECADE * round(decades), min(count, int(most / many)))
    return many, count, whole


def _one_sweep(
    job: Job,
    model: nn.Module | None,
    *,
    seed: int,
    rates: list[float],
    planned: float,
    at: list[float] | None = None,
) -> list[float]:
    """The losses of one sweep on a model of its own. at: the time of each step is added to it."""
    own = None if model is None else copy.deepcopy(model)
    job = replace(job, plan=job.plan.changed("seed", seed, reason="", source=""), own_model=own)
    made = job.make_model()
    if job.teacher is not None:
        job.teacher.remember(job.data.train, job.plan)
    head, _ = job.head_alone(made)
    if head is not None:
        job = job.on_features(made)
    state, slots = job.assemble(made if head is None else head, whole=made)
    climb = Climb(rates[0] / planned, rates[1] / rates[0])
    slots = replace(slots, schedule=climb, nonfinite="skip")
    train_mode(state.model)
    steps = _steps(job, state, slots, seed=seed)

    def step(_: float) -> float:
        batch, moment = next(steps)
        before = state.step
        if at is not None:
            at.append(clock.monotonic())
        loss = float(train_step(state, slots, batch, moment))
        if state.step == before:
            return math.inf
        return loss

    return sweep(step, rates)


def _steps(job: Job, state: State, slots: Slots, *, seed: int) -> Iterator[tuple[Batch, Moment]]:
    """The batches and moments of training, epoch after epoch, as `goodfit.loop.fit` takes them."""
    total, per_epoch = job.plan.steps(len(job.data.train))
    epoch = 0
    while True:
        train = job.data.train
        train = train.shifted(seed, epoch) if isinstance(train, Shifting) else train
        if state.carried is not None:
            state.carried.forget()
        order = epoch_batches(slots, train, seed=seed, epoch=epoch, per_epoch=per_epoch, equal=False)
        for batch in train.batches(order):
            moment = Moment(seed, epoch, state.step, max(total, state.step + 1), per_epoch, job.classes)
            seed_generators(state.device, keyed.key(seed, "step", state.step) & 0x7FFFFFFFFFFFFFFF)
            yield to_device(batch, state.device), moment
        epoch += 1


def _one_phase(plan: Plan) -> Plan:
    """The plan without its later phases: a range test is of the first optimizer."""
    return replace(plan, choices={k: c for k, c in plan.choices.items() if not k.startswith("phase.")})


def _patch(plan: Plan, reading: Reading) -> dict[str, float]:
    """The recipe keys that make a run train at the suggested rate; rates of other groups move along."""
    if reading.suggested is None:
        return {}
    suggested = two_digits(reading.suggested)
    patch = {"optimizer.lr": suggested}
    rest = plan.choices.get("optimizer.rest_lr")
    if rest is not None and rest.value:
        patch["optimizer.rest_lr"] = two_digits(float(rest.value) * suggested / float(plan["optimizer.lr"]))
    return patch


def two_digits(value: float) -> float:
    """A number that people can type, within 5 % of the given one.

    >>> two_digits(0.0031622), two_digits(123.4)
    (0.0032, 120.0)
    """
    return float(f"{value:.1e}")
