from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pydantic
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goodfit.techniques.batch_noise import Noise, normal
from goodfit.techniques.batch_series import Scaled, Scaling, WindowSlice, stretch
from goodfit.techniques.fitted import Fitted, fit_batch
from goodfit.types import Batch, InputSpec, Moment, Tensors

CPU = torch.device("cpu")
MOMENT = Moment(seed=3, epoch=2, step=17, total=100, steps_per_epoch=8)
SERIES = InputSpec("series", shape=(12, 5), numeric=3)


def forecasts(count: int = 64) -> Tensors:
    """Windows of three measured channels, the last of zeros and ones, and two of the calendar."""
    draws = torch.Generator().manual_seed(0)
    measured = torch.randn(count, 12, 2, generator=draws) * torch.tensor([1.0, 4.0])
    flags = torch.randint(0, 2, (count, 12, 1), generator=draws).float()
    calendar = torch.rand(count, 12, 2, generator=draws)
    targets = torch.randn(count, 4, generator=draws)
    return Tensors(torch.cat([measured, flags, calendar], 2), targets, torch.arange(count) * 3 + 1)


def whole(part: Tensors) -> Batch:
    return part.take(torch.arange(len(part)))


def test_a_forecast_is_scaled_with_its_past_by_one_factor() -> None:
    part = forecasts()
    (made,) = fit_batch([Scaling(std=0.3)], part, SERIES, device=CPU)
    batch = whole(part)
    after = made(batch, MOMENT)
    factor = (after.targets / batch.targets).double().numpy()
    assert np.ptp(factor, axis=1).max() < 1e-5
    expected = batch.inputs.double().numpy().copy()
    expected[:, :, :2] *= factor[:, :1, None]
    assert np.abs(after.inputs.double().numpy() - expected).max() < 1e-5
    assert np.array_equal(after.inputs[:, :, 2:].numpy(), batch.inputs[:, :, 2:].numpy())
    assert after.targets.dtype == torch.float32


def test_factors_are_log_normal_with_the_spread_asked_for() -> None:
    batch = Batch(torch.ones(5000, 3), torch.zeros(5000).long(), None, torch.arange(5000))
    factor = Scaling(std=0.2)(batch, MOMENT).inputs[:, 0].double().numpy()
    assert (factor > 0).all()
    assert scipy.stats.kstest(np.log(factor) / 0.2, "norm").pvalue > 1e-3


def test_targets_that_are_no_future_stay() -> None:
    spec = InputSpec("tensor", shape=(12, 5))
    shares = torch.softmax(torch.randn(64, 4), 1)
    for targets in (torch.arange(64) % 4, torch.randn(64), torch.randn(64, 3), shares):
        part = Tensors(forecasts().inputs, targets, torch.arange(64))
        (made,) = fit_batch([Scaling()], part, spec, device=CPU)
        after = made(whole(part), MOMENT)
        assert torch.equal(after.targets, targets)
        assert not torch.equal(after.inputs, part.inputs)


@pytest.mark.parametrize("cls", [Scaling, Noise])
def test_fitted_series_techniques_change_a_sample_alike_in_any_batch(cls: type[Any]) -> None:
    part = forecasts(12)
    (made,) = fit_batch([cls(until="50%")], part, SERIES, device=CPU)
    batch = whole(part)
    after = made(batch, MOMENT)
    assert not torch.equal(after.inputs, batch.inputs)
    assert not torch.equal(made(batch, replace(MOMENT, epoch=3)).inputs, after.inputs)
    order = torch.tensor([5, 0, 11, 3])
    again = made(part.take(order), MOMENT)
    assert torch.equal(again.inputs, after.inputs[order])
    assert torch.equal(again.targets, after.targets[order])
    for one in range(12):
        assert torch.equal(made(part.take(torch.tensor([one])), MOMENT).inputs[0], after.inputs[one])
    assert made(batch, replace(MOMENT, step=50)) is batch


def test_jitter_is_scaled_by_each_channel_and_spares_flags_and_calendar() -> None:
    part = forecasts(2000)
    (made,) = fit_batch([Noise(std=0.1)], part, SERIES, device=CPU)
    batch = whole(part)
    noise = (made(batch, MOMENT).inputs - batch.inputs).double()
    deviation = batch.inputs.double().std((0, 1), correction=0)
    assert scipy.stats.kstest((noise[..., 0] / deviation[0] / 0.1).flatten().numpy(), "norm").pvalue > 1e-3
    assert scipy.stats.kstest((noise[..., 1] / deviation[1] / 0.1).flatten().numpy(), "norm").pvalue > 1e-3
    assert (noise[..., 2:] == 0).all()


def test_normal_numbers_are_normal_and_independent() -> None:
    drawn = normal(7, torch.arange(4000), 25).double().numpy()
    assert drawn.shape == (4000, 25)
    assert np.isfinite(drawn).all()
    assert scipy.stats.kstest(drawn.flatten(), "norm").pvalue > 1e-3
    correlation = np.corrcoef(drawn.T) - np.eye(25)
    assert np.abs(correlation).max() < 0.08
    assert np.array_equal(normal(7, torch.tensor([17]), 25).numpy()[0], drawn[17].astype(np.float32))
    assert np.array_equal(normal(7, torch.arange(3), 1).numpy()[:, 0], normal(7, torch.arange(3), 2).numpy()[:, 0])


