from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from goodfit.techniques.average import ALL, Ema, FreshNorms, Lawa, NoAverage, Swa, refresh_norms
from goodfit.types import Moment


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2)).to(
        memory_format=torch.channels_last
    )


@torch.no_grad()
def drift(model, step):
    """Move everything, as a training step does, and keep a record of it."""
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        p += torch.randn(p.shape, generator=generator)
    norm = model[1]
    norm.running_mean += torch.randn(3, generator=generator)
    norm.num_batches_tracked += 1
    return {k: v.numpy().astype(np.float64) for k, v in model.state_dict().items()}


def run(technique, steps, *, total=None, per_epoch=4):
    model = net()
    history = [{k: v.numpy().astype(np.float64) for k, v in model.state_dict().items()}]
    averager = technique.build(model)
    for step in range(steps):
        history.append(drift(model, step))
        averager.update(model, Moment(0, step // per_epoch, step, total or steps, per_epoch))
    return model, averager, history


def averaged(averager):
    other = net(1)
    averager.copy_to(other)
    return {k: v.numpy() for k, v in other.state_dict().items()}


@pytest.mark.parametrize("warmup", [False, True])
def test_ema_equals_the_formula_for_weights_and_statistics_and_copies_counters(warmup):
    _, averager, history = run(Ema(decay=0.9, warmup=warmup), 12)
    made = averaged(averager)
    for name, value in history[0].items():
        mean = value
        for n, row in enumerate(history[1:]):
            d = min(0.9, (1 + n) / (10 + n)) if warmup else 0.9
            mean = d * mean + (1 - d) * row[name]
        if "num_batches" in name:
            assert made[name] == history[-1][name]
        else:
            np.testing.assert_allclose(made[name], mean, rtol=1e-4, atol=1e-5)


def test_ema_equals_torch():
    model, averager, _ = run(Ema(decay=0.9, warmup=False), 5)
    theirs = torch.optim.swa_utils.AveragedModel(
        net(), multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
    )
    live = net()
    theirs.n_averaged.fill_(1)  # both start from the first weights
    for step in range(5):
        drift(live, step)
        theirs.update_parameters(live)
    for (name, a), b in zip(theirs.module.named_parameters(), averaged(averager).values(), strict=False):
        if name.startswith("0."):
            np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-4, atol=1e-5)
    assert model is not live


def test_ema_every_k_steps_takes_every_kth_weights():
    _, averager, history = run(Ema(decay=0.5, every=3, warmup=False), 7)
    first = history[0]["3.bias"]
    np.testing.assert_allclose(
        averaged(averager)["3.bias"], 0.25 * first + 0.25 * history[3]["3.bias"] + 0.5 * history[6]["3.bias"], rtol=1e-5
    )


def test_swa_is_the_plain_mean_of_the_ends_of_epochs_from_its_start():
    _, averager, history = run(Swa(start="50%", every="1 epoch"), 16)
    expected = np.mean([history[n]["3.weight"] for n in (12, 16)], 0)
    np.testing.assert_allclose(averaged(averager)["3.weight"], expected, rtol=1e-4, atol=1e-6)


def test_lawa_is_the_mean_of_the_last_snapshots():
    _, averager, history = run(Lawa(window=3, every="2 steps"), 11)
    expected = np.mean([history[n]["3.weight"] for n in (6, 8, 10)], 0)
    np.testing.assert_allclose(averaged(averager)["3.weight"], expected, rtol=1e-4, atol=1e-6)


def test_before_its_first_snapshot_the_average_is_the_model_itself():
    model, averager, history = run(Swa(start="90%", every="1 epoch"), 4, total=100)
    with averager.applied(model):
        np.testing.assert_array_equal(model[3].bias.detach().numpy(), history[-1]["3.bias"])
    averager.copy_to(model)
    np.testing.assert_array_equal(model[3].bias.detach().numpy(), history[-1]["3.bias"])


@pytest.mark.parametrize("technique", [cls() for cls in ALL], ids=lambda t: t.name)
def test_applied_weights_are_the_averaged_ones_and_the_models_own_return_exactly(technique):
    model, averager, history = run(technique, 9)
    expected = averaged(averager) if technique.name != "none" else history[-1]
    with averager.applied(model):
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), expected[name])
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), history[-1][name])
    with pytest.raises(KeyError), averager.applied(model):
        raise KeyError
    np.testing.assert_array_equal(model[3].bias.detach().numpy(), history[-1]["3.bias"])


