"""One training step: pieces equal the whole, weights stay in float32, overflows and broken gradients change nothing."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from goodfit.loop import NonFinite, Slots, State, train_step
from goodfit.techniques.average import Ema, NoAverage
from goodfit.techniques.clip import Clip
from goodfit.techniques.gradient import Accumulate, Plain, Sam
from goodfit.techniques.loss import Bce, CrossEntropy, Focal
from goodfit.techniques.memory import Memory
from goodfit.techniques.optimizer import Adamw, Muon, Nadamw, Sgd, parameter_groups
from goodfit.techniques.penalty import Penalty
from goodfit.techniques.sampling import Shuffle
from goodfit.techniques.schedule import Constant
from goodfit.techniques.stopping import NoStopping
from goodfit.types import Batch, Moment

WEIGHTS = (0.2, 1.0, 5.0, 2.0)


def slots(**changes: Any) -> Slots:
    plain = Slots(
        batch=(),
        loss=CrossEntropy(),
        penalty=Penalty(),
        gradient=Plain(),
        clip=Clip(),
        schedule=Constant(),
        average=NoAverage(),
        stopping=NoStopping(),
        sampling=Shuffle(),
        precision="fp32",
        nonfinite="stop",
    )
    return replace(plain, **changes)


def state(model: nn.Module, optimizer: Any, **more: Any) -> State:
    made = optimizer.build(parameter_groups(model, optimizer, batch_size=8))
    average = more.pop("average", NoAverage())
    return State(model, made, lambda inputs: inputs, averager=average.build(model), **more)


def net(norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.Tanh(), nn.Linear(8, 4))


def a_batch(step: int, kind: str = "classes", samples: int = 10) -> Batch:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(samples, 6, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 4, (samples,), generator=generator)
    weight = None
    if kind == "soft":
        targets = torch.softmax(torch.randn(samples, 4, generator=generator, dtype=torch.float64), -1)
    elif kind == "tokens":
        inputs = torch.randn(samples, 5, 6, generator=generator, dtype=torch.float64)
        targets = torch.randint(0, 4, (samples, 5), generator=generator)
        targets[torch.rand(samples, 5, generator=generator) < 0.6] = -100
    elif kind == "weighted":
        weight = torch.rand(samples, generator=generator, dtype=torch.float64)
    return Batch(inputs, targets, weight, torch.arange(samples))


def moment(step: int) -> Moment:
    return Moment(0, 0, step, 20, 20, 4)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


LOSSES = {
    "classes": CrossEntropy(label_smoothing=0.1, class_weight="inverse", weights=WEIGHTS),
    "weighted": CrossEntropy(class_weight="inverse", weights=WEIGHTS),
    "soft": CrossEntropy(class_weight="inverse", weights=WEIGHTS),
    "tokens": CrossEntropy(),
    "focal": Focal(alpha=WEIGHTS),
}


@pytest.mark.parametrize("kind", list(LOSSES))
@pytest.mark.parametrize("microbatch", [1, 4, 9])
def test_steps_in_pieces_equal_steps_of_the_whole_batch_penalties_clipping_and_the_last_piece_included(
    kind: str, microbatch: int
) -> None:
    made = []
    for gradient in (Plain(), Accumulate(microbatch=microbatch)):
        model = net().double()
        run = state(model, Sgd(lr=0.1, weight_decay=0.01), clipping=Clip(norm=0.5).fresh())
        chosen = slots(loss=LOSSES[kind], gradient=gradient, penalty=Penalty(l2=0.01, l1=0.001), clip=Clip(norm=0.5))
        losses = [train_step(run, chosen, a_batch(step, kind), moment(step)) for step in range(4)]
        made.append(torch.cat([weights(model), torch.stack(losses)]))
    assert float((made[0] - made[1]).abs().max()) < 1e-12


def test_batch_norm_sees_pieces_so_there_the_result_is_another() -> None:
    made = []
    for gradient in (Plain(), Accumulate(microbatch=5)):
        model = net(norm=True).double()
        train_step(state(model, Sgd(lr=0.1)), slots(gradient=gradient), a_batch(0), moment(0))
        made.append(weights(model))
    assert float((made[0] - made[1]).abs().max()) > 1e-4


@pytest.mark.parametrize("optimizer", [Sgd(), Adamw(), Nadamw(), Muon()], ids=lambda one: one.name)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_gradients_and_optimizer_state_stay_in_float32(optimizer: Any, precision: str) -> None:
    model = net()
    seen = set()
    model[0].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    scaler = torch.amp.GradScaler("cpu") if precision == "fp16" else None
    run = state(model, optimizer, scaler=scaler)
    before = weights(model)
    batch = a_batch(0)._replace(inputs=a_batch(0).inputs.float())
    loss = train_step(run, slots(precision=precision), batch, moment(0))
    assert seen == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert loss.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    kept = [v for one in run.optimizer.state.values() for v in one.values() if isinstance(v, Tensor) and v.ndim]
    assert {v.dtype for v in kept} == {torch.float32}
    assert not torch.equal(weights(model), before)


class Loud(nn.Module):
    """A loss so large that its scaled gradient overflows float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.by = model, 1.0

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.as_tensor(self.model(inputs) * self.by)


