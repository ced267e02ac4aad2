from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from goodfit.errors import MissingExtra
from goodfit.techniques.filters import FilterMuon
from goodfit.techniques.optimizer import (
    ALL,
    Adam,
    Adamw,
    Lamb,
    Muon,
    Nadamw,
    Rmsprop,
    ScheduleFree,
    Sgd,
    parameter_groups,
    set_mode,
)
from tests.reference import optimizers as reference

RNG = np.random.default_rng(0)
START = RNG.normal(size=(4, 3))
GRADS = [RNG.normal(size=(4, 3)) * 10.0**k for k in (0, -3, 1, -2, 0, 0)]


def run(optimizer, grads=GRADS, start=START, weight_decay=None, matrix=False):
    parameter = nn.Parameter(torch.tensor(start))
    decay = optimizer.weight_decay if weight_decay is None else weight_decay
    group = {
        "params": [parameter],
        "lr": optimizer.lr,
        "base_lr": optimizer.lr,
        "weight_decay": decay,
        "matrix": matrix,
    }
    made = optimizer.build([group])
    for g in grads:
        parameter.grad = torch.tensor(g)
        made.step()
    return parameter.detach().numpy()


class TestFormulas:
    @pytest.mark.parametrize(
        "settings",
        [
            {"momentum": 0.0},
            {"momentum": 0.9, "nesterov": False},
            {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
            {"momentum": 0.9, "nesterov": False, "dampening": 0.5},
        ],
    )
    def test_sgd(self, settings):
        made = run(Sgd(lr=0.05, **settings))
        settings = {**settings, "nesterov": settings.get("nesterov", False)}
        np.testing.assert_allclose(made, reference.sgd(START, GRADS, lr=0.05, **settings), rtol=1e-12)

    def test_the_two_forms_of_momentum_differ_by_one_minus_beta_in_the_rate(self):
        ours = reference.sgd(START, GRADS, lr=0.01, momentum=0.9)
        np.testing.assert_allclose(ours, reference.momentum_as_mean(START, GRADS, lr=0.1, beta=0.9), rtol=1e-12)
        np.testing.assert_allclose(run(Sgd(lr=0.01, momentum=0.9, nesterov=False)), ours, rtol=1e-12)
        steady = [np.ones((1, 1))] * 3000
        start = np.zeros((1, 1))
        for beta, ratio in ((0.9, 10), (0.99, 100)):
            last = [
                f[-1] - f[-2]
                for f in (
                    [float(reference.sgd(start, steady[:n], lr=1, momentum=beta)[0, 0]) for n in (2999, 3000)],
                    [float(reference.momentum_as_mean(start, steady[:n], lr=1, beta=beta)[0, 0]) for n in (2999, 3000)],
                )
            ]
            assert last[0] / last[1] == pytest.approx(ratio)

    def test_adam_with_l2_in_the_gradient(self):
        made = run(Adam(lr=0.01, weight_decay=0.1))
        expected = reference.adam(START, GRADS, lr=0.01, b1=0.9, b2=0.999, eps=1e-8, l2=0.1)
        np.testing.assert_allclose(made, expected, rtol=1e-10)

    def test_adam_has_its_eps_outside_the_root_and_corrects_the_bias(self):
        tiny = [np.full((1, 1), 1e-6)]
        assert -run(Adam(lr=1.0), tiny, np.zeros((1, 1)))[0, 0] == pytest.approx(0.990, abs=1e-3)
        first = run(Adam(lr=1.0), [np.ones((1, 1))], np.zeros((1, 1)))
        assert -first[0, 0] == pytest.approx(1.0, rel=1e-6)  # 3.16 without the correction

    def test_adamw_decays_apart_from_the_gradient(self):
        made = run(Adamw(lr=0.01, weight_decay=0.1))
        expected = reference.adam(START, GRADS, lr=0.01, b1=0.9, b2=0.999, eps=1e-8, decoupled=0.1)
        np.testing.assert_allclose(made, expected, rtol=1e-10)

    def test_nadamw_equals_the_formula_and_timm(self):
        made = run(Nadamw(lr=0.01))
        expected = reference.nadamw(START, GRADS, lr=0.01, b1=0.9327, b2=0.9955, eps=1e-8, decoupled=0.0812)
        np.testing.assert_allclose(made, expected, rtol=1e-10)
        timm = pytest.importorskip("timm.optim")
        parameter = nn.Parameter(torch.tensor(START))
        theirs = timm.NAdamW([parameter], lr=0.01, betas=(0.9327, 0.9955), weight_decay=0.0812, foreach=False)
        for g in GRADS:
            parameter.grad = torch.tensor(g)
            theirs.step()
        np.testing.assert_allclose(made, parameter.detach().numpy(), rtol=1e-6)

    def test_rmsprop(self):
        made = run(Rmsprop(lr=0.01))
        np.testing.assert_allclose(made, reference.rmsprop(START, GRADS, lr=0.01, alpha=0.99, eps=1e-8), rtol=1e-10)

    def test_lamb(self):
        pytest.importorskip("timm")
        made = run(Lamb(lr=0.01))
        expected = reference.lamb(START, GRADS, lr=0.01, b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.02)
        np.testing.assert_allclose(made, expected, rtol=1e-6)

    def test_muon_makes_the_step_orthogonal(self):
        made = run(Muon(lr=0.1, weight_decay=0.0, momentum=0.0, nesterov=False), GRADS[:1], matrix=2)
        expected = START - 0.1 * math.sqrt(4 / 3) * reference.newton_schulz(GRADS[0])
        np.testing.assert_allclose(made, expected, atol=0.1 * 0.03)  # its products run in bfloat16
        values = np.linalg.svd((START - made) / (0.1 * math.sqrt(4 / 3)), compute_uv=False)
        assert values.min() > 0.6
        assert values.max() < 1.3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.conv = nn.Conv2d(1, 2, 3)
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        y = self.embed(x)
        for block in self.blocks:
            y = torch.relu(block(y))
        return self.head(self.norm(y)) + self.conv.weight.sum() + self.conv.bias.sum()


def trained(optimizer, steps, model=None, made=None):
    torch.manual_seed(0)
    model = model or Net()
    made = made or optimizer.build(parameter_groups(model, optimizer, batch_size=4))
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        loss = model(torch.randint(0, 7, (4, 5), generator=generator)).square().mean()
        made.zero_grad()
        loss.backward()
        made.step()
    return model, made


def available(cls):
    try:
        cls().build([{"params": [nn.Parameter(torch.ones(1))], "lr": 0.1, "base_lr": 0.1}])
    except MissingExtra:
        return False
    return True


@pytest.mark.parametrize("cls", ALL, ids=lambda c: c.name)
def test_every_optimizer_moves_every_parameter_and_resumes_exactly(cls):
    if not available(cls):
        pytest.skip("an optional package is missing")
    torch.manual_seed(0)
    start = Net()
    model, made = trained(cls(lr=1e-3), 3, copy.deepcopy(start))
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, dict(start.named_parameters())[n])}
    assert moved == {n for n, _ in start.named_parameters()}
    saved = copy.deepcopy((model.state_dict(), made.state_dict()))

    def go_on(model, made):
        for step in range(3, 6):
            generator = torch.Generator().manual_seed(step)
            made.zero_grad()
            model(torch.randint(0, 7, (4, 5), generator=generator)).square().mean().backward()
            made.step()
        return model

    expected = go_on(model, made)
    other = Net()
    other.load_state_dict(saved[0])
    resumed = cls(lr=1e-3).build(parameter_groups(other, cls(lr=1e-3), batch_size=4))
    resumed.load_state_dict(saved[1])
    go_on(other, resumed)
    for a, b in zip(expected.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_muon_takes_hidden_matrices_and_leaves_the_rest_to_the_other_rule():
    muon = Muon(lr=0.02, rest_lr=0.004)
    torch.manual_seed(0)
    model = Net()
    made = muon.build(parameter_groups(model, muon, batch_size=4))
    by_group = [(g["base_lr"], sorted(n for n in g["param_names"])) for g in made.param_groups]
    assert by_group[0] == (0.02, ["blocks.0.weight", "blocks.1.weight"])
    assert by_group[1] == (0.02, ["conv.weight"])
    assert all(lr == pytest.approx(0.004) for lr, _ in by_group[2:])
    assert sum(len(names) for _, names in by_group) == len(list(model.parameters()))
    for group in made.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in model.parameters()]
    trained(muon, 1, model, made)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("rest", ["adamw", "sgd"])
