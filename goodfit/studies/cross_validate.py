"""``goodfit train --folds``: each row of the training part predicted once, by a model that never saw it or its group.

The training part is cut into folds; for each, a model learns from the others and predicts it. The validation part picks
each model's best weights, as in any run, and the test part stays locked. What is fitted to columns before training
comes from the training part as a whole, the held fold included: means and deviations of columns, their categories, the
vocabulary of texts, the pixels' mean, and in regression the mean and deviation of the target. Of the target of a row
that it predicts a model has seen no more than its share in these two numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from goodfit import keyed, store
from goodfit.data.sheet import read_sheet
from goodfit.errors import DataError, GoodfitError, nearest
from goodfit.evaluate import positive_share
from goodfit.evaluation import NotAvailable, mase_scale
from goodfit.evaluation.entries import entries_of, metrics_of
from goodfit.evaluation.metrics import SHOWN
from goodfit.evaluation.results import results
from goodfit.recipe import Recipe
from goodfit.screen import Screen
from goodfit.studies.ablation import study_folder
from goodfit.studies.crew import Wanted, crew
from goodfit.studies.folds import folds_for, parted
from goodfit.studies.study import Arm, Study

RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class CrossValidated:
    """What cross-validation came to.

    metric, title: what it is judged by. values: of each fold. mean, deviation: of these. metrics: of all out-of-fold
    predictions together, with intervals over samples (over whole groups where there are groups). how: how folds were
    cut. sizes, dropped: rows of each fold, and those left out of its training part. folder, table: where it lies.
    """

    metric: str
    title: str
    values: tuple[float, ...]
    mean: float
    deviation: float
    metrics: dict[str, Any]
    how: str
    sizes: tuple[int, ...]
    dropped: tuple[int, ...]
    rows: int
    groups: int
    seconds: float
    folder: str
    table: str
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"format": 1, **asdict(self)}


def cross_validate(
    source: Any,
    recipe: Recipe | None = None,
    *,
    folds: int = 5,
    groups: str | None = None,
    target: str | None = None,
    time: str | None = None,
    horizon: int | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    screen: Screen | None = None,
) -> CrossValidated:
    """Train one model a fold and put their out-of-fold predictions together.

    groups: a column whose values stay together, in folds and in the split. out: the study's folder,
    one of its own in ``runs/`` for each recipe unless said; runs that lie there are not made again.
    Raises DataError where rows, groups or windows do not fill the folds; GoodfitError where a fold fails.
    """
    screen = screen or Screen()
    given = {"data.target": target, "data.time": time, "data.horizon": horizon, "data.groups": groups}
    asked = (recipe or Recipe()).patched({k: v for k, v in given.items() if v is not None})
    groups = asked.flat().get("data.groups")
    folder = Path(out) if out is not None else study_folder(source, asked, metric=None, calibrate=False)
    study = Study(folder, source, asked, screen=screen, device=device)
    data, seed = study.data, int(asked.flat().get("seed", 0))
    task = data.task
    codes = None if groups is None else groups_of(source, str(groups), data.train.index.numpy())
    classes = task.kind == "classification"
    fold, how = folds_for(data.train, folds, seed=seed, classes=classes, groups=codes)
    notes = _rare(data.train.targets.numpy(), task.classes, folds) if classes else []
    screen.heading(f"Cross-validation  {folds} folds {how}, {len(data.train):,} rows, into {folder}")
    shown = SHOWN[study.metric].title
    outcomes, sizes, dropped = [], [], []
    parts = list(parted(data.train, fold))
    wanted = [
        Wanted(Arm(f"fold-{k}"), seed, one.train.tolist(), one.held.tolist()) for k, one in enumerate(parts, start=1)
    ]
    study.retry_failed()  # there is no answer without every fold
    with crew(study, at_once=folds) as others:
        for number, one in enumerate(parts, start=1):
            mine = wanted[number - 1]
            outcome = study.run(mine.arm, seed, rows=mine.rows, held=mine.held)
            if outcome.value is None:
                raise GoodfitError(f"fold {number} failed: {outcome.error}; what was trained so far stays in {folder}")
            outcomes.append(outcome)
            sizes.append(len(one.held))
            dropped.append(one.dropped)
            # The others begin with the last fold, so that nobody waits for anybody before they meet.
            others.call(wanted[: number - 1 : -1], seconds=outcome.seconds * (folds - number))
            screen.line(
                f"  fold {number} of {folds}: {shown} {outcome.value:.4f} on {len(one.held):,} rows in "
                f"{outcome.seconds:.0f} s" + (f"; {one.dropped:,} windows next to them left out" if one.dropped else "")
            )
    frame = _table(outcomes, fold, data.train.index.numpy())
    path = folder / "out_of_fold.parquet"
    store.write_table(path, frame)
    values = [float(one.value or 0.0) for one in outcomes]
    found = CrossValidated(
        metric=study.metric,
        title=shown,
        values=tuple(values),
        mean=float(np.mean(values)),
        deviation=float(np.std(values, ddof=1)),
        metrics=_together(frame, data, task, codes, seed=seed),
        how=how,
        sizes=tuple(sizes),
        dropped=tuple(dropped),
        rows=len(frame),
        groups=0 if codes is None else len(np.unique(codes)),
        seconds=sum(one.seconds for one in outcomes),
        folder=str(folder),
        table=str(path),
        notes=tuple(notes),
    )
    store.write_json(folder / "folds.json", found.to_json())
    return found


def groups_of(source: Any, column: str, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group number of each of these rows of a table; rows without a value are each a group of their own."""
    try:
        frame = read_sheet(source).frame
    except (DataError, TypeError, AttributeError) as error:
        raise DataError(f"--groups {column}: only tables have columns to group by ({error})") from error
    if column not in frame.columns:
        raise DataError(f"--groups {column}: there is no such column{nearest(column, map(str, frame.columns))}")
    codes, _ = pd.factorize(frame[column].iloc[index].astype("string"))
    codes = np.asarray(codes, np.int64)
    return np.where(codes < 0, codes.max(initial=0) + 1 + np.arange(len(codes)), codes)


