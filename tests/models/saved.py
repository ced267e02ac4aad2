"""Small models of other libraries with random weights, saved as those libraries save them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "plot", "a", "the", "very", "not"]


def save_bert(folder: Path, *, words: list[str] = WORDS, layers: int = 2) -> Path:
    """A BERT of 16 numbers a token with a word tokenizer; the place of ``[PAD]`` in ``words`` is its padding."""
    transformers = pytest.importorskip("transformers", reason="an optional extra")
    save_tokenizer(folder, words)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        pad_token_id=words.index("[PAD]"),
    )
    torch.manual_seed(1)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path, words: list[str]) -> None:
    """Words split at spaces, between ``[CLS]`` and ``[SEP]``; left set to pad and cut to 5 tokens."""
    transformers = pytest.importorskip("transformers", reason="an optional extra")
    tokenizers = pytest.importorskip("tokenizers", reason="comes with transformers")
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = [(one, words.index(one)) for one in ("[CLS]", "[SEP]")]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    made.enable_truncation(5)
    made.enable_padding(length=5, pad_id=words.index("[PAD]"))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=20,
    )
    fast.save_pretrained(folder)


def save_timm(folder: Path, *, classes: int = 7) -> Path:
    """A ResNet of timm with 10 layers, as timm saves it for the hub."""
    timm = pytest.importorskip("timm", reason="an optional extra")
    torch.manual_seed(1)
    made = timm.create_model("resnet10t", num_classes=classes)
    timm.models.save_for_hf(made, folder, safe_serialization=True)
    return folder
