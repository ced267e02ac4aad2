"""The only training loop: `train_step` calls the slots of the recipe in order, `fit` calls it for every batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from goodfit import keyed
from goodfit.data.data import Data
from goodfit.errors import GoodfitError
from goodfit.evaluation.language import token_losses
from goodfit.models.layers import train_mode
from goodfit.plan import Plan
from goodfit.techniques.batch import active
from goodfit.techniques.numerics import Precision, autocast
from goodfit.techniques.optimizer import set_lr, set_mode, set_momentum
from goodfit.types import Batch, Inputs, Moment, Part, to_device


@dataclass(frozen=True)
class Slots:
    """The techniques of one run, in the order of a training step."""

    batch: tuple[Any, ...]
    loss: Any
    penalty: Any
    gradient: Any
    clip: Any
    schedule: Any
    average: Any
    stopping: Any
    sampling: Any
    precision: Precision
    nonfinite: str
    channels_last: bool = False


@dataclass
class State:
    """The only mutable thing of a run: what training changes, and all that a resumed run needs."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    prepare: Callable[[Inputs], Inputs]
    averager: Any = None
    clipping: dict[str, Tensor] = field(default_factory=dict)
    scaler: torch.amp.GradScaler | None = None
    step: int = 0
    skipped: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    run_model: Callable[[Any], Tensor] | None = None

    def __post_init__(self) -> None:
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.losses = [row["loss"] for row in self.history]
        self.forward: Callable[[Any], Tensor] = self.model if self.run_model is None else self.run_model
        self.device = next(self.model.parameters()).device


class Watcher(Protocol):
    """Reads a live run and never changes it: a display, a recorder of metrics, a probe."""

    def step(self, moment: Moment, loss: Tensor, lr: float, samples: int) -> None:
        """After an optimizer step; ``loss`` is detached and stays on the device."""

    def evaluated(self, moment: Moment, row: Mapping[str, float], best: bool) -> None:
        """After a validation."""


@runtime_checkable
class Shifting(Protocol):
    """A part whose samples are windows of one stream, which can begin elsewhere in every epoch."""

    def shifted(self, seed: int, epoch: int) -> Part:
        """The same part for this epoch; as many samples."""


class NonFinite(GoodfitError):
    """The loss became NaN or infinite; the weights are those before that step."""


def train_step(state: State, slots: Slots, batch: Batch, moment: Moment) -> Tensor:
    """One optimizer update. Returns the batch's mean loss, detached, on the device."""
    for change in slots.batch:
        if active(change, moment):
            batch = change(batch, moment)
    total_weight = slots.loss.weigh(batch.targets, batch.weight)

    def backward(piece: Batch) -> Tensor:
        inputs = state.prepare(piece.inputs)
        with autocast(slots.precision, state.device):
            logits = state.forward(inputs)
        loss = slots.loss(logits, piece.targets, piece.weight) / total_weight
        (loss if state.scaler is None else state.scaler.scale(loss)).backward()
        return torch.as_tensor(loss.detach())

    loss: Tensor = slots.gradient(backward, batch, parameters=state.parameters)
    if not math.isfinite(float(loss)):
        return _refuse(state, slots, loss, moment)
    if state.scaler is not None:
        state.scaler.unscale_(state.optimizer)
    slots.penalty.add_gradient(state.parameters)
    slots.clip(state.parameters, state=state.clipping)
    lr = set_rates(state.optimizer, slots.schedule, moment, state.losses)
    if state.scaler is None:
        state.optimizer.step()
    else:
        state.scaler.step(state.optimizer)
        state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    slots.penalty.after_step(state.parameters, lr)
    state.averager.update(state.model, moment)
    state.step += 1
    return loss


def seed_generators(device: torch.device, seed: int) -> None:
    """What ``torch.manual_seed`` does, for the CPU and this device only.

    That one visits every kind of device, and while CUDA is installed but not in use it formats a stack trace each time:
    0.14 ms at least, more than everything else around a step.
    """
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


def set_rates(optimizer: torch.optim.Optimizer, schedule: Any, moment: Moment, losses: Sequence[float]) -> float:
    """Give each parameter group its rate (and momentum) for this step; returns the first group's rate."""
    set_lr(optimizer, schedule.factor(moment, losses))
    momentum = schedule.momentum(moment)
    if momentum is not None:
        set_momentum(optimizer, momentum)
    return float(optimizer.param_groups[0]["lr"])


