"""``goodfit tune``: search settings on the rows that pick weights, then confirm the winner on rows that never chose."""

from __future__ import annotations

import hashlib
import json
import time as clock
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from goodfit import keyed, store
from goodfit.errors import GoodfitError, RecipeError, hushed, nearest, optional
from goodfit.job import plan_for
from goodfit.recipe import Recipe
from goodfit.screen import Screen
from goodfit.screen import clock as shown_time
from goodfit.studies.ablation import TUNING_SEED, ablate, seconds_from, study_folder
from goodfit.studies.search_page import valued_by, write_search
from goodfit.studies.space import Choice, Range, Space, space_from
from goodfit.studies.study import Arm, OutOfTime, Pruned, Study
from goodfit.studies.verdicts import Ablation

METHODS = ("grid", "random", "quasi-random", "tpe", "gp", "hyperband", "asha")
TRIALS = 20
SEARCH_SHARE = 0.6
"""Of a budget, what the search may take; the rest confirms."""


@dataclass(frozen=True)
class Trial:
    """One point of a search. value: the metric that picks weights, on the rows that pick. curve: it, per validation."""

    number: int
    params: Mapping[str, Any]
    state: str
    value: float | None
    curve: Sequence[float]
    error: str = ""


@dataclass(frozen=True)
class Search:
    """What a search found. best: the trial. confirmed: the winner against the default with fresh seeds.

    recommended: the patch to use, empty where the default is as good as anything that was found. metric: what the
    confirmation is judged by. picked_by: what a trial's value is.
    """

    trials: Sequence[Trial]
    best: Trial | None
    importance: Mapping[str, float]
    warnings: Sequence[str]
    confirmed: Ablation | None
    recommended: Mapping[str, Any]
    sentence: str
    metric: str
    folder: Path
    page: Path | None = None
    picked_by: str = ""


def tune(
    source: Any,
    *,
    over: str | Sequence[str] | Mapping[str, Any],
    method: str = "tpe",
    trials: int = TRIALS,
    recipe: Recipe | None = None,
    budget: str | float | None = None,
    confirm: str | int = "6..12",
    metric: str | None = None,
    matters: float | None = None,
    storage: str | None = None,
    target: str | None = None,
    time: str | None = None,
    horizon: int | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    screen: Screen | None = None,
) -> Search:
    """Search a space of settings, and say whether what was found is better than the default.

    over: see `goodfit.studies.space.space_from`. method: ``grid``, ``random``, ``quasi-random`` (Sobol), ``tpe``
        (Bergstra et al. 2011), ``gp`` (Gaussian process), ``hyperband`` (Li et al. 2018) and ``asha`` (Li et al. 2020),
        which stop bad trials early. trials: in all, by all processes.
    storage: a database that machines share; a file in the study's folder unless said.
    confirm: pairs of the winner and the default, as ``ablate`` has ``seeds``.

    Every trial has the same seed, and is valued by the rows that pick weights; the rows that judge are kept for the
    confirmation, whose seeds are others. Raises MissingExtra without optuna, RecipeError for what cannot be searched.

    >>> import goodfit  # doctest: +SKIP
    >>> goodfit.tune("digits", over="optimizer.lr=1e-4..1e-1:log").recommended  # doctest: +SKIP
    """
    began = clock.monotonic()
    space, limit, screen = space_from(over), seconds_from(budget), screen or Screen()
    if method not in METHODS:
        raise RecipeError([f"--method {method}: there is no such method{nearest(method, METHODS)}"])
    if trials < 2:
        raise RecipeError([f"--trials {trials}: two at least"])
    optuna = optional("optuna", "search")
    given = {"data.target": target, "data.time": time, "data.horizon": horizon}
    recipe = (recipe or Recipe()).patched({k: v for k, v in given.items() if v is not None})
    folder = Path(out) if out else study_folder(source, recipe, metric=metric, calibrate=False)
    study = Study(folder, source, recipe, metric=metric, device=device, screen=screen)
    _ends_are_valid(study, space)
    grid = {key: one.points(_points(one, space, trials)) for key, one in space.items()}
    if method == "grid":
        trials = int(np.prod([len(values) for values in grid.values()]))
    stop = None if limit is None else began + SEARCH_SHARE * limit
    with hushed("optuna"):
        search = _Search(study, space, grid, method, trials, optuna, storage, stop, screen)
        ended = search.go()
        found = search.trials()
        importance = search.importance()
    done = [one for one in found if one.state == "complete" and one.value is not None]
    sign = 1 if study.picks_larger else -1
    best = max(done, key=lambda one: sign * (one.value or 0.0), default=None)
    if best is None:
        errors = [one.error for one in found if one.error]
        raise GoodfitError(f"no trial finished ({ended}); " + (errors[0] if errors else "give a larger --budget"))
    cautions = [*edges(best, space), *flips(found, sign)]
    screen.line(f"  best: {_shown(best.params)}, {best.value:.4f} on the rows that pick weights; {ended}")
    for one in cautions:
        screen.warn(f"  {one}")
    confirmed, sentence, patch = None, "", dict(best.params)
    try:
        rest = None if limit is None else limit - (clock.monotonic() - began)
        if rest is not None and rest <= 0:
            raise GoodfitError("no time is left to confirm it; the same command with a larger --budget goes on")
        confirmed = ablate(
            source, arms={_shown(patch): patch}, seeds=confirm, budget=rest, matters=matters, screen=screen, study=study
        )  # fmt: skip
        word, said = confirmed.findings[0].verdict, confirmed.findings[0].sentence
        better = {"helps": "use it", "hurts": "keep the default"}.get(word, "not shown to be better; keep the default")
        sentence = f"{said}; {better}"
    except RecipeError as same:
        word, sentence = "same", f"the best found is the default itself ({same})"
    except GoodfitError as late:
        word, sentence = "open", f"not confirmed: {late}"
    made = Search(
        found, best, importance, cautions, confirmed, patch if word == "helps" else {}, sentence, study.metric, folder,
        picked_by=study.picks_name,
    )  # fmt: skip
    return replace(made, page=write_search(made, space, source=study.typed, larger=study.picks_larger))