def _rare(targets: NDArray[Any], names: Sequence[str], folds: int) -> list[str]:
    counts = np.bincount(targets, minlength=len(names))
    few = [f"'{name}' ({count})" for name, count in zip(names, counts, strict=False) if 0 < count < folds]
    return [f"fewer samples than folds, so some folds have none: {', '.join(few[:6])}"] if few else []


def _table(outcomes: Sequence[Any], fold: NDArray[np.int64], index: NDArray[np.int64]) -> pd.DataFrame:
    """All out-of-fold predictions, one row a sample in the order of the training part; checked to be complete."""
    parts = []
    for number, one in enumerate(outcomes):
        path = Path(one.folder) / "predictions.parquet"
        if path.exists():
            frame = pd.read_parquet(path)
        else:  # windows of a text: what each one cost
            frame = pd.DataFrame({"index": one.index.numpy(), "nats": one.losses.numpy()})
        frame.insert(1, "fold", number + 1)
        parts.append(frame)
    table = pd.concat(parts, ignore_index=True)
    place = pd.Series(np.arange(len(index)), index=index)
    positions = place.reindex(table["index"]).to_numpy()
    table = table.iloc[np.argsort(positions, kind="stable")].reset_index(drop=True)
    whole = len(table) == len(index) and bool((table["index"].to_numpy() == index).all())
    if not whole or not bool((table["fold"].to_numpy() == fold + 1).all()):
        raise GoodfitError(
            "the folds' predictions are not one for each row; remove the folder and cross-validate again"
        )
    return table


def _together(frame: pd.DataFrame, data: Any, task: Any, codes: Any, *, seed: int) -> dict[str, Any]:
    """Metrics of all out-of-fold predictions, with intervals over samples or over whole groups."""
    targets = data.train.targets
    if task.kind == "classification":
        p = frame[[f"p({name})" for name in task.classes]].to_numpy(np.float64)
        outputs, aim = torch.from_numpy(np.log(np.clip(p, 1e-12, None))), targets
    elif task.kind in ("regression", "forecast"):
        outputs = torch.tensor(frame.filter(regex=r"^prediction").to_numpy(np.float64))
        aim = torch.tensor(frame.filter(regex=r"^target").to_numpy(np.float64)).reshape(targets.shape)
        p = outputs.numpy().reshape(aim.shape)
    else:
        return {}
    scale = mase_scale(data.train, std=data.target_std) if task.kind == "forecast" else None
    if codes is None:
        share = positive_share(data)
        return dict(results(task, outputs, aim, scale=scale, positive_share=share, hardest=0, seed=seed)["metrics"])
    metrics = metrics_of(task, aim.numpy(), p, {"scale": scale})
    weights = group_weights(codes, RESAMPLES, seed=seed)
    draws = {name: _drawn(metric, weights) for name, metric in metrics.items()}
    kept = {name: values for name, values in draws.items() if values is not None}
    return entries_of(metrics, kept, len(np.unique(codes)), 0.95)


def group_weights(codes: NDArray[np.int64], resamples: int, *, seed: int) -> NDArray[np.float32]:
    """How often each sample is drawn when whole groups are drawn with replacement: ``(samples, resamples)``.

    The cluster bootstrap (Davison and Hinkley 1997, section 3.8): samples of a group err alike, so they come together.
    """
    _, group = np.unique(codes, return_inverse=True)
    count = int(group.max()) + 1
    rng = np.random.Generator(np.random.Philox(keyed.key(seed, "group bootstrap") & (2**64 - 1)))
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples).T
    return np.asarray(drawn[group], np.float32)


def _drawn(metric: Any, weights: NDArray[np.float32]) -> Any:
    try:
        return np.concatenate([metric(weights[:, k : k + 100]) for k in range(0, weights.shape[1], 100)], axis=-1)
    except NotAvailable:
        return None


def show(found: CrossValidated, screen: Screen) -> None:
    """The figure, what its spread is and what it is not."""
    whole = found.metrics.get(found.metric)
    screen.line("")
    if whole is not None and whole["value"] is not None:
        bounds = f"  (95 % over {'groups' if found.groups else 'samples'}: {whole['low']:.4f} to {whole['high']:.4f})"
        screen.heading(f"{found.title} {whole['value']:.4f} out of fold" + (bounds if whole["low"] is not None else ""))
    else:
        screen.heading(f"{found.title} {found.mean:.4f}, mean of the folds")
    spread = found.deviation / math.sqrt(len(found.values))
    rows = [
        ("folds", ", ".join(f"{value:.4f}" for value in found.values)),
        (
            "spread",
            f"standard deviation {found.deviation:.4f} between folds: how much one fold differs from another, not how "
            f"uncertain their mean {found.mean:.4f} is. Divided by the root of {len(found.values)} it is {spread:.4f}, "
            "and too small: the models share most of their rows (Bengio and Grandvalet 2004).",
        ),
    ]
    if whole is not None and whole["low"] is not None:
        rows.append(("interval", "how far other rows like these would move the figure; the models stay as trained"))
    rows.append(("fitted once", "means, categories and vocabulary, and of values the target's scale: to all folds"))
    rows.append(("table", f"{found.table}: {found.rows:,} rows, each predicted once by a model that did not see it"))
    screen.rows(rows)
    for note in found.notes:
        screen.warn(f"  {note}")
    screen.line("  the test part was not opened")
