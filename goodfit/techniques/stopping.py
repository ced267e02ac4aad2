"""When to stop, and which weights to keep: pure functions of the validation history, so resuming needs no state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from goodfit.technique import Chance, Count, NotNegative, Span, technique
from goodfit.techniques.schedule import exponential_mean


@technique("stopping", name="none")
class NoStopping:
    """Train to the end; the best weights seen on validation are restored all the same, or the last ones are kept.

    Helps: with schedules that fall to their floor at the end of the run, which stopping early would waste.

    keep: ``best`` weights on validation, or the ``last``, where validation is too small to tell them apart: the best
        of many noisy values is mostly luck.
    """

    keep: Literal["best", "last"] = "best"

    def best(self, history: Sequence[float], *, larger_is_better: bool) -> int:
        """Position of the best value so far, or of the last one where that is to be kept."""
        found = best_of(history, larger_is_better=larger_is_better)
        return found if self.keep == "best" else len(history) - 1

    def stop(self, history: Sequence[float], *, larger_is_better: bool) -> bool:
        """Never."""
        return False


@technique("stopping")
class Patience:
    """Stop when the validation value has not become better for a while, and keep the best weights.

    Formula: stop after ``patience`` evaluations in a row that do not beat the best one by more than ``min_delta``.
    Source: Prechelt, 1998.
    Ours: ``patience`` counts evaluations, or is a duration such as ``"5 epochs"``. ``smoothing`` compares exponential
        means, for stopping and for choosing the best: of many noisy values the best one is partly luck. The best
        weights are the best ones even where the gain is below ``min_delta``; not-a-number is never the best. What it
        cost stands in results.json, on the screen and in the report: steps trained after the best weights, and the
        share of the plan that was not run.
    Helps: saves time, and weights when a model overfits. Hurts: with a schedule that needs its end (cosine,
        one-cycle) it stops before the harvest.
    Often wrong: cross-validation and a lower learning rate are named as cures for overfitting beside this; the first
        measures it, the second does not prevent it.
    """

    patience: Count | Span = 10
    min_delta: NotNegative = 0.0
    smoothing: Chance = 0.0

    def best(self, history: Sequence[float], *, larger_is_better: bool) -> int:
        """Position of the best (smoothed) value so far, the first of equals."""
        return best_of(exponential_mean(history, self.smoothing), larger_is_better=larger_is_better)

    def stop(self, history: Sequence[float], *, larger_is_better: bool) -> bool:
        """Whether to stop after these evaluations."""
        if not isinstance(self.patience, int):
            raise ValueError("patience is a duration: call resolved() once the run's steps are known")
        sign = -1.0 if larger_is_better else 1.0
        best, bad = math.inf, 0
        for value in exponential_mean(history, self.smoothing):
            if sign * value < best - self.min_delta:
                best, bad = sign * value, 0
            else:
                bad += 1
        return bad >= self.patience

    def resolved(self, *, total: int, steps_per_epoch: int, steps_between: int) -> Patience:
        """The same with ``patience`` in evaluations, which come every ``steps_between`` steps."""
        if isinstance(self.patience, int):
            return self
        steps = self.patience.steps(total, steps_per_epoch)
        return dataclasses.replace(self, patience=max(1, math.ceil(steps / max(steps_between, 1))))


ALL = (NoStopping, Patience)


def best_of(history: Sequence[float], *, larger_is_better: bool) -> int:
    """Position of the best value, the first of equals; values that are no numbers never win.

    Raises ValueError for an empty history.
    """
    if not history:
        raise ValueError("there is no best of an empty history")
    sign = -1.0 if larger_is_better else 1.0
    return min(range(len(history)), key=lambda i: (math.isnan(history[i]), sign * history[i]))


def wasted(history: Sequence[float], *, larger_is_better: bool) -> int:
    """Evaluations after the best one: what patience cost."""
    return len(history) - 1 - best_of(history, larger_is_better=larger_is_better) if history else 0


def cost(steps: Sequence[int], *, best: int, total: int) -> dict[str, float]:
    """What stopping cost and saved.

    steps: at which each evaluation took place, the last one where training ended. best: position of the evaluation
    whose weights were kept. total: steps planned.

    Returns ``best_step``; ``after_best``, the steps trained after it, which gave nothing; ``planned``; ``not_run``, the
    share of the plan that was left out.

    >>> cost([10, 20, 30], best=1, total=60)
    {'best_step': 20, 'after_best': 10, 'planned': 60, 'not_run': 0.5}
    """
    last = steps[-1]
    return {
        "best_step": steps[best],
        "after_best": last - steps[best],
        "planned": total,
        "not_run": max(0.0, 1.0 - last / max(total, 1)),
    }
