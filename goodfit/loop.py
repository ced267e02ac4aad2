"""The only training loop: `train_step` calls the slots of the recipe in order, `fit` calls it for every batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from goodfit import keyed
from goodfit.data.data import Data
from goodfit.distributed import Shares
from goodfit.errors import GoodfitError
from goodfit.evaluation.language import token_losses
from goodfit.models.carried import Carried
from goodfit.models.layers import train_mode
from goodfit.plan import Plan
from goodfit.techniques.average import FreshNorms
from goodfit.techniques.batch import active
from goodfit.techniques.gradient import Reduce, alone
from goodfit.techniques.memory import Memory
from goodfit.techniques.numerics import Precision, autocast, scaled_step
from goodfit.techniques.optimizer import set_lr, set_mode, set_momentum
from goodfit.techniques.penalty import penalised
from goodfit.techniques.phases import enter
from goodfit.techniques.transfer import thaw
from goodfit.techniques.views import View, averaged
from goodfit.types import Batch, Inputs, Moment, Part, to_device

COPIED = 2**16
"""Numbers in a buffer of a model that is put back when a step is refused; larger ones are not."""


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
    transfer: Any = None
    teacher: Callable[[Batch], Tensor] | None = None
    plain: Any = None


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
    overflows: int = 0
    memory: Memory | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    carried: Carried | None = None
    stage: int = -1
    plain: list[Tensor | float] = field(default_factory=lambda: [0.0, 0.0])
    run_model: Callable[[Any], Tensor] | None = None
    shares: Shares | None = None
    norms: FreshNorms | None = None
    refused: list[int] = field(default_factory=list)
    phase: Literal["between steps", "forward", "update"] = "between steps"

    def __post_init__(self) -> None:
        # By place, since a module may put another tensor there.
        self._places = [(one._buffers, name) for one in self.model.modules() for name in one._buffers]
        self._before: list[Tensor] = []
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.all_parameters = self.parameters
        self.penalised = penalised(self.model)
        self.losses = [row["loss"] for row in self.history]
        self.forward: Callable[[Any], Tensor] = self.model if self.run_model is None else self.run_model
        self.device = next(self.model.parameters()).device

    @torch.no_grad()
    def begin_step(self) -> None:
        """Remember the small buffers (running statistics): a forward pass changes them before it is known to be
        sound. Large ones are tables and masks, which copies at every step would cost time for nothing."""
        self.phase = "forward"
        now = self._buffers()
        try:
            if now:
                torch._foreach_copy_(self._before, now)
        except (RuntimeError, TypeError):  # the first time, or a buffer that changed its shape
            self._before = [buffer.clone() for buffer in now]

    @torch.no_grad()
    def undo_step(self) -> bool:
        """Go back to where the step that failed began; False where weights were moving, which nothing brings back."""
        if self.phase == "update":
            return False
        if self.phase == "between steps":
            return True
        self.phase = "between steps"
        for buffer, before in zip(self._buffers(), self._before, strict=True):
            buffer.copy_(before)
        if self.carried is not None:
            self.carried.stay()
        self.optimizer.zero_grad(set_to_none=True)
        return True

    def _buffers(self) -> list[Tensor]:
        found = (held[name] for held, name in self._places)
        return [buffer for buffer in found if buffer is not None and buffer.numel() <= COPIED]

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Inside, the model is what would predict now: averaged weights, or those of a schedule-free optimizer, and
        batch norms with the statistics of those weights; afterwards its own again."""
        set_mode(self.optimizer, training=False)
        other = self.averager.ready or any("train_mode" in group for group in self.optimizer.param_groups)
        fresh = self.norms.estimated(self.model, self.step) if self.norms and other else nullcontext()
        try:
            with self.averager.applied(self.model), fresh:
                yield
        finally:
            set_mode(self.optimizer, training=True)


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
    if hasattr(slots.transfer, "stage"):
        thaw_in_turn(state, slots.transfer, moment)
    state.begin_step()
    for change in slots.batch:
        if active(change, moment):
            batch = change(batch, moment)
    loss, plain = fill_gradients(state, slots, batch, moment)
    if not math.isfinite(float(loss)):
        return _refuse(state, slots, loss, moment)
    if state.scaler is not None:
        state.scaler.unscale_(state.optimizer)
    slots.penalty.add_gradient(state.penalised)
    state.phase = "update"
    norm = slots.clip(state.parameters, state=state.clipping)
    if norm is not None and state.scaler is None and not math.isfinite(float(norm)):
        return _refuse(state, slots, norm, moment, what="gradient's norm")
    set_rates(state.optimizer, slots.schedule, moment, state.losses)
    update_weights(state, slots, moment)
    for value, weight in plain:
        state.plain = [state.plain[0] + value.double(), state.plain[1] + weight]
    state.step += 1
    state.phase = "between steps"
    return loss


