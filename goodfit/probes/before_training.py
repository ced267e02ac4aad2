"""One-off probes on a copy of the untrained model and its first samples; the model stays as it was, bit by bit."""

from __future__ import annotations

import copy
import math
import sysconfig
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goodfit import keyed
from goodfit.probes.record import NotRecorded, Values, said
from goodfit.types import Inputs, Task

Loss = Callable[[Tensor, Tensor], Tensor]
"""A loss of somebody's own: of outputs and targets, where a task's plain loss is not what is trained."""

GRADIENT_SECONDS = 1.5
ONE_BATCH_SECONDS = 3.0


def forward(model: nn.Module, ready: Inputs) -> Values:
    """Whether the model takes a batch in both modes and gives one tensor of finite values, and where it fails."""
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        what = "its lazy layers do not know their sizes yet; call it once on some inputs first"
        return {"forward.error": what, "forward.where": type(model).__name__}
    outputs: Any = None
    for training in (True, False):
        trial = copied(model).train(training)
        try:
            with torch.no_grad():
                outputs = trial(ready)
        except Exception as error:  # whatever a user's module raises is what is to be told
            mode = " (in train mode)" if training else " (in eval mode)"
            return {"forward.error": said(error) + mode, "forward.where": _where(error)}
    if not isinstance(outputs, Tensor):
        what = f"forward returns a {type(outputs).__name__}, where one tensor of logits or values is wanted"
        return {"forward.error": what, "forward.where": type(model).__name__}
    return {
        "forward.error": "",
        "forward.where": "",
        "outputs.shape": "x".join(map(str, outputs.shape)),
        "outputs.nonfinite": int((~torch.isfinite(outputs)).sum()),
    }


def outputs(task: Task, model: nn.Module, ready: Inputs, aim: Tensor) -> Values:
    """How many classes the model tells apart, and what is wrong with its outputs' shape, if anything."""
    with torch.no_grad():
        shape = tuple(copied(model).eval()(ready).shape)
    size, width = len(aim), task.outputs
    binary = task.kind == "classification" and len(task.classes) == 2
    if task.tokens:
        fits, wanted = len(shape) == 3 and shape[:2] == tuple(aim.shape), f"({size}, {aim.shape[-1]}, vocabulary)"
    elif task.kind == "classification":
        count = len(task.classes)
        fits = len(shape) in (2, 3) and shape[0] == size and (shape[-1] == count or (binary and shape[-1] == 1))
        wanted = f"({size}, {count})"
    else:
        # A column beside a row would be broadcast to a square, and the model would learn the mean.
        fits = shape in ((size, width), tuple(aim.shape)) or (len(shape) == 3 and shape[::2] == (size, width))
        wanted = f"({size}, {width})"
    classes = 0 if not (task.kind == "classification" or task.tokens) or not shape else max(shape[-1], 1)
    return {
        "outputs.classes": 2 if classes == 1 and binary else classes,
        "outputs.problem": "" if fits else f"the outputs have shape {shape}, where {wanted} is wanted",
    }


def initial_loss(task: Task, model: nn.Module, ready: Inputs, aim: Tensor) -> Values:
    """The untrained model's plain loss in train mode beside that of a guess that ignores the input."""
    with torch.no_grad():
        loss = float(plain_loss(task, copied(model).train()(ready), aim))
    if task.kind == "classification" or task.tokens:
        classes = len(task.classes) if task.kind == "classification" else task.outputs
        return {"loss.initial": loss, "loss.expected": math.log(classes), "loss.expected_name": f"ln {classes}"}
    spread = float(aim.float().square().mean())
    return {"loss.initial": loss, "loss.expected": spread, "loss.expected_name": "the targets' mean square"}


