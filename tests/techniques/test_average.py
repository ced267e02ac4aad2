from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from goodfit.techniques.average import ALL, Ema, Lawa, NoAverage, Swa, refresh_norms
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


def test_refreshed_norm_statistics_are_the_means_over_the_batches():
    model = net().eval()
    model[1].running_mean.fill_(9.0)
    batches = [torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    refresh_norms(model, (model(x) for x in batches))
    features = [model[0](x).detach() for x in batches]
    torch.testing.assert_close(model[1].running_mean, torch.stack([f.mean((0, 2, 3)) for f in features]).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.stack([f.var((0, 2, 3)) for f in features]).mean(0))
    assert model[1].momentum == 0.1
    assert not model[1].training


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
