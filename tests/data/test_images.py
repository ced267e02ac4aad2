from __future__ import annotations

import io
import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch import Tensor

from goodfit.data.decode import Layout, decode, look, suffixes
from goodfit.data.image_column import as_images, choose_layout, images_from_column
from goodfit.data.image_encoder import ImageEncoder, thumbnail
from goodfit.data.image_sets import download
from goodfit.data.images import read_images
from goodfit.data.streamed import Streamed
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Tensors

RNG = np.random.default_rng(0)


def picture(height: int = 10, width: int = 10, *, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def folder(
    root: Path, *, classes: tuple[str, ...] = ("cat", "dog"), each: int = 10, size: tuple[int, int] = (10, 10)
) -> Path:
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            picture(*size).save(root / name / f"{number:03d}.png")
    return root


def read(source: Any, seed: int = 0, **settings: Any) -> Any:
    return read_images(source, DataSettings(**settings), TaskSettings(), seed=seed)


def rules(data: Any) -> dict[str, Any]:
    return {finding.rule: finding for finding in data.findings}


def encoded(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def one(item: Any, layout: Layout) -> Tensor:
    got = decode([item], layout)
    assert got is not None
    assert not got[1]
    return got[0][0]


# Decoding ----------------------------------------------------------------------------------------------------------


def test_pixels_are_those_of_the_file() -> None:
    array = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)
    assert np.array_equal(one(encoded(Image.fromarray(array)), Layout(3, 7, 5)).numpy(), array.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_gray_or_colour(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(RNG.integers(0, 65536, (6, 6), dtype=np.uint16))
    elif mode in ("I", "F"):
        image = Image.fromarray(RNG.integers(0, 1000, (6, 6)).astype(np.int32 if mode == "I" else np.float32))
    else:
        image = picture(6, 6, mode="RGB" if mode == "CMYK" else mode if mode != "P" else "RGB")
        image = image.convert(mode)
    kind = {"CMYK": "TIFF", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    seen = look([encoded(image, kind)])[0]
    assert seen.gray == (mode in ("1", "L", "LA", "I;16", "I", "F"))  # type: ignore[union-attr]
    for channels in (1, 3):
        assert one(encoded(image, kind), Layout(channels, 6, 6)).shape == (channels, 6, 6)


def test_sixteen_bit_gray_is_scaled_and_not_cut_off() -> None:
    image = Image.fromarray(np.asarray([[0, 257, 32896, 65535]], dtype=np.uint16))
    assert one(encoded(image), Layout(1, 1, 4)).flatten().tolist() == [0, 1, 128, 255]


def test_transparency_is_laid_over_white() -> None:
    array = np.zeros((2, 2, 4), np.uint8)
    array[0, 0] = [200, 100, 0, 255]
    array[0, 1] = [0, 0, 0, 128]
    pixels = one(encoded(Image.fromarray(array)), Layout(3, 2, 2))
    assert pixels[:, 0, 0].tolist() == [200, 100, 0]
    assert pixels[:, 1, 1].tolist() == [255, 255, 255]
    assert abs(int(pixels[0, 0, 1]) - 127) <= 1


def test_a_palette_with_a_transparent_colour_is_laid_over_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([9, 9, 9, 50, 60, 70])
    image.putdata([0, 1])
    pixels = one(encoded(image, transparency=0), Layout(3, 1, 2))
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 0, 1].tolist() == [50, 60, 70]


def test_photographs_are_turned_as_their_exif_says() -> None:
    array = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    raw = encoded(Image.fromarray(array), exif=exif)
    assert look([raw])[0][:2] == (4, 6)
    assert np.array_equal(one(raw, Layout(3, 6, 4)).numpy(), np.rot90(array, -1).transpose(2, 0, 1))


def test_another_aspect_is_scaled_by_its_short_side_and_cut_at_the_centre() -> None:
    array = np.zeros((20, 60, 3), np.uint8)
    array[:, 16:44] = 255
    assert one(encoded(Image.fromarray(array)), Layout(3, 10, 10)).min() == 255


def test_the_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    assert one(out.getvalue(), Layout(3, 4, 4))[:, 0, 0].tolist() == [255, 0, 0]


def test_decoding_names_what_cannot_be_read() -> None:
    good = encoded(picture(40, 40), "JPEG")
    items = [good, b"", b"no image", good[: len(good) // 2], encoded(picture(40, 40))[:-60]]
    got = decode(items, Layout(3, 40, 40))
    assert got is not None
    assert sorted(got[1]) == [1, 2, 3, 4]
    assert "empty" in got[1][1]
    assert "not an image" in got[1][2]
    assert "truncated" in got[1][3]


def test_decompression_bombs_are_refused_by_pillow_s_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = encoded(Image.new("1", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "more than 1,000 pixels" in look([raw])[0].reason  # type: ignore[union-attr]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "more than 100 pixels" in look([raw])[0].reason  # type: ignore[union-attr]


def test_strict_decoding_gives_up_at_another_size() -> None:
    layout = Layout(3, 8, 8)
    assert decode([picture(8, 8)] * 3, layout, strict=True) is not None
    assert decode([picture(8, 8), picture(8, 9)], layout, strict=True) is None
    assert decode([picture(8, 8), picture(8, 8, mode="L")], layout, strict=True) is None


def test_formats_that_start_other_programs_are_not_read() -> None:
    assert {".jpg", ".png", ".webp", ".tiff", ".bmp", ".gif"} <= suffixes()
    assert not {".eps", ".ps", ".mpg", ".h5"} & suffixes()


# Size --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "asked", "expected"),
    [
        ([(28, 28)] * 3, None, (28, 28)),
        ([(30, 50)] * 2, None, (30, 50)),
        ([(100, 140), (90, 100), (300, 110)], None, (96, 96)),
        ([(4000, 3000)] * 2, None, (224, 224)),
        ([(10, 10), (20, 20)], None, (32, 32)),
        ([(28, 28)], 64, (64, 64)),
    ],
)
def test_the_size_is_the_common_one_or_the_median(sizes: Any, asked: int | None, expected: tuple[int, int]) -> None:
    layout = choose_layout(look([Image.new("L", (w, h)) for h, w in sizes]), asked)
    assert layout == (1, *expected)


def test_one_colour_image_makes_all_of_them_colour() -> None:
    assert choose_layout(look([picture(), picture(mode="L")]), None).channels == 3


# Folders -----------------------------------------------------------------------------------------------------------


def test_a_folder_of_class_folders_is_read_split_and_named(tmp_path: Path) -> None:
    data = read(folder(tmp_path / "pets", each=20))
    assert data.name == "pets"
    assert data.task.classes == ("cat", "dog")
    assert data.spec.shape == (3, 10, 10)
    assert (len(data.train), len(data.valid), len(data.test)) == (28, 6, 6)
    numbers = torch.cat([data.train.index, data.valid.index, data.test.index])
    assert sorted(numbers.tolist()) == list(range(40))
    files = sorted((tmp_path / "pets").rglob("*.png"))
    for part in (data.train, data.valid, data.test):
        batch = part.take(torch.arange(len(part)))
        for pixels, target, number in zip(batch.inputs, batch.targets, batch.index, strict=True):
            file = files[int(number)]
            assert data.task.classes[int(target)] == file.parent.name
            assert np.array_equal(pixels.numpy(), np.asarray(Image.open(file)).transpose(2, 0, 1))
    assert not data.findings


def test_the_same_seed_gives_the_same_split_and_another_one_another(tmp_path: Path) -> None:
    source = folder(tmp_path)
    assert torch.equal(read(source).test.index, read(source).test.index)
    assert not torch.equal(read(source).train.index, read(source, seed=1).train.index)


def test_given_parts_are_kept_and_missing_ones_taken_from_train(tmp_path: Path) -> None:
    folder(tmp_path / "Train", each=20)
    folder(tmp_path / "val", each=3)
    data = read(tmp_path)
    assert len(data.valid) == 6
    assert len(data.train) + len(data.test) == 40
    assert len(data.test) == 6
    folder(tmp_path / "test", each=2)
    assert [len(p) for p in (read(tmp_path).train, read(tmp_path).valid, read(tmp_path).test)] == [40, 6, 4]


def test_a_test_folder_elsewhere_is_the_test_part(tmp_path: Path) -> None:
    data = read(folder(tmp_path / "a", each=20), test_source=str(folder(tmp_path / "b", each=3)))
    assert len(data.test) == 6
    assert len(data.train) + len(data.valid) == 40


def test_mixed_sizes_modes_and_formats_become_one_shape(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for n, (kind, mode) in enumerate(
            [("png", "RGBA"), ("jpg", "L"), ("gif", "P"), ("bmp", "1"), ("webp", "RGB"), ("tiff", "CMYK")]
        ):
            picture(40 + n, 50, mode=mode).save(tmp_path / name / f"{n}.{kind}")
    data = read(tmp_path)
    assert data.spec.shape == (3, 32, 32)
    assert "50 x 40 to 50 x 45" in rules(data)["mixed-sizes"].message


def test_gray_images_keep_one_channel(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for n in range(6):
            picture(mode="L").save(tmp_path / name / f"{n}.png")
    assert read(tmp_path).spec.shape == (1, 10, 10)


def test_unreadable_images_are_left_out_by_name(tmp_path: Path) -> None:
    folder(tmp_path, each=20)
    (tmp_path / "cat" / "005.png").write_bytes(b"")
    (tmp_path / "dog" / "007.png").write_bytes(b"hello")
    whole = (tmp_path / "dog" / "009.png").read_bytes()
    (tmp_path / "dog" / "009.png").write_bytes(whole[: len(whole) // 2])
    data = read(tmp_path)
    assert len(data.train) + len(data.valid) + len(data.test) == 37
    finding = rules(data)["unreadable-images"]
    assert all(name in finding.message for name in ("cat/005.png", "dog/007.png", "dog/009.png"))
    assert not {5, 27, 29} & set(torch.cat([data.train.index, data.valid.index, data.test.index]).tolist())


def test_a_folder_that_is_mostly_unreadable_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, each=10)
    for n in range(6):
        for name in ("cat", "dog"):
            (tmp_path / name / f"{n:03d}.png").write_bytes(b"x")
    with pytest.raises(DataError, match="12 of 20 images"):
        read(tmp_path)


def test_hidden_files_are_ignored_and_other_files_mentioned(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "cat" / "._000.png").write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    assert not read(tmp_path).findings
    (tmp_path / "labels.csv").write_text("a")
    (tmp_path / "cat" / "notes.txt").write_text("a")
    (tmp_path / "bird").mkdir()
    found = rules(read(tmp_path))
    assert found["ignored-files"].evidence["files"] == 2
    assert "'bird'" in found["empty-class"].message


def test_one_pixel_images_are_accepted_and_mentioned(tmp_path: Path) -> None:
    folder(tmp_path)
    picture(1, 1).save(tmp_path / "cat" / "000.png")
    data = read(tmp_path)
    assert "cat/000.png (1 x 1)" in rules(data)["tiny-images"].message
    assert len(data.train) + len(data.valid) + len(data.test) == 20


def test_the_same_picture_in_two_parts_is_named_with_both_files(tmp_path: Path) -> None:
    folder(tmp_path / "train", each=12)
    folder(tmp_path / "test", each=3)
    (tmp_path / "test" / "cat" / "copy.png").write_bytes((tmp_path / "train" / "cat" / "004.png").read_bytes())
    message = rules(read(tmp_path))["duplicates-across-parts"].message
    assert "train/cat/004.png" in message
    assert "test/cat/copy.png" in message


def test_the_same_picture_with_two_labels_is_named(tmp_path: Path) -> None:
    folder(tmp_path, each=12)
    Image.open(tmp_path / "cat" / "004.png").save(tmp_path / "dog" / "other.bmp")
    message = rules(read(tmp_path))["label-conflicts"].message
    assert "cat/004.png" in message
    assert "dog/other.bmp" in message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "holds no images"),
        (lambda p: picture().save(p / "a.png"), "no class folders"),
        (lambda p: folder(p, classes=("only",)), "only one class, 'only'"),
        (lambda p: folder(p, classes=("cat", "Cat")), r"'[Cc]at'.*'[Cc]at'.*differ only in case"),
        (
            lambda p: (folder(p), picture().save((p / "dog2").mkdir() or p / "dog2" / "lone.png")),
            "one image only .dog2/lone.png",
        ),
        (lambda p: (folder(p / "train"), folder(p / "test", classes=("cow",))), "'cow' is not in the train part"),
        (lambda p: (folder(p / "val"), folder(p / "valid"), folder(p / "train")), "mean the same part"),
        (lambda p: folder(p, each=2), "too few"),
    ],
)
def test_folders_that_cannot_be_trained_on_are_refused(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_columns_and_other_tasks_make_no_sense_for_a_folder(tmp_path: Path) -> None:
    folder(tmp_path)
    with pytest.raises(DataError, match=r"data\.target names a column"):
        read(tmp_path, target="x")
    with pytest.raises(DataError, match=r"task\.kind = 'regression'"):
        read_images(tmp_path, DataSettings(), TaskSettings(kind="regression"), seed=0)


def test_a_class_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, each=20)
    (tmp_path / "bad").mkdir()
    for n in range(4):
        (tmp_path / "bad" / f"{n}.png").write_bytes(b"x")
    with pytest.raises(DataError, match="no image of class 'bad' can be read"):
        read(tmp_path)


# Streaming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_streaming_gives_the_same_batches_as_memory(tmp_path: Path, workers: int) -> None:
    folder(tmp_path, each=12)
    kept, streamed = read(tmp_path), read(tmp_path, memory=1000, workers=workers)
    assert isinstance(kept.train, Tensors)
    assert isinstance(streamed.train, Streamed)
    assert torch.equal(kept.train.index, streamed.train.index)
    assert streamed.encoder.mean == pytest.approx(kept.encoder.mean)
    assert streamed.encoder.std == pytest.approx(kept.encoder.std)
    plan = torch.randperm(len(kept.train)).split(5)
    for a, b in zip(kept.train.batches(plan), streamed.train.batches(plan), strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
        assert torch.equal(a.index, b.index)


def test_an_image_that_breaks_during_streaming_gets_weight_zero_and_a_warning(tmp_path: Path) -> None:
    folder(tmp_path, each=12)
    data = read(tmp_path, memory=1000, workers=0)
    (tmp_path / "cat" / "000.png").write_bytes(b"")
    part = next(p for p in (data.train, data.valid, data.test) if 0 in p.index)
    with pytest.warns(RuntimeWarning, match=r"cat/000.png cannot be decoded \(the file is empty\)"):
        batch = part.take(torch.arange(len(part)))
    assert batch.weight.tolist() == [float(n != 0) for n in part.index.tolist()]


def test_streaming_finds_equal_files(tmp_path: Path) -> None:
    folder(tmp_path, each=12)
    (tmp_path / "dog" / "copy.png").write_bytes((tmp_path / "cat" / "001.png").read_bytes())
    assert "label-conflicts" in rules(read(tmp_path, memory=1000, workers=0))


# Tables ------------------------------------------------------------------------------------------------------------


def hugging_face(path: Path, *, count: int = 30) -> Path:
    cells = [{"bytes": encoded(picture(8, 8)), "path": f"{n}.png"} for n in range(count)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind), "label": pa.array([n % 3 for n in range(count)])})
    features = {"label": {"names": ["ant", "bee", "cow"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path
    )
    return path


def test_a_parquet_of_images_takes_its_class_names_from_the_schema(tmp_path: Path) -> None:
    data = read(hugging_face(tmp_path / "bugs.parquet"))
    assert data.task.classes == ("ant", "bee", "cow")
    assert data.spec.shape == (3, 8, 8)
    assert (data.train.targets == data.train.index % 3).all()
    part = data.encoder.encode(tmp_path / "bugs.parquet", targets=True)
    assert torch.equal(part.targets, torch.arange(30) % 3)


def test_a_table_of_paths_is_read_relative_to_its_file(tmp_path: Path) -> None:
    folder(tmp_path / "pictures", each=12)
    rows = [f"pictures/{name}/{n:03d}.png,{name}" for name in ("cat", "dog") for n in range(12)]
    (tmp_path / "list.csv").write_text("file,kind\n" + "\n".join(rows) + "\n")
    data = read(tmp_path / "list.csv")
    assert data.task.classes == ("cat", "dog")
    assert len(data.train) == 16


def test_a_table_of_images_can_have_numbers_to_predict(tmp_path: Path) -> None:
    folder(tmp_path, classes=("all",), each=20)
    values = [round(0.37 * n + 1.1, 3) for n in range(20)]
    (tmp_path / "ages.csv").write_text("file,age\n" + "".join(f"all/{n:03d}.png,{v}\n" for n, v in enumerate(values)))
    data = read(tmp_path / "ages.csv")
    assert data.task.kind == "regression"
    back = data.train.targets.double() * data.target_std + data.target_mean
    assert torch.allclose(back, torch.tensor(values).double()[data.train.index], atol=1e-5)


def test_a_column_of_images_is_decoded_with_gray_for_missing_cells(tmp_path: Path) -> None:
    picture(6, 6).save(tmp_path / "a.png")
    cells: list[Any] = [encoded(picture(6, 6)), {"bytes": None, "path": "a.png"}, None, "a.png"]
    found = images_from_column(cells, tmp_path)
    assert found.pixels.shape == (4, 3, 6, 6)
    assert list(found.unreadable) == [2]
    assert (found.pixels[2] == 127).all()
    assert torch.equal(found.pixels[1], found.pixels[3])


# New data ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Any, Path]:
    root = folder(tmp_path / "train_me", each=12)
    return read(root), root


def test_the_encoder_survives_json_and_encodes_alike(trained: tuple[Any, Path]) -> None:
    data, root = trained
    again = ImageEncoder.from_json(json.loads(json.dumps(data.encoder.to_json())))
    assert again == data.encoder
    part = again.encode(root, targets=True)
    assert torch.equal(part.inputs[data.train.index], data.train.inputs)
    assert torch.equal(part.targets[data.train.index], data.train.targets)


def test_prepared_images_have_mean_zero_and_deviation_one(trained: tuple[Any, Path]) -> None:
    data, _ = trained
    pixels = data.train.inputs.clone()
    prepared = data.prepare(pixels)
    assert prepared.dtype == torch.float32
    assert prepared.mean((0, 2, 3)).abs().max() < 1e-4
    assert (prepared.double().std((0, 2, 3), correction=0) - 1).abs().max() < 1e-4
    assert torch.equal(pixels, data.train.inputs)
    floats = pixels.float()
    assert torch.equal(data.prepare(floats), prepared)
    assert torch.equal(floats, pixels.float())
    last = data.encoder.prepare(pixels, channels_last=True)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, prepared)


def test_new_images_come_as_folder_files_bytes_arrays_or_pillow_images(trained: tuple[Any, Path]) -> None:
    data, root = trained
    file = root / "cat" / "003.png"
    array = np.asarray(Image.open(file))
    expected = torch.from_numpy(array.copy()).permute(2, 0, 1)[None]
    sources: list[Any] = [file, str(file), [file], [str(file)], file.read_bytes(), Image.open(file), [array]]
    sources += [array[None], array.transpose(2, 0, 1)[None], torch.from_numpy(array[None].copy()), array[None] / 255.0]
    for source in sources:
        part = data.encoder.encode(source)
        assert torch.equal(part.inputs, expected)
        assert part.targets.tolist() == [0]
    assert len(data.encoder.encode(root)) == 24


def test_new_images_of_another_size_are_brought_to_the_model_s(trained: tuple[Any, Path]) -> None:
    data, _ = trained
    assert data.encoder.encode([picture(33, 57, mode="L")]).inputs.shape == (1, 3, 10, 10)
    assert data.encoder.encode(np.zeros((2, 20, 30), np.uint8)).inputs.shape == (2, 3, 10, 10)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda p: p / "nowhere", "does not exist"),
        (lambda p: [p / "train_me" / "cat" / "000.png", p / "bad.png"], "1 of 2 images cannot be read .*bad.png"),
        (lambda p: 3, "holds no images"),
        (lambda p: [3.0], "item 0 of the list is a float"),
        (lambda p: np.full((2, 4, 4, 3), 300.0), "pixels from 300 to 300"),
        (lambda p: np.full((2, 4, 4, 3), np.nan), "pixels from nan"),
        (lambda p: np.zeros((2, 4)), "images of shape"),
        (lambda p: pd.DataFrame({"x": [1]}), "no column ''|no column"),
    ],
)
def test_new_images_that_cannot_be_used_are_refused(
    trained: tuple[Any, Path], tmp_path: Path, source: Any, message: str
) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(DataError, match=message):
        trained[0].encoder.encode(source(tmp_path))


def test_a_class_that_training_did_not_know_is_refused(trained: tuple[Any, Path], tmp_path: Path) -> None:
    new = folder(tmp_path / "new", classes=("cat", "cats"), each=1)
    with pytest.raises(DataError, match=r"cats/000.png: class 'cats' was not there in training; did you mean 'cat'"):
        trained[0].encoder.encode(new, targets=True)


def test_arrays_are_told_apart_by_their_axes() -> None:
    for shape, expected in [
        ((2, 8, 9, 3), (2, 3, 8, 9)),
        ((2, 3, 8, 9), (2, 3, 8, 9)),
        ((2, 8, 9), (2, 1, 8, 9)),
        ((2, 8, 9, 1), (2, 1, 8, 9)),
        ((2, 1, 8, 9), (2, 1, 8, 9)),
        ((2, 3, 8, 3), (2, 3, 8, 3)),
        ((2, 8, 9, 4), (2, 3, 8, 9)),
    ]:
        assert as_images(np.zeros(shape, np.uint8)).shape == expected


def test_a_thumbnail_is_a_small_png() -> None:
    for channels in (1, 3, 5):
        image = Image.open(io.BytesIO(thumbnail(torch.randint(0, 256, (channels, 8, 16)).float(), side=32)))
        assert image.size == (32, 16)
        assert image.format == "PNG"


# Named sets --------------------------------------------------------------------------------------------------------


class FakeSet:
    classes = ("zero", "one")

    def __init__(self, root: str, download: bool, train: bool) -> None:
        assert Path(root).is_dir()
        self.data = torch.arange(12 * 16).reshape(12, 4, 4).remainder(256).to(torch.uint8) + (0 if train else 1)
        self.targets = torch.arange(12) % 2


def test_a_named_set_keeps_its_test_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(MNIST=FakeSet))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = read("mnist")
    assert data.task.classes == ("zero", "one")
    assert data.spec.shape == (1, 4, 4)
    assert len(data.test) == 12
    assert len(data.train) + len(data.valid) == 12


def test_a_named_set_without_a_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(root: str, **_: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(CIFAR10=refuse))
    with pytest.raises(
        DataError, match=r"'cifar10' is not in .* cannot be downloaded \(Name or service not known\); connect"
    ):
        download("cifar10", folder=tmp_path)
    with pytest.raises(DataError, match="did you mean 'cifar10'"):
        download("cifar11", folder=tmp_path)


def test_reading_leaves_the_warning_filters_alone(tmp_path: Path) -> None:
    before = list(warnings.filters)
    read(folder(tmp_path))
    assert list(warnings.filters) == before
