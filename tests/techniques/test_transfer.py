from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from goodfit.loop import Slots, State, train_step
from goodfit.models.layers import train_mode
from goodfit.techniques import optimizer as optimizers
from goodfit.techniques.average import NoAverage
from goodfit.techniques.clip import Clip
from goodfit.techniques.gradient import Plain
from goodfit.techniques.loss import CrossEntropy
from goodfit.techniques.optimizer import Adamw, parameter_groups
from goodfit.techniques.penalty import Penalty
from goodfit.techniques.sampling import Shuffle
from goodfit.techniques.schedule import Constant
from goodfit.techniques.stopping import NoStopping
from goodfit.techniques.transfer import ALL, Full, Head, LastK, NoTransfer, Progressive, suggest, thaw
from goodfit.types import Batch, Moment


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4)) for _ in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, inputs):
        stream = self.stem(inputs)
        for block in self.blocks:
            stream = stream + block(stream)
        return self.head(stream)


def learning(model):
    return {n.rsplit(".", 1)[0] for n, p in model.named_parameters() if p.requires_grad}


def test_head_trains_the_head_alone():
    model = Net()
    frozen = Head()(model)
    assert learning(model) == {"head"}
    assert len(frozen) == len(list(model.parameters())) - 2


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (0, {"head"}),
        (1, {"head", "blocks.2.0", "blocks.2.1"}),
        (3, {"head", *(f"blocks.{i}.{j}" for i in range(3) for j in range(2))}),
        (99, {"head", "stem", *(f"blocks.{i}.{j}" for i in range(3) for j in range(2))}),
    ],
)
def test_last_k_trains_the_head_and_k_layers_below(k, expected):
    model = Net()
    LastK(k=k)(model)
    assert learning(model) == expected


def test_last_k_gives_the_layers_below_the_head_their_share_of_the_rate():
    model, transfer = Net(), LastK(k=1, lr_factor=0.2)
    transfer(model)
    groups = parameter_groups(model, Adamw(lr=1.0), batch_size=8, **transfer.rates())
    rates = {n: g["base_lr"] for g in groups for n in g["param_names"]}
    assert rates["head.weight"] == 1.0
    assert rates["blocks.2.1.weight"] == pytest.approx(0.2)


def test_frozen_parameters_are_in_no_group():
    model = Net()
    Head()(model)
    groups = parameter_groups(model, Adamw(), batch_size=8)
    assert sorted(n for g in groups for n in g["param_names"]) == ["head.bias", "head.weight"]


def test_full_gives_the_head_the_rate_and_the_rest_a_share_that_falls_with_depth():
    model, transfer = Net(), Full(lr_factor=0.1, layer_decay=0.5)
    assert transfer(model) == []
    groups = parameter_groups(model, Adamw(lr=1.0), batch_size=8, **transfer.rates())
    rates = {n: g["base_lr"] for g in groups for n in g["param_names"]}
    assert rates["head.weight"] == 1.0
    assert rates["blocks.2.1.weight"] == pytest.approx(0.05)
    assert rates["stem.weight"] == pytest.approx(0.1 * 0.5**4)


def test_switched_off_it_changes_nothing():
    model = Net()
    assert NoTransfer()(model) == []
    assert NoTransfer().rates() == {}
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("cls", ALL, ids=lambda c: c.name)
def test_something_always_learns(cls):
    model = Net()
    cls()(model)
    assert learning(model)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LastK(k=-1),
        lambda: LastK(lr_factor=0.0),
        lambda: Full(lr_factor=0.0),
        lambda: Full(layer_decay=1.1),
        lambda: Progressive(k=0),
        lambda: Progressive(layer_decay=0.0),
    ],
)
def test_settings_out_of_range_are_refused_with_the_range(make):
    with pytest.raises(ValueError, match=r"greater than|less than"):
        make()


