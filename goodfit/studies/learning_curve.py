"""``goodfit curve``: would more data help, or a better model? Runs on nested shares of the training part answer it.

Each seed draws its own order of the training rows (classes evenly spread), and its shares are the beginnings of that
order, so a larger share holds the smaller ones. All runs are judged on the same rows. What the recipe leaves open is
chosen for each share's own size, as it would be for a data set of that size: a small share trains for more epochs.
Of a series or a text a share is what lies nearest to validation in time.

The runs on half of the data are also resamples of it; with a few more, the error is split into bias and variance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from goodfit import keyed, store
from goodfit.data.language import Windows
from goodfit.data.windows import SeriesWindows
from goodfit.errors import DataError, GoodfitError
from goodfit.evaluation.metrics import SHOWN
from goodfit.recipe import Recipe
from goodfit.report.next import regularisers
from goodfit.screen import Screen, clock
from goodfit.studies.ablation import study_folder
from goodfit.studies.bias_variance import Split, cross_entropy, squared_error, zero_one
from goodfit.studies.crew import Wanted, crew
from goodfit.studies.curve import Gain, PowerLaw, fit_power_law
from goodfit.studies.study import Arm, Outcome, Study
from goodfit.types import Part

SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)
SEEDS, RESAMPLES = 3, 6
FEWEST = 20
"""Rows of the smallest share at least, and two of each class."""
FEWEST_WRONG = 3
"""Where fewer of the judging rows are wrong on the average, the curve at its end is made of single rows."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A learning curve.

    error: what falls: the metric itself, or 1 less it where more is better. points: (samples,
    seed, error) of each run. law, gain: the fitted curve and what twice the data would bring; None, with the reason in
    ``why``, without a fit. splits: bias and variance at half of the data; ``why_no_split`` says why there are none.
    plan: what the run on all of the data chose. remedies: changes of the batch against variance that it can have.
    """

    name: str
    error: str
    points: tuple[tuple[int, int, float], ...]
    law: PowerLaw | None
    gain: Gain | None
    why: str
    splits: tuple[Split, ...]
    split_size: int
    why_no_split: str
    plan: Mapping[str, Any]
    remedies: tuple[str, ...]
    seconds: float
    folder: str

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values, without the redrawn curves and the single rows."""
        law = None if self.law is None else {k: getattr(self.law, k) for k in ("floor", "scale", "exponent", "scatter")}
        splits = [{k: v for k, v in vars(one).items() if k != "rows"} for one in self.splits]
        plain = {k: v for k, v in vars(self).items() if k not in ("law", "gain", "splits")}
        return {"format": 1, **plain, "law": law, "gain": self.gain and asdict(self.gain), "splits": splits}


def learning_curve(
    source: Any,
    recipe: Recipe | None = None,
    *,
    shares: Sequence[float] = SHARES,
    seeds: int = SEEDS,
    resamples: int = RESAMPLES,
    target: str | None = None,
    time: str | None = None,
    horizon: int | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    at_once: int | None = None,
    retry_failed: bool = False,
    screen: Screen | None = None,
) -> Curve:
    """Train on shares of the training part, fit the curve, and split the error of models trained on half of it.

    resamples: models for the split, 0 for none. out: the study's folder, one of its own in ``runs/`` for each recipe
    unless said; runs that lie there are not made again, but for those that failed with ``retry_failed``. at_once:
    processes that make runs; as many as there are cores, 4 at most, unless said. Raises DataError for shares that
    cannot be, or fewer than three of them.
    """
    screen = screen or Screen()
    given = {"data.target": target, "data.time": time, "data.horizon": horizon}
    asked = (recipe or Recipe()).patched({k: v for k, v in given.items() if v is not None})
    folder = Path(out) if out is not None else study_folder(source, asked, metric=None, calibrate=False)
    study = Study(folder, source, asked, screen=screen, device=device)
    if retry_failed:
        study.retry_failed()
    data, metric = study.data, study.metric
    classes = data.train.targets if data.task.kind == "classification" else None
    sizes = sizes_of(len(data.train), shares, classes=0 if classes is None else len(data.task.classes))
    half = min(sizes, key=lambda size: abs(size - len(data.train) / 2))
    splits = data.task.kind in ("classification", "regression", "forecast") and resamples >= 3
    first = int(asked.flat().get("seed", 0))
    jobs = [(size, first + k) for k in range(seeds) for size in sorted(sizes, reverse=True)]
    jobs += [(half, first + k) for k in range(seeds, resamples)] if splits else []
    screen.heading(
        f"Learning curve  {len(sizes)} sizes from {min(sizes):,} to {max(sizes):,}, {seeds} seeds; "
        f"{len(jobs)} runs into {folder}"
    )
    wanted = [
        Wanted(Arm(f"{size}-samples"), seed, nested(data.train, seed=seed, classes=classes)[:size].tolist())
        for size, seed in jobs
    ]
    done: dict[tuple[int, int], Outcome] = {}
    with crew(study, at_once=len(jobs), size=at_once) as others:
        for place, (size, seed) in enumerate(jobs):
            outcome = done[size, seed] = study.run(wanted[place].arm, seed, rows=wanted[place].rows)
            rest = _rest(jobs[place + 1 :], done)
            # The others begin at the end of the list, so that nobody waits for anybody before the lists meet.
            others.call(wanted[:place:-1], seconds=rest)
            left = f", about {clock(rest / (1 + len(others.members)))} left" if rest else ""
            said = (
                f"{SHOWN[metric].title} {outcome.value:.4f}"
                if outcome.value is not None
                else f"failed: {outcome.error}"
            )
            screen.line(f"  {size:>7,} samples, seed {seed}: {said}  {outcome.seconds:.0f} s{left}")
    turned = study.larger_is_better
    error = f"1 - {SHOWN[metric].title}" if turned else SHOWN[metric].title
    points = tuple(
        (size, seed, 1 - one.value if turned else one.value)
        for (size, seed), one in sorted(done.items())
        if one.value is not None
    )
    if not points:
        raise GoodfitError(f"all runs failed: {next(iter(done.values())).error}")
    judges = len(next(one for one in done.values() if one.value is not None).index)
    law, gain, why = _fitted(points, seed=first)
    wrong = judges * float(np.mean([error for size, _, error in points if size == max(sizes)] or [1.0]))
    if turned and wrong < FEWEST_WRONG:
        why = f"with all the data {wrong:.1f} of the {judges:,} rows that judge are wrong, too few to see errors fall"
        law = gain = None
    found: tuple[Split, ...] = ()
    reason = "it is made for classes and values" if not splits else ""
    if splits:
        found, reason = _splits([one for (size, _), one in sorted(done.items()) if size == half], data.task)
    plan = _plan(done[max(sizes), first])
    curve = Curve(
        name=data.name,
        error=error,
        points=points,
        law=law,
        gain=gain,
        why=why,
        splits=found,
        split_size=half,
        why_no_split=reason,
        plan=plan,
        remedies=tuple(regularisers(plan, asdict(data.spec), data.task.kind)),
        seconds=sum(one.seconds for one in done.values()),
        folder=str(folder),
    )
    store.write_json(folder / "curve.json", curve.to_json())
    return curve


