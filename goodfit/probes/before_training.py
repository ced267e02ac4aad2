"""One-off probes on a copy of the untrained model and its first samples; the model and all generators stay as they were."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from goodfit import keyed
from goodfit.types import Inputs, Part, Task, Tensors

Values = dict[str, Any]
ONE_BATCH_SECONDS = 4.0


def inputs(ready: Inputs) -> Values:
    """Mean, standard deviation and non-finite values of what the model gets; raises LookupError where all is integer."""
    values = ready.values() if isinstance(ready, dict) else [ready]
    floats = [v.float().flatten() for v in values if v.is_floating_point() and v.numel()]
    if not floats:
        raise LookupError("the inputs are token numbers")
    flat = torch.cat(floats)
    finite = flat[torch.isfinite(flat)]
    return {
        "inputs.mean": float(finite.mean()) if len(finite) else math.nan,
        "inputs.std": float(finite.std(unbiased=False)) if len(finite) else math.nan,
        "inputs.nonfinite": int(len(flat) - len(finite)),
    }


def targets(task: Task, all_targets: Tensor, logits: Tensor, batch_targets: Tensor) -> Values:
    """Range, distinct values and balance of the training targets, and whether outputs fit them in shape."""
    counted = all_targets if not all_targets.is_floating_point() else all_targets[torch.isfinite(all_targets)]
    low, high = counted.min().item(), counted.max().item()
    values: Values = {
        "targets.low": low,
        "targets.high": high,
        "targets.outputs": 0,
        "targets.nonfinite": int(all_targets.numel() - counted.numel()),
        "targets.distinct": int(counted.unique().numel()),
        "targets.range": f"{low:.3g} to {high:.3g}",
        "targets.shape_problem": "",
        "outputs.shape": "x".join(map(str, logits.shape)),
        "targets.balance": f"{counted.unique().numel():,} distinct values",
    }
    if task.kind in ("classification", "language") and not all_targets.is_floating_point():
        values["targets.outputs"] = int(logits.shape[-1]) if logits.shape[-1] > 1 else 2
        if task.kind == "classification":
            low = min(low, 0)
            counts = torch.bincount(counted.clamp(min=0).flatten(), minlength=len(task.classes)).tolist()
            values["targets.empty_classes"] = [c for c, n in zip(task.classes, counts, strict=False) if n == 0]
            values["targets.balance"] = f"{len(counts)} classes, {min(counts):,} to {max(counts):,} samples each"
            values["targets.range"] = f"classes {low} to {high}"
        else:
            values["targets.low"] = max(0, low)
    elif logits.numel() != batch_targets.numel() and logits.dim() != batch_targets.dim() + 2:
        shape = tuple(logits.shape)
        values["targets.shape_problem"] = f"outputs {shape} do not fit targets {tuple(batch_targets.shape)}"
    return values


def overlap(train: Part, *held_out: Part) -> Values:
    """How many held-out samples stand in the training part too, by the bytes of their inputs."""
    if not isinstance(train, Tensors) or not all(isinstance(p, Tensors) for p in held_out):
        raise LookupError("the data is streamed or cut from one sequence")
    known = set(_rows(train))
    shared = sum(row in known for part in held_out if isinstance(part, Tensors) for row in _rows(part))
    rich = not isinstance(train.inputs, dict) and train.inputs[0].numel() > 64
    return {"split.shared": shared, "split.size": sum(map(len, held_out)), "split.rich": rich}


def initial_loss(task: Task, model: nn.Module, ready: Inputs, batch_targets: Tensor) -> Values:
    """The untrained model's plain loss in train mode beside that of a guess that ignores the input."""
    with torch.no_grad():
        loss = float(plain_loss(task, _copy(model).train()(ready), batch_targets))
    if task.kind in ("classification", "language"):
        classes = len(task.classes) if task.kind == "classification" else task.outputs
        return {"loss.initial": loss, "loss.expected": math.log(classes), "loss.expected_name": f"ln {classes}"}
    spread = float(batch_targets.float().square().mean())
    return {"loss.initial": loss, "loss.expected": spread, "loss.expected_name": "the targets' mean square"}


def gradients(task: Task, model: nn.Module, ready: Inputs, batch_targets: Tensor) -> Values:
    """Which trainable parameters get no gradient, or one that is not finite, after one backward pass on a copy."""
    trial = _copy(model).train()
    plain_loss(task, trial(ready), batch_targets).backward()  # type: ignore[no-untyped-call]
    named = [(n, p) for n, p in trial.named_parameters() if p.requires_grad]
    return {
        "gradient.none": [n for n, p in named if p.grad is None],
        "gradient.nonfinite": [n for n, p in named if p.grad is not None and not bool(torch.isfinite(p.grad).all())],
        "gradient.parameters": len(named),
    }


