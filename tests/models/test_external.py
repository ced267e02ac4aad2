"""Models of other libraries, made here without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from goodfit.errors import ModelError, RecipeError
from goodfit.models import build
from goodfit.techniques.init import Auto
from goodfit.types import InputSpec

IMAGE = InputSpec("image", (1, 32, 32))


def test_a_timm_model_gets_the_channels_and_outputs_of_the_data() -> None:
    pytest.importorskip("timm")
    model = build("timm:resnet10t", {}, IMAGE, 3).eval()
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 3)


def test_a_timm_vision_transformer_gets_the_size_of_the_images() -> None:
    pytest.importorskip("timm")
    model = build("timm:vit_tiny_patch16_224", {"dropout": 0.1}, IMAGE, 3).eval()
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 3)


def test_a_model_of_a_library_keeps_its_own_weights_under_auto() -> None:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    model = build("timm:resnet10t", {}, IMAGE, 3)
    before = [p.clone() for p in model.parameters()]
    Auto()(model, activation="relu", seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_mistakes_are_answered_with_what_to_do() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ModelError, match="timm has no model 'resnet81'; did you mean 'resnet"):
        build("timm:resnet81", {}, IMAGE, 3)
    with pytest.raises(ModelError, match="takes images, but the data is text"):
        build("timm:resnet18", {}, InputSpec("text", (4,), vocabulary=9), 3)
    with pytest.raises(RecipeError, match=r"unknown key 'model\.pretraind'; did you mean 'pretrained'"):
        build("timm:resnet18", {"pretraind": True}, IMAGE, 3)
    with pytest.raises(ModelError, match="unknown model 'tim:resnet18'; did you mean 'timm:resnet18'"):
        build("tim:resnet18", {}, IMAGE, 3)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    return tmp_path


def test_a_transformers_model_comes_from_its_folder_with_a_new_head(saved: Path) -> None:
    spec = InputSpec("text", (6,), vocabulary=30)
    tokens = torch.tensor([[4, 5, 0, 0, 0, 0], [0] * 6])
    model = build(f"hf:{saved}", {"pretrained": True}, spec, 4).eval()
    assert model(tokens).shape == (2, 4)
    torch.testing.assert_close(model(tokens)[:1], model(tokens[:1, :2]), rtol=1e-4, atol=1e-5)


def test_a_vocabulary_too_large_or_a_missing_model_is_refused(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"knows 30 tokens, the data has 31; set data\.vocabulary = 30"):
        build(f"hf:{saved}", {}, InputSpec("text", (6,), vocabulary=31), 4)
    with pytest.raises(ModelError, match="cannot load"):
        build(f"hf:{saved / 'nowhere'}", {}, InputSpec("text", (6,), vocabulary=30), 4)
