"""Several runs that predict together: the mean of their probabilities, or of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from goodfit.errors import ModelError, RunError
from goodfit.evaluation import Threshold, results
from goodfit.run import Run

FEWEST = 20
"""Validation samples that members must have in common before an ensemble is judged on them."""


class Ensemble:
    """Runs that predict together, such as one recipe trained with several seeds.

    Formula: ``p = (1 / k) sum_m p_m`` of the members' calibrated probabilities; values: the mean of their predictions.
    Source: Hansen and Salamon (1990); Lakshminarayanan, Pritzel and Blundell (2017) for nets that differ by their seed.
    Ours: probabilities are averaged, not logits, each member calibrated by its own temperature. Two classes with a
        tuned threshold are cut at the mean of the members' thresholds. Members may differ in everything but the task,
        the model and the columns included: each prepares new data in its own way.
    Helps: nearly always: errors that members do not share cancel; probabilities gain most. Hurts: prediction costs k
        times as much.

    runs: folders, or runs opened. Raises RunError for fewer than two, or for runs that predict different things.

    >>> import goodfit
    >>> goodfit.Ensemble(["runs/digits-1", "runs/digits-2"]).predict("new/")  # doctest: +SKIP
    """

    def __init__(self, runs: Sequence[str | Path | Run]) -> None:
        self.runs = [run if isinstance(run, Run) else Run(run) for run in runs]
        if len(self.runs) < 2:
            raise RunError("an ensemble is made of two runs or more; train one more, with --set seed=1")
        first = self.runs[0]
        if first.task.tokens:
            raise ModelError(f"an ensemble averages classes or values; {first.folder} writes text ({first.task.kind})")
        for run in self.runs:
            for what in ("kind", "target", "classes", "outputs", "horizon"):
                one, other = getattr(first.task, what), getattr(run.task, what)
                if one != other:
                    raise RunError(
                        f"{run.folder} and {first.folder} do not predict the same: their task's {what} is {other!r} "
                        f"and {one!r}; take runs of one task"
                    )

    def predict(self, new: Any) -> pd.DataFrame:
        """Predictions for new data, in the form and with the columns of ``Run.predict``."""
        return self.together([run.predict(new) for run in self.runs])

    def together(self, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """The members' prediction tables as one."""
        sizes = {len(frame) for frame in frames}
        if len(sizes) > 1:
            raise RunError(f"the members gave {' and '.join(map(str, sorted(sizes)))} predictions for the same data")
        task = self.runs[0].task
        values = [str(column) for column in frames[0] if str(column).startswith("prediction")]
        names = [f"p({name})" for name in task.classes] or values
        mean = np.mean([frame[names].to_numpy(np.float64) for frame in frames], axis=0)
        made = pd.DataFrame(mean, columns=pd.Index(names))
        if task.kind != "classification":
            return made
        best = mean.argmax(1)
        if task.binary and (threshold := self.threshold) is not None:
            best = (mean[:, 1] >= threshold).astype(int)
        made.insert(0, "prediction", [task.classes[int(k)] for k in best])
        return made

    @property
    def threshold(self) -> float | None:
        """The mean of the members' tuned thresholds; None unless all have one."""
        found = [(run.results.get("threshold") or {}).get("value") for run in self.runs]
        known = [float(one) for one in found if one is not None]
        return float(np.mean(known)) if len(known) == len(found) else None

    def evaluate(self) -> dict[str, Any]:
        """Metrics of the ensemble and of each member, on the validation samples that no member was trained on.

        Returns ``headline``, ``samples``, ``ensemble`` (metrics as in results.json) and ``members`` (the same, by
        folder). Raises RunError where members were trained on different data, or share too few validation samples:
        then train them with the same ``data.seed``.
        """
        fingerprints = {str(run.plan.data["fingerprint"]) for run in self.runs}
        if len(fingerprints) > 1:
            raise RunError("the members were trained on different data: there is no validation part to judge them on")
        tables = [_validation(run) for run in self.runs]
        shared = tables[0].index
        for table in tables[1:]:
            shared = shared.intersection(table.index)
        if len(shared) < FEWEST:
            raise RunError(
                f"the members' validation parts have {len(shared)} samples in common: each seed splits the data anew. "
                "Train them with the same split: --set data.seed=0"
            )
        tables = [table.loc[shared] for table in tables]
        judged = [self._judge(table, tables[0], (run.results.get("threshold") or {}).get("value"))
                  for run, table in zip(self.runs, tables, strict=True)]  # fmt: skip
        together = self.together([table.reset_index(drop=True) for table in tables])
        found = self._judge(together.set_axis(shared), tables[0], self.threshold)
        headline = str(self.runs[0].results["headline"])
        return {
            "headline": headline if headline in found["metrics"] else found["headline"],
            "samples": len(shared),
            "ensemble": found["metrics"],
            "members": {str(run.folder): one["metrics"] for run, one in zip(self.runs, judged, strict=True)},
        }

    def _judge(self, table: pd.DataFrame, truth: pd.DataFrame, threshold: float | None) -> Mapping[str, Any]:
        task = self.runs[0].task
        if task.kind == "classification":
            number = {name: k for k, name in enumerate(task.classes)}
            targets = torch.tensor([number[str(name)] for name in truth["target"]])
            p = table[[f"p({name})" for name in task.classes]].to_numpy(np.float64)
            cut = None if threshold is None else Threshold(float(threshold), "f1", {}, {}, len(table))
            # The logarithm of a probability is its logit, up to a number that softmax takes no notice of.
            logits = torch.from_numpy(np.log(np.maximum(p, 1e-300)))
            return results(task, logits, targets, threshold=cut, hardest=1)
        names = [str(c) for c in table if str(c).startswith("prediction")]
        values = torch.tensor(table[names].to_numpy(np.float64))
        aims = torch.tensor(truth[[c.replace("prediction", "target") for c in names]].to_numpy(np.float64))
        return results(task, values, aims if task.kind == "forecast" else aims[:, 0], hardest=1)


def _validation(run: Run) -> pd.DataFrame:
    """A run's predictions for its validation part, by the samples' numbers in the source."""
    path = run.folder / "predictions.parquet"
    if not path.exists():
        raise RunError(f"{run.folder} has not finished: it holds no predictions.parquet; train it to the end")
    try:
        return pd.read_parquet(path).set_index("index")
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
