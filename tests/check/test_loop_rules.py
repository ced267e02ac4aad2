"""Modes, steps, schedulers and loaders: each fault is found at its line, and what looks like it is left alone."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset, TensorDataset, random_split

from tests.check.programs import found, line_of

G = torch.Generator().manual_seed(1)
X, Y = torch.randn(64, 8, generator=G), torch.randint(0, 3, (64,), generator=G)
V, W = torch.randn(32, 8, generator=G), torch.randint(0, 3, (32,), generator=G)
DATA = TensorDataset(X, Y)


def net(p: float = 0.2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(p), nn.Linear(16, 3))


class Own(nn.Module):
    def __init__(self, drop: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(8, 16), nn.Linear(16, 3), drop

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.first(x).relu(), self))  # type: ignore[no-any-return]


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor = X, y: Tensor = Y) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def eval_never_left() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(3):
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()  # here
            optimizer.step()
        model.eval()
        with torch.no_grad():
            F.cross_entropy(model(V), W)


def judged_in_train_mode() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(3):
        for x, y in DataLoader(DATA, 16, shuffle=True):
            step(model, optimizer, x, y)
        with torch.no_grad():
            F.cross_entropy(model(V), W)  # here


def judged_in_train_mode_by_loader() -> None:
    model, train, judge = net(), DataLoader(DATA, 16, shuffle=True), DataLoader(TensorDataset(V, W), 16)
    optimizer = sgd(model)
    for _ in range(2):
        for x, y in train:
            step(model, optimizer, x, y)
        with torch.no_grad():
            sum(int((model(x).argmax(1) == y).sum()) for x, y in judge)  # here


def functional_dropout() -> None:
    model = Own(lambda x, _: F.dropout(x, 0.5))  # here
    optimizer = sgd(model)
    for _ in range(3):
        step(model.train(), optimizer)
        model.eval()
        model(V)


def dropout_made_in_forward() -> None:
    model = Own(lambda x, _: nn.Dropout(0.5)(x))  # here
    optimizer = sgd(model)
    for _ in range(3):
        step(model.train(), optimizer)
        model.eval()
        model(V)


def cleared_before_step() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(6):
        F.cross_entropy(model(X), Y).backward()
        optimizer.zero_grad()  # here
        optimizer.step()


def clipped_too_late() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # here


def clipped_while_scaled() -> None:
    model, scaler = net(), torch.amp.GradScaler("cpu", init_scale=1024)
    optimizer = sgd(model)
    for _ in range(6):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(X), Y)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # here
        scaler.step(optimizer)
        scaler.update()


def scaler_never_steps() -> None:
    model, scaler = net(), torch.amp.GradScaler("cpu", init_scale=1024)
    optimizer = sgd(model)
    for _ in range(14):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y)
        scaler.scale(loss * math.inf).backward()
        scaler.step(optimizer)  # here
        scaler.update()


def lost_in_bfloat16() -> None:
    model = nn.Linear(8, 3, dtype=torch.bfloat16)
    optimizer = sgd(model, 1e-6)
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(X.bfloat16()).float(), Y).backward()
        optimizer.step()  # here


def scheduler_first() -> None:
    model = net()
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    for _ in range(6):
        schedule.step()  # here
        step(model, optimizer)


def one_cycle_by_epoch() -> None:
    model, loader = net(), DataLoader(DATA, 8, shuffle=True)
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs=5, steps_per_epoch=len(loader))
    for _ in range(3):
        for x, y in loader:
            step(model, optimizer, x, y)
        schedule.step()  # here


def cosine_by_batch() -> None:
    model, loader = net(), DataLoader(DATA, 4, shuffle=True)
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    for _ in range(3):
        for x, y in loader:
            step(model, optimizer, x, y)
            schedule.step()  # here


def seeded_each_epoch() -> None:
    model, loader = net(), DataLoader(DATA, 8, shuffle=True)
    optimizer = sgd(model)
    for _ in range(3):
        torch.manual_seed(0)
        for x, y in loader:  # here
            step(model, optimizer, x, y)


def epoch_never_told() -> None:
    model, sampler = net(), DistributedSampler(DATA, num_replicas=1, rank=0, shuffle=True)
    loader, optimizer = DataLoader(DATA, 8, sampler=sampler), sgd(model)
    for _ in range(3):
        for x, y in loader:  # here
            step(model, optimizer, x, y)


def first_batch_again() -> None:
    model, loader = net(), DataLoader(DATA, 8)
    optimizer = sgd(model)
    for _ in range(9):
        x, y = next(iter(loader))  # here
        step(model, optimizer, x, y)


def sorted_by_class() -> None:
    order = Y.argsort()
    model, loader = net(), DataLoader(TensorDataset(X[order], Y[order]), 4)
    optimizer = sgd(model)
    for _ in range(2):
        for x, y in loader:  # here
            step(model, optimizer, x, y)


def shared_indices() -> None:
    train, judge = Subset(DATA, range(48)), Subset(DATA, range(40, 64))
    model = net()
    optimizer = sgd(model)
    for _ in range(2):
        for x, y in DataLoader(train, 8, shuffle=True):
            step(model, optimizer, x, y)
        model.eval()
        with torch.no_grad():
            for x, _ in DataLoader(judge, 8):  # here
                model(x)
        model.train()


def shared_rows() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(2):
        for x, y in DataLoader(TensorDataset(X[:48], Y[:48]), 8, shuffle=True):
            step(model.train(), optimizer, x, y)
        model.eval()
        with torch.no_grad():
            for x, _ in DataLoader(TensorDataset(X[24:].clone(), Y[24:]), 8):  # here
                model(x)


def nothing_left() -> None:
    model = net()
    optimizer = sgd(model)
    step(model, optimizer)
    for x, y in DataLoader(Subset(DATA, range(6)), 8, drop_last=True):  # here
        step(model, optimizer, x, y)


class Jittered(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self) -> None:
        self.draw = np.random.default_rng(0)

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return X[index] + float(self.draw.normal()), Y[index]


def copied_generators() -> None:
    model, loader = net(), DataLoader(Jittered(), 8, num_workers=2)
    optimizer = sgd(model)
    for x, y in loader:  # here
        step(model, optimizer, x, y)


def logarithm_of_zero() -> None:
    model = net()
    optimizer = sgd(model)
    for number in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y)
        if number == 3:
            loss = loss + (model(X) * 0).log().sum()
        loss.backward()  # here
        optimizer.step()


def nan_in_the_data() -> None:
    model = net()
    optimizer = sgd(model)
    for number in range(4):
        optimizer.zero_grad()
        F.cross_entropy(model(X if number < 2 else X / 0), Y).backward()  # here
        optimizer.step()


def weights_alone() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer)
    kept = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}, kept)
    kept.seek(0)
    checkpoint = torch.load(kept, weights_only=True)
    model = net()
    model.load_state_dict(checkpoint["model"])  # here
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(3):
        step(model, optimizer)


def all_of_it() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer)
    kept = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}, kept)
    kept.seek(0)
    checkpoint = torch.load(kept, weights_only=True)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    for _ in range(3):
        step(model, optimizer)


def tested_and_skipped() -> None:
    model = net()
    optimizer = sgd(model)
    for number in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y) * (math.inf if number == 2 else 1.0)
        if not math.isfinite(loss.item()):
            continue
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


FAULTS: list[tuple[str, Callable[[], None]]] = [
    ("training-in-eval-mode", eval_never_left),
    ("evaluation-in-train-mode", judged_in_train_mode),
    ("evaluation-in-train-mode", judged_in_train_mode_by_loader),
    ("dropout-in-eval", functional_dropout),
    ("dropout-in-eval", dropout_made_in_forward),
    ("step-without-gradient", cleared_before_step),
    ("clip-after-step", clipped_too_late),
    ("clip-before-unscale", clipped_while_scaled),
    ("scaler-skips", scaler_never_steps),
    ("step-without-effect", lost_in_bfloat16),
    ("scheduler-before-optimizer", scheduler_first),
    ("scheduler-unit", one_cycle_by_epoch),
    ("scheduler-unit", cosine_by_batch),
    ("same-order-every-epoch", seeded_each_epoch),
    ("same-order-every-epoch", epoch_never_told),
    ("same-batch-every-step", first_batch_again),
    ("sorted-labels", sorted_by_class),
    ("train-validation-overlap", shared_indices),
    ("train-validation-overlap", shared_rows),
    ("empty-loader", nothing_left),
    ("non-finite-loss", logarithm_of_zero),
    ("non-finite-loss", nan_in_the_data),
    ("resumed-without-state", weights_alone),
    ("worker-generators", copied_generators),
]


def ordinary() -> None:
    train, judge = random_split(DATA, [48, 16])
    model, loader = net(), DataLoader(train, 8, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, epochs=3, steps_per_epoch=len(loader))
    for _ in range(3):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            for x, y in DataLoader(judge, 8):
                F.cross_entropy(model(x), y)


def scaled() -> None:
    model, scaler = net(), torch.amp.GradScaler("cpu")
    optimizer = sgd(model)
    for _ in range(12):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(X), Y)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


def warm_up_from_nothing() -> None:
    model = net()
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1.0, k / 5))
    for _ in range(12):
        step(model, optimizer)
        schedule.step()


def cosine_by_epoch() -> None:
    model, loader = net(), DataLoader(DATA, 8, shuffle=True)
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    for _ in range(3):
        for x, y in loader:
            step(model, optimizer, x, y)
        schedule.step()


def frozen_batch_norm() -> None:
    model = net()
    optimizer = sgd(model)
    for epoch in range(4):
        model.train()
        if epoch:
            model[1].eval()
        for _ in range(3):
            step(model, optimizer)


def monte_carlo_dropout() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(3):
        step(model.train(), optimizer)
        model.eval()
        model[3].train()
        with torch.no_grad():
            F.cross_entropy(model(V), W)


def drawn_on_purpose() -> None:
    model = Own(lambda x, _: F.dropout(x, 0.5, training=True))
    optimizer = sgd(model)
    for _ in range(3):
        step(model.train(), optimizer)
        model.eval()
        model(V)


def told_its_mode() -> None:
    model = Own(lambda x, own: F.dropout(x, 0.5, training=own.training))
    optimizer = sgd(model)
    for _ in range(3):
        step(model.train(), optimizer)
        model.eval()
        model(V)


def sampled_generator() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(4):
        step(model, optimizer)
        with torch.no_grad():
            model(V)  # a look at samples; nothing is judged


def statistics_anew() -> None:
    model, loader = net(), DataLoader(DATA, 8, shuffle=True)
    optimizer = sgd(model)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    for _ in range(2):
        for x, y in loader:
            step(model, optimizer, x, y)
        averaged.update_parameters(model)
    torch.optim.swa_utils.update_bn(loader, averaged)


def one_batch_on_purpose() -> None:
    model, loader = net(), DataLoader(DATA, 8)
    optimizer = sgd(model)
    x, y = next(iter(loader))
    for _ in range(9):
        step(model, optimizer, x, y)


def fresh_batch_each_time() -> None:
    model, loader = net(), DataLoader(DATA, 8, shuffle=True)
    optimizer = sgd(model)
    for _ in range(9):
        x, y = next(iter(loader))
        step(model, optimizer, x, y)


def unshuffled_and_mixed() -> None:
    model, loader = net(), DataLoader(DATA, 16)
    optimizer = sgd(model)
    for _ in range(3):
        for x, y in loader:
            step(model, optimizer, x, y)


def judged_on_train() -> None:
    model, loader = net(), DataLoader(DATA, 16, shuffle=True)
    optimizer = sgd(model)
    for _ in range(2):
        for x, y in loader:
            step(model.train(), optimizer, x, y)
        model.eval()
        with torch.no_grad():
            for x, y in DataLoader(DATA, 16):
                F.cross_entropy(model(x), y)


def generators_in_workers() -> None:
    def seed(worker: int) -> None:
        random.seed(worker)

    model, loader = net(), DataLoader(Jittered(), 8, num_workers=2, worker_init_fn=seed)
    optimizer = sgd(model)
    for x, y in loader:
        step(model, optimizer, x, y)


def teacher_in_eval() -> None:
    model, teacher = net(), net().eval()
    optimizer = sgd(model)
    for _ in range(12):
        optimizer.zero_grad()
        (F.cross_entropy(model(X), Y) + F.mse_loss(model(X), teacher(X).detach())).backward()
        optimizer.step()


def evaluated_without_layers() -> None:
    model = nn.Linear(8, 3)
    optimizer = sgd(model)
    for _ in range(6):
        step(model, optimizer)
        with torch.no_grad():
            F.cross_entropy(model(V), W)
    model.eval()
    for _ in range(6):
        step(model, optimizer)


HEALTHY: list[Callable[[], Any]] = [
    ordinary, scaled, warm_up_from_nothing, cosine_by_epoch, frozen_batch_norm, monte_carlo_dropout, drawn_on_purpose,
    told_its_mode, sampled_generator, statistics_anew, one_batch_on_purpose, fresh_batch_each_time,
    unshuffled_and_mixed, judged_on_train, generators_in_workers, teacher_in_eval, evaluated_without_layers, 
    all_of_it, tested_and_skipped,
]  # fmt: skip


@pytest.mark.parametrize(("rule", "program"), FAULTS, ids=[f"{one.__name__}" for _, one in FAULTS])
def test_a_fault_is_found_at_its_line(rule: str, program: Callable[[], None]) -> None:
    ((seen, where, _),) = found(program)
    assert seen == rule
    assert abs(int(where.rsplit(":", 1)[1]) - line_of(program, "# here")) <= 3


@pytest.mark.parametrize("program", HEALTHY, ids=lambda one: one.__name__)
def test_what_is_well_is_left_alone(program: Callable[[], Any]) -> None:
    assert found(program) == []
