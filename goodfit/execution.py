"""Execution measured, not guessed: real steps are timed with each choice that changes results by rounding only.

Candidates are memory format (images), bf16 autocast, and compilation where the run is long enough to earn it back.
The fastest is
taken only when it is clearly faster, and remembered for this machine and model, so that the same recipe gives the
same bits again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from goodfit import store
from goodfit.errors import GoodfitError
from goodfit.plan import Plan
from goodfit.types import Batch

CLEARLY = 1.10
"""How many times faster a choice must be to leave the plain one: below that, noise would decide."""
MEMORY_HINT = "--set gradient.name=accumulate takes the same batch in pieces that fit"
LONG_ENOUGH = 900.0
"""Predicted seconds of training from which a trial compilation (itself 20 to 60 s on a small CPU) is worth it."""


@dataclass(frozen=True)
class Trial:
    """One way to execute a step and the milliseconds it took (median); ``error`` says why it could not run."""

    precision: str
    channels_last: bool
    compiled: bool
    milliseconds: float
    error: str = ""

    @property
    def name(self) -> str:
        """Such as ``bf16 channels-last compiled``."""
        parts = [self.precision, "channels-last" if self.channels_last else "", "compiled" if self.compiled else ""]
        return " ".join(p for p in parts if p)


Step = Callable[[nn.Module, str, bool, bool, Batch], None]
"""Makes one training step on a model: (model, precision, channels_last, compiled, batch)."""


def candidates(plan: Plan, *, image: bool, device: torch.device) -> list[tuple[str, bool]]:
    """The (precision, channels_last) pairs that the plan leaves open; the plain one first."""
    wanted = str(plan["numerics.precision"])
    layout = str(plan["numerics.memory_format"])
    precisions = ["fp32", "bf16"] if wanted == "auto" else [wanted]
    if wanted == "auto" and not _bf16_is_native(device):
        precisions = ["fp32"]
    layouts = [False, True] if layout == "auto" and image else [layout == "channels_last" and image]
    return [(p, c) for p in precisions for c in layouts]


def measure(
    plan: Plan,
    model: nn.Module,
    batches: Sequence[Batch],
    step: Step,
    *,
    image: bool,
    device: torch.device,
    total_steps: int,
    cache: Path | None,
) -> tuple[Plan, tuple[Trial, ...]]:
    """Time the candidates on copies of the model and return the plan with the choices made, and what was measured."""
    pairs = candidates(plan, image=image, device=device)
    compile_asked = plan["numerics.compile"]
    if not _can_be_copied(model):
        plain = Trial(*pairs[0], compiled=False, milliseconds=0.0)
        return _decide(plan, plain, "not timed: the model cannot be copied"), ()
    remembered = _recall(cache, plan, model, batches)
    if remembered is not None:
        chosen, trials = remembered
        return _decide(plan, chosen, "remembered for this machine and model"), trials
    trials = tuple(_time(model, batches, step, p, c, False, device) for p, c in pairs)
    usable = [t for t in trials if not t.error]
    if not usable:
        hint = f"; {MEMORY_HINT}" if "memory" in trials[0].error else ""
        raise GoodfitError(f"the first training step fails: {trials[0].error.rstrip('.')}{hint}")
    best = min(usable, key=lambda t: t.milliseconds)
    plain = usable[0]
    chosen = best if plain.milliseconds > CLEARLY * best.milliseconds else plain
    # Among near ties prefer no special layout: the fewest differences from what a reader expects.
    predicted = chosen.milliseconds * total_steps / 1000
    tries_compile = compile_asked is True or (
        compile_asked == "auto" and predicted > LONG_ENOUGH and can_compile(device)
    )
    if tries_compile:
        compiled = _time(model, batches, step, chosen.precision, chosen.channels_last, True, device)
        trials = (*trials, compiled)
        saved = (chosen.milliseconds - compiled.milliseconds) * total_steps / 1000
        if not compiled.error and (compile_asked is True or saved > 0.05 * predicted):
            chosen = compiled
    _remember(cache, plan, model, batches, chosen, trials)
    gain = plain.milliseconds / chosen.milliseconds
    reason = f"measured: {chosen.milliseconds:.1f} ms a step" + (
        f", {plain.name} takes {plain.milliseconds:.1f} ({gain:.1f} times)" if chosen is not plain else ""
    )
    return _decide(plan, chosen, reason), trials


def unmeasured(plan: Plan, device: torch.device, reason: str) -> Plan:
    """The plan with the plainest choices that it leaves open, for a run that no timing would make shorter."""
    precision, channels_last = candidates(plan, image=False, device=device)[0]
    return _decide(plan, Trial(precision, channels_last, compiled=False, milliseconds=0.0), reason)


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile has what it needs: a C++ compiler on CPU, Triton on CUDA."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (7, 0)
    return shutil.which("g++") is not None or shutil.which("clang++") is not None


def _can_be_copied(model: nn.Module) -> bool:
    """False for modules that hold a lock, an open file or the like: trials on the model itself would train it."""
    try:
        copy.deepcopy(model)
    except Exception:  # each of them raises its own
        return False
    return True


def _decide(plan: Plan, chosen: Trial, reason: str) -> Plan:
    source = "timed on this machine"
    plan = plan.changed("numerics.precision", chosen.precision, reason=reason, source=source)
    layout = "channels_last" if chosen.channels_last else "contiguous"
    plan = plan.changed("numerics.memory_format", layout, reason=reason, source=source)
    return plan.changed("numerics.compile", chosen.compiled, reason=reason, source=source)


def _time(
    model: nn.Module,
    batches: Sequence[Batch],
    step: Step,
    precision: str,
    channels_last: bool,
    compiled: bool,
    device: torch.device,
) -> Trial:
    trial = copy.deepcopy(model)
    if channels_last:
        trial = trial.to(memory_format=torch.channels_last)
    seconds: list[float] = []
    try:
        began = time.perf_counter()
        for turn in range(2 + 5):
            start = time.perf_counter()
            step(trial, precision, channels_last, compiled, batches[turn % len(batches)])
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
            # A slow step is measured well enough by two; a trial must stay short beside the run.
            if turn >= 2 and time.perf_counter() - began > 6 and not compiled:
                break
    except (RuntimeError, NotImplementedError, TypeError) as error:
        return Trial(precision, channels_last, compiled, float("inf"), str(error).splitlines()[0][:200])
    return Trial(precision, channels_last, compiled, 1000 * statistics.median(seconds[min(2, len(seconds) - 1) :]))


def _bf16_is_native(device: torch.device) -> bool:
    """Whether bf16 can be worth timing: an instruction for it on CPU, compute capability 8 on CUDA."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        try:
            return "bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
    return False


