"""Where a claim is measured: the data folder, the runs, the pairs to make and the time there is for them."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.claims.claim import Finding, Says
from goodfit.recipe import Recipe
from goodfit.screen import Screen
from goodfit.studies import Arm, Outcome, Study
from goodfit.studies.study import OutOfTime

PLAIN: Mapping[str, Any] = {
    "average.name": "none",
    "loss.name": "cross_entropy",
    "loss.label_smoothing": 0.0,
    "numerics.precision": "fp32",
    "numerics.memory_format": "channels_last",
    "numerics.compile": False,
    "numerics.threads": 1,
    "batch.crop": False,
    "batch.flip": False,
    "tta": "none",
    "schedule.name": "cosine",
    "schedule.warmup": "0 steps",
    "stopping.name": "none",
    "stopping.keep": "last",
}
"""Nothing that a claim is not about: no averaging, smoothing, augmentation, warm-up or choice among checkpoints."""
CNN: Mapping[str, Any] = {"model.name": "cnn", "model.width": 16, "model.depth": 3, "model.convs": 1, "batch_size": 64}
TUNING_SEED = 1000
"""Settings are chosen with this seed, which no pair has, by the rows that pick weights and judge nothing."""


class NoTime(RuntimeError):
    """The budget does not suffice for two pairs."""


@dataclass(frozen=True)
class Runs:
    """What came of the pairs: ``outcomes[arm][k]`` is the run of the k-th seed, and all arms have as many."""

    outcomes: Mapping[str, Sequence[Outcome]]

    def values(self, arm: str, metric: str, *, failed: float | None = None) -> list[float]:
        """A metric of each run of an arm. failed: what a run counts whose numbers were not finite any more.

        Raises RuntimeError for any other failure: a mistake in a recipe is no result.
        """
        found = []
        for one in self.outcomes[arm]:
            value = one.metrics.get(metric) if one.status == "finished" else None
            if value is not None and math.isfinite(value):
                found.append(float(value))
            elif failed is not None and (one.status == "finished" or "finite" in one.error):
                found.append(failed)
            else:
                raise RuntimeError(f"{arm} with seed {one.seed}: {one.error or f'no {metric}'}")
        return found

    def finding(
        self, what: str, arm: str, against: str, metric: str, says: Says, matters: float, *,
        failed: float | None = None, control: bool = False,
    ) -> Finding:  # fmt: skip
        """Two arms by one metric."""
        step = 0.0
        if metric == "accuracy":
            finished = [one for name in (arm, against) for one in self.outcomes[name] if one.status == "finished"]
            step = 1.0 / len(finished[0].index) if finished else 0.0
        mine, other = (self.values(name, metric, failed=failed) for name in (arm, against))
        return Finding(what, metric.replace("_", " "), mine, other, says, matters, step, control)


@dataclass(frozen=True)
class Place:
    """data: the folder with the real data, None where only embedded sets may be read. out: runs are kept there.
    seeds: how many pairs; at least two. deadline: by `time.monotonic`. say: tells a line of progress.
    steps: of every run, in place of its claim's own length: to see that all of it works, not to learn anything.
    """

    data: Path | None
    out: Path
    seeds: int
    deadline: float | None = None
    say: Callable[[str], None] = print
    steps: int | None = None

    @property
    def folder(self) -> Path:
        """The data folder; raises FileNotFoundError where there is none."""
        if self.data is None or not self.data.is_dir():
            raise FileNotFoundError("this claim reads files: give --data DIR")
        return self.data

    def study(
        self, name: str, source: Any, recipe: Mapping[str, Any], *, model: Callable[[], nn.Module] | None = None,
        rows: Sequence[int] | None = None, metric: str | None = None,
    ) -> Study:  # fmt: skip
        """A study of the plain recipe with changes; another recipe, length or source has another folder."""
        settings = {**PLAIN, "data.seed": 0, **recipe}
        settings |= {"epochs": f"{self.steps} steps"} if self.steps else {}
        said = str(source) if isinstance(source, str | Path) else "arrays"
        key = json.dumps([said, settings, None if rows is None else list(rows)], sort_keys=True, default=str)
        folder = self.out / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:6]}"
        return Study(
            folder, source, Recipe().patched(settings), model=model, rows=rows, metric=metric, screen=Screen.silent()
        )

    def tuned(
        self, study: Study, arms: Mapping[str, Mapping[str, Any]], key: str, values: Sequence[float]
    ) -> list[Arm]:
        """Each arm with the best of these values, by the rows that pick; the same values and seed for every arm."""
        made = []
        values = values[:2] if self.steps else values
        for name, patch in arms.items():
            tried = []
            for value in values:
                try:
                    one = study.run(
                        Arm(f"{name} {key}={value:g}", {**patch, key: value}), TUNING_SEED, deadline=self.deadline
                    )
                except OutOfTime as late:
                    raise NoTime(f"the time ended while tuning {name}") from late
                if one.picked is not None and math.isfinite(one.picked):
                    tried.append((one.picked if study.picks_larger else -one.picked, -values.index(value)))
            best = values[-max(tried)[1]]
            self.say(f"    {name}: {key} = {best:g}, the best of {len(values)}")
            # What lies beyond the edge was not tried, and a reader should know.
            edge = ", the grid's edge" if best in (min(values), max(values)) else ""
            made.append(Arm(f"{name} {key}={best:g}{edge}", {**patch, key: best}))
        return made

    def pairs(
        self, study: Study, arms: Sequence[Arm] | Callable[[int], Sequence[Arm]], *, names: Sequence[str] = ()
    ) -> Runs:
        """One run of every arm for each seed; ends early, with whole rounds, where the time does.

        arms: a function of the seed where arms depend on it (a teacher of each seed's own). names: keys of the result.
        """
        rounds: list[list[Outcome]] = []
        for seed in range(self.seeds):
            if self.deadline is not None and time.monotonic() > self.deadline:
                break
            try:
                asked = list(arms(seed)) if callable(arms) else list(arms)
                rounds.append([study.run(arm, seed, deadline=self.deadline) for arm in asked])
            except OutOfTime:
                break
            said = "  ".join(f"{one.arm} {_shown(one)}" for one in rounds[-1])
            self.say(f"    seed {seed}: {said}")
        if len(rounds) < 2:
            raise NoTime("the time does not suffice for two pairs")
        keys = list(names) or [one.arm for one in rounds[0]]
        return Runs({key: [one[k] for one in rounds] for k, key in enumerate(keys)})

    def repeats(self, measure: Callable[[int], Mapping[str, float]]) -> dict[str, list[float]]:
        """A direct measurement with each seed: ``name -> one number a seed``."""
        found: dict[str, list[float]] = {}
        with one_thread():
            for seed in range(self.seeds):
                if self.deadline is not None and time.monotonic() > self.deadline and seed > 1:
                    break
                for name, value in measure(seed).items():
                    found.setdefault(name, []).append(float(value))
        return found


class one_thread:
    """``with one_thread():`` PyTorch computes in one thread, as every study's runs do."""

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)


def _shown(one: Outcome) -> str:
    return "failed" if one.value is None else f"{one.value:.4f}"
