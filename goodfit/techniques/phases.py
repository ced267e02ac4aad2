"""Phases: another optimizer, or other settings of the same one, from some point of the run on ("Adam, then SGD")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch.optim import Optimizer

from goodfit.technique import Duration, Span, technique
from goodfit.techniques.optimizer import set_mode
from goodfit.techniques.schedule import Schedule
from goodfit.types import Moment


@technique("phase")
class Phase:
    """A later part of the run with an optimizer of its own, such as Adam first and SGD after it.

    Formula: the phase begins at step ``after`` of the run, with the weights as they are and an empty optimizer state;
        beside the two keys here it takes ``name`` and every setting of that optimizer.
    after: how much of the run lies before this phase: ``"60%"``, ``"20 epochs"`` or ``"2000 steps"``.
    schedule: ``continue`` goes on along the run's schedule, whose factor multiplies this phase's ``lr``; ``restart``
        begins the schedule anew, warm-up included, and lets it end where the phase ends; the phase before it then
        ends its own at this point.
    Source: "start with Adam, fine-tune with SGD" in many courses; Keskar and Socher, 2017 (SWATS), who choose the point
        by themselves.
    Ours: the first phase is ``[optimizer]``, up to three follow as ``[phase.2]`` to ``[phase.4]``. Percentages and
        epochs inside a schedule that restarts are shares of its phase. Each phase needs a rate of its own: rates of
        Adam and SGD differ by a factor of 10 to 100. A run stopped in any phase goes on from the very same state.
    Helps: where a fast start and SGD's ending are both wanted. Hurts: two rates to tune; with both tuned alike, one
        optimizer is often as good: compare. Without a warm-up the new optimizer starts with empty averages.
    """

    after: Span = Duration(amount=50, unit="percent")
    schedule: Literal["continue", "restart"] = "continue"


ALL = (Phase,)
NUMBERS = ("2", "3", "4")
"""The names of later phases in a recipe; the first one is ``[optimizer]``."""


@dataclass(frozen=True)
class Restarting:
    """A schedule that begins anew at some steps: a function of the step within the part between two of them.

    starts: steps in rising order, the first of them 0.
    """

    schedule: Schedule
    starts: tuple[int, ...]

    def factor(self, moment: Moment, history: Sequence[float] = ()) -> float:
        """What multiplies the learning rate."""
        return self.schedule.factor(self.within(moment), history)

    def momentum(self, moment: Moment) -> float | None:
        """The momentum at this step, None to leave the optimizer's own."""
        return self.schedule.momentum(self.within(moment))

    def within(self, moment: Moment) -> Moment:
        """The same moment, counted from the last start to the next one."""
        start = max(s for s in self.starts if s <= moment.step)
        end = min((s for s in self.starts if s > moment.step), default=moment.total)
        return replace(moment, step=moment.step - start, total=end - start)


class Phased(Optimizer):
    """Several optimizers over the same parameters, one after the other, that look like one.

    parts: as many as ``starts``, which are steps in rising order, the first of them 0. ``enter(step)`` before each
    update; the state and groups are those of the part in use, and a part that is left gives its state back.
    """

    def __init__(self, parts: Sequence[Optimizer], starts: Sequence[int]) -> None:
        self.parts, self.starts = list(parts), list(starts)
        super().__init__([{"params": group["params"]} for group in self.parts[0].param_groups], {})
        self._use(0)

    def enter(self, step: int) -> None:
        """Change to the part that this step belongs to."""
        number = sum(step >= start for start in self.starts) - 1
        if number != self.number:
            set_mode(self.parts[self.number], training=False)
            self.parts[self.number].state.clear()
            self._use(number)
            set_mode(self.parts[number], training=True)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update by the part in use; returns what ``closure`` gave."""
        return self.parts[self.number].step(closure)

    def train(self) -> None:
        """Bring the weights to where gradients are taken, for schedule-free parts."""
        set_mode(self.parts[self.number], training=True)

    def eval(self) -> None:
        """Bring the weights to where predictions are made, for schedule-free parts."""
        set_mode(self.parts[self.number], training=False)

    def state_dict(self) -> dict[str, Any]:
        """The state of the part in use, and which one it is."""
        return {**self.parts[self.number].state_dict(), "phase": self.number}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the part that the state belongs to, and load it there."""
        number = int(state_dict["phase"])
        self.parts[number].load_state_dict({k: v for k, v in state_dict.items() if k != "phase"})
        self._use(number)

    def _use(self, number: int) -> None:
        self.number = number
        self.param_groups, self.state = self.parts[number].param_groups, self.parts[number].state


def enter(optimizer: Optimizer, step: int) -> None:
    """Before an update: let an optimizer of several phases change to the one of this step; nothing for others."""
    if isinstance(optimizer, Phased):
        optimizer.enter(step)


def in_phases(build: Callable[[Any], Optimizer], first: Any, later: Sequence[tuple[int, Phase, Any]]) -> Optimizer:
    """One optimizer over all phases.

    build: makes the optimizer of one phase over the model's parameters. later: ``(first step, phase, settings)`` of the
    phases after the first, as ``first_steps`` found them.
    """
    if not later:
        return build(first)
    parts = [build(first), *(build(settings) for _, _, settings in later)]
    return Phased(parts, [0, *(start for start, _, _ in later)])


def restarting(schedule: Schedule, later: Sequence[tuple[int, Phase, Any]]) -> Schedule:
    """The schedule over all phases: begun anew where a phase asks for that."""
    starts = tuple(start for start, phase, _ in later if phase.schedule == "restart")
    return Restarting(schedule, (0, *starts)) if starts else schedule


def first_steps(phases: Sequence[tuple[str, Phase]], *, total: int, steps_per_epoch: int) -> dict[str, int]:
    """The first step of each named phase.

    Raises ValueError, saying which one and what to do, unless they lie within the run, one after the other.
    """
    found: dict[str, int] = {}
    before, name_before = 0, "the start of the run"
    for name, phase in phases:
        step = phase.after.steps(total, steps_per_epoch)
        if step <= before:
            raise ValueError(
                f"'phase.{name}.after' = '{phase.after}' is step {step:,}, which is not after {name_before} "
                f"(step {before:,}); give a later point"
            )
        if step >= total:
            raise ValueError(
                f"'phase.{name}.after' = '{phase.after}' is step {step:,} of a run of {total:,} steps, so the phase "
                "would never come; give an earlier point, or train longer"
            )
        found[name], before, name_before = step, step, f"phase.{name}"
    return found
