from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from goodfit.data.array_encoder import TensorEncoder
from goodfit.data.arrays import is_arrays, read_arrays
from goodfit.data.image_encoder import ImageEncoder
from goodfit.data.loaders import DatasetPart, LoaderPart
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings

RNG = np.random.default_rng(0)
X = RNG.normal(3, 5, (60, 4))
Y = np.arange(60) % 3


def read(source: Any, kind: Any = "auto", *, seed: int = 0, **more: Any) -> Any:
    return read_arrays(source, DataSettings(**more), TaskSettings(kind=kind), seed=seed)


def sizes(data: Any) -> tuple[int, int, int]:
    return len(data.train), len(data.valid), len(data.test)


def rules(data: Any) -> dict[str, Any]:
    return {finding.rule: finding for finding in data.findings}


# Arrays ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        (X, Y),
        (torch.from_numpy(X), torch.from_numpy(Y)),
        (X.tolist(), Y.tolist()),
        [X, Y],
        {"X": X, "y": Y},
        {"inputs": X, "labels": Y},
        TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
        (X.astype(">f8"), Y.astype(">i4")),
        (np.asfortranarray(X), Y[:, None]),
        (X, np.eye(3)[Y]),
    ],
    ids=["numpy", "torch", "lists", "list", "Xy", "inputs-labels", "tensors", "big-endian", "fortran", "one-hot"],
)
def test_every_way_to_give_arrays_is_read_alike(source: Any) -> None:
    data, plain = read(source), read((X, Y))
    assert sizes(data) == (42, 9, 9)
    assert data.spec.kind == "tensor"
    assert data.spec.shape == (4,)
    assert data.task.classes == ("0", "1", "2")
    assert torch.allclose(data.train.inputs, plain.train.inputs)
    assert torch.equal(data.train.targets, plain.train.targets)
    assert torch.equal(data.train.targets, torch.from_numpy(Y)[data.train.index])


def test_inputs_are_standardised_by_the_train_part_alone() -> None:
    data = read((X, Y))
    train = X[data.train.index.numpy()]
    for part in (data.train, data.valid, data.test):
        expected = (X[part.index.numpy()] - train.mean(0)) / train.std(0)
        assert np.allclose(part.inputs.numpy(), expected, atol=1e-5)
        assert part.inputs.dtype == torch.float32


def test_given_parts_stay_as_they_are() -> None:
    for source in [((X, Y), (X + 100, Y)), {"train": (X, Y), "valid": (X + 100, Y)}]:
        data = read(source)
        assert len(data.valid) == 60
        assert sorted(torch.cat([data.train.index, data.test.index]).tolist()) == list(range(60))
    assert sizes(read(((X, Y), (X + 1, Y), (X + 2, Y)))) == (60, 60, 60)


def test_read_only_memory_is_taken_without_a_warning() -> None:
    x, y = X.copy(), Y.copy()
    x.flags.writeable = y.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read((x, y))
        read((x, y.astype(float)))


@pytest.mark.parametrize(
    ("y", "kind", "outputs"),
    [
        (Y, "classification", 3),
        (Y.astype(np.uint8), "classification", 3),
        (Y > 0, "classification", 2),
        (np.asarray(["a", "b", "c"])[Y], "classification", 3),
        (np.asarray(["a", "b", "c"], dtype=object)[Y], "classification", 3),
        (Y + 0.5, "regression", 1),
        (RNG.normal(size=60), "regression", 1),
        (RNG.normal(size=(60, 1)), "regression", 1),
        (RNG.normal(size=(60, 3)), "regression", 3),
        (np.arange(60), "regression", 1),
    ],
)
def test_the_task_is_told_from_the_targets(y: Any, kind: str, outputs: int) -> None:
    data = read((X, y))
    assert (data.task.kind, data.task.outputs) == (kind, outputs)