def batch_leak(model: nn.Module, ready: Inputs) -> Values:
    """How much the first sample's output changes when all its neighbours are exchanged, in eval mode."""
    size = len(next(iter(ready.values())) if isinstance(ready, dict) else ready)
    if size < 4:
        raise LookupError("fewer than four samples")
    half = size // 2
    first = _pick(ready, torch.arange(half))
    second = _pick(ready, torch.cat([torch.zeros(1, dtype=torch.long), torch.arange(half, 2 * half - 1)]))
    trial = _copy(model).eval()
    with torch.no_grad():
        one, other = trial(first).float(), trial(second).float()
    return {"leak.batch": float((one[0] - other[0]).abs().max()), "leak.spread": float(one.std())}


def causal_leak(model: nn.Module, ready: Tensor, vocabulary: int) -> Values:
    """How much earlier outputs change when the last third of the tokens is changed, in eval mode."""
    cut = ready.shape[1] * 2 // 3
    changed = ready.clone()
    changed[:, cut:] = (changed[:, cut:] + 1) % max(vocabulary, 2)
    trial = _copy(model).eval()
    with torch.no_grad():
        one, other = trial(ready).float(), trial(changed).float()
    return {"leak.future": float((one[:, :cut] - other[:, :cut]).abs().max()), "leak.spread": float(one.std())}


def numerical_gradient(
    task: Task, model: nn.Module, ready: Inputs, batch_targets: Tensor, *, tensors: int = 6
) -> Values:
    """Worst relative difference between back-propagation and central differences in float64 along random directions.

    Tensors along which the slopes to the two sides differ stand at a kink of the loss and are left out.
    """
    trial = _copy(model).double().eval()
    few = torch.arange(min(6, len(batch_targets)))
    small = _pick(ready, few)
    small = (
        {k: v.double() if v.is_floating_point() else v for k, v in small.items()}
        if isinstance(small, dict)
        else small.double() if small.is_floating_point() else small
    )  # fmt: skip
    aim = batch_targets[few.to(batch_targets.device)]
    aim = aim.double() if aim.is_floating_point() else aim

    def loss() -> Tensor:
        return plain_loss(task, trial(small), aim)

    loss().backward()  # type: ignore[no-untyped-call]
    named = [(n, p) for n, p in trial.named_parameters() if p.requires_grad and p.grad is not None]
    picked = keyed.permutation(keyed.key(0, "numerical gradient"), len(named))[:tensors].tolist()
    worst, where, sampled = 0.0, "", 0
    with torch.no_grad():
        for number in picked:
            name, parameter = named[number]
            direction = torch.randn(parameter.shape, generator=keyed.generator(keyed.key(0, name)), dtype=torch.float64)
            direction = (direction / direction.norm()).to(parameter.device)
            slope = float((parameter.grad * direction).sum())  # type: ignore[operator]
            here, step = float(loss()), 1e-5
            parameter += step * direction
            above = float(loss())
            parameter -= 2 * step * direction
            below = float(loss())
            parameter += step * direction
            measured = (above - below) / (2 * step)
            scale = max(abs(slope), abs(measured), 1e-6)
            # At a kink (ReLU at zero, equal values under a maximum) the slopes to the two sides differ, and neither is the gradient.
            if abs((above - here) - (here - below)) / step > 1e-3 * scale:
                continue
            sampled += 1
            error = abs(measured - slope) / scale
            if error >= worst:
                worst, where = error, name
    if not sampled:
        raise LookupError("every sampled direction crosses a kink")
    return {"gradient.error": worst, "gradient.worst": where, "gradient.sampled": sampled}


