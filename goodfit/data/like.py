"""Inputs as a pretrained model expects them: its tokenizer, its mean and deviation of pixels, or a run's own encoder.

``data.like`` names the model, with the prefixes of ``model.name``.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from goodfit import store
from goodfit.data.words import Words, likely_length, plain_json
from goodfit.errors import DataError, hushed, optional
from goodfit.trust import check_folder, strange

LONGEST = 512


class Pixels(NamedTuple):
    """How a model wants its images: mean and deviation per channel on the scale [0, 255], and its side in pixels where
    it takes no other."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    side: int | None

    def of(self, channels: int) -> Pixels | None:
        """The same for images of so many channels: gray takes the colours' mean; None where nothing is known."""
        if channels == len(self.mean):
            return self
        if channels != 1:
            return None
        return self._replace(mean=(sum(self.mean) / len(self.mean),), std=(sum(self.std) / len(self.std),))


def run_encoder(like: str | None, kind: str) -> dict[str, Any] | None:
    """The plain values of a run's encoder where ``like`` is ``run:FOLDER``; None for anything else.

    kind: what the new data is; raises DataError where the run was trained on something else.
    """
    if like is None or not like.startswith("run:"):
        return None
    path = Path(like[4:]).expanduser() / "data.json"
    if not path.is_file():
        raise DataError(f"{like[4:]} is no run folder: it holds no data.json; see what lies in runs/")
    check_folder(path.parent)
    with strange(path.parent, "encoder"):
        values: dict[str, Any] = dict(store.read_json(path)["encoder"])
    if values.get("kind") != kind:
        raise DataError(f"'{like}' was trained on {values.get('kind')}, and this data is {kind}; choose another model")
    return values


def image_statistics(like: str | None) -> Pixels | None:
    """What a pretrained image model says of its inputs; None where it says nothing or ``like`` names none."""
    prefix, _, name = (like or "").partition(":")
    if prefix == "timm":
        return _timm(name)
    if prefix == "torchvision":
        return _torchvision(name)
    if prefix == "hf":
        return _processor(name)
    return None


def model_words(like: str | None, texts: Sequence[str], *, length: int | None) -> Words | None:
    """Texts cut by a model's own tokenizer (``like = "hf:NAME"``), special tokens included; None for anything else.

    length: tokens a text keeps; enough for 98 % of ``texts`` unless given, and never more than the model reads.
    """
    if like is None or not like.startswith("hf:"):
        return None
    tokenizer, padding, most = _tokenizer(like[3:])
    # Models mark padding by the mask, but here it is the number 0: where that is a token, all numbers move up by one.
    shift = 0 if padding == 0 else 1
    if length is not None and length > most:
        raise DataError(f"data.length = {length}, but '{like}' reads {most} tokens at most")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    counts = np.asarray([len(one.ids) for one in tokenizer.encode_batch(list(texts))], np.int64)
    fits = length or likely_length(counts, longest=min(most, LONGEST))
    tokenizer.enable_truncation(fits)
    return Words((), fits, bpe=plain_json(tokenizer), shift=shift)


def language_tokenizer(like: str | None) -> str:
    """A model's own tokenizer as JSON, without special tokens' doing; an empty text where ``like`` names none."""
    if like is None or not like.startswith("hf:"):
        return ""
    tokenizer, _, _ = _tokenizer(like[3:])
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return plain_json(tokenizer)


def _tokenizer(name: str) -> tuple[Tokenizer, int | None, int]:
    """The tokenizer, its padding token's number, and how many tokens the model reads."""
    library = optional("transformers", "hf")
    try:
        with hushed("transformers", "huggingface_hub"):
            found = library.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            config = library.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # a hub that is out of reach, a missing file: each its own
        raise DataError(
            f"the tokenizer of 'hf:{name}' cannot be loaded: {_short(error)}; give a name from the hub (downloaded "
            "once) or the folder of a saved model with its tokenizer"
        ) from error
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise DataError(f"the tokenizer of 'hf:{name}' cannot be written as JSON, so no run could keep it")
    limits = [int(found.model_max_length), int(getattr(config, "max_position_embeddings", None) or 10**9)]
    return Tokenizer.from_str(backend.to_str()), getattr(config, "pad_token_id", None), min(*limits, 10**9)


def _timm(name: str) -> Pixels | None:
    timm = optional("timm", "timm")
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        try:
            values = json.loads((folder / "config.json").read_bytes())
        except ValueError as error:
            raise DataError(f"{folder / 'config.json'} is damaged: {error}") from error
        config = values.get("pretrained_cfg", values)
    else:
        try:
            found = timm.get_pretrained_cfg(name)
        except RuntimeError:
            return None  # the model's builder names the unknown name
        config = {} if found is None else found.to_dict()
    return _pixels(config.get("mean"), config.get("std"), None)


def _torchvision(name: str) -> Pixels | None:
    models = importlib.import_module("torchvision.models")
    try:
        transforms = models.get_model_weights(name).DEFAULT.transforms()
    except ValueError:
        return None  # the model's builder names the unknown name
    return _pixels(getattr(transforms, "mean", None), getattr(transforms, "std", None), None)


def _processor(name: str) -> Pixels | None:
    library = optional("transformers", "hf")
    try:
        with hushed("transformers", "huggingface_hub"):
            path = library.utils.cached_file(
                name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False
            )
        values = json.loads(Path(path).read_bytes()) if path else {}
    except (OSError, ValueError) as error:
        raise DataError(f"what 'hf:{name}' says of its images cannot be read: {_short(error)}") from error
    size = values.get("size")
    side = size.get("height", size.get("shortest_edge")) if isinstance(size, dict) else size
    return _pixels(values.get("image_mean"), values.get("image_std"), side)


def _pixels(mean: Any, std: Any, side: Any) -> Pixels | None:
    if not mean or not std:
        return None
    return Pixels(tuple(255.0 * float(one) for one in mean), tuple(255.0 * float(one) for one in std), side)


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
