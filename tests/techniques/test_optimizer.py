from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from goodfit.errors import MissingExtra
from goodfit.techniques.filters import FilterMuon
from goodfit.techniques.numerics import scaled_step
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
    lr_from_mean_form,
    parameter_groups,
    set_lr,
    set_mode,
)
from goodfit.techniques.penalty import Penalty
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
        assert -first[0, 0] == pytest.approx(1.0, rel=1e-6)

    def test_adam_as_it_is_wrongly_written_is_off_by_the_numbers_on_its_page(self):
        settings = {"lr": 1.0, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
        zero = np.zeros((1, 1))
        inside = reference.adam_with_eps_inside(zero, [np.full((1, 1), 1e-6)], **settings)
        assert -inside[0, 0] == pytest.approx(0.01, rel=0.01)
        as_outside = reference.adam(zero, [np.full((1, 1), 1e-6)], **{**settings, "eps": 1e-4})
        np.testing.assert_allclose(inside, as_outside, rtol=0.01)
        assert -reference.adam_uncorrected(zero, [np.ones((1, 1))], **settings)[0, 0] == pytest.approx(3.16, abs=0.01)

    def test_a_rate_converts_between_the_two_forms_of_momentum(self):
        theirs = reference.momentum_as_mean(START, GRADS, lr=0.3, beta=0.95)
        made = run(Sgd(lr=lr_from_mean_form(0.3, 0.95), momentum=0.95, nesterov=False))
        np.testing.assert_allclose(made, theirs, rtol=1e-12)
        # dampening = b gives the mean itself, but for the first step, which PyTorch does not dampen
        dampened = reference.sgd(START, GRADS, lr=0.3, momentum=0.95, dampening=0.95)
        np.testing.assert_allclose(run(Sgd(lr=0.3, momentum=0.95, dampening=0.95)), dampened, rtol=1e-12)

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

    @pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.5, 0.1)])
    def test_rmsprop(self, momentum, decay):
        made = run(Rmsprop(lr=0.01, momentum=momentum, weight_decay=decay))
        expected = reference.rmsprop(START, GRADS, lr=0.01, alpha=0.99, eps=1e-8, momentum=momentum, l2=decay)
        np.testing.assert_allclose(made, expected, rtol=1e-10)
        first = run(Rmsprop(lr=1.0), [np.ones((1, 1))], np.zeros((1, 1)))
        assert -first[0, 0] == pytest.approx(10.0, rel=1e-6)  # no bias correction: warm up

    @pytest.mark.parametrize("decay", [0.02, 0.0])
    def test_lamb(self, decay):
        pytest.importorskip("timm", reason="lamb is timm's")
        made = run(Lamb(lr=0.01, weight_decay=decay))
        expected = reference.lamb(START, GRADS, lr=0.01, b1=0.9, b2=0.999, eps=1e-6, weight_decay=decay)
        np.testing.assert_allclose(made, expected, rtol=1e-6)

    @pytest.mark.parametrize("decay", [0.0, 0.1])
    def test_schedule_free_under_a_warm_up(self, decay):
        pytest.importorskip("schedulefree", reason="the rule is that package's")
        optimizer = ScheduleFree(lr=0.02, weight_decay=decay)
        parameter = nn.Parameter(torch.tensor(START))
        made = optimizer.build([{"params": [parameter], "lr": 0.02, "base_lr": 0.02, "weight_decay": decay}])
        lrs = [0.02 * min((t + 1) / 3, 1.0) for t in range(len(GRADS))]
        for g, lr in zip(GRADS, lrs, strict=True):
            made.param_groups[0]["lr"] = lr
            parameter.grad = torch.tensor(g)
            made.step()
        y, x = reference.schedule_free(START, GRADS, lrs=lrs, b1=0.9, b2=0.999, eps=1e-8, decay=decay)
        np.testing.assert_allclose(parameter.detach().numpy(), y, rtol=1e-9)
        set_mode(made, training=False)
        np.testing.assert_allclose(parameter.detach().numpy(), x, rtol=1e-9)

    @pytest.mark.parametrize("nesterov", [True, False])
    @pytest.mark.parametrize(
        ("adjust", "scale"), [("original", math.sqrt(4 / 3)), ("match_rms_adamw", 0.2 * math.sqrt(4))]
    )
    def test_muon(self, nesterov, adjust, scale):
        settings = {"lr": 0.1, "weight_decay": 0.05, "momentum": 0.8, "nesterov": nesterov}
        made = run(Muon(adjust=adjust, **settings), matrix=2)
        expected = reference.muon(START, GRADS, lr=0.1, momentum=0.8, nesterov=nesterov, decay=0.05, scale=scale)
        # Its products run in bfloat16, and the smallest singular values are what rounding moves most.
        np.testing.assert_allclose(made, expected, atol=0.1 * scale * 0.2)
        assert np.abs(made - START).max() > 0.3 * scale

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
@pytest.mark.parametrize(("nesterov", "adjust"), [(True, "original"), (False, "original"), (True, "match_rms_adamw")])
def test_muon_on_filters_is_torchs_muon_on_the_matrix_of_one_row_a_filter(layout, nesterov, adjust):
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(6, 3, 3, 3).to(memory_format=layout))
    matrix = nn.Parameter(filters.detach().reshape(6, 27).clone())
    settings = {"lr": 0.1, "momentum": 0.8, "nesterov": nesterov}
    one = FilterMuon([{"params": [filters], "weight_decay": 0.1}], steps=5, fixed_norm=False, adjust=adjust, **settings)
    other = torch.optim.Muon([matrix], weight_decay=0.1, adjust_lr_fn=adjust, **settings)
    for _ in range(3):
        gradient = torch.randn(6, 3, 3, 3)
        filters.grad, matrix.grad = gradient.clone(memory_format=layout), gradient.reshape(6, 27).clone()
        one.step()
        other.step()
    # Products in bfloat16 over differently ordered columns agree to about two digits.
    torch.testing.assert_close(filters.detach().reshape(6, 27), matrix.detach(), rtol=0.02, atol=0.02)


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