def epoch_batches(slots: Slots, part: Part, *, seed: int, epoch: int, per_epoch: int, equal: bool) -> Sequence[Tensor]:
    """The positions of each batch of an epoch, a pure function of (seed, epoch).

    Batches differ in size by at most one, so no tiny last batch upsets BatchNorm; with ``equal`` (compiled models
    want one
    shape) the few left over are skipped, others in each epoch.
    """
    order = slots.sampling.order(part, seed=seed, epoch=epoch)
    if equal:
        order = order[: len(order) // per_epoch * per_epoch]
    parts: tuple[Tensor, ...] = order.tensor_split(per_epoch)
    return parts


def fit(
    state: State,
    slots: Slots,
    data: Data,
    plan: Plan,
    *,
    watchers: Sequence[Watcher],
    measure: Callable[[nn.Module], dict[str, float]],
    save: Callable[[State, bool], None],
    metric: str,
    larger_is_better: bool,
    stop_requested: Callable[[], bool] = lambda: False,
) -> str:
    """Train from ``state.step`` to the end of the plan; returns why it ended.

    measure: metrics on the validation part for a model. save: keeps a checkpoint, told whether it is the best one so
        far.
    """
    seed = int(plan["seed"])
    total, per_epoch = plan.steps(len(data.train))
    every = evaluation_interval(total, per_epoch)
    stopping = slots.stopping
    if hasattr(stopping, "resolved"):
        stopping = stopping.resolved(total=total, steps_per_epoch=per_epoch, steps_between=every)
    classes = len(data.task.classes) if data.task.kind == "classification" else 0
    train_mode(state.model)
    while state.step < total:
        epoch, done = divmod(state.step, per_epoch)
        # A stream cut into windows is cut elsewhere in every epoch.
        train = data.train.shifted(seed, epoch) if isinstance(data.train, Shifting) else data.train
        order = epoch_batches(
            slots, train, seed=seed, epoch=epoch, per_epoch=per_epoch, equal=bool(plan["numerics.compile"] is True)
        )
        for batch in train.batches(order[done : done + total - state.step]):
            moment = Moment(seed, epoch, state.step, total, per_epoch, classes)
            # Dropout draws from the device's own generator, so that is set from the position too.
            seed_generators(state.device, keyed.key(seed, "step", state.step) & 0x7FFFFFFFFFFFFFFF)
            before = state.step
            loss = train_step(state, slots, to_device(batch, state.device), moment)
            if state.step == before:  # a skipped step still moves on in the data
                state.step += 1
            lr = float(state.optimizer.param_groups[0]["lr"])
            for watcher in watchers:
                watcher.step(moment, loss, lr, len(batch.index))
            if state.step % every == 0 or state.step == total:
                row = evaluate_now(state, slots, measure)
                state.history.append({"step": float(state.step), **row})
                state.losses.append(row["loss"])
                scores = [one[metric] for one in state.history]
                best = stopping.best(scores, larger_is_better=larger_is_better) == len(scores) - 1
                save(state, best)
                for watcher in watchers:
                    watcher.evaluated(moment, row, best)
                if stopping.stop(scores, larger_is_better=larger_is_better) and state.step < total:
                    return f"stopped early: no better {metric} for the patience given"
            if stop_requested():
                return "interrupted"
    return "the plan's end"


def evaluation_interval(total: int, per_epoch: int) -> int:
    """Steps between validations: so many epochs, or such a part of one, that a run has 10 to 40 validations."""
    if total <= per_epoch * 40:
        return per_epoch if total >= 10 * per_epoch else max(1, min(per_epoch, total // 10))
    return per_epoch * -(-total // (per_epoch * 40))


def evaluate_now(state: State, slots: Slots, measure: Callable[[nn.Module], dict[str, float]]) -> dict[str, float]:
    """Validation of the averaged weights where there is an average, else of the weights."""
    set_mode(state.optimizer, training=False)
    with state.averager.applied(state.model):
        row = measure(state.model)
    set_mode(state.optimizer, training=True)
    train_mode(state.model)
    return row


@torch.inference_mode()
def predict(
    model: nn.Module,
    part: Part,
    prepare: Callable[[Inputs], Inputs],
    *,
    precision: Precision,
    device: torch.device,
    batch_size: int = 512,
    flip: bool = False,
) -> Tensor:
    """Logits of every sample of a part, float32 on the CPU, in the order of positions.

    flip: average over the image and its mirror image (test-time augmentation).
    """
    return torch.cat(
        [one.float().cpu() for one, _ in _outputs(model, part, prepare, precision, device, batch_size, flip)]
    )


def _outputs(
    model: nn.Module,
    part: Part,
    prepare: Callable[[Inputs], Inputs],
    precision: Precision,
    device: torch.device,
    batch_size: int,
    flip: bool,
) -> Iterator[tuple[Tensor, Tensor]]:
    was_training = model.training
    model.eval()
    try:
        for batch in part.batches(torch.split(torch.arange(len(part)), batch_size)):
            inputs = prepare(to_device(batch, device).inputs)
            with autocast(precision, device):
                logits = model(inputs)
                if flip and isinstance(inputs, Tensor):
                    logits = (logits + model(inputs.flip(-1))) / 2
            yield logits, batch.targets
    finally:
        model.train(was_training)


@torch.inference_mode()
def nats(model: nn.Module, part: Part, *, precision: Precision, device: torch.device, batch_size: int = 64) -> Tensor:
    """Each position's cross-entropy in nats, ``(windows, length)`` float32 on the CPU, 0 where targets are ignored."""
    losses = []
    for logits, targets in _outputs(model, part, lambda x: x, precision, device, batch_size, False):
        losses.append(token_losses(logits, targets.to(logits.device)).cpu())
    return torch.cat(losses)


def _refuse(state: State, slots: Slots, loss: Tensor, moment: Moment) -> Tensor:
    """A loss that is not finite never reaches the weights."""
    state.optimizer.zero_grad(set_to_none=True)
    state.skipped += 1
    if slots.nonfinite == "stop":
        raise NonFinite(
            f"the loss became {float(loss)} at step {moment.step} (epoch {moment.epoch}); the weights before it "
            f"are kept. "
            f"Try --set optimizer.lr={float(state.optimizer.param_groups[0]['base_lr']) / 3:.2g}, "
            "or --set nonfinite=skip to leave such batches out"
        )
    return loss