def fill_gradients(
    state: State, slots: Slots, batch: Batch, moment: Moment
) -> tuple[Tensor, list[tuple[Tensor, Tensor | float]]]:
    """Forward and backward, by the gradient slot, over all processes that share the batch.

    Returns the batch's mean loss, and the sums and weights of the plain loss where that is logged beside another that
    validation cannot be compared with.
    """
    plain: list[tuple[Tensor, Tensor | float]] = []
    reduce: Reduce = alone
    if state.shares is None:
        total_weight = slots.loss.weigh(batch.targets, batch.weight)
    else:
        batch, total_weight, reduce = state.shares.begin(batch, state.parameters, slots.loss, beside=plain)

    def backward(piece: Batch) -> Tensor:
        inputs = state.prepare(piece.inputs)
        with autocast(slots.precision, state.device):
            if state.carried is None:
                logits = state.forward(inputs)
            else:  # a window's number tells its stream: a stream has as many windows as an epoch has steps
                logits = state.carried.forward(state.model, inputs, piece.index // moment.steps_per_epoch)
            told = () if slots.teacher is None else (slots.teacher(piece),)
        loss = slots.loss(logits, piece.targets, piece.weight, *told) / total_weight
        if slots.plain is not None:
            about = piece.targets, piece.weight
            plain.append((slots.plain(logits.detach(), *about), slots.plain.weigh(*about)))
        (loss if state.scaler is None else state.scaler.scale(loss)).backward()
        return torch.as_tensor(loss.detach())

    if state.memory is not None:
        state.memory.again = plain.clear
    loss: Tensor = slots.gradient(backward, batch, parameters=state.parameters, reduce=reduce, memory=state.memory)
    return loss, plain


def update_weights(state: State, slots: Slots, moment: Moment) -> None:
    """The optimizer's step with what belongs to it: the penalty's proximal part and the average, unless the loss
    scaler holds the step back."""
    stepped = True
    if state.scaler is None:
        state.optimizer.step()
    else:
        stepped = scaled_step(state.scaler, state.optimizer)
        state.overflows += not stepped
    state.optimizer.zero_grad(set_to_none=True)
    if state.carried is not None:
        state.carried.go_on()
    if stepped:
        slots.penalty.after_step(state.penalised, state.optimizer)
        state.averager.update(state.model, moment)


def thaw_in_turn(state: State, transfer: Any, moment: Moment) -> None:
    """Let those layers learn whose turn has come: a function of the step, so a resumed run needs nothing for it.

    The optimizer holds all parameters from the start and passes by those that have no gradient.
    """
    stage = transfer.stage(moment)
    if stage != state.stage:
        state.stage = stage
        thaw(state.model, transfer.thawed(state.model, stage), state.all_parameters)
        state.parameters = [p for p in state.all_parameters if p.requires_grad]
        train_mode(state.model)


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
    enter(optimizer, moment.step)
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
    if getattr(slots.sampling, "carries", False):
        return [order[step::per_epoch] for step in range(per_epoch)]
    parts: tuple[Tensor, ...] = order.tensor_split(per_epoch)
    return parts


def made_again(slots: Slots, data: Data, plan: Plan, step: int) -> Batch:
    """The batch of a step, counted from 0, as the model saw it: a function of the seed and the step."""
    seed = int(plan["seed"])
    total, per_epoch = plan.steps(len(data.train))
    epoch, done = divmod(step, per_epoch)
    train = data.train.shifted(seed, epoch) if isinstance(data.train, Shifting) else data.train
    equal = plan["numerics.compile"] is True
    order = epoch_batches(slots, train, seed=seed, epoch=epoch, per_epoch=per_epoch, equal=equal)
    (batch,) = train.batches([order[done]])
    seed_generators(batch.index.device, keyed.key(seed, "step", step) & 0x7FFFFFFFFFFFFFFF)
    classes = len(data.task.classes) if data.task.kind == "classification" else 0
    moment = Moment(seed, epoch, step, total, per_epoch, classes)
    for change in slots.batch:
        if active(change, moment):
            batch = change(batch, moment)
    return batch


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
    own = () if state.shares is None else (state.shares.world.rank,)

    def validate(moment: Moment) -> None:
        row = evaluate_now(state, slots, measure)
        if slots.plain is not None:
            row["train_plain_loss"] = float(state.plain[0]) / float(state.plain[1] or 1)
            state.plain = [0.0, 0.0]
        state.history.append({"step": float(state.step), **row})
        state.losses.append(row["loss"])
        scores = [one[metric] for one in state.history]
        best = stopping.best(scores, larger_is_better=larger_is_better) == len(scores) - 1
        for watcher in watchers:
            watcher.evaluated(moment, row, best and getattr(stopping, "keep", "best") == "best")
        # Last, so that a checkpoint holds all that this validation changed.
        save(state, best)

    def enough() -> bool:
        scores = [one[metric] for one in state.history]
        validated = bool(state.history) and state.history[-1]["step"] == state.step
        return validated and state.step < total and stopping.stop(scores, larger_is_better=larger_is_better)

    due = state.step > 0 and (state.step % every == 0 or state.step == total)
    if due and not (state.history and state.history[-1]["step"] == state.step):
        # It was stopped within this validation.
        last = state.step - 1
        validate(Moment(seed, last // per_epoch, last, total, per_epoch, classes))
    train_mode(state.model)
    while state.step < total and not enough():
        epoch, done = divmod(state.step, per_epoch)
        # A stream cut into windows is cut elsewhere in every epoch.
        train = data.train.shifted(seed, epoch) if isinstance(data.train, Shifting) else data.train
        if state.carried is not None and done == 0:
            state.carried.forget()
        order = epoch_batches(
            slots, train, seed=seed, epoch=epoch, per_epoch=per_epoch, equal=bool(plan["numerics.compile"] is True)
        )
        if state.shares is not None:
            order = state.shares.positions(order)
        for batch in train.batches(order[done : done + total - state.step]):
            moment = Moment(seed, epoch, state.step, total, per_epoch, classes)
            # Dropout draws from the device's own generator, so that is set from the position too.
            seed_generators(state.device, keyed.key(seed, "step", state.step, *own) & 0x7FFFFFFFFFFFFFFF)
            before = state.step
            loss = train_step(state, slots, to_device(batch, state.device), moment)
            refused = state.step == before
            if refused:  # a skipped step still moves on in the data
                state.step += 1
            lr = float(state.optimizer.param_groups[0]["lr"])
            for watcher in watchers if not refused else ():
                watcher.step(moment, loss, lr, len(batch.index) if state.shares is None else state.shares.samples)
            if state.step % every == 0 or state.step == total:
                validate(moment)
                if enough():
                    break
            else:
                save(state, False)
            if stop_requested():
                return "interrupted"
    if state.step < total:
        return f"stopped early: no better {metric} for the patience given"
    return "the plan's end"


def evaluation_interval(total: int, per_epoch: int) -> int:
    """Steps between validations: so many epochs, or such a part of one, that a run has 10 to 40 validations."""
    if total <= per_epoch * 40:
        return per_epoch if total >= 10 * per_epoch else max(1, min(per_epoch, total // 10))
    return per_epoch * -(-total // (per_epoch * 40))


def evaluate_now(state: State, slots: Slots, measure: Callable[[nn.Module], dict[str, float]]) -> dict[str, float]:
    """Validation of the averaged weights where there is an average, else of the weights."""
    with state.predicting():
        row = measure(state.model)
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
    views: View = "none",
) -> Tensor:
    """Logits of every sample of a part, float32 on the CPU, in the order of positions.

    views: test-time augmentation: the mean over these views of each image (`goodfit.techniques.views`).
    """
    return torch.cat(
        [one.float().cpu() for one, _ in _outputs(model, part, prepare, precision, device, batch_size, views)]
    )


def _outputs(
    model: nn.Module,
    part: Part,
    prepare: Callable[[Inputs], Inputs],
    precision: Precision,
    device: torch.device,
    batch_size: int,
    views: View,
) -> Iterator[tuple[Tensor, Tensor]]:
    was_training = model.training
    model.eval()
    try:
        for batch in part.batches(torch.split(torch.arange(len(part)), batch_size)):
            inputs = prepare(to_device(batch, device).inputs)
            with autocast(precision, device):
                logits = averaged(model, inputs, views)
            yield logits, batch.targets
    finally:
        model.train(was_training)


class Foreseen(NamedTuple):
    """How well each token of a part was foreseen from the true ones before it; both ``(samples, length)`` on the CPU.

    nats: cross-entropy, float32, 0 where targets are ignored. hits: whether the likeliest token was the right one.
    """

    nats: Tensor
    hits: Tensor


@torch.inference_mode()
def foresee(
    model: nn.Module,
    part: Part,
    *,
    precision: Precision,
    device: torch.device,
    batch_size: int = 64,
    carry: bool = False,
) -> Foreseen:
    """Cross-entropy and hits at each position of a part.

    carry: the part is one text in order, and the model's state is carried from window to window, in up to 16 streams.
    """
    count, length = tuple(part.targets.shape)
    every = torch.arange(count)
    plan = list(torch.split(every, batch_size))
    if carry:
        steps = -(-count // min(16, -(-count // 8)))
        plan = [every[step::steps] for step in range(steps)]
    found = Foreseen(torch.zeros(count, length), torch.zeros(count, length, dtype=torch.bool))
    state: Tensor | None = None
    was_training = model.training
    model.eval()
    try:
        for positions, batch in zip(plan, part.batches(plan), strict=True):
            inputs, targets = (one := to_device(batch, device)).inputs, one.targets
            with autocast(precision, device):
                if carry:
                    carried: Any = model
                    logits, state = carried.carry(inputs, None if state is None else state[: len(positions)])
                else:
                    logits = model(inputs)
            width = targets.shape[1]  # batches of sequences are cut to their longest
            found.nats[positions, :width] = token_losses(logits, targets).cpu()
            if logits.ndim == 3:
                found.hits[positions, :width] = (logits.argmax(-1) == targets).cpu()
    finally:
        model.train(was_training)
    return found


def _refuse(state: State, slots: Slots, loss: Tensor, moment: Moment, *, what: str = "loss") -> Tensor:
    """A loss, or a gradient, that is not finite never reaches the weights."""
    state.phase = "forward"
    state.undo_step()
    state.skipped += 1
    state.refused = [*state.refused, moment.step][:100]
    if slots.nonfinite == "stop":
        whose = None if state.shares is None else state.shares.culprit
        raise NonFinite(
            f"the {what} became {float(loss)} at step {moment.step}{'' if whose is None else f' in rank {whose}'} "
            f"(epoch {moment.epoch}); the weights before it "
            f"are kept. Look at its batch with goodfit batch RUN {moment.step}. "
            f"Try --set optimizer.lr={float(state.optimizer.param_groups[0]['base_lr']) / 3:.2g}, "
            "or --set nonfinite=skip to leave such batches out"
        )
    return loss