def one_batch(task: Task, model: nn.Module, ready: Inputs, batch_targets: Tensor) -> Values:
    """Train a copy on a few samples, dropout off, until the loss is a tenth or the time is up."""
    few = torch.arange(min(32, len(batch_targets)))
    small, aim = _pick(ready, few), batch_targets[few.to(batch_targets.device)]
    best: Values = {}
    # The first optimizer of a process makes PyTorch import its compiler: seconds that are no part of the trial.
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    began = time.monotonic()
    for rate in (1e-3, 1e-2, 1e-4):
        trial = _copy(model).train()
        for module in trial.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
            elif isinstance(module, nn.RNNBase | nn.MultiheadAttention):
                module.dropout = 0.0
        optimizer = torch.optim.Adam([p for p in trial.parameters() if p.requires_grad], lr=rate)
        first = last = math.nan
        for step in range(300):
            optimizer.zero_grad()
            loss = plain_loss(task, trial(small), aim)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            last = float(loss.detach())
            first = last if step == 0 else first
            if not math.isfinite(last) or last < 0.1 * first or time.monotonic() - began > ONE_BATCH_SECONDS:
                break
        if not best or last < best["one_batch.last"]:
            best = {"one_batch.first": first, "one_batch.last": last, "one_batch.steps": step + 1}
        if last < 0.1 * first or time.monotonic() - began > ONE_BATCH_SECONDS:
            break
    if best["one_batch.steps"] < 20 and best["one_batch.last"] > 0.5 * best["one_batch.first"]:
        raise LookupError(f"a step takes so long that {best['one_batch.steps']} fit in {ONE_BATCH_SECONDS:.0f} s")
    return {**best, "one_batch.size": len(few), "one_batch.floor": _floor(task, small, aim)}


def plain_loss(task: Task, logits: Tensor, aim: Tensor) -> Tensor:
    """Cross-entropy or mean squared error with nothing added; ensembles inside a model count each member."""
    if task.kind in ("classification", "language"):
        if task.kind == "language":
            return nn.functional.cross_entropy(logits.flatten(0, 1), aim.flatten(), ignore_index=-100)
        if logits.dim() == 3:
            aim = aim.repeat_interleave(logits.shape[1], 0)
            logits = logits.flatten(0, 1)
        if logits.shape[-1] == 1:
            return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], aim.to(logits.dtype))
        return nn.functional.cross_entropy(logits, aim)
    if logits.dim() == aim.dim() + 2 or (logits.dim() == 3 and aim.dim() == 2):
        aim = aim.reshape(len(aim), 1, -1).expand(logits.shape)
    return nn.functional.mse_loss(logits, aim.reshape(logits.shape).to(logits.dtype))


@contextmanager
def generators_kept() -> Iterator[None]:
    """Whatever is drawn inside leaves PyTorch's generators as they were."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        yield


def record(probes: Mapping[str, tuple[tuple[str, ...], Callable[[], Values]]]) -> tuple[Values, dict[str, str]]:
    """Run probes by name; what one could not measure is noted with the reason and stops no other."""
    values: Values = {}
    missing: dict[str, str] = {}
    for signals, probe in probes.values():
        try:
            with generators_kept(), torch.enable_grad():
                values |= probe()
        except LookupError as error:
            missing |= dict.fromkeys(signals, str(error.args[0] if error.args else error))
        # A user's module may raise anything; a probe that fails must not take the run with it.
        except Exception as error:
            missing |= dict.fromkeys(
                signals, f"the probe failed: {type(error).__name__}: {error}".splitlines()[0][:160]
            )
    return values, missing


def _copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def _pick(ready: Inputs, positions: Tensor) -> Inputs:
    if isinstance(ready, dict):
        return {k: v[positions.to(v.device)] for k, v in ready.items()}
    return ready[positions.to(ready.device)]


def _rows(part: Tensors) -> Iterator[int]:
    """A 64-bit hash of each row's bytes."""
    tensors = list(part.inputs.values()) if isinstance(part.inputs, dict) else [part.inputs]
    blocks = [t.reshape(len(t), -1).cpu().contiguous().view(torch.uint8).numpy() for t in tensors if t.numel()]
    for row in range(len(part)):
        yield hash(tuple(block[row].tobytes() for block in blocks))


def _floor(task: Task, small: Inputs, aim: Tensor) -> float:
    """The least loss possible where samples with equal inputs have different targets."""
    if task.kind == "language":
        return 0.0
    tensors = list(small.values()) if isinstance(small, dict) else [small]
    groups: dict[bytes, list[int]] = {}
    for row in range(len(aim)):
        content = b"".join(t[row].float().cpu().contiguous().numpy().tobytes() for t in tensors)
        groups.setdefault(content, []).append(row)
    total = 0.0
    for rows in groups.values():
        part = aim[rows].float()
        if task.kind == "classification":
            shares = torch.bincount(aim[rows]).float() / len(rows)
            total -= len(rows) * float((shares[shares > 0] * shares[shares > 0].log()).sum())
        else:
            total += float((part - part.mean(0)).square().sum()) / max(part[0].numel(), 1)
    return total / len(aim)
