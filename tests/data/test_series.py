"""Series: windows that never see the future, parts in time order, calendars, and odd time columns."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from goodfit.data import encoder_from_json, read
from goodfit.data.windows import carried, origins
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings


def daily(count: int = 900, freq: str = "D") -> pd.DataFrame:
    when = pd.date_range("2018-01-01", periods=count, freq=freq)
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "when": when,
            "wind": rng.normal(size=count),
            "sky": rng.choice(["sun", "rain"], count),
            "temp": 10 + 8 * np.sin(2 * np.pi * np.arange(count) / 365.25) + rng.normal(size=count),
        }
    )


def read_series(source, **settings):
    return read(source, DataSettings(**{"horizon": 7, "time": "when", **settings}), TaskSettings(), seed=0)


def test_a_window_holds_the_rows_before_its_targets():
    frame = daily()
    data = read_series(frame, lookback=14)
    batch = data.valid.take(torch.tensor([3]))
    origin = int(data.valid.origins[3])
    known = frame["temp"].to_numpy()
    past = batch.inputs[0, :, 0].double() * data.target_std + data.target_mean
    ahead = batch.targets[0].double() * data.target_std + data.target_mean
    np.testing.assert_allclose(past, known[origin - 14 : origin], rtol=1e-4)
    np.testing.assert_allclose(ahead, known[origin : origin + 7], rtol=1e-4)
    assert batch.index.tolist() == [origin]
    assert torch.equal(data.valid.targets[3:4], batch.targets)


def test_nothing_a_window_reads_changes_with_what_comes_after_its_origin():
    frame = daily()
    data = read_series(frame)
    origin = int(data.train.origins[5])
    changed = frame.copy()
    changed.loc[origin:, ["temp", "wind"]] += 100.0
    before = data.encoder.encode(frame, targets=True)
    after = data.encoder.encode(changed, targets=True)
    assert torch.equal(before.take(torch.tensor([5])).inputs, after.take(torch.tensor([5])).inputs)
    assert not torch.equal(before.take(torch.tensor([5])).targets, after.take(torch.tensor([5])).targets)


def test_parts_are_in_time_order_and_share_no_target():
    data = read_series(daily())
    last = [int(part.origins.max()) + 6 for part in (data.train, data.valid)]
    assert last[0] < int(data.valid.origins.min())
    assert last[1] < int(data.test.origins.min())
    assert int(data.test.origins.max()) + 6 == 899
    assert last[0] == round(900 * 0.7) - 1


def test_statistics_come_from_the_train_part():
    frame = daily()
    data = read_series(frame)
    train = frame["temp"].to_numpy()[:630]
    assert data.target_mean == pytest.approx(train.mean())
    assert data.target_std == pytest.approx(train.std())


def test_channels_are_named_and_the_calendar_ahead_shows_the_target_times():
    frame = daily()
    data = read_series(frame, lookback=20)
    names = data.encoder.names
    assert names[0] == "temp"
    assert data.spec.numeric == 4
    assert data.spec.shape == (20, len(names))
    batch = data.train.take(torch.tensor([0]))
    origin = int(data.train.origins[0])
    seconds = frame["when"].astype("int64").to_numpy() / 1e6 if str(frame["when"].dtype) == "datetime64[us]" else None
    seconds = (frame["when"] - pd.Timestamp(0)).dt.total_seconds().to_numpy()
    year = np.sin(2 * np.pi * seconds / (365.25 * 86400))
    own, ahead = names.index("sin year x1"), names.index("sin year x1, ahead")
    np.testing.assert_allclose(batch.inputs[0, :, own], year[origin - 20 : origin], atol=1e-5)
    np.testing.assert_allclose(batch.inputs[0, -7:, ahead], year[origin : origin + 7], atol=1e-5)


def test_hours_get_a_day_cycle_and_mere_numbers_no_calendar():
    assert "sin day x1" in read_series(daily(freq="h")).encoder.names
    frame = daily().assign(when=np.arange(900))
    assert read_series(frame).encoder.calendar == 0


def test_the_future_of_new_data_needs_no_rows():
    frame = daily()
    encoder = encoder_from_json(json.loads(json.dumps((data := read_series(frame)).encoder.to_json())))
    assert encoder == data.encoder
    part = encoder.encode(frame)
    assert len(part) == 1
    batch = part.take(torch.tensor([0]))
    assert batch.inputs.shape[1:] == data.spec.shape
    assert batch.targets.tolist() == [[0.0] * 7]
    assert part.targets.shape == (1, 7)
    known = encoder.encode(frame, targets=True)
    place = int(data.test.origins[0]) - int(known.origins[0])
    assert torch.equal(known.take(torch.tensor([place])).inputs, data.test.take(torch.tensor([0])).inputs)


def test_times_may_be_spread_over_columns_or_found_without_being_named():
    frame = daily(freq="h")
    parts = frame.assign(
        year=frame["when"].dt.year, month=frame["when"].dt.month, day=frame["when"].dt.day, hour=frame["when"].dt.hour
    )
    parts = parts.drop(columns="when")
    named = read_series(frame)
    for time in ("year, month, day, hour", None):
        data = read_series(parts, time=time, target="temp")
        assert torch.equal(
            data.train.take(torch.tensor([0])).inputs[..., 0], named.train.take(torch.tensor([0])).inputs[..., 0]
        )
        assert "year" not in data.encoder.names
    assert read_series(frame, time=None).encoder.time == "when"


def test_rows_out_of_order_are_sorted():
    frame = daily()
    shuffled = frame.sample(frac=1, random_state=1)
    first, second = (read_series(one).test.take(torch.arange(4)) for one in (frame, shuffled))
    assert torch.equal(first.inputs, second.inputs)


def test_missing_values_are_carried_forward_and_windows_without_targets_left_out():
    frame = daily()
    frame.loc[100:104, "temp"] = np.nan
    data = read_series(frame, lookback=10)
    assert any(f.rule == "missing-values" for f in data.findings)
    assert not set(range(94, 105)) & set(data.train.origins.tolist())
    at = data.train.origins.tolist().index(106)
    past = data.train.take(torch.tensor([at])).inputs[0, :, 0]
    assert past[4:9].tolist() == [past[3].item()] * 5


def test_repeated_and_irregular_times_are_reported():
    frame = daily()
    repeated = pd.concat([frame, frame.iloc[[5, 6]].assign(temp=99.0)], ignore_index=True)
    data = read_series(repeated)
    finding = next(f for f in data.findings if f.rule == "repeated-times")
    assert finding.evidence["rows"] == 2
    assert "row 5" in finding.message
    gap = next(f for f in read_series(frame.drop(index=[50, 51])).findings if f.rule == "irregular-times")
    assert "row 49" in gap.message


def test_helpers_agree_with_plain_loops():
    values = np.asarray([np.nan, 1, np.nan, np.nan, 4, np.nan])
    assert carried(values).tolist() == [1, 1, 1, 1, 4, 4]
    assert carried(values, 9.0).tolist() == [9, 1, 1, 1, 4, 4]
    raw = np.where(np.random.default_rng(1).random(60) < 0.1, np.nan, 1.0)
    expected = [o for o in range(60) if o >= 5 and o >= 10 and o + 3 <= 50 and not np.isnan(raw[o : o + 3]).any()]
    assert origins(raw, 5, 3, low=10, high=50).tolist() == expected


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda f: f, {"time": "wen"}, "has no column 'wen'.*did you mean 'when'"),
        (lambda f: f, {"target": "tmp"}, "has no column 'tmp'; did you mean 'temp'"),
        (lambda f: f, {"target": "sky"}, "'sky' is no column of changing numbers"),
        (lambda f: f.iloc[:40], {}, "too few"),
        (lambda f: f.iloc[:4], {}, "4 rows are too few"),
        (lambda f: pd.concat([f, f]), {}, "if the table holds several series"),
        (lambda f: f.assign(when=["soon", *f["when"].astype(str)[1:]]), {}, "row 0: 'soon' in the time column"),
        (lambda f: f.assign(temp=1.0), {"target": "temp"}, "no column of changing numbers"),
        (lambda f: f.drop(columns="when"), {"time": None}, "name the time column with --time"),
        (lambda f: f[["when", "sky"]], {}, "no column of numbers to forecast"),
    ],
)
def test_series_that_cannot_be_forecast_are_refused_in_one_line(change, settings, message):
    with pytest.raises(DataError, match=message) as caught:
        read_series(change(daily()), **settings)
    assert "\n" not in str(caught.value)


def test_parts_that_the_source_gives_stay_as_they_are(tmp_path):
    frame = daily(600)
    frame[:500].to_csv(tmp_path / "train.csv", index=False)
    frame[500:].to_csv(tmp_path / "new.csv", index=False)
    data = read_series(tmp_path / "train.csv", test_source=str(tmp_path / "new.csv"), lookback=14)
    assert data.test.origins.tolist() == list(range(500, 594))
    assert data.train.origins.tolist() == list(range(14, 419))  # validation is the last 15 % of the 500 rows of train
    assert data.valid.origins.tolist() == list(range(425, 494))
    assert "as the source gives them" in dict(data.summary)["split"]
    three = read_series({"train": frame[:400], "valid": frame[400:450], "test": frame[450:]}, lookback=14)
    assert [p.origins[0].item() for p in (three.train, three.valid, three.test)] == [14, 400, 450]
    two = read_series({"train": frame[:400], "valid": frame[400:450]}, lookback=14)
    assert len(two.test) == 0
    with pytest.raises(DataError, match=r"the parts overlap in time: .* comes before .* give parts in order of time"):
        read_series({"train": frame[100:], "test": frame[:100]})


def test_a_forecast_needs_enough_rows_to_look_back_on():
    encoder = read_series(daily(), lookback=14).encoder
    with pytest.raises(DataError, match="has 5 rows; 14 are needed"):
        encoder.encode(daily(5))
    with pytest.raises(DataError, match="has no column 'temp'"):
        encoder.encode(daily().drop(columns="temp"))