def test_noise_on_a_table_is_measured_in_deviations_of_each_column() -> None:
    numeric = torch.randn(3000, 3) * torch.tensor([0.02, 1.0, 30.0])
    numeric[:, 2] = torch.where(torch.arange(3000) % 50 == 0, numeric[:, 2], 0.0)
    part = Tensors({"numeric": numeric, "category": torch.ones(3000, 2).long()}, torch.zeros(3000), torch.arange(3000))
    (made,) = fit_batch([Noise(std=0.5)], part, InputSpec("table", numeric=3, cardinalities=(2, 2)), device=CPU)
    after = made(whole(part), MOMENT).inputs
    noise = (after["numeric"] - numeric).double().numpy()
    assert np.allclose(noise.std(0) / numeric.double().numpy().std(0), 0.5, rtol=0.05)
    assert torch.equal(after["category"], part.inputs["category"])


def test_a_constant_number_gets_no_noise() -> None:
    part = Tensors(torch.tensor([[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]]), torch.zeros(3), torch.arange(3))
    (made,) = fit_batch([Noise()], part, InputSpec("tensor", shape=(2,)), device=CPU)
    after = made(whole(part), MOMENT).inputs
    assert torch.equal(after[:, 0], torch.ones(3))
    assert (after[:, 1] != part.inputs[:, 1]).all()


def test_a_table_without_numbers_is_refused() -> None:
    assert "no numeric column" in Noise.refuses(InputSpec("table", cardinalities=(3,)), "tabular")
    assert Noise.refuses(InputSpec("table", numeric=1), "tabular") == ""
    assert Noise.refuses(SERIES, "seasonal") == ""


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(2, 20), length=st.integers(2, 20), channels=st.integers(1, 3), data=st.data(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_a_stretched_window_is_numpy_s_interpolation(
    steps: int, length: int, channels: int, data: Any, dtype: torch.dtype
) -> None:
    length = min(length, steps)
    values = torch.randn(3, steps, channels, generator=torch.Generator().manual_seed(steps), dtype=dtype)
    start = data.draw(st.lists(st.integers(0, steps - length), min_size=3, max_size=3))
    after = stretch(values, torch.tensor(start), length)
    assert after.dtype == dtype
    for row in range(3):
        for channel in range(channels):
            series = values[row, :, channel].double().numpy()
            place = start[row] + np.arange(steps) * (length - 1) / (steps - 1)
            expected = np.interp(place, np.arange(steps), series)
            assert np.abs(after[row, :, channel].double().numpy() - expected).max() < 1e-5


def test_a_window_begins_at_every_possible_step() -> None:
    ramp = torch.arange(10.0).expand(500, 10).contiguous()
    after = WindowSlice(share=0.6)(Batch(ramp, torch.zeros(500).long(), None, torch.arange(500)), MOMENT).inputs
    assert set(after[:, 0].tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert torch.allclose(after[:, -1] - after[:, 0], torch.full((500,), 5.0))


def test_time_may_be_the_last_axis() -> None:
    values = torch.randn(8, 10, 3)
    first = Batch(values, torch.zeros(8).long(), None, torch.arange(8))
    last = first._replace(inputs=values.transpose(1, 2))
    after = WindowSlice(share=0.5)(first, MOMENT).inputs
    turned = WindowSlice(share=0.5, axis="last")(last, MOMENT).inputs
    assert torch.equal(after, turned.transpose(1, 2))


def test_a_series_of_one_step_stays() -> None:
    batch = Batch(torch.randn(4, 1, 3), torch.zeros(4).long(), None, torch.arange(4))
    assert torch.equal(WindowSlice(share=0.5)(batch, MOMENT).inputs, batch.inputs)


def test_forecasts_are_not_stretched_and_the_reason_is_said() -> None:
    assert "a day would then last longer" in WindowSlice.refuses(SERIES, "seasonal")
    assert WindowSlice.refuses(InputSpec("tensor", shape=(12, 3)), "mlp") == ""


def test_without_reading_the_data_all_numbers_are_scaled() -> None:
    batch = whole(forecasts())
    plain, fitted = Scaling()(batch, MOMENT), Fitted(Scaling(), Scaled(None, False))(batch, MOMENT)
    assert torch.equal(plain.inputs, fitted.inputs)
    assert torch.equal(plain.targets, batch.targets)


@pytest.mark.parametrize(
    ("cls", "wrong", "range_"),
    [
        (Scaling, {"std": 0.0}, "greater than 0"),
        (Scaling, {"std": -1.0}, "greater than 0"),
        (WindowSlice, {"share": 1.0}, "less than 1"),
        (WindowSlice, {"share": 0.0}, "greater than 0"),
        (WindowSlice, {"axis": "middle"}, "'first' or 'last'"),
        (WindowSlice, {"until": "5"}, "no duration"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_range(cls: type[Any], wrong: dict[str, Any], range_: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=range_):
        cls(**wrong)
