"""Pre-flight: a few seconds of probes on a copy of the model before anything expensive starts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goodfit import keyed
from goodfit.check import Log, Verdict, run_rules
from goodfit.data.data import Data
from goodfit.probes import before_training as probe
from goodfit.rules import RULES
from goodfit.types import Inputs, to_device


def preflight(model: nn.Module, data: Data, *, seed: int, device: torch.device) -> list[Verdict]:
    """Every rule's verdict on the untrained model and this data. Nothing is changed: probes work on copies."""
    positions = keyed.permutation(keyed.key(seed, "preflight"), len(data.train))[:128]
    batch = to_device(data.train.take(positions), device)
    ready = data.prepare(batch.inputs)
    values, missing = examine(model, data, ready, batch.targets)
    return run_rules(RULES, Log(values, missing))


def examine(model: nn.Module, data: Data, ready: Inputs, aim: Tensor) -> tuple[probe.Values, dict[str, str]]:
    """Run every probe; returns what was recorded, and for the rest why it was not."""
    task = data.task

    def outputs() -> Tensor:
        with torch.no_grad():
            return torch.as_tensor(probe._copy(model).eval()(ready))

    def language() -> probe.Values:
        if task.kind != "language" or not isinstance(ready, Tensor):
            raise LookupError("only for language models")
        return probe.causal_leak(model, ready, data.spec.vocabulary)

    target_signals = ("targets.low", "targets.high", "targets.outputs", "targets.nonfinite", "targets.distinct")
    return probe.record(
        {
            "inputs": (("inputs.mean", "inputs.std", "inputs.nonfinite"), lambda: probe.inputs(ready)),
            "targets": (target_signals, lambda: probe.targets(task, data.train.targets, outputs(), aim)),
            "overlap": (("split.shared", "split.size"), lambda: probe.overlap(data.train, data.valid, data.test)),
            "loss": (
                ("loss.initial", "loss.expected", "loss.expected_name"),
                lambda: probe.initial_loss(task, model, ready, aim),
            ),
            "gradients": (
                ("gradient.none", "gradient.nonfinite", "gradient.parameters"),
                lambda: probe.gradients(task, model, ready, aim),
            ),
            "batch": (("leak.batch", "leak.spread"), lambda: probe.batch_leak(model, ready)),
            "future": (("leak.future",), language),
            "numerical": (
                ("gradient.error", "gradient.worst", "gradient.sampled"),
                lambda: probe.numerical_gradient(task, model, ready, aim),
            ),
            "memorise": (
                ("one_batch.first", "one_batch.last", "one_batch.steps", "one_batch.floor"),
                lambda: probe.one_batch(task, model, ready, aim),
            ),
        }
    )