def test_muon_beside_another_rule_equals_the_two_run_apart(rest):
    muon = Muon(rest=rest, rest_lr=0.01)
    torch.manual_seed(0)
    together = Net()
    together.conv.weight.requires_grad_(False)
    trained(muon, 4, together)
    torch.manual_seed(0)
    model = Net()
    model.conv.weight.requires_grad_(False)
    hidden = [b.weight for b in model.blocks]
    taken = {id(p) for p in hidden}
    decayed = [p for p in model.parameters() if id(p) not in taken and p.dim() > 1 and p.requires_grad]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    parts = [
        torch.optim.Muon(hidden, lr=0.02, weight_decay=0.01),
        torch.optim.AdamW(groups, lr=0.01) if rest == "adamw" else torch.optim.SGD(groups, 0.01, 0.9, nesterov=True),
    ]
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        model.zero_grad()
        model(torch.randint(0, 7, (4, 5), generator=generator)).square().mean().backward()
        for part in parts:
            part.step()
    for a, b in zip(together.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_on_filters_is_torchs_muon_on_the_matrix_of_one_row_a_filter(layout, nesterov):
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(6, 3, 3, 3).to(memory_format=layout))
    matrix = nn.Parameter(filters.detach().reshape(6, 27).clone())
    settings = {"lr": 0.1, "momentum": 0.8, "nesterov": nesterov}
    one = FilterMuon([{"params": [filters], "weight_decay": 0.1}], steps=5, fixed_norm=False, **settings)
    other = torch.optim.Muon([matrix], weight_decay=0.1, adjust_lr_fn="original", **settings)
    for _ in range(3):
        gradient = torch.randn(6, 3, 3, 3)
        filters.grad, matrix.grad = gradient.clone(memory_format=layout), gradient.reshape(6, 27).clone()
        one.step()
        other.step()
    # Products in bfloat16 over differently ordered columns agree to about two digits.
    torch.testing.assert_close(filters.detach().reshape(6, 27), matrix.detach(), rtol=0.02, atol=0.01)


