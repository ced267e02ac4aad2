"""What a run of a study is judged by: bare metrics, and what each row contributes to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from goodfit.data.data import Data
from goodfit.data.pairs import Pairs
from goodfit.evaluate import Written, positive_share
from goodfit.evaluation import Interval, characters_per_token, headline, mase_scale, point, points, probabilities
from goodfit.evaluation.entries import entry
from goodfit.evaluation.language import window_sums
from goodfit.evaluation.sequence import sequence_results
from goodfit.types import Part


def judged(
    data: Data, outputs: Any, part: Part, *, temperature: float = 1.0
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metrics of a part without intervals and pictures, which cost more than a small run, and the rows behind them.

    outputs: as `goodfit.evaluate.assess` takes them. temperature: fitted elsewhere; probabilities are those of logits
        divided by it.
    Returns ``(results, rows)``: results in the form of results.json, as far as they go; rows: ``index``, ``losses``
        (log loss, mean squared error in original units, or mean nats of each row) and, for classes and for texts that
        are answered, ``right`` (uint8).
    """
    task, rows = data.task, {"index": part.index.clone()}
    if isinstance(outputs, Written) and isinstance(part, Pairs):
        nats, tokens = window_sums(outputs.nats, part.targets)
        rows["losses"] = torch.from_numpy(nats / np.maximum(tokens, 1)).float()
        rows["right"] = torch.tensor([a == b for a, b in zip(outputs.texts, part.answers, strict=True)]).byte()
        return sequence_results(task, outputs.nats, written=outputs.texts, part=part, resamples=1), rows
    more: dict[str, float | None] = {}
    if task.kind == "classification":
        p = probabilities(outputs, task, temperature=temperature)
        truth, answers = part.targets.numpy().astype(np.int64), p.numpy()
        rows["losses"] = -p.gather(1, part.targets[:, None])[:, 0].clamp_min(1e-12).log().float()
        rows["right"] = (p.argmax(1) == part.targets).byte()
    elif task.kind == "language":
        answers, truth = window_sums(outputs, part.targets)
        rows["losses"] = torch.from_numpy(answers / np.maximum(truth, 1)).float()
        more["characters_per_token"] = characters_per_token(task, part)
    else:
        truth = (part.targets.double() * data.target_std + data.target_mean).numpy()
        answers = point(outputs, mean=data.target_mean, std=data.target_std).numpy().reshape(truth.shape)
        rows["losses"] = torch.from_numpy(np.square(answers - truth).reshape(len(truth), -1).mean(1)).float()
        more["scale"] = mase_scale(data.train, std=data.target_std) if task.kind == "forecast" else None
    values = points(task, truth, answers, **more)
    none = Interval(None, None, "", "runs of a study have none of their own")
    metrics = {
        name: entry(name, value, none, "" if value is not None else "undefined") for name, value in values.items()
    }
    found = {
        "task": task.kind,
        "target": task.target,
        "headline": headline(task, positive_share=positive_share(data)),
        "samples": len(part),
        "metrics": metrics,
    }
    return found | ({"temperature": {"value": temperature}} if temperature != 1.0 else {}), rows