def gradients(task: Task | Loss, model: nn.Module, ready: Inputs, aim: Tensor) -> Values:
    """Which trainable parameters get no gradient, or one that is not finite, after one backward pass on a copy."""
    trial = copied(model).train()
    loss = plain_loss(task, trial(ready), aim)
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    named = [(n, p) for n, p in trial.named_parameters() if p.requires_grad]
    return {
        "gradient.none": [n for n, p in named if p.grad is None],
        "gradient.nonfinite": [n for n, p in named if p.grad is not None and not _finite(p.grad)],
        "gradient.parameters": len(named),
    }


def batch_leak(model: nn.Module, ready: Inputs) -> Values:
    """How much outputs change when every other sample of the batch is exchanged, in eval mode.

    Each sample that stays has changed neighbours on both sides, so that a leak in one direction only (a recurrent net
    that walks along the batch) shows too.
    """
    half = _size(ready) // 2
    if half < 2:
        raise NotRecorded("fewer than four samples")
    places = torch.arange(half)
    first, second = _pick(ready, places), _pick(ready, torch.where(places % 2 == 0, places + half, places))
    one, other = _compared(model, first, second)
    if len(one) != half:
        raise NotRecorded("the outputs' first axis is not the sample")
    kept = places[1::2].to(one.device)
    return {"leak.batch": float((one[kept] - other[kept]).abs().max()), "leak.spread": float(one.std())}


def causal_leak(model: nn.Module, ready: Inputs, vocabulary: int) -> Values:
    """How much earlier outputs change when the last third of the tokens is changed, in eval mode.

    ready: tokens ``(batch, T)``, or of an encoder-decoder ``source`` and ``target``, whose target is changed.
    """
    pair = ready if isinstance(ready, dict) else {"target": ready}
    few = {name: tokens[:8] for name, tokens in pair.items()}
    changed = {**few, "target": few["target"].clone()}
    cut = few["target"].shape[1] * 2 // 3
    changed["target"][:, cut:] = (changed["target"][:, cut:] + 1) % max(vocabulary, 2)
    if isinstance(ready, dict):
        one, other = _compared(model, few, changed)
    else:
        one, other = _compared(model, few["target"], changed["target"])
    return {
        "leak.future": float((one[:, :cut] - other[:, :cut]).abs().max()),
        "leak.future_spread": float(one.std()),
    }


def numerical_gradient(task: Task | Loss, model: nn.Module, ready: Inputs, aim: Tensor, *, tensors: int = 6) -> Values:
    """Worst relative difference between back-propagation and central differences in float64 along random directions.

    Tensors along which the slopes to the two sides differ stand at a kink of the loss and are left out. So is what does
    not fit into ``GRADIENT_SECONDS``. Below a zero-initialised head all gradients are zero, so it gets values first.
    """
    few = torch.arange(min(6, len(aim)))
    small = _pick(ready, few)
    small = {k: _double(v) for k, v in small.items()} if isinstance(small, dict) else _double(small)
    wanted = _double(aim[few.to(aim.device)])

    def loss() -> Tensor:
        return plain_loss(task, trial(small), wanted)

    late = out_of_time(GRADIENT_SECONDS)
    for woken in (True, False):
        trial = copied(model).double().eval()
        if woken:
            _wake(trial)
        start = loss()
        if bool(torch.isfinite(start)):
            break
    if start.requires_grad:
        start.backward()  # type: ignore[no-untyped-call]
    named = [(n, p) for n, p in trial.named_parameters() if p.requires_grad and p.grad is not None]
    if not named:
        raise NotRecorded("no parameter gets a gradient")
    worst, where, sampled = 0.0, "", 0
    with torch.no_grad():
        # Not compared with the start: without gradients PyTorch may take another path with other rounding.
        here = float(loss())
        if here != float(loss()):
            raise NotRecorded("the loss changes from call to call in eval mode")
        for number in keyed.permutation(keyed.key(0, "numerical gradient"), len(named))[:tensors].tolist():
            if late():
                break
            name, parameter = named[number]
            direction = torch.randn(parameter.shape, generator=keyed.generator(keyed.key(0, name)), dtype=torch.float64)
            direction = (direction / direction.norm()).to(parameter.device)
            slope = float((parameter.grad.to_dense() * direction).sum())
            step = 1e-5
            parameter += step * direction
            above = float(loss())
            parameter -= 2 * step * direction
            below = float(loss())
            parameter += step * direction
            measured = (above - below) / (2 * step)
            # Rounding alone makes differences of about 1e-16 / 1e-5 of the loss.
            scale = max(abs(slope), abs(measured), 1e-6 * max(1.0, abs(here)))
            # At a kink (ReLU at zero, equal values under a maximum) the slopes to the two sides differ: neither is the
            # gradient. Written so that a slope that is not a number counts as one too.
            if not abs((above - here) - (here - below)) / step <= 1e-3 * scale:
                continue
            sampled += 1
            error = abs(measured - slope) / scale
            if error >= worst:
                worst, where = error, name
    if not sampled:
        raise NotRecorded("a pass takes too long" if late() else "every sampled direction crosses a kink")
    return {"gradient.error": worst, "gradient.worst": where, "gradient.sampled": sampled}