class _Search:
    """The trials of one search, in a database that several processes may share."""

    def __init__(
        self, study: Study, space: Space, grid: Mapping[str, Sequence[Any]], method: str, trials: int, optuna: Any,
        storage: str | None, stop: float | None, screen: Screen,
    ) -> None:  # fmt: skip
        self.study, self.space, self.grid, self.method, self.count = study, space, grid, method, trials
        self.optuna, self.stop, self.screen = optuna, stop, screen
        asked = json.dumps([{k: repr(v) for k, v in space.items()}, method], sort_keys=True)
        self.key = hashlib.sha256(asked.encode()).hexdigest()[:8]
        url = storage or f"sqlite:///{(study.folder / 'trials.sqlite').resolve()}"
        direction = "maximize" if study.picks_larger else "minimize"
        with self._alone():
            self.found = optuna.create_study(
                storage=url, study_name=f"{study.folder.name}-{self.key}", direction=direction, load_if_exists=True,
                pruner=self._pruner(),
            )  # fmt: skip

    def go(self) -> str:
        """Make trials until there are enough; returns why it ended."""
        by = f"{self.count} trials by {valued_by(self.study.picks_name)}"
        self.screen.heading(f"Search  {self.method}, {by}, into {self.study.folder}")
        spent: list[float] = []
        while True:
            if self.stop is not None and spent and clock.monotonic() + 0.8 * float(np.mean(spent)) > self.stop:
                return "the search's share of the budget is used up"
            began = clock.monotonic()
            number = self._next()
            if number is None:
                return f"{self.count} trials were made"
            with store.claimed(self.study.folder / "claims" / f"trial-{self.key}-{number}") as mine:
                if not mine:
                    continue
                try:
                    self._make(number)
                except OutOfTime:
                    return "the search's share of the budget is used up"
            spent.append(clock.monotonic() - began)

    def _next(self) -> int | None:
        """A trial that a dead process left, else a new one; one process at a time asks, so no number is lost."""
        with self._alone():
            trials = self.found.get_trials(deepcopy=False)
            running = self.optuna.trial.TrialState.RUNNING
            for one in trials:
                if one.state == running:
                    with store.claimed(self.study.folder / "claims" / f"trial-{self.key}-{one.number}") as free:
                        if free:
                            return int(one.number)
            if len(trials) >= self.count:
                return None
            with warnings.catch_warnings():  # optuna calls some of its samplers experimental
                warnings.simplefilter("ignore", self.optuna.exceptions.ExperimentalWarning)
                self.found.sampler = self._sampler(len(trials))
            trial = self.found.ask()
            for key, one in self.space.items():
                self._suggest(trial, key, one)
            return int(trial.number)

    def _make(self, number: int) -> None:
        states = self.optuna.trial.TrialState
        frozen = self.found.get_trials(deepcopy=False)[number]
        if frozen.state != states.RUNNING:
            return
        trial = self.optuna.trial.Trial(self.found, frozen._trial_id)
        params = {key: self._suggest(trial, key, one) for key, one in self.space.items()}
        metric = self.study.picks_name

        def watch(place: int, row: Mapping[str, float]) -> bool:
            trial.report(float(row[metric]), place)
            return self.method in ("hyperband", "asha") and bool(trial.should_prune())

        value, state, error = None, states.FAIL, ""
        try:
            outcome = self.study.run(Arm(_shown(params), params), TUNING_SEED, deadline=self.stop, watch=watch)
            error = outcome.error
            rows = store.read_lines(outcome.folder / "metrics.jsonl")
            if not self.found.get_trials(deepcopy=False)[number].intermediate_values:
                for place, row in enumerate(rows[:-1], 1):  # a run that was made before is told as it went
                    trial.report(float(row[f"valid_{metric}"]), place)
            if outcome.picked is not None and np.isfinite(outcome.picked):
                value, state = outcome.picked, states.COMPLETE
        except Pruned:
            state = states.PRUNED
        if error:
            trial.set_user_attr("error", error)
        # A grid's own sampler would end optuna's loop here, and this is none.
        self.found.sampler = self.optuna.samplers.RandomSampler(seed=0)
        self.found.tell(number, value, state=state, skip_if_finished=True)
        said = (
            f"{value:.4f}" if value is not None else "stopped early" if state == states.PRUNED else f"failed: {error}"
        )
        left = "" if self.stop is None else f"  [{shown_time(max(self.stop - clock.monotonic(), 0))} left]"
        self.screen.line(f"  trial {number + 1} of {self.count}  {_shown(params)}  {said}{left}")

    def trials(self) -> list[Trial]:
        """All that were made, by any process."""
        made = []
        for one in self.found.get_trials(deepcopy=False):
            curve = [v for _, v in sorted(one.intermediate_values.items())]
            value = one.value if one.state.name == "COMPLETE" else None
            error = str(one.user_attrs.get("error", ""))
            made.append(Trial(one.number, dict(one.params), one.state.name.lower(), value, curve, error))
        return made

    def importance(self) -> dict[str, float]:
        """How much of the spread of values each key explains (fANOVA, Hutter et al. 2014); empty with few trials."""
        complete = [one for one in self.trials() if one.value is not None]
        if len(complete) < 4 or len({one.value for one in complete}) < 2:
            return {}
        if len(self.space) == 1:
            return {next(iter(self.space)): 1.0}
        evaluator = self.optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = self.optuna.importance.get_param_importances(self.found, evaluator=evaluator)
        return {key: float(value) for key, value in found.items()}

    def _suggest(self, trial: Any, key: str, one: Range | Choice) -> Any:
        if isinstance(one, Choice) or self.method == "grid":
            return trial.suggest_categorical(key, self.grid[key])
        if one.whole:
            return trial.suggest_int(key, int(one.low), int(one.high), log=one.log)
        return trial.suggest_float(key, one.low, one.high, log=one.log)

    def _sampler(self, asked: int) -> Any:
        samplers = self.optuna.samplers
        seed = keyed.key(0, "search", asked) & 0x7FFFFFFF  # differs for each trial, whichever process asks
        if self.method == "grid":
            return samplers.GridSampler(self.grid, seed=0)
        if self.method == "quasi-random":
            return samplers.QMCSampler(seed=0, scramble=True, warn_independent_sampling=False)
        if self.method == "tpe":
            return samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=min(10, max(4, self.count // 3)))
        if self.method == "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=min(10, max(4, self.count // 3)))
        return samplers.RandomSampler(seed=seed)

    def _pruner(self) -> Any:
        pruners = self.optuna.pruners
        if self.method == "hyperband":
            return pruners.HyperbandPruner(min_resource=1, max_resource="auto", reduction_factor=3)
        if self.method == "asha":
            return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        return pruners.NopPruner()

    def _alone(self) -> Any:
        return store.claimed(self.study.folder / "claims" / f"ask-{self.key}", wait=True)


def edges(best: Trial, space: Space) -> list[str]:
    """A sentence for each key whose best value lies at an end of its range: better ones may lie beyond."""
    made = []
    for key, one in space.items():
        side = one.edge(best.params[key])
        if side:
            made.append(f"the best {key} ({_value(best.params[key])}) lies at the {side} edge; search beyond it")
    return made


def flips(trials: Sequence[Trial], sign: int) -> list[str]:
    """A warning where ranks early in training are not those at its end, so stopping early would lose good trials.

    Compared at a third of the validations, where a third of the trials would go on (Hyperband's factor of 3).
    """
    whole = [one for one in trials if one.value is not None and len(one.curve) >= 3]
    if len(whole) < 6:
        return []
    early = np.array([sign * one.curve[max(len(one.curve) // 3 - 1, 0)] for one in whole])
    last = np.array([sign * float(one.value or 0.0) for one in whole])
    place = int((early > early[int(last.argmax())]).sum())
    rank = float(np.corrcoef(np.argsort(np.argsort(early)), np.argsort(np.argsort(last)))[0, 1])
    if place < -(-len(whole) // 3) and rank >= 0.5:
        return []
    return [
        f"ranks flip: at a third of training the best trial was number {place + 1} of {len(whole)} (rank correlation "
        f"{rank:.2f}); stopping trials early would choose another one, so prefer a --method that does not"
    ]


def _ends_are_valid(study: Study, space: Space) -> None:
    """Refuse a space whose ends no run could follow, before the first trial."""
    problems: list[str] = []
    for end in (0, -1):
        patch = {key: one.points(2)[end] for key, one in space.items()}
        try:
            plan_for(study.recipe.patched(patch), study.data, study.device)
        except RecipeError as error:
            problems += [one for one in error.problems if one not in problems]
    if problems:
        raise RecipeError(problems)


def _points(one: Range | Choice, space: Space, trials: int) -> int:
    """Points of a range in a grid of about so many trials."""
    fixed = int(np.prod([len(c.values) for c in space.values() if isinstance(c, Choice)] or [1]))
    ranges = sum(isinstance(c, Range) for c in space.values())
    return max(2, int((trials / fixed) ** (1 / ranges) + 1e-9)) if ranges else 2


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _shown(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={_value(value)}" for key, value in params.items())