def test_what_is_frozen_stays_in_eval_mode_and_the_rest_trains():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.Dropout(), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    train_mode(model)
    assert [module.training for module in (model, model[0], model[0][1], model[1], model[2])] == [
        True,
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("every", "k", "stages"),
    [("1 epoch", 1, [0, 0, 1, 1, 2, 2, 3, 3]), ("3 steps", 2, [0, 0, 0, 1, 1, 1, 2, 2]), ("50%", 9, [0] * 4 + [1] * 4)],
)
def test_stages_of_thawing_are_a_function_of_the_step(every, k, stages):
    transfer = Progressive(every=every, k=k)
    assert [transfer.stage(Moment(0, step // 2, step, 8, 2)) for step in range(8)] == stages


def test_layers_thaw_from_the_head_down():
    model, transfer = Net(), Progressive(k=2)
    expected = [
        {"head"},
        {"head", *(f"blocks.{i}.{j}" for i in (1, 2) for j in (0, 1))},
        {"head", "stem", *(f"blocks.{i}.{j}" for i in range(3) for j in (0, 1))},
    ]
    for stage in (0, 1, 2, 1, 7):
        thaw(model, transfer.thawed(model, stage), model.parameters())
        assert learning(model) == expected[min(stage, 2)]


def test_thawing_leaves_alone_what_the_model_itself_froze():
    model = Net()
    model.stem.requires_grad_(False)
    thaw(model, Progressive().thawed(model, 9), [p for p in model.parameters() if p.requires_grad])
    assert learning(model) == {"head", *(f"blocks.{i}.{j}" for i in range(3) for j in range(2))}


def steps(transfer, optimizer, count, *, start=None, every=2, total=8):
    """State after ``count`` steps; goes on from ``start = (weights, optimizer state, step)``."""
    torch.manual_seed(0)
    model = Net()
    transfer(model)
    groups = parameter_groups(model, optimizer, batch_size=6, **transfer.rates())
    state = State(model, optimizer.build(groups), lambda one: one, averager=NoAverage().build(model))
    slots = Slots(
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
        transfer=transfer,
    )
    if start is not None:
        model.load_state_dict(start[0])
        state.optimizer.load_state_dict(start[1])
        state.step = start[2]
    train_mode(model)
    seen = []
    while state.step < count:
        generator = torch.Generator().manual_seed(state.step)
        inputs, targets = torch.randn(6, 4, generator=generator), torch.arange(6) % 2
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        train_step(state, slots, Batch(inputs, targets, None, torch.arange(6)), Moment(0, 0, state.step, total, every))
        seen.append({n.rsplit(".", 1)[0] for n, p in model.named_parameters() if not torch.equal(p, before[n])})
    return state, seen


OPTIMIZERS = [one for one in optimizers.ALL if one.name != "shared"]


@pytest.mark.parametrize("cls", OPTIMIZERS, ids=lambda c: c.name)
def test_every_optimizer_moves_thawed_layers_alone_and_resumes_at_any_step(cls):
    if cls.name == "schedule_free":
        pytest.importorskip("schedulefree", reason="an optional extra")
    transfer, optimizer = Progressive(every="2 steps", k=1, lr_factor=1.0, layer_decay=1.0), cls(lr=0.05)
    whole, seen = steps(transfer, optimizer, 8)
    for step, moved in enumerate(seen):
        allowed = {"head", *(f"blocks.{i}.{j}" for i in range(3 - step // 2, 3) for j in (0, 1))}
        assert moved <= allowed
        assert "head" in moved
        assert step < 2 or {"blocks.2.1"} <= moved
    for stop in (1, 2, 3, 5):
        half, _ = steps(transfer, optimizer, stop)
        kept = ({k: v.clone() for k, v in half.model.state_dict().items()}, half.optimizer.state_dict(), stop)
        again, _ = steps(transfer, optimizer, 8, start=kept)
        for a, b in zip(again.model.state_dict().values(), whole.model.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def test_frozen_batch_norms_keep_their_statistics_until_they_thaw():
    whole, _ = steps(Progressive(every="4 steps"), Adamw(lr=0.05), 8)
    tracked = [int(block[0].num_batches_tracked) for block in whole.model.blocks]
    assert tracked == [0, 0, 4]


def test_one_thaw_of_everything_equals_full_from_there_on():
    transfer = Progressive(every="3 steps", k=99, lr_factor=0.5, layer_decay=0.9)
    whole, _ = steps(transfer, Adamw(lr=0.05), 8)
    first, _ = steps(Head(), Adamw(lr=0.05), 3)
    kept = {k: v.clone() for k, v in first.model.state_dict().items()}
    torch.manual_seed(0)
    model = Net()
    full = Full(lr_factor=0.5, layer_decay=0.9)
    groups = parameter_groups(model, Adamw(lr=0.05), batch_size=6, **full.rates())
    empty = Adamw(lr=0.05).build(groups).state_dict()
    names = list(itertools.chain.from_iterable(g["param_names"] for g in groups))
    numbers = {name: n for n, name in enumerate(names)}
    old = first.optimizer.state_dict()
    own = itertools.chain.from_iterable(g["param_names"] for g in first.optimizer.param_groups)
    empty["state"] = {numbers[name]: old["state"][n] for n, name in enumerate(own)}
    again, _ = steps(full, Adamw(lr=0.05), 8, start=(kept, empty, 3))
    for a, b in zip(again.model.state_dict().values(), whole.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("kind", "samples", "wanted"),
    [
        ("image", 9_999, "head"),
        ("image", 10_000, "full"),
        ("text", 499, "head"),
        ("text", 500, "full"),
        ("table", 100, "full"),
    ],
)
def test_the_amount_of_data_suggests_the_strategy(kind, samples, wanted):
    name, why = suggest(kind, samples)
    assert name == wanted
    assert f"{samples:,}" in why