def sizes_of(count: int, shares: Sequence[float], *, classes: int = 0) -> list[int]:
    """The numbers of samples of these shares, without those that are too few to learn from.

    >>> sizes_of(1000, (1.0, 0.5, 0.25, 0.01), classes=10)
    [1000, 500, 250]
    """
    wrong = [share for share in shares if not 0 < share <= 1]
    if wrong:
        raise DataError(f"a share of {wrong[0]:g} cannot be trained on; shares lie above 0 and go up to 1")
    sizes = sorted({round(share * count) for share in shares}, reverse=True)
    kept = [size for size in sizes if size >= max(FEWEST, 2 * classes)]
    if len(kept) < 3:
        raise DataError(
            f"of {count:,} training samples {len(kept)} of these shares hold enough to learn from, and a curve needs "
            "3; give more or larger --shares, such as 1,0.75,0.5"
        )
    return kept


def nested(part: Part, *, seed: int, classes: Tensor | None = None) -> Tensor:
    """An order of all positions whose beginnings are nested subsets, with every class in its own share.

    A class of m samples puts its k-th (in keyed random order) at the place ``(k + u) / m`` with one draw u for each
    class, so any beginning of N of n samples holds ``m N / n`` of it, to within one.
    """
    count = len(part)
    if isinstance(part, SeriesWindows | Windows):
        return torch.arange(count).flip(0)
    order = keyed.permutation(keyed.key(seed, "nested"), count)
    if classes is None:
        return order
    kinds = classes[order]
    place = torch.empty(count, dtype=torch.float64)
    for kind in torch.unique(kinds):
        mine = torch.nonzero(kinds == kind)[:, 0]
        offset = float(keyed.uniform(keyed.key(seed, "nested class"), kind[None].long())[0, 0])
        place[mine] = (torch.arange(len(mine), dtype=torch.float64) + offset) / len(mine)
    return order[torch.argsort(place, stable=True)]


def _plan(outcome: Outcome) -> dict[str, Any]:
    path = outcome.folder / "plan.json"
    return {k: c["value"] for k, c in store.read_json(path)["choices"].items()} if path.exists() else {}


def _rest(jobs: Sequence[tuple[int, int]], done: dict[tuple[int, int], Outcome]) -> float:
    """About how many seconds of runs are to come: each as long as those of its size, or of the nearest known."""
    known: dict[int, list[float]] = {}
    for (size, _), one in done.items():
        known.setdefault(size, []).append(one.seconds)
    return sum(float(np.mean(known[min(known, key=lambda one: abs(one - size))])) for size, _ in jobs)


def _fitted(points: Sequence[tuple[int, int, float]], *, seed: int) -> tuple[PowerLaw | None, Gain | None, str]:
    try:
        law = fit_power_law([size for size, _, _ in points], [error for _, _, error in points], seed=seed)
    except DataError as error:
        return None, None, str(error)
    return law, law.gain(), ""


def _splits(outcomes: Sequence[Outcome], task: Any) -> tuple[tuple[Split, ...], str]:
    """Bias and variance of these runs' predictions for the rows that judge."""
    frames = [pd.read_parquet(one.folder / "predictions.parquet") for one in outcomes if one.value is not None]
    if len(frames) < 3:
        return (), f"of the runs on half of the data {len(frames)} came to an end, and 3 are needed"
    if task.kind != "classification":
        f = np.stack([_columns(one, "prediction") for one in frames])
        return (squared_error(f, _columns(frames[0], "target")),), ""
    names = [str(name) for name in task.classes]
    p = np.stack([one[[f"p({name})" for name in names]].to_numpy(np.float64) for one in frames])
    place = {name: k for k, name in enumerate(names)}
    y = np.array([place[str(one)] for one in frames[0]["target"]], np.int64)
    return (cross_entropy(p, y), zero_one(p.argmax(2), y)), ""


def _columns(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return frame.filter(regex=rf"^{name}(\+\d+)?$").to_numpy(np.float64)