def decayed_once(optimizer, weight=1.0):
    """What one step with a gradient of zero leaves of a weight."""
    return float(run(optimizer, [np.zeros((1, 1))], np.full((1, 1), weight))[0, 0])


def test_the_rules_of_decay_differ_by_what_the_pages_say():
    lr, strength = 0.1, 1e-4
    weight = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    weight.grad = torch.zeros_like(weight)
    Penalty(l2=strength).add_gradient([weight])
    torch.optim.SGD([weight], lr=lr).step()
    by_penalty = 1 - float(weight.detach())
    by_optimizer = 1 - decayed_once(Adamw(lr=lr, weight_decay=strength))
    without_lr = 1 - (1 - strength)
    assert by_optimizer == pytest.approx(lr * strength, rel=1e-9)
    assert 1 - decayed_once(Sgd(lr=lr, weight_decay=strength, momentum=0.0)) == pytest.approx(by_optimizer, rel=1e-9)
    assert without_lr / by_optimizer == pytest.approx(10)
    assert without_lr / by_penalty == pytest.approx(5)


def test_decay_follows_the_schedule_because_it_is_multiplied_by_the_rate():
    optimizer = Adamw(lr=0.1, weight_decay=0.01)
    parameter = nn.Parameter(torch.ones(1, dtype=torch.float64))
    made = optimizer.build([{"params": [parameter], "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.01}])
    expected = 1.0
    for factor in (1.0, 0.5, 0.0):
        set_lr(made, factor)
        parameter.grad = torch.zeros_like(parameter)
        made.step()
        expected *= 1 - 0.1 * factor * 0.01
    assert float(parameter.detach()) == pytest.approx(expected, rel=1e-12)


def test_with_adam_l2_in_the_gradient_hardly_acts_where_gradients_are_large():
    shrunk = []
    for size in (0.01, 100.0):
        grads = [np.array([[size]]), np.array([[-size]])] * 200
        plain = float(run(Adam(lr=1e-3), grads, np.ones((1, 1)))[0, 0])
        shrunk.append(plain - float(run(Adam(lr=1e-3, weight_decay=0.01), grads, np.ones((1, 1)))[0, 0]))
    assert shrunk[0] > 100 * abs(shrunk[1])
    assert decayed_once(Adamw(lr=1e-3, weight_decay=0.01)) == pytest.approx(1 - 1e-5, rel=1e-12)


@pytest.mark.parametrize("cls", [Nadamw, Adamw, Sgd])
def test_a_step_whose_gradients_overflowed_leaves_weights_and_state_as_they_are(cls):
    optimizer = cls(lr=0.1)
    model = nn.Linear(3, 2)
    made = optimizer.build(parameter_groups(model, optimizer, batch_size=4))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for number, value in enumerate((1.0, math.inf, 1.0)):
        before = copy.deepcopy((model.state_dict(), made.state_dict()["state"]))
        scaler.scale((model(torch.ones(4, 3)) * value).sum()).backward()
        scaler.unscale_(made)
        assert scaled_step(scaler, made) is (number != 1)
        made.zero_grad()
        if number == 1:
            assert all(torch.equal(a, b) for a, b in zip(before[0].values(), model.state_dict().values(), strict=True))
            for old, new in zip(before[1].values(), made.state_dict()["state"].values(), strict=True):
                assert all(torch.equal(torch.as_tensor(old[k]), torch.as_tensor(new[k])) for k in old)
    assert all(p.isfinite().all() for p in model.parameters())
