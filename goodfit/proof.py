"""Proof by intervention: some steps are replayed on copies, as they are and with the suspected fix, and both compared.

Nothing of the program is used but copies of it (`probes.ingredients.Kit`); generators are put back afterwards.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from goodfit.probes.ingredients import BRIDGES, Kit, Sample, parameters_of
from goodfit.probes.ownership import leaves_of
from goodfit.probes.record import generators_kept, said
from goodfit.types import Finding

STEPS = 40
"""Steps that are replayed in each of the two ways."""
SECONDS = 3.0
"""After which a replay is cut short; at least ten steps are made."""


@dataclass(frozen=True)
class Fix:
    """What a replay does otherwise.

    actions: of a step, from those of the program. given: what the loss gets, from what it got. target: likewise.
    weights: changes copies of network and optimizer before the first step. adopt: parameters of the graph that the
    optimizer does not hold are added to it. raw: the loss gets the network's output itself. training: the mode in which
    both are judged. exact: the rule counts what happens and does not infer it, so that no replay can refute it. name:
    in words, for the message.
    """

    name: str
    actions: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda actions: actions
    given: Callable[[Tensor, Tensor], Tensor] | None = None
    raw: bool = False
    target: Callable[[Tensor, Tensor], Tensor] | None = None
    weights: Callable[[nn.Module, Optimizer], None] | None = None
    adopt: bool = False
    training: bool | None = None
    sign: float = 1.0
    exact: bool = True


def _cleared(actions: tuple[str, ...]) -> tuple[str, ...]:
    return ("zero_grad", *(one for one in actions if one != "zero_grad"))


def _clipped(actions: tuple[str, ...]) -> tuple[str, ...]:
    rest = [one for one in actions if one != "clip"]
    return tuple(one for action in rest for one in (("clip", "step") if action == "step" else (action,)))


def _slower(network: nn.Module, optimizer: Optimizer, by: float = 0.1) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * by


def _faster(network: nn.Module, optimizer: Optimizer) -> None:
    if any(p.dtype in (torch.bfloat16, torch.float16) for p in network.parameters()):
        network.float()
        return
    _slower(network, optimizer, 1000.0)


def _trains(network: nn.Module, optimizer: Optimizer) -> None:
    network.train()


def _anew(network: nn.Module, optimizer: Optimizer) -> None:
    for module in network.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    optimizer.state.clear()


def _shaped(target: Tensor, given: Tensor) -> Tensor:
    return target.reshape(given.shape) if target.numel() == given.numel() else target


FIXES: dict[str, Fix] = {
    "stale-gradient": Fix("zero_grad() before each backward pass", actions=_cleared),
    "step-without-gradient": Fix("zero_grad() before the backward pass", actions=_cleared),
    "parameters-not-in-optimizer": Fix("all parameters in the optimizer", adopt=True),
    "optimizer-of-another-model": Fix("all parameters in the optimizer", adopt=True),
    "double-softmax": Fix("the second softmax taken back", given=lambda x, _: x.clamp_min(1e-30).log()),
    "softmax-over-batch": Fix("no softmax before the loss", raw=True),
    "clipped-logits": Fix("no activation before the loss", raw=True),
    "logits-into-nll": Fix("log_softmax before the loss", given=lambda x, _: x.log_softmax(1 if x.dim() > 1 else 0)),
    "sigmoid-before-logits-loss": Fix("the second sigmoid taken back", given=lambda x, _: x.logit(1e-7)),
    "broadcast-loss": Fix("targets in the shape of the prediction", target=_shaped),
    "training-in-eval-mode": Fix("the network in train mode", weights=_trains, training=True),
    "clip-after-step": Fix("clipping before the step", actions=_clipped),
    "worse-than-guessing": Fix("a tenth of the learning rate", weights=_slower, exact=False),
    "step-without-effect": Fix("float32 weights, or a thousand times the rate", weights=_faster),
    "uphill-steps": Fix("the sign of the loss turned", sign=-1.0, exact=False),
    "equal-units": Fix("weights drawn anew", weights=_anew),
    "dead-layers": Fix("weights drawn anew", weights=_anew, exact=False),
}  # fmt: skip
"""By rule."""


@dataclass(frozen=True)
class Proof:
    """What two replays showed: the loss at first, and at the end without and with the fix, over the same batches.

    difference, error: of the loss at the end, without minus with the fix, mean over batches and its standard error.
    """

    steps: int
    first: float
    without: float
    fixed: float
    difference: float
    error: float
    name: str

    @property
    def verdict(self) -> str:
        """``helps``, ``harms`` or ``no difference``: two standard errors, and a hundredth of the loss, decide."""
        least = max(2 * self.error, 0.01 * abs(self.without) if math.isfinite(self.without) else 0.0)
        if math.isnan(self.difference):
            return "helps" if math.isfinite(self.fixed) else "no difference"
        return "helps" if self.difference > least else "harms" if self.difference < -least else "no difference"

    def __str__(self) -> str:
        ends = {"helps": "", "harms": ": the fix does not help here", "no difference": ": no difference in so few"}
        return (
            f"over {self.steps} replayed steps the loss goes from {self.first:.4g} to {self.fixed:.4g} with "
            f"{self.name}, to {self.without:.4g} without{ends[self.verdict]}"
        )


def proved(finding: Finding, kit: Kit | None, why: str) -> Finding:
    """The finding with what a replay showed in its ``proof``.

    A fix that makes things worse takes one step of severity away (error, warning, advice) from what a rule inferred.
    What it counted stays: gradients used twice, say, are a larger step, which may be faster for some dozens of steps.
    why: no replay was possible.
    """
    fix = FIXES.get(finding.rule)
    if fix is None:
        return finding
    text, severity = why, finding.severity
    if kit is not None and not why and kit.samples:
        try:
            proof = compare(kit, fix)
        except Exception as error:  # a network may raise anything on copies of its batches
            text = f"the replay failed ({said(error)})"
        else:
            if not math.isfinite(proof.first) and not math.isfinite(proof.fixed):
                text = "the weights were lost already when the replay could begin"
            else:
                if proof.verdict == "harms" and not fix.exact:
                    severity = "warning" if severity == "error" else "advice"
                return replace(finding, severity=severity, proof=str(proof))
    return replace(finding, proof=f"not proved, because {text}")


def compare(kit: Kit, fix: Fix) -> Proof:
    """Replay in both ways, from the same weights, with the same batches and random numbers.

    Both are judged by the loss as it should be: the fixed one.
    """
    with _apart():
        began = time.monotonic()
        without, first, steps = _replay(kit, Fix("nothing"), fix, steps=STEPS, until=began + SECONDS)
        fixed, _, _ = _replay(kit, fix, fix, steps=steps, until=math.inf)
    gaps = [a - b for a, b in zip(without, fixed, strict=True)]
    error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
    mean = statistics.fmean
    return Proof(steps, mean(first), mean(without), mean(fixed), mean(gaps), error, fix.name)


@dataclass(frozen=True)
class Rates:
    """Losses on batches that were not replayed, after ``steps`` steps with so many times the learning rate, by batch.

    first: before them. where: the line that steps. lr: of the program.
    """

    steps: int
    lr: float
    where: str
    first: tuple[float, ...]
    after: dict[float, tuple[float, ...]]


def compare_rates(kit: Kit, where: str) -> Rates:
    """Replay with a thousandth to a thousand times the rate, and judge on the other half of the batches.

    Judged by batches that were replayed, a higher rate would nearly always win: it learns them by heart sooner.
    """
    half = replace(kit, samples=kit.samples[::2])
    after: dict[float, tuple[float, ...]] = {}
    first: list[float] = []
    steps, until = STEPS, time.monotonic() + SECONDS
    with _apart():
        for factor in (1.0, 0.1, 0.01, 0.001, 10.0, 100.0, 1000.0):
            fix = Fix("", weights=functools.partial(_slower, by=factor))
            losses, first, steps = _replay(half, fix, fix, steps=steps, until=until, judge=kit.samples[1::2])
            after[factor], until = tuple(losses), math.inf
    lr = max(float(group.get("lr", 0.0)) for group in kit.optimizer.param_groups)
    return Rates(steps, lr, where, tuple(first), after)


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Generators are put back; nothing is printed or warned of, for the program has said it already."""
    with generators_kept(), torch.enable_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _replay(
    kit: Kit, fix: Fix, measure: Fix, *, steps: int, until: float, judge: Sequence[Sample] | None = None
) -> tuple[list[float], list[float], int]:
    """Losses of each batch (of ``judge``, else of all) after the steps and before them, and the number of steps."""
    network, optimizer = copy.deepcopy((kit.network, kit.optimizer))
    for parameter, gradient in zip(parameters_of(network, optimizer), kit.gradients, strict=True):
        parameter.grad = None if gradient is None else gradient.clone()
    judge = kit.samples if judge is None else judge
    first = _judged(kit, network, measure, judge)
    torch.manual_seed(0)
    if fix.weights is not None:
        fix.weights(network, optimizer)
    adopted = not fix.adopt
    done = 0
    for step in range(steps):
        if step >= 10 and time.monotonic() > until:
            break
        torch.manual_seed(step)
        sample = kit.samples[step % len(kit.samples)]
        loss: Tensor | None = None
        for action in fix.actions(kit.actions):
            if action == "zero_grad":
                optimizer.zero_grad()
                network.zero_grad()
            elif action == "forward":
                loss = _loss(kit, network, sample, fix)
            elif action == "backward" and loss is not None:
                if not adopted:
                    adopted = True
                    _adopt(loss, optimizer)
                (fix.sign * kit.factor * loss).backward()  # type: ignore[no-untyped-call]
            elif action == "clip" and kit.clip is not None:
                _clip(optimizer, *kit.clip)
            elif action == "step":
                optimizer.step()
        done += 1
    return _judged(kit, network, measure, judge), first, done


