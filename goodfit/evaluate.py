"""Judge a model on one part of the data: what is fitted on validation stays fixed everywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from goodfit.data.data import Data
from goodfit.data.language import LanguageEncoder
from goodfit.data.pairs import PairEncoder, Pairs
from goodfit.data.tokens import BEGIN, END
from goodfit.data.words import PAD
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
    sequence_results,
    training_metric,
    tune_threshold,
    wants_threshold,
)
from goodfit.evaluation.threshold import Objective
from goodfit.loop import foresee
from goodfit.models import generate
from goodfit.techniques.numerics import Precision
from goodfit.types import Part, to_device


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


def continued(
    model: nn.Module,
    encoder: LanguageEncoder,
    prompt: str,
    *,
    length: int,
    temperature: float,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    streams: bool = False,
) -> str:
    """The text with which a language model goes on from ``prompt``, without the prompt.

    streams: the model learned to carry its state, so it remembers the whole text; others see a window of it.
    """
    device = next(model.parameters()).device
    made = generate(
        model,
        encoder.tokens(prompt).to(device),
        tokens=length,
        length=0 if streams else encoder.length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        never=encoder.silent,
    )
    return encoder.text(made)


def sample_text(model: nn.Module, data: Data, *, streams: bool) -> dict[str, Any] | None:
    """About 300 characters that a language model writes after the first words of the validation text; else None."""
    if not isinstance(data.encoder, LanguageEncoder) or len(data.valid) == 0:
        return None
    first = data.valid.take(torch.arange(1)).inputs
    assert isinstance(first, Tensor)
    prompt = data.encoder.text(first)[:40]
    length = max(10, round(300 / (characters_per_token(data.task, data.valid) or 1.0)))
    text = continued(model, data.encoder, prompt, length=length, temperature=0.8, streams=streams)
    return {"prompt": prompt, "text": text, "temperature": 0.8}


class Written(NamedTuple):
    """What a model writes for each sample of a part, and how well it foresaw the true tokens: ``(samples, length)``."""

    texts: list[str]
    nats: Tensor


def write(
    model: nn.Module,
    part: Part,
    encoder: PairEncoder,
    *,
    device: torch.device,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 256,
) -> list[str]:
    """The text that an encoder-decoder writes for each source of a part: the likeliest tokens unless a temperature is
    given, up to the end token or to the longest target that training saw."""
    made: list[str] = []
    for positions in torch.split(torch.arange(len(part)), batch_size):
        inputs = to_device(part.take(positions), device).inputs
        assert isinstance(inputs, dict)
        tokens = generate(
            model,
            {"source": inputs["source"], "target": inputs["target"][:, :1]},
            tokens=encoder.writes.length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            end=END,
            never=(PAD, BEGIN),
            rows=positions,
        )
        made += encoder.writes.texts(tokens)
    return made


def token_outputs(
    model: nn.Module, part: Part, encoder: Any, *, precision: Precision, device: torch.device, carry: bool
) -> Written | Tensor:
    """What `assess` wants of a part of tokens: nats of a language model; texts and nats of an encoder-decoder."""
    nats = foresee(model, part, precision=precision, device=device, carry=carry).nats
    return Written(write(model, part, encoder, device=device), nats) if isinstance(part, Pairs) else nats


def assess(
    data: Data,
    outputs: Any,
    part: Part,
    *,
    found_on_validation: Mapping[str, Any] | None = None,
    tune_for: Literal["auto", "f1", "balanced_accuracy", "none"] = "auto",
) -> dict[str, Any]:
    """Metrics with intervals and everything else the report shows of one part.

    outputs: logits as `goodfit.loop.predict` gives them, nats as `goodfit.loop.foresee` does for language, or for
        sequences what was ``Written``.
    found_on_validation: the results of the validation part when this is another one; its temperature and threshold
        are used. Without
        it, this is the validation part, and they are fitted here.
    tune_for: what a threshold is tuned for, as the key ``task.threshold`` says.
    """
    task = data.task
    if isinstance(outputs, Written):
        return sequence_results(task, outputs.nats, written=outputs.texts, part=part)
    temperature: Temperature | None = None
    threshold: Threshold | None = None
    if task.kind == "classification":
        if found_on_validation is None:
            temperature = fit_temperature(outputs, part.targets)
            asked = tune_for in ("f1", "balanced_accuracy")
            if task.binary and (asked or (tune_for == "auto" and wants_threshold(data.train.targets.numpy()))):
                p = probabilities(outputs, task, temperature=temperature.value).numpy()
                objective: Objective = "balanced_accuracy" if tune_for == "balanced_accuracy" else "f1"
                threshold = tune_threshold(part.targets.numpy(), p, objective=objective)
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


def predictions_table(data: Data, outputs: Any, part: Part, found: Mapping[str, Any]) -> pd.DataFrame:
    """One row a sample of a part: its number in the source, its target, what was predicted (probabilities
    calibrated)."""
    task = data.task
    frame = pd.DataFrame({"index": part.index.numpy()})
    if isinstance(outputs, Written) and isinstance(part, Pairs):
        frame["source"], frame["target"], frame["prediction"] = part.sources, part.answers, outputs.texts
        return frame
    if task.kind == "classification":
        warmth = float((found.get("temperature") or {}).get("value") or 1.0)
        p = probabilities(outputs, task, temperature=warmth)
        frame["target"] = [task.classes[int(t)] for t in part.targets]
        cut = (found.get("threshold") or {}).get("value")
        best = p.argmax(1) if cut is None or not task.binary else (p[:, 1] >= float(cut)).long()
        frame["prediction"] = [task.classes[int(k)] for k in best]
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
