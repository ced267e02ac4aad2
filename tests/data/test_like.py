"""Inputs as a pretrained model wants them, and as another run made them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from goodfit.data import encoder_from_json, read
from goodfit.data.like import Pixels, image_statistics, model_words, run_encoder
from goodfit.errors import DataError, RecipeError
from goodfit.recipe import DataSettings, Recipe
from tests.models.saved import WORDS, save_bert, save_timm

TEXTS = ["good film", "bad film", "the plot", "a very good plot not bad", "not good", "unheard words", ""] * 5


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_texts_are_cut_as_the_models_own_tokenizer_cuts_them(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="an optional extra")
    words = model_words(f"hf:{save_bert(tmp_path)}", TEXTS, length=None)
    assert words is not None
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    wanted = theirs(TEXTS, truncation=True, max_length=8, padding="max_length", return_tensors="pt")["input_ids"]
    assert torch.equal(torch.from_numpy(words.encode(TEXTS)), wanted)
    assert (words.length, words.size, words.shift) == (8, len(WORDS), 0)


def test_a_text_cut_short_keeps_its_last_special_token(tmp_path: Path) -> None:
    words = model_words(f"hf:{save_bert(tmp_path)}", TEXTS, length=4)
    assert words is not None
    names = [WORDS[n] for n in words.encode(["a very good plot"])[0]]
    assert names == ["[CLS]", "a", "very", "[SEP]"]
    with pytest.raises(DataError, match=r"data\.length = 21, but 'hf:.*' reads 20 tokens at most"):
        model_words(f"hf:{tmp_path}", TEXTS, length=21)


def test_where_zero_is_a_token_all_numbers_move_up_by_one(tmp_path: Path) -> None:
    words = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "good", "bad"]
    cut = model_words(f"hf:{save_bert(tmp_path, words=words)}", ["good", "bad good"], length=4)
    assert cut is not None
    assert cut.encode(["good", "bad good"]).tolist() == [[1, 5, 3, 0], [1, 6, 5, 3]]
    assert (cut.shift, cut.size) == (1, 7)


def test_texts_read_like_a_model_are_kept_in_plain_values(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [f"{one} {n}" for n, one in enumerate(TEXTS[:-1])], "label": ["x", "y"] * 17})
    data = read(frame, DataSettings(like=f"hf:{save_bert(tmp_path)}"), seed=0)
    assert data.spec.vocabulary == len(WORDS)
    assert int(data.train.take(torch.arange(3)).inputs[0, 0]) == WORDS.index("[CLS]")
    again = encoder_from_json(json.loads(json.dumps(data.encoder.to_json())))
    assert again.spec == data.encoder.spec
    assert torch.equal(again.encode(["good film"]).inputs, data.encoder.encode(["good film"]).inputs)


def test_language_models_bring_their_tokens(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the film not good the plot very bad " * 40)
    data = read(tmp_path / "text.txt", DataSettings(like=f"hf:{save_bert(tmp_path / 'model')}", length=8), seed=0)
    assert data.spec.vocabulary == len(WORDS)
    seen = data.train.take(torch.arange(1)).inputs[0]
    assert [WORDS[int(n)] for n in seen] == ["the", "film", "not", "good", "the", "plot", "very", "bad"]


def test_a_model_without_a_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="an optional extra")
    with pytest.raises(DataError, match=r"the tokenizer of 'hf:.*' cannot be loaded: .*; give a name from the hub"):
        model_words(f"hf:{tmp_path}", TEXTS, length=None)


def test_image_statistics_are_what_the_libraries_say(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="an optional extra")
    found = image_statistics("timm:resnet18.a1_in1k")
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg("resnet18.a1_in1k").to_dict())
    assert found == Pixels(tuple(255 * m for m in config["mean"]), tuple(255 * s for s in config["std"]), None)
    assert image_statistics("torchvision:resnet18") == found
    assert image_statistics(f"timm:{save_timm(tmp_path / 'timm')}") is not None
    (tmp_path / "hf").mkdir()
    values = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 32, "width": 32}}
    (tmp_path / "hf" / "preprocessor_config.json").write_text(json.dumps(values))
    pytest.importorskip("transformers", reason="an optional extra")
    assert image_statistics(f"hf:{tmp_path / 'hf'}") == Pixels((127.5,) * 3, (63.75,) * 3, 32)
    assert image_statistics("timm:no_such_model") is None
    assert image_statistics("torchvision:no_such_model") is None
    assert image_statistics(None) is None


def test_gray_images_take_the_mean_over_colours() -> None:
    colours = Pixels((30.0, 60.0, 90.0), (1.0, 2.0, 3.0), None)
    assert colours.of(3) is colours
    assert colours.of(1) == Pixels((60.0,), (2.0,), None)
    assert colours.of(4) is None


def test_images_are_standardised_and_sized_as_the_model_wants(
    tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    pytest.importorskip("transformers", reason="an optional extra")
    values = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.25] * 3, "size": 24}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    data = read(image_folder(), DataSettings(like=f"hf:{tmp_path}"), seed=0)
    assert data.spec.shape == (3, 24, 24)
    pixels = torch.full((1, 3, 24, 24), 102, dtype=torch.uint8)
    wanted = (0.4 - torch.tensor([0.5, 0.4, 0.3])) / 0.25
    torch.testing.assert_close(data.prepare(pixels)[0, :, 0, 0], wanted, rtol=1e-4, atol=1e-5)
    asked = read(tmp_path / "pictures", DataSettings(like=f"hf:{tmp_path}", image_size=16), seed=0)
    assert asked.spec.shape == (3, 16, 16)


def keep(folder: Path, data: object) -> str:
    folder.mkdir()
    (folder / "data.json").write_text(json.dumps({"encoder": data.encoder.to_json()}))  # type: ignore[attr-defined]
    return f"run:{folder}"


def test_texts_images_tables_and_language_are_encoded_as_a_run_did(
    tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    old = pd.DataFrame({"text": [f"{one} {n}" for n, one in enumerate(TEXTS)], "label": (["x", "y"] * 18)[:35]})
    new = pd.DataFrame({"text": [f"fresh words here {n}" for n in range(40)], "kind": ["u", "v", "v", "u"] * 10})
    like = keep(tmp_path / "text", first := read(old, DataSettings(), seed=0))
    assert read(new, DataSettings(like=like), seed=0).spec == first.spec

    pictures = image_folder(side=16)
    like = keep(tmp_path / "image", first := read(pictures, DataSettings(image_size=8), seed=0))
    second = read(pictures, DataSettings(like=like), seed=1)
    assert second.spec == first.spec
    assert second.encoder.to_json()["mean"] == first.encoder.to_json()["mean"]

    numbers = [n * 7 % 11 + 0.5 for n in range(40)]
    table = pd.DataFrame({"a": numbers, "b": list("pq") * 20, "label": list("xxyy") * 10})
    like = keep(tmp_path / "table", first := read(table, DataSettings(), seed=0))
    other = pd.DataFrame({"b": list("qr") * 20, "extra": numbers, "a": numbers[::-1], "kind": list("uv") * 20})
    second = read(other, DataSettings(like=like), seed=0)
    assert second.spec == first.spec
    assert second.task.classes == ("u", "v")
    seen = second.encoder.encode(pd.DataFrame({"a": [0.0, 39.0], "b": ["p", "r"]})).inputs
    wanted = first.encoder.encode(pd.DataFrame({"a": [0.0, 39.0], "b": ["p", "r"]})).inputs
    assert all(torch.equal(seen[name], wanted[name]) for name in wanted)
    with pytest.raises(DataError, match="has no column 'a'; the model was trained with it"):
        read(other.drop(columns="a"), DataSettings(like=like), seed=0)

    (tmp_path / "text.txt").write_text("abcdefgh " * 100)
    (tmp_path / "new.txt").write_text("hgfedcba! " * 100)
    like = keep(tmp_path / "language", first := read(tmp_path / "text.txt", DataSettings(length=16), seed=0))
    assert read(tmp_path / "new.txt", DataSettings(like=like), seed=0).spec == first.spec


def test_a_run_of_another_kind_or_no_run_is_refused(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    like = keep(tmp_path / "image", read(image_folder(), DataSettings(), seed=0))
    assert run_encoder("hf:x", "text") is None
    with pytest.raises(DataError, match="was trained on image, and this data is text"):
        run_encoder(like, "text")
    with pytest.raises(DataError, match=r"nowhere is no run folder: it holds no data\.json"):
        run_encoder("run:nowhere", "text")


@pytest.mark.parametrize("name", ["x", "hf:", "bert:small", "run"])
def test_a_name_without_its_prefix_is_answered_with_the_prefixes(name: str) -> None:
    with pytest.raises(RecipeError, match=r"names no pretrained model; write hf:NAME, timm:NAME, torchvision:NAME or"):
        Recipe().patched({"data.like": name})