def _key(plan: Plan, model: nn.Module, batches: Sequence[Batch]) -> str:
    shapes = [tuple(p.shape) for p in model.parameters()]
    values = {k: c.value for k, c in plan.choices.items() if k.split(".")[0] in ("model", "numerics", "gradient")}
    inputs = batches[0].inputs
    size = {k: tuple(v.shape) for k, v in inputs.items()} if isinstance(inputs, dict) else tuple(inputs.shape)
    text = json.dumps([shapes, values, str(size), plan.environment], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _recall(
    cache: Path | None, plan: Plan, model: nn.Module, batches: Sequence[Batch]
) -> tuple[Trial, tuple[Trial, ...]] | None:
    if cache is None or not cache.exists():
        return None
    try:
        known: Any = store.read_json(cache)
        entry = known[_key(plan, model, batches)]
        trials = tuple(Trial(**{**t, "milliseconds": t["milliseconds"] or float("inf")}) for t in entry["trials"])
        return trials[int(entry["chosen"])], trials
    except (GoodfitError, KeyError, TypeError, ValueError, IndexError):
        return None


def _remember(
    cache: Path | None,
    plan: Plan,
    model: nn.Module,
    batches: Sequence[Batch],
    chosen: Trial,
    trials: tuple[Trial, ...],
) -> None:
    if cache is None:
        return
    try:
        known = store.read_json(cache) if cache.exists() else {}
        entry = {"chosen": trials.index(chosen), "trials": [vars(t) for t in trials]}
        store.write_json(cache, {**(known if isinstance(known, dict) else {}), _key(plan, model, batches): entry})
    except GoodfitError:
        return  # without a place to remember, it is measured again next time
