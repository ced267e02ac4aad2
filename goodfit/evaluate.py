"""Judge a model on one part of the data: what is fitted on validation stays fixed everywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from goodfit.data.data import Data
from goodfit.evaluation import (
    Temperature,
    Threshold,
    TrainingMetric,
    characters_per_token,
    fit_temperature,
    mase_scale,
    point,
    probabilities,
    results,
    selection_metric,
    training_metric,
    tune_threshold,
    wants_threshold,
)
from goodfit.types import Part


def positive_share(data: Data) -> float | None:
    """Share of class 1 in the training part of a binary task; None elsewhere."""
    return float((data.train.targets == 1).double().mean()) if data.task.binary else None


def metrics_for(data: Data) -> tuple[TrainingMetric, TrainingMetric]:
    """The quick metric shown while training, and the one by which the best weights are picked."""
    share = positive_share(data)
    return (
        training_metric(data.task, positive_share=share, target_std=data.target_std),
        selection_metric(data.task, positive_share=share, target_std=data.target_std),
    )


def assess(
    data: Data, outputs: Tensor, part: Part, *, found_on_validation: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Metrics with intervals and everything else the report shows of one part.

    outputs: logits as `goodfit.loop.predict` gives them, or nats as `goodfit.loop.nats` does for language.
    found_on_validation: the results of the validation part when this is another one; its temperature and threshold
        are used. Without
        it, this is the validation part, and they are fitted here.
    """
    task = data.task
    temperature: Temperature | None = None
    threshold: Threshold | None = None
    if task.kind == "classification":
        if found_on_validation is None:
            temperature = fit_temperature(outputs, part.targets)
            if task.binary and wants_threshold(data.train.targets.numpy()):
                p = probabilities(outputs, task, temperature=temperature.value)
                threshold = tune_threshold(part.targets.numpy(), p.numpy())
        else:
            temperature = _again(Temperature, found_on_validation.get("temperature"))
            threshold = _again(Threshold, found_on_validation.get("threshold"))
    scale = None
    if task.kind == "forecast":
        scale = mase_scale(data.train, std=data.target_std)
    return results(
        task,
        outputs,
        part.targets,
        index=part.index,
        temperature=temperature,
        threshold=threshold,
        mean=data.target_mean,
        std=data.target_std,
        scale=scale,
        characters_per_token=characters_per_token(task, part) if task.kind == "language" else None,
        positive_share=positive_share(data),
    )


def predictions_table(data: Data, outputs: Tensor, part: Part, found: Mapping[str, Any]) -> pd.DataFrame:
    """One row a sample of a part: its number in the source, its target, what was predicted (probabilities
    calibrated)."""
    task = data.task
    frame = pd.DataFrame({"index": part.index.numpy()})
    if task.kind == "classification":
        warmth = float((found.get("temperature") or {}).get("value") or 1.0)
        p = probabilities(outputs, task, temperature=warmth)
        frame["target"] = [task.classes[int(t)] for t in part.targets]
        frame["prediction"] = [task.classes[int(k)] for k in p.argmax(1)]
        for k, name in enumerate(task.classes):
            frame[f"p({name})"] = p[:, k].numpy()
        return frame
    answers = point(outputs, mean=data.target_mean, std=data.target_std)
    truth = part.targets.double() * data.target_std + data.target_mean
    for name, values in (("target", truth), ("prediction", answers)):
        table = values.reshape(len(frame), -1)
        for ahead in range(table.shape[1]):
            suffix = "" if table.shape[1] == 1 else f"+{ahead + 1}"
            frame[f"{name}{suffix}"] = torch.as_tensor(table[:, ahead]).numpy()
    return frame


def _again(kind: type[Any], values: Mapping[str, Any] | None) -> Any:
    known = getattr(kind, "__dataclass_fields__", {})
    return kind(**{k: v for k, v in values.items() if k in known}) if values else None
