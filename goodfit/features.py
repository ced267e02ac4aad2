"""Features of a frozen model, computed once: what its head is trained on, and what a linear probe judges it by."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from goodfit import keyed
from goodfit.data.data import Data
from goodfit.errors import ModelError
from goodfit.evaluation.probe import Probe
from goodfit.loop import Shifting
from goodfit.models.heads import last_part
from goodfit.models.layers import train_mode
from goodfit.techniques.numerics import Precision, autocast
from goodfit.types import Inputs, InputSpec, Part, Tensors, to_device

MEMORY = 2**30
"""Bytes of features that are kept; more are computed anew in every epoch."""
_BATCH = 128
_PROBED = 2_000
_SECONDS = 30.0


def features(
    model: nn.Module,
    part: Part,
    prepare: Callable[[Inputs], Inputs],
    *,
    precision: Precision,
    device: torch.device,
    positions: Tensor | None = None,
) -> Tensors:
    """What the head of ``model`` is given for each sample of a part, in eval mode, as a part of its own.

    positions: of the samples; all of them unless given. Raises ModelError for a model without a last part.
    """
    positions = torch.arange(len(part)) if positions is None else positions
    order = _by_length(part, positions)
    back = order.argsort()
    given, rest = [], []
    was_training = model.training
    model.eval()
    try:
        for batch in part.batches(torch.split(positions[order], _BATCH)):
            with torch.no_grad(), autocast(precision, device):
                given.append(_given_to_head(model, prepare(to_device(batch, device).inputs))[0].cpu())
            rest.append(batch)
    finally:
        model.train(was_training)
    weights = [one.weight for one in rest if one.weight is not None]
    return Tensors(
        torch.cat(given)[back],
        torch.cat([one.targets for one in rest])[back],
        torch.cat([one.index for one in rest])[back],
        torch.cat(weights)[back] if weights and len(weights) == len(rest) else None,
    )


def head_alone(
    model: nn.Module, data: Data, *, device: torch.device, changed_inputs: bool = False
) -> tuple[nn.Module | None, str]:
    """The head, where training it on features computed once is the same as training the model; else None and why.

    model: with everything but its head frozen. changed_inputs: a technique changes inputs, so features differ from
    epoch to epoch.
    """
    head = last_part(model)
    if head is None or data.task.tokens or isinstance(data.train, Shifting):
        return None, "the model gives its logits at every position"
    if changed_inputs:
        return None, "augmentation changes the inputs in every epoch"
    few = data.prepare(to_device(data.train.take(torch.arange(min(8, len(data.train)))), device).inputs)
    width = _fixed_width(model, few)
    if not width:
        return None, "what lies below the head is not the same from step to step"
    if 4 * width * (len(data.train) + len(data.valid)) > MEMORY:
        return None, f"features of {len(data.train):,} samples need more than 1 GiB"
    return head, ""


def as_features(model: nn.Module, data: Data, *, precision: Precision, device: torch.device) -> Data:
    """The same data with the train and validation parts' inputs replaced by what the model's head is given for them."""
    train = features(model, data.train, data.prepare, precision=precision, device=device)
    valid = features(model, data.valid, data.prepare, precision=precision, device=device)
    shape = tuple(train.inputs.shape[1:]) if isinstance(train.inputs, Tensor) else ()
    return replace(data, spec=InputSpec("tensor", shape), train=train, valid=valid, prepare=_as_they_are)


def probe(model: nn.Module, data: Data, *, precision: Precision, device: torch.device, seed: int) -> Probe | str:
    """Features of up to 2,000 training samples and of the validation part, for a linear probe.

    Where that would take longer than half a minute, or the model has no features of a sample, why there is none.
    """
    if last_part(model) is None or data.task.kind not in ("classification", "regression"):
        return "the model has no features of a whole sample"
    order = keyed.permutation(keyed.key(seed, "probe"), len(data.train))
    began = time.monotonic()
    for _ in range(2):  # the first one fills caches
        began = time.monotonic()
        few = features(model, data.train, data.prepare, precision=precision, device=device, positions=order[:32])
    a_sample = (time.monotonic() - began) / len(few)
    count = min(_PROBED, len(order), int(_SECONDS / a_sample) - len(data.valid))
    if count < min(200, len(order)):
        return f"features of {len(data.valid) + 200:,} samples take {a_sample * (len(data.valid) + 200):.0f} s"
    train = features(model, data.train, data.prepare, precision=precision, device=device, positions=order[:count])
    valid = features(model, data.valid, data.prepare, precision=precision, device=device)
    return probe_of(train, valid, note="" if count == len(order) else f"fitted on {count:,} of {len(order):,} samples")


def probe_of(train: Part, valid: Part, *, note: str = "") -> Probe:
    """What a linear probe needs, from features of two parts."""
    rows = [part.take(torch.arange(len(part))).inputs for part in (train, valid)]
    x, z = (one.flatten(1).double().numpy() for one in rows if isinstance(one, Tensor))
    return Probe(x, train.targets.numpy(), z, note)


def _as_they_are(inputs: Inputs) -> Inputs:
    return inputs


def _by_length(part: Part, positions: Tensor) -> Tensor:
    """An order in which texts of like length stand together, so that little padding is computed with."""
    tokens = part.inputs if isinstance(part, Tensors) else None
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64 or tokens.dim() != 2:
        return torch.arange(len(positions))
    return (tokens[positions] != 0).sum(1).argsort(stable=True)


def _given_to_head(model: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """What the head is given for these inputs, and the model's logits."""
    head = last_part(model)
    if head is None:
        raise ModelError("a model without parameters has no head, so there are no features below it")
    caught: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    try:
        logits = model(inputs)
    finally:
        handle.remove()
    if not caught:
        raise ModelError(f"the last part of the model ({type(head).__name__}) is not called, so it is no head")
    return caught[-1], logits


def _fixed_width(model: nn.Module, inputs: Inputs) -> int:
    """Numbers in a sample's features, 0 where training changes them or the head is not the last thing that acts."""
    head = last_part(model)
    assert head is not None
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    was_training = model.training
    try:
        with torch.no_grad():
            train_mode(model)
            learning = _given_to_head(model, inputs)[0]
            model.eval()
            fixed, logits = _given_to_head(model, inputs)
            again = head(fixed)
    finally:
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
        model.train(was_training)
    same = learning.shape == fixed.shape and torch.allclose(learning, fixed, rtol=1e-4, atol=1e-5)
    last = again.shape == logits.shape and torch.allclose(again, logits, rtol=1e-4, atol=1e-5)
    return fixed[0].numel() if same and last and len(fixed) == len(logits) else 0
