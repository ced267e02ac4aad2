"""Models of other libraries, made, saved and loaded here without a network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from goodfit.errors import ModelError, RecipeError
from goodfit.models import build
from goodfit.models.external import take_over
from goodfit.techniques.init import Auto
from goodfit.types import InputSpec
from tests.models.saved import save_bert, save_timm

IMAGE = InputSpec("image", (1, 32, 32))
COLOUR = InputSpec("image", (3, 32, 32))
TEXT = InputSpec("text", (6,), vocabulary=12)
NOTHING = {"pretrained": False}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_timm_model_gets_the_channels_and_outputs_of_the_data() -> None:
    pytest.importorskip("timm", reason="an optional extra")
    model = build("timm:resnet10t", NOTHING, IMAGE, 3).eval()
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 3)


def test_a_timm_vision_transformer_gets_the_size_of_the_images() -> None:
    pytest.importorskip("timm", reason="an optional extra")
    model = build("timm:vit_tiny_patch16_224", {"dropout": 0.1, **NOTHING}, IMAGE, 3).eval()
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 3)


def test_a_timm_model_comes_from_its_folder_with_a_new_head(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="an optional extra")
    folder = save_timm(tmp_path / "saved")
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    mine = build(f"timm:{folder}", {}, COLOUR, 3).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(mine.forward_features(images), theirs.forward_features(images))
    assert mine(images).shape == (2, 3)


def test_gray_images_see_the_sum_of_a_timm_models_filters(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="an optional extra")
    folder = save_timm(tmp_path / "saved")
    gray, colour = build(f"timm:{folder}", {}, IMAGE, 3), build(f"timm:{folder}", {}, COLOUR, 3)
    torch.testing.assert_close(gray.conv1[0].weight, colour.conv1[0].weight.sum(1, keepdim=True))


@pytest.fixture
def planted(tmp_path: Path) -> nn.Module:
    """A torchvision model whose file lies where torchvision looks before it downloads."""
    from torchvision import models

    torch.manual_seed(1)
    model = models.squeezenet1_1()
    place = tmp_path / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.save(model.state_dict(), place / models.SqueezeNet1_1_Weights.DEFAULT.url.rsplit("/", 1)[1])
    return model


@pytest.mark.parametrize("spec", [COLOUR, IMAGE])
def test_a_torchvision_model_takes_everything_but_its_head_from_its_file(planted: nn.Module, spec: InputSpec) -> None:
    mine = build("torchvision:squeezenet1_1", {}, spec, 3).eval()
    images = torch.randn(2, spec.shape[0], 64, 64)
    seen = planted.eval().features(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(mine.features(images), seen, rtol=1e-3, atol=1e-4)
    assert mine(images).shape == (2, 3)


def test_a_torchvision_file_that_holds_more_than_tensors_is_refused(planted: nn.Module, tmp_path: Path) -> None:
    (file,) = (tmp_path / "torch" / "hub" / "checkpoints").iterdir()
    torch.save(planted, file)
    with pytest.raises(ModelError, match=r"cannot be had: Weights only load failed"):
        build("torchvision:squeezenet1_1", {}, COLOUR, 3)


def test_dropout_of_a_torchvision_model_is_a_setting() -> None:
    made = build("torchvision:mobilenet_v3_small", {"pretrained": False, "dropout": 0.35}, COLOUR, 3)
    assert [one.p for one in made.modules() if isinstance(one, nn.Dropout)] == [0.35]
    with pytest.raises(ModelError, match=r"'torchvision:resnet18' has no dropout layer; take out model\.dropout"):
        build("torchvision:resnet18", {"pretrained": False, "dropout": 0.35}, COLOUR, 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:resnet8", "torchvision has no model 'resnet8'; did you mean 'resnet"),
        ("torchvision:vit_b_16", r"takes images of 224x224 pixels, and these are 32x32; set data.image_size = 224"),
    ],
)
def test_mistakes_with_torchvision_are_answered(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        build(name, {}, COLOUR, 3)


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm", reason="an optional extra")

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known\nand many lines more")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(ModelError) as said:
        build("torchvision:resnet18", {}, COLOUR, 3)
    assert str(said.value) == (
        "the weights of 'torchvision:resnet18' cannot be had: Name or service not known; or set model.pretrained = "
        "false to train it from nothing"
    )
    monkeypatch.setattr("timm.models._hub.hf_hub_download", unreachable)
    with pytest.raises(ModelError, match=r"the weights of 'timm:resnet18' cannot be downloaded: .*pretrained = false"):
        build("timm:resnet18", {}, COLOUR, 3)


def test_a_model_of_a_library_keeps_its_own_weights_under_auto() -> None:
    pytest.importorskip("timm", reason="an optional extra")
    model = build("timm:resnet10t", NOTHING, IMAGE, 3)
    before = [p.clone() for p in model.parameters()]
    Auto()(model, activation="relu", seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_mistakes_are_answered_with_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="an optional extra")
    with pytest.raises(ModelError, match="timm has no model 'resnet81', nor is it such a model; did you mean 'resnet"):
        build("timm:resnet81", {}, IMAGE, 3)
    with pytest.raises(ModelError, match=r"nor is it a folder with a config\.json"):
        build(f"timm:{tmp_path}", {}, IMAGE, 3)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="is not what timm writes"):
        build(f"timm:{tmp_path}", {}, IMAGE, 3)
    with pytest.raises(ModelError, match="takes images, but the data is text"):
        build("timm:resnet18", {}, InputSpec("text", (4,), vocabulary=9), 3)
    with pytest.raises(RecipeError, match=r"unknown key 'model\.pretraind'; did you mean 'pretrained'"):
        build("timm:resnet18", {"pretraind": True}, IMAGE, 3)
    with pytest.raises(ModelError, match="unknown model 'tim:resnet18'; did you mean 'timm:resnet18'"):
        build("tim:resnet18", {}, IMAGE, 3)
    with pytest.raises(ModelError, match=r"made by goodfit\.origin\.model_for"):
        build("run:runs/3", {}, IMAGE, 3)


TOKENS = torch.tensor([[2, 4, 6, 3, 0, 0], [2, 5, 7, 8, 9, 3], [0] * 6])


@pytest.mark.parametrize("pool", ["mean", "first"])
def test_pooled_states_are_those_of_the_formula(tmp_path: Path, pool: str) -> None:
    transformers = pytest.importorskip("transformers", reason="an optional extra")
    theirs = transformers.AutoModel.from_pretrained(save_bert(tmp_path)).eval()
    mine = build(f"hf:{tmp_path}", {"pool": pool}, TEXT, 4).eval()
    tokens = TOKENS[:2]
    with torch.no_grad():
        states = theirs(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state.double().numpy()
        logits = mine(tokens).numpy()
    real = (tokens != 0).double().numpy()
    mean = (states * real[:, :, None]).sum(1) / real.sum(1, keepdims=True)
    pooled = states[:, 0] if pool == "first" else mean
    head = mine.head[1]
    wanted = pooled @ head.weight.detach().double().numpy().T + head.bias.detach().double().numpy()
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing_and_a_text_of_padding_alone_is_finite(tmp_path: Path) -> None:
    model = build(f"hf:{save_bert(tmp_path)}", {}, TEXT, 4).eval()
    torch.testing.assert_close(model(TOKENS)[:1], model(TOKENS[:1, :4]), rtol=1e-4, atol=1e-5)
    assert torch.isfinite(model(TOKENS)).all()


def test_tokens_that_were_moved_up_by_one_are_moved_back(tmp_path: Path) -> None:
    words = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "good", "bad", "film", "plot"]
    transformers = pytest.importorskip("transformers", reason="an optional extra")
    theirs = transformers.AutoModel.from_pretrained(save_bert(tmp_path, words=words)).eval()
    mine = build(f"hf:{tmp_path}", {"pool": "first"}, InputSpec("text", (5,), vocabulary=9, shift=1), 2).eval()
    ids = torch.tensor([[0, 4, 6, 2, 1]])
    with torch.no_grad():
        states = theirs(input_ids=ids, attention_mask=torch.tensor([[1, 1, 1, 1, 0]])).last_hidden_state
        torch.testing.assert_close(mine(torch.tensor([[1, 5, 7, 3, 0]])), mine.head(states[:, 0]))


def test_weights_are_those_of_the_folder_and_without_pretrained_others(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="an optional extra")
    theirs = transformers.AutoModel.from_pretrained(save_bert(tmp_path))
    theirs.pooler = None
    assert same_weights(build(f"hf:{tmp_path}", {}, TEXT, 4).backbone, theirs)
    assert not same_weights(build(f"hf:{tmp_path}", NOTHING, TEXT, 4).backbone, theirs)


def test_images_and_language_get_the_models_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="an optional extra")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(image_size=32, patch_size=16, num_labels=5, **small)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    model = build(f"hf:{tmp_path / 'vit'}", {}, COLOUR, 3).eval()
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(ModelError, match=r"takes images of 32x32 pixels, .* are 16x16; set data\.image_size = 32"):
        build(f"hf:{tmp_path / 'vit'}", {}, InputSpec("image", (3, 16, 16)), 3)

    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, n_positions=16)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt")
    language = build(f"hf:{tmp_path / 'gpt'}", {}, InputSpec("language", (8,), vocabulary=18), 18).eval()
    assert language(torch.randint(0, 18, (2, 8))).shape == (2, 8, 18)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_bert(tmp_path, layers=1)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with pytest.raises(ModelError, match=r"lack 16 of the model's, such as 'encoder\.layer\.1"):
        build(f"hf:{tmp_path}", {}, TEXT, 4)


def test_a_vocabulary_too_large_texts_too_long_or_a_missing_model_are_refused(tmp_path: Path) -> None:
    saved = save_bert(tmp_path)
    with pytest.raises(ModelError, match=r"knows 12 tokens, the data has 31; leave data\.like out"):
        build(f"hf:{saved}", {}, InputSpec("text", (6,), vocabulary=31), 4)
    with pytest.raises(ModelError, match=r"reads 24 tokens at most, the data has 25; set data\.length = 24"):
        build(f"hf:{saved}", {}, InputSpec("text", (25,), vocabulary=12), 4)
    with pytest.raises(ModelError, match="cannot load"):
        build(f"hf:{saved / 'nowhere'}", {}, TEXT, 4)
    with pytest.raises(ModelError, match="takes text, language and images, but the data is table"):
        build(f"hf:{saved}", {}, InputSpec("table", numeric=3), 4)


def test_layers_are_made_again_from_plain_values_without_the_files(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="an optional extra")
    text, image = save_bert(tmp_path / "bert"), save_timm(tmp_path / "timm")
    for name, spec, sample in ((f"hf:{text}", TEXT, TOKENS), (f"timm:{image}", COLOUR, torch.randn(1, 3, 32, 32))):
        model = build(name, {}, spec, 4).eval()
        known = json.loads(json.dumps(model.architecture))
        for file in sorted(Path(name.split(":", 1)[1]).iterdir()):
            file.unlink()
        again = build(**known, spec=spec, outputs=4).eval()
        again.load_state_dict(model.state_dict())
        torch.testing.assert_close(again(sample), model(sample))


def test_what_is_taken_over_must_fit() -> None:
    class Net(nn.Module):
        def __init__(self, width: int, classes: int) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(3, width), nn.Linear(width, classes)

    net = Net(4, 2)
    take_over(net, Net(4, 5).state_dict(), of="'x'")
    with pytest.raises(
        ModelError, match=r"weights of 'x' do not fit: 'body.weight' has the shape \(6, 3\), and \(4, 3"
    ):
        take_over(net, Net(6, 2).state_dict(), of="'x'")
    with pytest.raises(ModelError, match=r"'body\.weight' is missing"):
        take_over(net, {}, of="'x'")
    with pytest.raises(ModelError, match="nothing but a head"):
        take_over(nn.Linear(3, 2), nn.Linear(3, 4).state_dict(), of="'x'")
