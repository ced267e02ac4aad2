"""Pre-flight: a few seconds of probes on a copy of the model before anything expensive starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from goodfit import keyed
from goodfit.check import Log, Verdict, run_rules
from goodfit.data.data import Data
from goodfit.probes import before_training as probe
from goodfit.probes import mirror, samples, structure, weights
from goodfit.probes.record import NotRecorded, Values, record
from goodfit.rules import RULES
from goodfit.types import Inputs, to_device

SAMPLES = 128
NUMBERS = 1 << 17
"""Numbers in the batch that probes see: of large images and long texts there are fewer, so that it takes seconds."""


def preflight(
    model: nn.Module,
    data: Data,
    *,
    seed: int,
    device: torch.device,
    at_once: int | None = None,
    mirrors: Sequence[str] = (),
) -> list[Verdict]:
    """Every rule's verdict on the untrained model and this data. Nothing is changed: probes work on copies.

    at_once: samples that go through the model together in training; as many as are looked at here unless said.
    mirrors: keys of the recipe that mirror images.
    """
    positions = keyed.permutation(keyed.key(seed, "preflight"), len(data.train))
    positions = positions[: _how_many(data.train.take(positions[:1]).inputs)]
    batch = to_device(data.train.take(positions), device)
    ready = data.prepare(batch.inputs)
    values, missing = examine(model, data, ready, batch.targets, at_once=at_once or len(positions), mirrors=mirrors)
    applicable = [rule for rule in RULES if not rule.tasks or data.task.kind in rule.tasks]
    return run_rules(applicable, Log(values, missing))


def examine(
    model: nn.Module, data: Data, ready: Inputs, aim: Tensor, *, at_once: int, mirrors: Sequence[str] = ()
) -> tuple[Values, dict[str, str]]:
    """Run every probe; returns what was recorded, and for the rest why it was not."""
    task = data.task

    def future() -> Values:
        if not task.tokens:
            raise NotRecorded("only for language models and encoder-decoders")
        return probe.causal_leak(model, ready, task.outputs)

    def sides() -> Values:
        images = None
        if mirrors and data.spec.kind == "image":
            images = data.train.take(keyed.permutation(keyed.key(0, "mirror"), len(data.train))[: mirror.MOST]).inputs
        return mirror.mirrored(mirrors, data.name, data.task.classes, images if isinstance(images, Tensor) else None)

    target_signals = ("targets.low", "targets.high", "targets.nonfinite", "targets.distinct", "targets.classes")
    return record(
        {
            "inputs": (("inputs.mean", "inputs.std", "inputs.nonfinite"), lambda: samples.inputs(ready)),
            "targets": (target_signals, lambda: samples.targets(task, data.train.targets)),
            "overlap": (
                ("split.shared", "split.size"),
                lambda: samples.overlap(data.train, data.valid, data.test),
            ),
            "mirror": (("mirror.by",), sides),
            "forward": (("forward.error",), lambda: probe.forward(model, ready)),
            "outputs": (
                ("outputs.classes", "outputs.problem"),
                lambda: probe.outputs(task, model, ready, aim),
            ),
            "loss": (
                ("loss.initial", "loss.expected", "loss.expected_name"),
                lambda: probe.initial_loss(task, model, ready, aim),
            ),
            "gradients": (
                ("gradient.none", "gradient.nonfinite", "gradient.parameters"),
                lambda: probe.gradients(task, model, ready, aim),
            ),
            "batch": (("leak.batch", "leak.spread"), lambda: probe.batch_leak(model, ready)),
            "future": (("leak.future", "leak.future_spread"), future),
            "squashed": (
                ("squashed.kind", "squashed.modes", "squashed.classes"),
                lambda: weights.squashed_outputs(model, ready),
            ),
            "equal": (("equal.layers", "equal.checked"), lambda: weights.equal_units(model, ready)),
            "linear": (("linear.pairs", "linear.count"), lambda: structure.linear_pairs(model, ready)),
            "saturating": (
                ("saturating.length", "saturating.shrink", "saturating.kinds", "saturating.first"),
                lambda: structure.saturating_chain(model, ready),
            ),
            "shift": (
                ("shift.ratio", "shift.where", "shift.norms", "shift.dropouts"),
                lambda: weights.dropout_before_norm(model, ready),
            ),
            "statistic": (
                ("statistic.norms", "statistic.samples", "statistic.numbers", "statistic.where"),
                lambda: weights.norm_batches(model, ready, samples=at_once),
            ),
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


def _how_many(sample: Inputs) -> int:
    """Samples to look at, from the size of one; a token costs a model about as much as 64 numbers."""
    parts = sample.values() if isinstance(sample, dict) else [sample]
    size = sum(part.numel() * (64 if part.dtype == torch.int64 else 1) for part in parts)
    return max(16, min(SAMPLES, NUMBERS // max(size, 1)))