def test_the_task_can_be_said() -> None:
    assert read((X, Y), "regression").task.kind == "regression"
    assert read((X, Y.astype(float)), "classification").task.classes == ("0", "1", "2")
    assert rules(read((X, Y.astype(float))))["classes-as-floats"].patch == {"task.kind": "classification"}


def test_targets_of_a_regression_are_standardised_and_can_be_had_back() -> None:
    for y in (X[:, 0] * 3 + 1, X[:, :2] * 3 + 1):
        data = read((X, y))
        back = data.train.targets.double().numpy() * data.target_std + data.target_mean
        assert np.allclose(back, y[data.train.index.numpy()], atol=1e-4)
        assert data.train.targets.shape[1:] == y.shape[1:]
        assert abs(float(data.train.targets.mean())) < 1e-5


@pytest.mark.parametrize("shape", [(40, 8, 9, 3), (40, 3, 8, 9), (40, 8, 9, 1)])
def test_bytes_with_four_axes_are_images(shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    data = read((pixels, np.arange(40) % 2))
    channels = 1 if shape[-1] == 1 else 3
    assert data.spec.kind == "image"
    assert data.spec.shape == (channels, 8, 9)
    expected = pixels if shape[1] == 3 else pixels.transpose(0, 3, 1, 2)
    assert np.array_equal(data.train.inputs.numpy(), expected[data.train.index.numpy()])
    assert isinstance(data.encoder, ImageEncoder)


def test_images_of_many_channels_stay_as_they_are() -> None:
    data = read((RNG.integers(0, 256, (40, 6, 8, 9), dtype=np.uint8), np.arange(40) % 2))
    assert data.spec.shape == (6, 8, 9)
    assert data.prepare(data.train.inputs).shape[1:] == (6, 8, 9)


def with_(value: float, *place: int, shape: tuple[int, ...] = (60, 4)) -> Any:
    x = RNG.normal(size=shape)
    x[place] = value
    return x


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((with_(np.nan, 7, 2), Y), r"^X\[7, 2\] is NaN"),
        ((with_(-np.inf, 59, 3), Y), r"^X\[59, 3\] is infinite"),
        ((torch.tensor(with_(np.nan, 5, 1, 2, shape=(60, 4, 4))), Y), r"^X\[5, 1, 2\] is NaN"),
        ((X, with_(np.nan, 3, shape=(60,))), r"^y\[3\] is NaN"),
        ((X, with_(np.inf, 3, 1, shape=(60, 2))), r"^y\[3, 1\] is infinite"),
        ((X, Y[:-1]), "60 samples but 59 targets"),
        ((X, 1), "no data with targets|single target"),
        (((X, Y), (X[:, :3], Y)), "samples of valid are 3 numbers, where train has 4"),
        (((X, Y), (with_(np.nan, 1, 1), Y)), r"X of valid\[1, 1\] is NaN"),
        ((X, np.zeros(60, int)), "only one class, '0'"),
        ((X, np.ones(60)), "all targets of the train part are 1"),
        ((X, np.r_[np.zeros(59, int), 1]), "'1' .sample 59. has one sample only"),
        ((np.asarray([["a"] * 4] * 60), Y), "X holds text"),
        ((np.ones((60, 2), complex), Y), "X holds complex"),
        (([[1.0, 2.0], [3.0]] * 30, Y), "different shapes"),
        ((np.zeros((0, 4)), np.zeros(0, int)), "at least one sample"),
        ((np.ones((60, 4)), Y), "all inputs of the train part are the same"),
        ((X, np.zeros((60, 2, 2))), r"shape \(60, 2, 2\)"),
        ((X, np.ones((60, 2), int)), "2 classes for each sample"),
        ((X[:5], Y[:5]), "too few"),
        ((X * 1e60, Y), "beyond 3e38"),
        ({"a": X, "b": Y}, "call the inputs 'X'"),
        ((X, np.asarray([None, *Y[1:]], dtype=object)), r"y\[0\] is missing"),
    ],
)
def test_arrays_that_cannot_be_trained_on_are_refused_with_the_place(source: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(source)


def test_duplicates_and_conflicts_are_found() -> None:
    x, y = RNG.normal(size=(200, 3)), np.arange(200) % 2
    x[100:130] = x[:30]
    y[100:130] = 1 - y[:30]
    found = rules(read((x, y)))
    assert "duplicates-across-parts" in found
    assert "label-conflicts" in found


def test_the_encoder_survives_json_and_encodes_new_arrays_alike(tmp_path: Path) -> None:
    names = np.asarray(["no", "yes"])[Y % 2]
    data = read((X, names))
    again = TensorEncoder.from_json(json.loads(json.dumps(data.encoder.to_json())))
    assert again == data.encoder
    part = again.encode((X, names), targets=True)
    assert torch.equal(part.inputs[data.train.index], data.train.inputs)
    assert torch.equal(part.targets[data.train.index], data.train.targets)
    assert torch.equal(again.encode(X).inputs, part.inputs)
    assert again.encode(X).targets.tolist() == [0] * 60
    np.savez(tmp_path / "new.npz", X=X, y=names)
    assert torch.equal(again.encode(tmp_path / "new.npz", targets=True).targets, part.targets)
    np.save(tmp_path / "new.npy", X)
    assert torch.equal(again.encode(tmp_path / "new.npy").inputs, part.inputs)
    with pytest.raises(DataError, match=r"y\[1\] is .*maybe.*, a class that was not there"):
        again.encode((X[:2], ["no", "maybe"]), targets=True)
    with pytest.raises(DataError, match=r"shape \(3,\), where the model was trained on \(4,\)"):
        again.encode(X[:, :3])
    with pytest.raises(DataError, match="60 samples but 2 targets"):
        again.encode((X, names[:2]), targets=True)


def test_npz_files_are_read_and_broken_ones_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    assert sizes(read(tmp_path / "a.npz")) == (42, 9, 9)
    (tmp_path / "b.npz").write_bytes(b"PK broken")
    with pytest.raises(DataError, match=r"b.npz is no readable NumPy file"):
        read(tmp_path / "b.npz")


def test_settings_that_name_columns_are_refused() -> None:
    with pytest.raises(DataError, match=r"data\.target names a column"):
        read((X, Y), target="y")


def test_arrays_are_told_from_other_sources() -> None:
    assert is_arrays((X, Y))
    assert is_arrays({"X": X, "y": Y})
    assert is_arrays(Squares(3))
    assert is_arrays((DataLoader(Squares(3)), DataLoader(Squares(3))))
    assert not is_arrays("digits")
    assert not is_arrays(["a.png", "b.png"])
    assert not is_arrays(3)


@settings(max_examples=20, deadline=None)
@given(st.integers(10, 80), st.integers(2, 4), st.integers(0, 5))
def test_every_sample_is_in_one_part(count: int, classes: int, seed: int) -> None:
    y = np.arange(count) % classes
    data = read((np.random.default_rng(seed).normal(size=(count, 2)), y), seed=seed)
    assert sorted(torch.cat([data.train.index, data.valid.index, data.test.index]).tolist()) == list(range(count))


# Datasets and loaders ----------------------------------------------------------------------------------------------


class Squares(Dataset[tuple[Tensor, int]]):
    """Sample n is the number n, its class whether n is even."""

    def __init__(self, count: int, *, first: int = 0) -> None:
        self.count, self.first = count, first
        self.asked = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        self.asked += 1
        return torch.tensor([float(number + self.first), 1.0]), (number + self.first) % 2


class Numbers(IterableDataset[tuple[Tensor, float]]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Any:
        return ((torch.tensor([float(n)]), n / 2) for n in range(self.count))


def test_a_dataset_is_split_and_asked_by_position() -> None:
    data = read(Squares(40))
    assert sizes(data) == (28, 6, 6)
    assert isinstance(data.train, DatasetPart)
    batch = data.train.take(torch.tensor([3, 1]))
    assert torch.equal(batch.inputs[:, 0], batch.index.float())
    assert torch.equal(batch.targets, batch.index % 2)
    plan = torch.arange(28).split(10)
    got = list(data.train.batches(plan))
    assert [len(b.index) for b in got] == [10, 10, 8]
    assert torch.equal(torch.cat([b.index for b in got]), data.train.index)
    assert torch.equal(torch.cat([b.targets for b in got]), data.train.targets)
    assert data.prepare(batch.inputs) is batch.inputs


def test_workers_give_the_same_batches_of_a_dataset() -> None:
    alone, helped = read(Squares(30)), read(Squares(30), workers=1)
    plan = torch.arange(20).split(8)
    for a, b in zip(alone.train.batches(plan), helped.train.batches(plan), strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.index, b.index)


def test_datasets_for_each_part_stay_apart() -> None:
    data = read((Squares(40), Squares(10, first=100)))
    assert len(data.valid) == 10
    assert len(data.train) + len(data.test) == 40
    assert data.valid.take(torch.arange(10)).inputs[:, 0].tolist() == [100.0 + n for n in range(10)]


def test_targets_that_a_dataset_holds_are_used_only_where_they_agree() -> None:
    honest, lying = Squares(40), Squares(40)
    honest.targets = [n % 2 for n in range(40)]  # type: ignore[attr-defined]
    lying.targets = [0] * 40  # type: ignore[attr-defined]
    assert torch.equal(read(honest).train.targets, read(lying).train.targets)
    assert honest.asked < 80
    inner = Subset(honest, list(range(10, 40)))
    data = read(inner)
    assert torch.equal(data.train.targets, (data.train.index + 10) % 2)


def test_a_dataset_of_pillow_images_is_one_of_images() -> None:
    class Pictures(Dataset[Any]):
        classes = ("dark", "light")

        def __len__(self) -> int:
            return 20

        def __getitem__(self, number: int) -> Any:
            return Image.new("RGB", (7, 5), (number, 0, 200 * (number % 2))), number % 2

    data = read(Pictures())
    assert data.spec.shape == (3, 5, 7)
    assert data.task.classes == ("dark", "light")
    assert data.train.take(torch.tensor([0])).inputs.dtype == torch.uint8
    assert isinstance(data.encoder, ImageEncoder)


def test_a_dataset_that_gives_something_else_than_pairs_is_refused() -> None:
    class Single(Dataset[Any]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, number: int) -> Any:
            return torch.zeros(3)

    class Ragged(Single):
        def __getitem__(self, number: int) -> Any:
            return torch.ones(3 + number % 2), number % 2

    class Broken(Single):
        def __getitem__(self, number: int) -> Any:
            return torch.tensor([float("nan"), 1.0]), number % 2

    with pytest.raises(DataError, match="sample 0 of the dataset is a Tensor, where"):
        read(Single())
    with pytest.raises(DataError, match=r"cannot be joined into a batch .*\(3,\), \(4,\)"):
        read(Ragged())
    with pytest.raises(DataError, match=r"inputs\[0, 0\] is NaN"):
        read(Broken())
    with pytest.raises(DataError, match="the train dataset is empty"):
        read(Squares(0))
    with pytest.raises(DataError, match="has no length"):
        read(Numbers(9))


def test_a_loader_keeps_its_own_order_and_batch_size() -> None:
    order = torch.randperm(48, generator=torch.Generator().manual_seed(1)).tolist()
    train = DataLoader(Squares(48), batch_size=9, sampler=order)
    data = read((train, DataLoader(Squares(12, first=48), batch_size=5), DataLoader(Squares(10, first=60))))
    assert sizes(data) == (48, 12, 10)
    assert isinstance(data.train, LoaderPart)
    assert data.train.batch_size == 9
    got = list(data.train.batches(torch.arange(48).split(9)))
    assert torch.cat([b.inputs[:, 0] for b in got]).tolist() == order
    assert torch.cat([b.index for b in got]).tolist() == list(range(48))
    assert [len(b.index) for b in got] == [9, 9, 9, 9, 9, 3]
    # Asked for more than an epoch, the loader starts again.
    assert len(list(data.train.batches(torch.arange(80).split(9)))) == 9
    assert data.train.take(torch.tensor([20, 2])).inputs[:, 0].tolist() == [order[20], order[2]]
    assert data.valid.inputs[:, 0].tolist() == [48.0 + n for n in range(12)]


def test_without_a_test_loader_half_of_the_valid_part_is_tested_on() -> None:
    pair = (DataLoader(Squares(40), batch_size=8, shuffle=True), DataLoader(Squares(20, first=40)))
    data = read(pair)
    assert sizes(data) == (40, 10, 10)
    assert "no-test-part" in rules(data)
    both = torch.cat([data.valid.inputs[:, 0], data.test.inputs[:, 0]])
    assert sorted(both.tolist()) == [40.0 + n for n in range(20)]
    assert sizes(read(pair, test=0.0)) == (40, 20, 0)


def test_a_loader_of_a_stream_is_counted_and_trained_on() -> None:
    data = read((DataLoader(Numbers(30), batch_size=4), DataLoader(Numbers(12), batch_size=4)))
    assert data.task.kind == "regression"
    assert sizes(data) == (30, 6, 6)
    batch = next(iter(data.train.batches([torch.arange(4)])))
    assert (batch.targets * data.target_std + data.target_mean).tolist() == pytest.approx([0.0, 0.5, 1.0, 1.5])
    with pytest.raises(DataError, match="cannot be split"):
        read(DataLoader(Numbers(30)))


def test_a_single_loader_is_split_like_its_dataset() -> None:
    assert sizes(read(DataLoader(Squares(40), batch_size=4))) == (28, 6, 6)


def test_a_loader_of_dicts_is_passed_on() -> None:
    class Words(Dataset[Any]):
        def __len__(self) -> int:
            return 24

        def __getitem__(self, number: int) -> Any:
            return {"ids": torch.full((5,), number), "mask": torch.ones(5)}, number % 2

    data = read((DataLoader(Words(), batch_size=6), DataLoader(Words(), batch_size=6)))
    batch = data.train.take(torch.arange(3))
    assert batch.inputs["ids"].shape == (3, 5)
    assert data.spec.shape == ()
    plan = list(data.valid.batches(torch.arange(12).split(4)))
    assert plan[0].inputs["ids"].shape == (4, 5)


def test_loaders_that_give_nothing_or_the_wrong_thing_are_refused() -> None:
    small = DataLoader(Squares(4), batch_size=8, drop_last=True)
    with pytest.raises(DataError, match="drop_last"):
        read((small, DataLoader(Squares(20))))
    with pytest.raises(DataError, match="the valid DataLoader gives no batch"):
        read((DataLoader(Squares(20)), small))
    with pytest.raises(DataError, match="a Tensor, where"):
        read((DataLoader(torch.zeros(20, 2)), DataLoader(Squares(20))))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="datasets and loaders"):
        read((DataLoader(Squares(20)), Squares(20)))


def test_the_encoder_of_a_dataset_takes_datasets_loaders_and_arrays() -> None:
    data = read(Squares(40))
    expected = torch.stack([torch.tensor([float(n), 1.0]) for n in range(6)])
    for source in (Squares(6), DataLoader(Squares(6), batch_size=4), expected, expected.numpy()):
        part = data.encoder.encode(source)
        assert torch.equal(part.take(torch.arange(6)).inputs, expected)
    for source in (Squares(6), DataLoader(Squares(6), batch_size=4), (expected, [0, 1] * 3)):
        assert data.encoder.encode(source, targets=True).targets.tolist() == [0, 1, 0, 1, 0, 1]