@pytest.mark.parametrize(
    "technique", [Ema(decay=0.9), Swa(start="10%"), Lawa(window=2), NoAverage()], ids=lambda t: t.name
)
def test_the_state_resumes_exactly(technique):
    _, expected, _ = run(technique, 12)
    model, averager, _ = run(technique, 9, total=12)
    state = {k: v.clone() for k, v in averager.state_dict().items()}
    resumed = technique.build(model)
    resumed.load_state_dict(state)
    for step in range(9, 12):
        drift(model, step)
        resumed.update(model, Moment(0, step // 4, step, 12, 4))
    ends = [averaged(a) for a in (expected, resumed)]
    if technique.name != "none":
        for name in ends[0]:
            np.testing.assert_array_equal(ends[0][name], ends[1][name])
    assert {k: v.shape for k, v in resumed.state_dict().items()} == {
        k: v.shape for k, v in expected.state_dict().items()
    }


def images(count=3, size=8):
    return [torch.randn(size, 1, 4, 4, generator=torch.Generator().manual_seed(i)) * (i + 1) for i in range(count)]


def test_fresh_norm_statistics_are_those_of_all_the_numbers_the_norm_is_given():
    model = net().eval()
    model[1].running_mean.fill_(9.0)
    batches = images()
    refresh_norms(model, (model(x) for x in batches))
    features = torch.cat([model[0](x).detach() for x in batches]).transpose(0, 1).flatten(1).double().numpy()
    np.testing.assert_allclose(model[1].running_mean.numpy(), features.mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model[1].running_var.numpy(), features.var(1, ddof=1), rtol=1e-5)
    assert model[1].momentum == 0.1
    assert not model[1].training


def deep():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 5, 2), nn.BatchNorm2d(5)
    )


def test_fresh_norm_statistics_equal_those_of_torch_on_batches_of_equal_spread():
    """PyTorch takes the mean of the batches' variances; with every batch the same the two agree."""
    ours, theirs = deep(), deep()
    theirs[3].p = 0.0  # ours leaves dropout out
    batch = images(1, 64)[0]
    refresh_norms(ours, (ours(x) for x in [batch] * 3))
    torch.optim.swa_utils.update_bn([batch] * 3, theirs)
    for k, count in ((1, 64 * 4), (5, 64)):
        torch.testing.assert_close(ours[k].running_mean, theirs[k].running_mean, rtol=1e-4, atol=1e-6)
        # Both unbiased, ours over all three batches at once.
        expected = theirs[k].running_var * ((count - 1) / count) / ((3 * count - 1) / (3 * count))
        torch.testing.assert_close(ours[k].running_var, expected, rtol=1e-4, atol=1e-6)


def test_fresh_norms_leave_frozen_norms_modes_and_norms_that_nothing_reached():
    model = deep().train()
    model[1].requires_grad_(False)
    unused = nn.BatchNorm2d(4)
    unused.running_mean.fill_(3.0)
    model.add_module("unused", nn.Identity())
    model.unused.norm = unused
    modes = {m: m.training for m in model.modules()}
    refresh_norms(model, (model[:6](x) for x in images()))
    assert {m: m.training for m in model.modules()} == modes
    assert float(model[1].running_mean.abs().sum()) == 0.0
    assert float(model[5].running_mean.abs().sum()) > 0.0
    assert unused.running_mean.tolist() == [3.0] * 4


def test_fresh_norms_are_put_back_even_when_something_fails():
    model = deep()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fresh = FreshNorms(lambda m: (m(x) for x in images()))
    for step in (1, 1, 2):
        with fresh.estimated(model, step):
            inside = {k: v.clone() for k, v in model.state_dict().items()}
        assert not torch.equal(inside["1.running_mean"], before["1.running_mean"])
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(KeyError), fresh.estimated(model, 2):
        raise KeyError
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_fresh_norms_are_estimated_once_a_step():
    model, calls = deep(), []

    def forwards(m):
        calls.append(1)
        return (m(x) for x in images())

    fresh = FreshNorms(forwards)
    for step in (1, 1, 2, 2, 2):
        with fresh.estimated(model, step):
            pass
    assert len(calls) == 2


def test_an_average_of_weights_has_outputs_of_unit_variance_only_with_fresh_norms():
    """The mean of two nets' statistics is not the statistic of their mean weights."""
    x = images(1, 512)[0]
    pair = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32)).eval()
        refresh_norms(model, (model(x) for _ in range(1)))
        pair.append(model.state_dict())
    mean = nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32)).eval()
    mean.load_state_dict({k: (pair[0][k] + pair[1][k]) / 2 if "num" not in k else pair[0][k] for k in pair[0]})
    stale = float(mean(x).detach().var())
    refresh_norms(mean, (mean(x) for _ in range(1)))
    assert stale < 0.7
    assert float(mean(x).detach().var()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Ema(decay=1.0), "less than 1"),
        (lambda: Ema(every=0), "greater than or equal to 1"),
        (lambda: Lawa(window=0), "greater than or equal to 1"),
        (lambda: Swa(start="half"), "write it with its unit"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_range(make, said):
    with pytest.raises(ValueError, match=said):
        make()