def _judged(kit: Kit, network: nn.Module, measure: Fix, samples: Sequence[Sample]) -> list[float]:
    state = {name: buffer.clone() for name, buffer in network.named_buffers()}
    losses, mode = [], network.training
    if measure.training is not None:
        network.train(measure.training)
    torch.manual_seed(0)
    with torch.no_grad():
        for sample in samples:
            losses.append(float(measure.sign * _loss(kit, network, sample, measure)))
        for name, buffer in network.named_buffers():
            buffer.copy_(state[name])
    if measure.training is not None:
        network.train(mode)
    return losses


def _loss(kit: Kit, network: nn.Module, sample: Sample, fix: Fix) -> Tensor:
    output = network(*sample.inputs)
    given = output if fix.raw else BRIDGES[kit.bridge](output)
    given = given.reshape(sample.shape)
    target = sample.target
    if fix.given is not None:
        given = fix.given(given, target)
    if fix.target is not None:
        target = fix.target(target, given)
    value: Tensor = getattr(F, kit.loss)(given, target, **kit.options)
    return value


def _adopt(loss: Tensor, optimizer: Optimizer) -> None:
    """Add the parameters that the loss depends on and the optimizer does not hold."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    lost = [p for p in leaves_of((loss,)) if isinstance(p, nn.Parameter) and id(p) not in held]
    if lost:
        settings = {k: v for k, v in optimizer.param_groups[0].items() if k not in ("params", "param_names")}
        optimizer.add_param_group({"params": lost, **settings})


def _clip(optimizer: Optimizer, kind: str, limit: float) -> None:
    every = [p for group in optimizer.param_groups for p in group["params"]]
    if kind == "norm":
        nn.utils.clip_grad_norm_(every, limit)
    else:
        nn.utils.clip_grad_value_(every, limit)


__all__ = ["FIXES", "Fix", "Proof", "Rates", "compare", "compare_rates", "proved"]
