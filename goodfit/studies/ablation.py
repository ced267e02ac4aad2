"""``goodfit ablate``: does it help on this data? Pairs of runs, as many as the answer needs, and what they tell."""

from __future__ import annotations

import hashlib
import json
import re
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from goodfit import store
from goodfit.errors import GoodfitError, RecipeError
from goodfit.job import plan_for
from goodfit.plan import Plan
from goodfit.recipe import Recipe
from goodfit.screen import Screen
from goodfit.screen import clock as shown_time
from goodfit.studies import arms as vocabulary
from goodfit.studies import statistics
from goodfit.studies.arms import DEFAULT, Comparison
from goodfit.studies.crew import Crew, Wanted, crew
from goodfit.studies.page import write_page
from goodfit.studies.study import Arm, Busy, Outcome, OutOfTime, Study
from goodfit.studies.verdicts import Ablation, Finding, sentence_of

MOST_SEEDS = 20
TUNING_SEED = 1000
"""Tuning runs have seeds from here on, so that no pair is judged that chose its own settings."""


def seeds_from(text: str | int | Sequence[int]) -> tuple[int, int]:
    """``"10"``: ten pairs, no more and no less; ``"6..20"``: from six on until it is clear, at most twenty."""
    found = re.fullmatch(r"\s*(\d+)\s*(?:(?:\.\.|-)\s*(\d+))?\s*", str(text)) if isinstance(text, str | int) else None
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not found and not isinstance(text, str | int):
        low, high = text
    if not 2 <= low <= high <= statistics.LAST_LOOK:
        raise RecipeError([f"--seeds {text}: give a number from 2 to {statistics.LAST_LOOK}, or a range such as 6..20"])
    return low, high