def test_an_overflow_is_left_out_counted_and_halves_the_scale() -> None:
    model = Loud(net())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    run = state(model, Nadamw(), scaler=scaler, average=Ema(decay=0.5), clipping=Clip(norm=1.0).fresh())
    chosen = slots(clip=Clip(norm=1.0), average=Ema(decay=0.5), penalty=Penalty(l1=0.1))
    small = a_batch(0)._replace(inputs=a_batch(0).inputs.float())
    model.by = 1e9
    before, averages = copy.deepcopy(model.state_dict()), copy.deepcopy(run.averager.state_dict())
    loss = train_step(run, chosen, small, moment(0))
    assert math.isfinite(float(loss))
    assert (run.overflows, run.skipped, run.step) == (1, 0, 1)
    assert scaler.get_scale() == 2.0**119
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert all(torch.equal(averages[k], v) for k, v in run.averager.state_dict().items())
    assert int(run.clipping["seen"]) == 0
    model.by = 1.0
    train_step(run, chosen, small, moment(1))
    assert (run.overflows, int(run.clipping["seen"])) == (1, 1)
    assert not torch.equal(before["model.0.weight"], model.state_dict()["model.0.weight"])


def test_with_a_scaler_the_gradient_is_clipped_after_it_is_unscaled() -> None:
    made = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        model = net().double()
        run = state(model, Sgd(lr=0.1), scaler=scaler, clipping=Clip(norm=0.1).fresh())
        for step in range(3):
            train_step(run, slots(clip=Clip(norm=0.1)), a_batch(step), moment(step))
        made.append(weights(model))
        assert int(run.clipping["clipped"]) == 3
    torch.testing.assert_close(made[0], made[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights_though_the_loss_is(nonfinite: str) -> None:
    class Root(nn.Module):
        """sqrt has an infinite slope at 0."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4))

        def forward(self, inputs: Tensor) -> Tensor:
            return self.weight.abs().sqrt().expand(len(inputs), 4)

    model = Root()
    run = state(model, Sgd(), clipping=Clip(norm=1.0).fresh())
    chosen = slots(clip=Clip(norm=1.0), nonfinite=nonfinite, loss=Bce())
    batch = Batch(torch.ones(4, 6), torch.rand(4, 4), None, torch.arange(4))
    if nonfinite == "stop":
        with pytest.raises(NonFinite, match="the gradient's norm became"):
            train_step(run, chosen, batch, moment(0))
    else:
        train_step(run, chosen, batch, moment(0))
        assert run.skipped == 1
    assert torch.equal(model.weight.detach(), torch.zeros(4))
    assert int(run.clipping["seen"]) == 0


def test_a_step_that_ran_out_of_memory_is_that_of_the_size_that_fits() -> None:
    made = []
    for gradient in (Accumulate(), Accumulate(microbatch=5), Sam(microbatch=5)):
        model = net(norm=True)
        memory = Memory(model) if gradient.microbatch == "auto" else None
        run = state(model, Sgd(lr=0.1), memory=memory)
        if memory is not None:

            def narrow(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                if len(inputs[0]) > 5:
                    raise torch.OutOfMemoryError("CUDA out of memory")

            model[3].register_forward_pre_hook(narrow)
        for step in range(3):
            batch = a_batch(step)._replace(inputs=a_batch(step).inputs.float())
            train_step(run, slots(gradient=gradient, plain=CrossEntropy()), batch, moment(step))
        noted = torch.tensor([float(one) for one in run.plain])  # the plain loss that is logged
        made.append(torch.cat([weights(model), noted, *(b.flatten().float() for b in model.buffers())]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_what_a_failed_try_noted_of_the_plain_loss_is_forgotten() -> None:
    made = []
    for microbatch in ("auto", 3):
        model = net()
        memory = Memory(model) if microbatch == "auto" else None
        run = state(model, Sgd(lr=0.1), memory=memory)
        if memory is not None:
            memory.samples, calls = 5, iter(range(100))

            def second(module: nn.Module, inputs: tuple[Tensor, ...], calls: Any = calls) -> None:
                if next(calls) == 1:
                    raise torch.OutOfMemoryError("CUDA out of memory")

            model[3].register_forward_pre_hook(second)
        batch = a_batch(0)._replace(inputs=a_batch(0).inputs.float())
        train_step(run, slots(gradient=Accumulate(microbatch=microbatch), plain=CrossEntropy()), batch, moment(0))
        made.append([float(one) for one in run.plain])
    assert made[0] == made[1]
    assert made[0][1] == 10