def test_a_fixed_norm_is_the_root_of_the_number_of_filters_before_each_step():
    filters = nn.Parameter(torch.randn(16, 2, 3, 3))
    filters.grad = torch.zeros_like(filters)
    made = FilterMuon([{"params": [filters]}], lr=0.0, momentum=0.6, nesterov=True, steps=3, fixed_norm=True)
    made.step()
    assert float(filters.detach().norm()) == pytest.approx(4.0)


def test_a_schedule_free_optimizer_changes_between_its_two_points():
    pytest.importorskip("schedulefree")
    optimizer = ScheduleFree()
    model = Net()
    made = optimizer.build(parameter_groups(model, optimizer, batch_size=4))
    set_mode(made, training=True)
    trained(optimizer, 3, model, made)
    training = [p.detach().clone() for p in model.parameters()]
    set_mode(made, training=False)
    assert not all(torch.equal(a, b) for a, b in zip(training, model.parameters(), strict=True))
    set_mode(made, training=True)
    for a, b in zip(training, model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_mode_of_other_optimizers_is_nothing():
    model, made = trained(Sgd(), 1)
    before = [p.detach().clone() for p in model.parameters()]
    set_mode(made, training=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Sgd(lr=-1.0), "greater than or equal to 0"),
        (lambda: Sgd(momentum=1.0), "less than 1"),
        (lambda: Adam(beta2=1.0), "less than 1"),
        (lambda: Adamw(eps=0.0), "greater than 0"),
        (lambda: Adamw(layer_decay=1.5), "less than or equal to 1"),
        (lambda: Adamw(lr_scaling="square"), "'none', 'linear' or 'sqrt'"),
        (lambda: Adamw(base_batch=0), "greater than or equal to 1"),
        (lambda: Muon(adjust="mine"), "'original' or 'match_rms_adamw'"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_range(make, said):
    with pytest.raises(ValueError, match=said):
        make()
