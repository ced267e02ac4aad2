"""Tables: typed inputs fitted on train alone, bit-identical for new data, and clear words for what does not fit."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from goodfit.data import encoder_from_json, read
from goodfit.data.table import Numeric, standardise
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Tensors

RNG = np.random.default_rng(0)


def people(count: int = 300) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "age": RNG.integers(18, 90, count),
            "pay": RNG.lognormal(3, 1, count),
            "job": RNG.choice(["clerk", "smith", "cook"], count, p=[0.5, 0.3, 0.2]),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(RNG.integers(0, 900, count), "D"),
        }
    )
    frame.loc[::7, "pay"] = np.nan
    frame.loc[::11, "job"] = None
    frame["rich"] = np.where(frame["age"] + RNG.normal(0, 9, count) > 60, "yes", "no")
    return frame


def read_table(source, seed=0, task=None, **settings):
    return read(source, DataSettings(**settings), TaskSettings(**(task or {})), seed=seed)


def same(a: Tensors, b: Tensors) -> bool:
    return all(torch.equal(a.inputs[name], b.inputs[name]) for name in a.inputs)


def test_every_column_becomes_what_it_holds():
    data = read_table(people())
    assert data.spec.numeric == 2 + 3
    assert data.spec.cardinalities == (2, 4)
    assert data.encoder.names == (
        ("age", "pay", "since: day", "since: month", "since: weekday"),
        ("pay: present", "job"),
    )
    assert data.task.classes == ("no", "yes")
    assert (len(data.train), len(data.valid), len(data.test)) == (210, 45, 45)
    assert data.train.inputs["numeric"].dtype == torch.float32
    assert data.train.inputs["category"].dtype == torch.int64


def test_numbers_are_standardised_by_the_train_part_alone():
    frame = people()
    data = read_table(frame)
    train = frame["pay"].to_numpy()[data.train.index.numpy()]
    known = train[~np.isnan(train)]
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    z = (np.where(np.isnan(train), middle, train) - middle) / (high - low)
    np.testing.assert_allclose(data.train.inputs["numeric"][:, 1], z / np.sqrt(1 + z**2 / 9), rtol=1e-6)
    assert data.train.inputs["numeric"].abs().max() < 3
    assert data.train.inputs["category"][:, 0].tolist() == (~np.isnan(train)).astype(int).tolist()


def test_missing_and_unseen_categories_are_code_zero_and_frequent_ones_come_first():
    frame = people()
    data = read_table(frame)
    part = data.encoder.encode(frame.assign(job=["clerk", "smith", "cook", None, "pilot"] * 60))
    assert part.inputs["category"][:5, 1].tolist() == [1, 2, 3, 0, 0]


@pytest.mark.parametrize("source", ["frame", "csv", "parquet"])
def test_an_encoder_from_json_gives_bit_identical_inputs_from_any_form_of_the_table(source, tmp_path):
    frame = people()
    data = read_table(frame)
    encoder = encoder_from_json(json.loads(json.dumps(data.encoder.to_json())))
    assert encoder == data.encoder
    if source == "csv":
        frame.to_csv(tmp_path / "a.csv", index=False)
    if source == "parquet":
        frame.to_parquet(tmp_path / "a.parquet")
    part = encoder.encode(frame if source == "frame" else tmp_path / f"a.{source}", targets=True)
    positions = data.test.index
    assert same(part.take(positions), data.test)
    assert torch.equal(part.targets[positions], data.test.targets)
    one = encoder.encode(frame.iloc[[5]])
    assert same(one, part.take(torch.tensor([5])))


def test_new_data_may_lack_the_target_and_have_other_columns_in_another_order():
    frame = people()
    data = read_table(frame)
    shuffled = frame.drop(columns="rich").assign(extra=1)[["since", "extra", "job", "pay", "age"]]
    assert same(data.encoder.encode(shuffled), data.encoder.encode(frame))
    assert data.encoder.encode(shuffled).targets.tolist() == [0] * len(frame)


def test_new_data_that_does_not_fit_is_refused_with_column_and_row():
    frame = people()
    encoder = read_table(frame).encoder
    with pytest.raises(DataError, match="has no column 'age', 'job'; the model was trained with them"):
        encoder.encode(frame.drop(columns=["age", "job"]))
    with pytest.raises(DataError, match="row 0: 'old' in column 'age' is no number"):
        encoder.encode(frame.assign(age="old"))
    with pytest.raises(DataError, match="has no column 'rich' to compare predictions with"):
        encoder.encode(frame.drop(columns="rich"), targets=True)
    with pytest.raises(DataError, match="row 1: class 'maybe'"):
        encoder.encode(frame.assign(rich=["yes", "maybe"] * 150), targets=True)


def test_a_regression_is_standardised_and_can_be_undone():
    frame = people().drop(columns="rich").assign(cost=lambda f: f["age"] * 2.5 + 7)
    data = read_table(frame, ignore=("age",))
    assert data.task.kind == "regression"
    assert data.task.outputs == 1
    values = data.train.targets.double() * data.target_std + data.target_mean
    np.testing.assert_allclose(values, frame["cost"].to_numpy()[data.train.index.numpy()], rtol=1e-5)
    assert abs(float(data.train.targets.mean())) < 1e-5


def test_rows_without_target_are_left_out_and_named():
    frame = people()
    frame.loc[[3, 8], "rich"] = None
    data = read_table(frame)
    assert len(data.train) + len(data.valid) + len(data.test) == 298
    finding = next(f for f in data.findings if f.rule == "missing-target")
    assert "2 of 300 rows" in finding.message
    assert "row 3" in finding.message
    kept = torch.cat([data.train.index, data.valid.index, data.test.index])
    assert not {3, 8} & set(kept.tolist())


def test_a_column_that_is_missing_in_train_only_or_constant_there_does_no_harm():
    frame = people()
    data = read_table(frame)
    frame["late"] = np.nan
    frame.loc[data.test.index.numpy()[:20], "late"] = 5.0
    again = read_table(frame, target="rich")
    assert torch.isfinite(again.test.inputs["numeric"]).all()


def test_the_same_seed_gives_the_same_parts_and_another_seed_others():
    frame = people()
    assert torch.equal(read_table(frame, seed=1).train.index, read_table(frame, seed=1).train.index)
    assert not torch.equal(read_table(frame, seed=1).test.index, read_table(frame, seed=2).test.index)


def test_groups_and_time_decide_the_split_and_are_no_features():
    frame = people().assign(person=np.arange(300) // 10)
    data = read_table(frame, groups="person", target="rich")
    owners = [set((part.index // 10).tolist()) for part in (data.train, data.valid, data.test)]
    assert not owners[0] & owners[2]
    assert "person" not in data.encoder.names[0]
    data = read_table(frame, time="since", target="rich", ignore=("person",))
    when = frame["since"].to_numpy()
    assert when[data.train.index.numpy()].max() <= when[data.test.index.numpy()].min()


def test_parts_that_the_source_brings_along_are_kept(tmp_path):
    frame = people()
    frame.iloc[:250].to_csv(tmp_path / "train.csv", index=False)
    frame.iloc[250:].to_csv(tmp_path / "test.csv", index=False)
    for data in (
        read_table(tmp_path),
        read_table(tmp_path / "train.csv", test_source=str(tmp_path / "test.csv")),
        read_table({"train": frame.iloc[:250], "test": frame.iloc[250:]}),
    ):
        assert data.test.index.tolist() == list(range(250, 300))
        assert len(data.valid) == 38


def test_text_and_images_beside_numbers_are_inputs_of_their_own():
    def png(shade: int) -> bytes:
        out = io.BytesIO()
        Image.new("RGB", (9, 7), (shade, 0, 0)).save(out, "PNG")
        return out.getvalue()

    frame = pd.DataFrame(
        {
            "n": RNG.normal(size=60),
            "note": [f"this is a note about case {n} and more" for n in range(60)],
            "photo": [png(n) if n % 9 else None for n in range(60)],
            "kind": ["a", "b", "c"] * 20,
        }
    )
    data = read_table(frame, image_size=8)
    assert data.spec.image == (3, 8, 8)
    assert data.spec.length > 0
    assert data.train.inputs["tokens"].shape == (len(data.train), data.spec.length)
    assert data.train.inputs["image"].dtype == torch.uint8
    prepared = data.prepare(data.train.take(torch.arange(4)).inputs)
    assert prepared["image"].dtype == torch.float32
    assert encoder_from_json(data.encoder.to_json()) == data.encoder
    broken = frame.assign(photo=[b"no image"] * 60)
    with pytest.raises(DataError, match="image in column"):
        data.encoder.encode(broken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[["rich"]], "no column to learn 'rich' from"),
        (lambda f: f[["rich"]].assign(a=1), "no column to learn 'rich' from.*constant|is '1' in every row"),
        (lambda f: f.assign(rich=["yes"] + ["no"] * 299), r"class 'yes' \(DataFrame row 0\) has one sample only"),
        (lambda f: f.iloc[:8], "8 samples are too few"),
    ],
)
def test_tables_that_cannot_be_trained_on_are_refused_in_one_line(change, message):
    with pytest.raises(DataError, match=message) as caught:
        read_table(change(people()), target="rich")
    assert "\n" not in str(caught.value)


def test_a_table_of_adult_size_is_read_in_seconds(tmp_path):
    frame = pd.concat([people(16000), people(16000)], ignore_index=True)
    for n in range(9):
        frame.insert(0, f"c{n}", RNG.choice([f"v{k}" for k in range(20)], len(frame)))
    frame.to_csv(tmp_path / "big.csv", index=False)
    start = time.process_time()
    data = read_table(tmp_path / "big.csv")
    assert len(data.train) == 22400
    assert time.process_time() - start < 5


def test_standardising_keeps_order_and_equality_and_bounds_outliers():
    raw = np.asarray([-1e9, 0, 1, 1, 2, 1e9])
    z = standardise(raw, 1.0, 1.0)
    assert (np.diff(z) >= 0).all()
    assert z[2] == z[3] == 0
    assert np.abs(z).max() <= 3
    assert replace(Numeric("a", "value", 1.0, 2.0), scale=3.0).scale == 3.0