def seconds_from(text: str | float | None) -> float | None:
    """``"90s"``, ``"30m"``, ``"2h"`` or a number of seconds."""
    if text is None or isinstance(text, int | float):
        return None if text is None else float(text)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?\s*", text)
    if not found or float(found[1]) <= 0:
        raise RecipeError([f"--budget {text}: write it as 90s, 30m or 2h"])
    return float(found[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[found[2] or "s"]


def study_folder(source: Any, recipe: Recipe, **more: Any) -> Path:
    """Where a study of this recipe on this source lies unless said: the same question finds its runs again."""
    named = isinstance(source, str | Path)
    name = re.sub(r"[^A-Za-z0-9_]+", "-", Path(str(source)).stem).strip("-").lower() if named else "data"
    key = json.dumps([str(source) if named else "", recipe.flat(), more], sort_keys=True, default=str)
    return Path("runs") / f"{name or 'data'}-study-{hashlib.sha256(key.encode()).hexdigest()[:6]}"


def ablate(
    source: Any,
    *,
    toggle: Sequence[str] = (),
    values: Sequence[str] = (),
    remove_one: bool = False,
    ladder: str | None = None,
    arms: Sequence[Arm | Comparison] | Mapping[str, Mapping[str, Any]] = (),
    recipe: Recipe | None = None,
    seeds: str | int | tuple[int, int] = f"{statistics.FIRST_LOOK}..{MOST_SEEDS}",
    budget: str | float | None = None,
    tune_each: int = 0,
    method: statistics.Method | None = None,
    metric: str | None = None,
    matters: float | None = None,
    target: str | None = None,
    time: str | None = None,
    horizon: int | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    calibrate: bool = False,
    jobs: int | None = None,
    retry_failed: bool = False,
    screen: Screen | None = None,
    study: Study | None = None,
) -> Ablation:
    """Which of these changes help on this data, and how sure is that?

    toggle: names to switch (``mixup``, ``label_smoothing``, ``ema``); off where the recipe has it, else on.
    values: ``"key=a,b,c"``, one arm a value. remove_one: take out each technique that is on, one at a time.
    ladder: ``augmentation``. arms: patches of your own, by name.
    seeds: ``"6..20"``: until it is clear; ``"10"``: exactly ten pairs. budget: ``"30m"``; it is kept.
    tune_each: so many learning rates are tried for every arm first, the default included, on rows that do not judge.
    method: interval of a fixed number of pairs, ``t`` unless said (``studentised``, ``bca``).
    matters: the smallest difference that you would act on: 0.005 of a share (at least one judging row), 1 % of any
        other metric, unless said.
    jobs: processes that make runs at once; as many as there are cores and arms, 4 at most, unless said.
    retry_failed: make runs again that failed when this was asked before.
    study: one that is open already, in place of source, recipe, folder and metric.

    Raises RecipeError for unknown names and for arms that are the same, GoodfitError where the recipe itself fails or
    the budget does not suffice for one pair.

    >>> import goodfit  # doctest: +SKIP
    >>> goodfit.ablate("digits", toggle=["mixup"]).findings[0].verdict  # doctest: +SKIP
    """
    began = clock.monotonic()
    screen, limit, (least, most) = screen or Screen(), seconds_from(budget), seeds_from(seeds)
    given = {"data.target": target, "data.time": time, "data.horizon": horizon}
    recipe = (recipe or Recipe()).patched({k: v for k, v in given.items() if v is not None})
    if study is None:
        folder = Path(out) if out else study_folder(source, recipe, metric=metric, calibrate=calibrate)
        study = Study(folder, source, recipe, metric=metric, device=device, calibrate=calibrate, screen=screen)
    if retry_failed:
        study.retry_failed()
    if jobs is not None and jobs < 1:
        raise RecipeError([f"--jobs {jobs}: one process at least"])
    plan = plan_for(study.recipe, study.data, study.device)
    asked = [
        *vocabulary.toggled(toggle, plan),
        *vocabulary.valued(values, plan),
        *(vocabulary.each_removed(plan) if remove_one else ()),
        *(vocabulary.ladder(ladder, plan) if ladder else ()),
        *_own(arms),
    ]
    if not asked:
        raise RecipeError(
            ["say what to compare: --toggle mixup, --set optimizer.lr=1e-3,3e-3, --remove-one or --ladder"]
        )
    if ladder and not (toggle or values or remove_one or arms):
        reference, asked = asked[0].arm, asked[1:]
    else:
        reference = Arm(DEFAULT)
    everyone = [reference, *(one.arm for one in asked)]
    vocabulary.named_twice(everyone)
    vocabulary.refuse_twins(_plans(study, everyone))
    sequential = least < most
    with crew(study, at_once=len(everyone), size=jobs) as others:
        work = _Work(
            study, reference, asked, least, most, screen, others,
            method="always-valid" if sequential else method or "t",
            matters=matters, deadline=None if limit is None else began + limit, began=began, limit=limit,
        )  # fmt: skip
        if tune_each:
            work.tune(tune_each)
        ended = work.pairs()
    return work.answer(ended)


def _own(arms: Any) -> list[Comparison]:
    if isinstance(arms, Mapping):
        return [Comparison(Arm(name, patch)) for name, patch in arms.items()]
    return [one if isinstance(one, Comparison) else Comparison(one) for one in arms]


def _plans(study: Study, arms: Sequence[Arm]) -> dict[str, Plan]:
    """Every arm's plan, so that a recipe that cannot be followed is told before the first run, all at once."""
    found, problems = {}, []
    for arm in arms:
        try:
            recipe = vocabulary.patched(study.recipe, arm)
            found[arm.name] = plan_for(recipe, study.data_for(recipe), study.device)
        except RecipeError as error:
            problems += [one if arm.name in one else f"arm '{arm.name}': {one}" for one in error.problems]
    if problems:
        raise RecipeError(problems)
    return found


class _Work:
    """The runs of one ablation, pair after pair, and what they say so far."""

    def __init__(
        self, study: Study, reference: Arm, asked: Sequence[Comparison], least: int, most: int, screen: Screen,
        others: Crew, *, method: statistics.Method, matters: float | None, deadline: float | None, began: float,
        limit: float | None,
    ) -> None:  # fmt: skip
        self.study, self.reference, self.asked = study, reference, list(asked)
        self.least, self.most, self.screen, self.others = least, most, screen, others
        self.method, self._matters, self.deadline, self.began, self.limit = method, matters, deadline, began, limit
        self.arms = {arm.name: arm for arm in (reference, *(one.arm for one in asked))}
        self.done: dict[str, dict[int, Outcome]] = {name: {} for name in self.arms}
        self.closed: dict[str, int] = {}
        self.tuned: dict[str, str] = {}
        self.cost: list[float] = []

    def tune(self, trials: int) -> None:
        """Give every arm the same number of learning rates, and take the best by the rows that pick weights."""
        if trials < 2:
            raise RecipeError([f"--tune-each {trials}: two trials at least, or leave it out"])
        self.screen.heading(f"Tuning  {len(self.arms)} arms, {trials} learning rates each")
        for name, arm in list(self.arms.items()):
            if "optimizer.lr" in arm.patch:
                self.tuned[name] = "its learning rate is what it is about, and stays"
                continue
            recipe = vocabulary.patched(self.study.recipe, arm)
            middle = float(plan_for(recipe, self.study.data_for(recipe), self.study.device)["optimizer.lr"])
            tried = []
            for factor in factors(trials):
                lr = float(f"{middle * factor:.3g}")
                one = Arm(f"{name} lr={lr:g}", {**arm.patch, "optimizer.lr": lr})
                outcome = self._run(one, TUNING_SEED)
                if outcome.picked is not None:
                    tried.append((outcome.picked if self.study.picks_larger else -outcome.picked, lr))
            if not tried:
                continue
            best = max(tried)[1]
            self.tuned[name] = f"learning rate {best:g}, the best of {trials}"
            self.screen.line(f"  {name}: {self.tuned[name]}")
            settled = Arm(f"{name} tuned lr={best:g}", {**arm.patch, "optimizer.lr": best})
            self.arms[name] = settled

    def pairs(self) -> str:
        """Run pairs until all is clear, the seeds are used up or the time is; returns why it ended."""
        self.screen.heading(f"Pairs  {', '.join(self.arms)}; judged by {self.study.metric}, into {self.study.folder}")
        for seed in range(self.most):
            wanted = [name for name in self.arms if self._needed(name)]
            if len(wanted) < 2:
                return "every arm is clear"
            try:
                self._round(seed, wanted)
            except OutOfTime as late:
                if not any(self._shared(one) for one in self.asked):
                    raise GoodfitError(self._too_small(late)) from None
                return f"the budget of {shown_time(self.limit or 0)} is used up"
            if seed == 0 and self.done[self.reference.name][0].status == "failed":
                raise GoodfitError(f"the recipe itself fails: {self.done[self.reference.name][0].error}")
            self._close()
            self._tell(seed)
        return f"{self.most} pairs were made" if self._open() else "every arm is clear"

    def _round(self, seed: int, wanted: Sequence[str]) -> None:
        left = list(wanted)
        while left:
            busy = []
            for name in left:
                self._call(seed)
                try:
                    self.done[name][seed] = self._run(self.arms[name], seed, wait=len(left) == 1)
                except Busy:
                    busy.append(name)
                    continue
                if seed == 0 and name == self.reference.name and self.done[name][seed].status == "failed":
                    return
            if len(busy) == len(left):
                clock.sleep(0.3)
            left = busy

    def _call(self, seed: int) -> None:
        """Tell the other processes which runs this round and the next one want, once their price is known."""
        if not self.cost:
            return
        names = [name for name in self.arms if self._needed(name)]
        rounds = range(seed, min(seed + 2, self.most))
        seconds = len(names) * float(np.median(self.cost)) * max(self.least - seed, 1)
        if self.deadline is not None:
            seconds = min(seconds, self.deadline - clock.monotonic())
        self.others.call(
            [Wanted(self.arms[name], k) for k in rounds for name in names], seconds=seconds, deadline=self.deadline
        )

    def _run(self, arm: Arm, seed: int, *, wait: bool = True) -> Outcome:
        stored = self.study.stored(arm, seed)
        if stored is None:
            self._afford()
            stored = self.study.run(arm, seed, wait=wait, deadline=self.deadline)
            self.cost.append(stored.seconds)
        return stored

    def _afford(self) -> None:
        """Raise OutOfTime where the next run would not end before the budget does."""
        if self.deadline is not None and self.cost:
            # The first run of a process pays for pre-flight; later ones tell the price better.
            price = 1.1 * float(np.median(self.cost[1:] or self.cost))
            if clock.monotonic() + price > self.deadline:
                raise OutOfTime("no time for another run", 0, share=0.0)

    def _too_small(self, late: OutOfTime) -> str:
        spent = clock.monotonic() - self.began
        known = float(np.median(self.cost)) if self.cost else spent / max(late.share, 0.02)
        need = 2 * known + 1
        return (
            f"a budget of {shown_time(self.limit or 0)} is too small for one pair, which takes about "
            f"{shown_time(need)}; {statistics.FIRST_LOOK} pairs of {len(self.arms) - 1} arm"
            f"{'s' * (len(self.arms) > 2)} about {shown_time(known * len(self.arms) * statistics.FIRST_LOOK)}. "
            "What was trained is kept; the same command goes on"
        )

    def _needed(self, name: str) -> bool:
        return any(name in (one.arm.name, one.against_or(self.reference.name)) for one in self._open())

    def _open(self) -> list[Comparison]:
        return [one for one in self.asked if one.arm.name not in self.closed]

    def _shared(self, one: Comparison) -> list[int]:
        mine, other = self.done[one.arm.name], self.done[one.against_or(self.reference.name)]
        return [s for s in sorted(mine) if s in other and {mine[s].status, other[s].status} == {"finished"}]

    def _differences(self, one: Comparison) -> np.ndarray[Any, np.dtype[np.float64]]:
        mine, other = self.done[one.arm.name], self.done[one.against_or(self.reference.name)]
        pairs = [(mine[s].value, other[s].value) for s in self._shared(one)]
        return np.array([a - b for a, b in pairs if a is not None and b is not None], dtype=np.float64)

    @property
    def matters(self) -> float:
        """The smallest difference that one would act on."""
        if self._matters is not None:
            return self._matters
        shares = ("accuracy", "balanced_accuracy", "macro_f1", "precision", "recall", "f1", "roc_auc", "ece", "brier")
        if self.study.metric in (*shares, "average_precision", "exact_match", "r2", "character_error_rate"):
            return max(0.005, *(self._resolution(one) for one in self.asked if self._shared(one)), 0.0)
        seen = [o.value for o in self.done[self.reference.name].values() if o.value is not None]
        return 0.01 * abs(float(np.mean(seen))) if seen else 0.0

    def _resolution(self, one: Comparison) -> float:
        if self.study.metric not in ("accuracy", "exact_match"):
            return 0.0
        seen = self.done[one.arm.name][self._shared(one)[0]]
        return 1.0 / max(len(seen.index), 1)

    def _judged(self) -> dict[str, tuple[statistics.Interval, float]]:
        """Each comparison's interval at the level Holm reads it at, and its adjusted p."""
        rows = {one.arm.name: one for one in self.asked if len(self._shared(one)) >= 1}
        steps = {name: self._resolution(one) for name, one in rows.items()}
        p = {
            name: statistics.p_value(self._differences(one), method=self.method, resolution=steps[name])
            for name, one in rows.items()
        }
        found = {}
        for name, (adjusted, level) in statistics.holm(p).items():
            d = self._differences(rows[name])
            found[name] = (
                statistics.paired(d, level=level, method=self.method, resolution=steps[name]),
                adjusted,
            )
        return found

    def _close(self) -> None:
        """Close the arms that are clear, and those that fail."""
        judged = self._judged()
        for one in self._open():
            name = one.arm.name
            failed = [o for o in self.done[name].values() if o.status == "failed"]
            if len(failed) >= 2 and len(failed) == len(self.done[name]):
                self.closed[name] = len(failed)
            elif name in judged and self.method == "always-valid" and len(self._shared(one)) >= self.least:
                interval, p = judged[name]
                word = statistics.verdict(
                    interval, p, matters=self.matters, larger_is_better=self.study.larger_is_better
                )
                if word != "inconclusive":
                    self.closed[name] = len(self._shared(one))

    def _tell(self, seed: int) -> None:
        default = self.done[self.reference.name].get(seed)
        said = []
        for one in self.asked:
            outcome, other = self.done[one.arm.name].get(seed), self.done[one.against_or(self.reference.name)].get(seed)
            if outcome is None:
                continue
            if outcome.status == "failed":
                said.append(f"{one.arm.name} failed ({outcome.error[:60]})")
            elif other is not None and other.value is not None and outcome.value is not None:
                said.append(f"{one.arm.name} {outcome.value - other.value:+.4f}")
        spent = clock.monotonic() - self.began
        price = float(np.median(self.cost)) if self.cost else 0.0
        names = {n for one in self._open() for n in (one.arm.name, one.against_or(self.reference.name))}
        left = (self.most - seed - 1) * len(names) * price / (1 + len(self.others.members))
        if self.deadline is not None:
            left = min(left, max(self.deadline - clock.monotonic(), 0))
        value = "-" if default is None or default.value is None else f"{default.value:.4f}"
        self.screen.line(
            f"  seed {seed}  {self.reference.name} {value}  {'  '.join(said)}  "
            f"[{shown_time(spent)} spent, at most {shown_time(left)} left]"
        )
        if seed == 0:
            self._warn_of_a_small_budget(spent)

    def _warn_of_a_small_budget(self, spent: float) -> None:
        """Say at once where the budget will end before the first interval."""
        if self.limit is None or not self.cost:
            return
        known = float(np.median(self.cost)) * len(self.arms) / self.others.size
        need = spent + (self.least - 1) * known
        if need > self.limit:
            pairs = 1 + max(int((self.limit - spent) / known), 0)
            self.screen.warn(
                f"  this budget is enough for about {pairs} pair{'s' * (pairs != 1)} of every arm, and an answer needs "
                f"{self.least}: about {shown_time(1.2 * need)}. What is trained is kept; the same command goes on"
            )

    def answer(self, ended: str) -> Ablation:
        """Everything that may be said, written to ablation.json and shown."""
        judged = self._judged()
        findings = [self._finding(one, judged.get(one.arm.name)) for one in self.asked]
        seen = [o.value for o in self.done[self.reference.name].values() if o.value is not None]
        made = Ablation(
            findings, self.study.metric, self.study.larger_is_better, float(np.mean(seen)) if seen else None,
            self.matters, ended, clock.monotonic() - self.began, self.study.folder,
        )  # fmt: skip
        plain = {k: v for k, v in asdict(made).items() if k not in ("folder", "page")}
        store.write_json(self.study.folder / "ablation.json", plain)
        return replace(made, page=write_page(made, source=self.study.typed))

    def _finding(self, one: Comparison, judged: tuple[statistics.Interval, float] | None) -> Finding:
        name, against = one.arm.name, one.against_or(self.reference.name)
        mine, other, shared = self.done[name], self.done[against], self._shared(one)
        failed = [o for o in mine.values() if o.status == "failed"]
        spent = sum(o.seconds for o in mine.values())
        patch = self.arms[name].patch
        notes = [self.tuned[name]] if name in self.tuned else []
        if failed:
            notes.append(f"{len(failed)} of {len(mine)} runs failed: {failed[0].error}")
        if judged is None:
            sentence = f"{name} failed: {failed[0].error}" if failed else f"{name}: no pair was finished"
            return Finding(name, against, patch, "failed" if failed else "inconclusive", sentence, None, None, None,
                           statistics.LEVEL, 1.0, 0, None, None, None, notes, spent)  # fmt: skip
        interval, p = judged
        starts = [(mine[s].start, other[s].start) for s in shared]
        if any(a.get("shapes") != b.get("shapes") for a, b in starts):
            notes.append("its model has other parameters, so the pairs cannot begin from the same weights")
        elif any(a.get("weights") != b.get("weights") for a, b in starts):
            notes.append("it begins from other initial weights")
        if interval.note:
            notes.append(interval.note)
        word = statistics.verdict(interval, p, matters=self.matters, larger_is_better=self.study.larger_is_better)
        least = statistics.detectable(interval.sd, len(shared), method=interval.method, level=interval.level)
        a, b = ([outcomes[s].value or 0.0 for s in shared] for outcomes in (other, mine))
        gain = statistics.pairing_gain(a, b) if len(shared) > 2 else None
        finite = [None if not np.isfinite(v) else float(v) for v in (interval.low, interval.high, least)]
        return Finding(
            name, against, patch, word, sentence_of(name, against, word, interval, self.study.metric), interval.mean,
            finite[0], finite[1], interval.level, p, len(shared), finite[2],
            gain if gain is None or np.isfinite(gain) else None, self._rows(one, shared), notes, spent,
        )  # fmt: skip

    def _rows(self, one: Comparison, shared: Sequence[int]) -> dict[str, float] | None:
        mine, other = self.done[one.arm.name], self.done[one.against_or(self.reference.name)]
        if not shared:
            return None
        hits = all(o[s].right is not None for o in (mine, other) for s in shared) and self.study.metric == "accuracy"
        tables = [
            np.stack([np.asarray(o[s].right if hits else o[s].losses, dtype=float) for s in shared])
            for o in (other, mine)
        ]
        seen = asdict(statistics.mcnemar(*tables))
        return {**seen, "hits": float(hits)}


def factors(trials: int) -> list[float]:
    """Learning rates to try as multiples of the default's, itself first: van der Corput's, from a tenth to tenfold.

    >>> [round(one, 2) for one in factors(4)]
    [1.0, 0.32, 3.16, 0.18]
    """
    made = []
    for k in range(1, trials + 1):
        place, share, rest = 0.0, 0.5, k
        while rest:
            place, share, rest = place + share * (rest & 1), share / 2, rest >> 1
        made.append(10 ** (2 * place - 1))
    return made