def one_batch(task: Task, model: nn.Module, ready: Inputs, aim: Tensor) -> Values:
    """Train a copy on a few samples, dropout off, until the loss is a tenth or the time is up."""
    few = torch.arange(min(max(2, 256 // aim.shape[1]) if task.tokens else 32, len(aim)))
    seconds = _seconds_a_pass(task, model, _pick(ready, few), aim[few.to(aim.device)])
    # Fewer samples where a pass takes long: some fifty steps are wanted.
    few = few[: max(4, int(len(few) * ONE_BATCH_SECONDS / 50 / seconds))]
    small, wanted = _pick(ready, few), aim[few.to(aim.device)]
    floor = _floor(task, small, wanted)
    best: Values = {}
    # The first optimizer of a process makes PyTorch import its compiler: seconds that are no part of the trial.
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    late = out_of_time(ONE_BATCH_SECONDS)
    for rate in (1e-3, 1e-2, 1e-4):
        trial = without_dropout(copied(model).train())
        parameters = [p for p in trial.parameters() if p.requires_grad]
        if not parameters:
            raise NotRecorded("no parameter is trainable")
        optimizer = torch.optim.Adam(parameters, lr=rate)
        first = last = math.nan
        for step in range(300):
            optimizer.zero_grad()
            loss = plain_loss(task, trial(small), wanted)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            last = float(loss.detach())
            first = last if step == 0 else first
            done = last - floor <= 0.1 * max(first - floor, 0.0)
            if done or late() or not math.isfinite(last):
                break
        if not best or last < best["one_batch.last"] or not math.isfinite(best["one_batch.last"]):
            best = {"one_batch.first": first, "one_batch.last": last, "one_batch.steps": step + 1}
        if done or late():
            break
    tried, began, ended = best["one_batch.steps"], best["one_batch.first"] - floor, best["one_batch.last"] - floor
    if late() and 0.5 * began < ended and (tried < 20 or ended < 0.95 * began):
        raise NotRecorded(f"{ONE_BATCH_SECONDS:.0f} s are over after {tried} steps, while the loss was still falling")
    return {**best, "one_batch.size": len(few), "one_batch.floor": floor}


def plain_loss(task: Task | Loss, logits: Tensor, aim: Tensor) -> Tensor:
    """Cross-entropy or mean squared error with nothing added, or a given loss; of an ensemble each member counts."""
    if not isinstance(task, Task):
        return task(logits, aim)
    if task.kind == "classification" or task.tokens:
        if task.tokens:
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


def out_of_time(seconds: float) -> Callable[[], bool]:
    """Asks whether so many seconds of this thread's own work have passed since now, or four times as many by the clock.

    A machine that other programs keep busy then changes how long a probe takes, and not what it finds.
    """
    worked, began = time.thread_time(), time.monotonic()
    return lambda: time.thread_time() - worked > seconds or time.monotonic() - began > 4 * seconds


def copied(model: nn.Module) -> nn.Module:
    """A copy to try things on, without gradients of earlier use. Raises NotRecorded where a model cannot be copied."""
    try:
        made = copy.deepcopy(model)
    except Exception as error:  # locks, open files, tensors in the midst of a graph: each raises its own
        raise NotRecorded(f"the model cannot be copied ({said(error)})") from error
    made.zero_grad(set_to_none=True)
    return made


def _seconds_a_pass(task: Task, model: nn.Module, small: Inputs, wanted: Tensor) -> float:
    """Of a forward and a backward pass in train mode, the second of two: the first one fills caches."""
    trial, began = copied(model).train(), 0.0
    for _ in range(2):
        began = time.thread_time()
        loss = plain_loss(task, trial(small), wanted)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    return max(time.thread_time() - began, 1e-6)


def _compared(model: nn.Module, first: Inputs, second: Inputs) -> tuple[Tensor, Tensor]:
    """Outputs for two batches, in eval mode and with equal random numbers.

    Zero-initialised heads and branches would hide every leak behind them, so they are given values on the copy; where
    a model does not bear that, it is asked as it is.
    """
    for woken in (True, False):
        trial = copied(model).eval()
        if woken:
            _wake(trial)
        with torch.no_grad():
            made = []
            for batch in (first, first, second):
                torch.manual_seed(0)
                made.append(torch.as_tensor(trial(batch)).float())
        if all(bool(torch.isfinite(one).all()) for one in made):
            break
    one, again, other = made
    if not bool(torch.isfinite(one).all()):
        raise NotRecorded("the outputs are not finite")
    if not torch.equal(one, again):
        raise NotRecorded("the outputs change from call to call in eval mode")
    if one.numel() < 2 or float(one.std()) == 0.0:
        raise NotRecorded("the outputs are all equal, whatever the input")
    return one, other


def _wake(model: nn.Module) -> None:
    """Gives values to parameters that are zero or nearly so, and would hide what lies before them."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point() and parameter.numel() and float(parameter.abs().max()) < 1e-3:
                noise = torch.randn(parameter.shape, generator=keyed.generator(keyed.key(0, "wake", name)))
                parameter.copy_(0.1 * noise)


def without_dropout(model: nn.Module) -> nn.Module:
    """Sets every probability of leaving something out to zero; a loss of zero cannot be reached with it."""
    for module in model.modules():
        kind = type(module).__name__.lower()
        for name in ("p", "dropout", "drop_prob", "drop_rate", "dropout_p", "attn_dropout"):
            # Other modules may call something else p.
            if isinstance(getattr(module, name, None), float) and (name != "p" or "drop" in kind or "depth" in kind):
                setattr(module, name, 0.0)
    return model


def _where(error: BaseException) -> str:
    """File and line of the innermost call outside of libraries."""
    libraries = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sysconfig.get_path("stdlib")})
    ours = str(Path(__file__).parents[1])
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((*libraries, ours))]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _finite(gradient: Tensor) -> bool:
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return bool(torch.isfinite(values).all())


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def _size(ready: Inputs) -> int:
    return len(next(iter(ready.values())) if isinstance(ready, dict) else ready)


def _pick(ready: Inputs, positions: Tensor) -> Inputs:
    if isinstance(ready, dict):
        return {k: v[positions.to(v.device)] for k, v in ready.items()}
    return ready[positions.to(ready.device)]


def _floor(task: Task, small: Inputs, aim: Tensor) -> float:
    """The least loss possible where samples with equal inputs have different targets."""
    if task.tokens:
        return 0.0
    tensors = list(small.values()) if isinstance(small, dict) else [small]
    groups: dict[bytes, list[int]] = {}
    for row in range(len(aim)):
        content = b"".join(t[row].detach().float().cpu().contiguous().numpy().tobytes() for t in tensors)
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
