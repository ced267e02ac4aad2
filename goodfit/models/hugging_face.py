"""Models of Hugging Face transformers: ``hf:NAME``, by name or from a folder, with a head of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from goodfit.errors import ModelError, hushed, optional
from goodfit.foreign import safe_copy
from goodfit.models.heads import last_part
from goodfit.models.layers import trimmed
from goodfit.technique import Chance, technique
from goodfit.types import Inputs, InputSpec


@technique("model")
class Hf:
    """A model of Hugging Face transformers: ``model.name = "hf:distilbert-base-uncased"``, or the path of a saved
    model's folder.

    Text: the last layer's states, pooled, and a new linear head; the texts are cut by the model's own tokenizer
    (``data.like``). Images: a new classification head. Language: the model as it is, with its own tokens.

    pretrained: start from the published weights; they are downloaded once.
    pool: of a text's states, the ``mean`` over its tokens, or the ``first`` one, which BERT calls the class token.
    dropout: on a text's pooled state, before the head.
    """

    pretrained: bool = True
    pool: Literal["mean", "first"] = "mean"
    dropout: Chance = 0.1


class TextModel(nn.Module):
    """An encoder of another library, its states pooled, and a head."""

    def __init__(self, backbone: nn.Module, head: nn.Module, *, pool: str, shift: int, padding: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.pool, self.shift, self.padding = pool, shift, padding

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, length)`` int64, 0 is padding. Returns logits ``(batch, outputs)``."""
        tokens = trimmed(inputs)
        real = tokens != 0
        seen = real.clone()
        seen[:, 0] = True  # a text of padding alone would leave attention nothing to look at
        ids = torch.where(real, tokens - self.shift, self.padding)
        states = self.backbone(input_ids=ids, attention_mask=seen.long()).last_hidden_state
        if self.pool == "first":
            return torch.as_tensor(self.head(states[:, 0]))
        share = seen / seen.sum(1, keepdim=True)
        return torch.as_tensor(self.head((states * share[:, :, None].to(states.dtype)).sum(1)))


class ImageModel(nn.Module):
    """An image classifier of another library."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> Tensor:
        """inputs: ``(batch, channels, height, width)`` float. Returns logits ``(batch, outputs)``."""
        return torch.as_tensor(self.model(pixel_values=inputs).logits)


class LanguageModel(nn.Module):
    """A causal language model of another library."""

    def __init__(self, model: nn.Module, outputs: int) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, T)`` int64. Returns logits ``(batch, T, outputs)``; position t has seen tokens 0..t."""
        return torch.as_tensor(self.model(input_ids=inputs, use_cache=False).logits)[..., : self.outputs]


def hugging_face(
    name: str, asked: Hf, spec: InputSpec, outputs: int, config: Mapping[str, Any] | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """The model and its configuration as plain values; given such, its layers without weights.

    Raises ModelError for what cannot be had.
    """
    kinds = {"text": "AutoModel", "image": "AutoModelForImageClassification", "language": "AutoModelForCausalLM"}
    if spec.kind not in kinds:
        raise ModelError(f"'hf:{name}' takes text, language and images, but the data is {spec.kind}")
    library = optional("transformers", "hf")
    changes: dict[str, Any] = {"num_labels": outputs} if spec.kind == "image" else {}
    try:
        with _quiet(library):
            known = (
                library.AutoConfig.for_model(**{**_plain(config), **changes})
                if config is not None
                else library.AutoConfig.from_pretrained(name, trust_remote_code=False, **changes)
            )
            _check_code(name, known)
            _check(name, known, spec)
            kind = getattr(library, kinds[spec.kind])
            if asked.pretrained and config is None:
                with _with_safetensors(library, name) as place:
                    made, report = kind.from_pretrained(
                        place,
                        config=known,
                        ignore_mismatched_sizes=spec.kind == "image",
                        output_loading_info=True,
                        trust_remote_code=False,
                        use_safetensors=True,
                    )
                _check_weights(name, made, report, spec)
            else:
                made = kind.from_config(known, trust_remote_code=False)
    except ModelError:
        raise
    except Exception as error:  # a hub that is out of reach, a missing file, a config of unknown kind: each its own
        raise ModelError(
            f"transformers cannot load '{name}': {short(error)}; give a name from the hub (downloaded once) or the "
            "folder of a saved model"
        ) from error
    made = made.float()  # some are saved in half precision, which is no precision to train in
    plain = {k: v for k, v in json.loads(known.to_json_string(use_diff=False)).items() if k != "_name_or_path"}
    return _wrapped(made, asked, spec, outputs, known), plain


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration from a run folder without what could name code: no class or kernel but the library's."""
    named = ("auto_map", "quantization_config", "attn_implementation", "experts_implementation", "kernel_config")
    return {
        key: _plain(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if not key.startswith("_") and key not in named
    }


def _check_code(name: str, config: Any) -> None:
    """Refuse a configuration that asks for code from elsewhere (kernels of the hub) or for quantised weights."""
    parts = [config, *(getattr(config, one, None) for one in getattr(config, "sub_configs", None) or ())]
    for part in parts:
        for asked in ("_attn_implementation", "_experts_implementation"):
            if "/" in str(getattr(part, asked, None) or ""):
                raise ModelError(f"'hf:{name}' asks for code from the hub ({asked.strip('_')}); nothing of it is run")
        if getattr(part, "quantization_config", None) is not None:
            raise ModelError(f"the weights of 'hf:{name}' are quantised, which cannot be trained; give the plain ones")


@contextmanager
def _with_safetensors(library: ModuleType, name: str) -> Iterator[str]:
    """The model's name where it has safetensors; else a folder with what its pickle holds, read in a child process."""
    find = library.utils.cached_file
    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    has = [find(name, one, **quiet) for one in ("model.safetensors", "model.safetensors.index.json")]
    pickled = None if any(has) else find(name, "pytorch_model.bin", **quiet)
    if pickled is None:
        yield name
        return
    with safe_copy(Path(pickled), Path(find(name, "config.json"))) as folder:
        yield str(folder)


def short(error: Exception) -> str:
    """The first line of what an error says."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def _wrapped(made: nn.Module, asked: Hf, spec: InputSpec, outputs: int, config: Any) -> nn.Module:
    if spec.kind == "image":
        return ImageModel(made)
    if spec.kind == "language":
        return LanguageModel(made, outputs)
    if config.is_encoder_decoder:
        made = made.get_encoder()  # type: ignore[operator]
    if getattr(made, "pooler", None) is not None:
        made.pooler = None  # type: ignore[assignment]  # a layer of BERT's own that the pooling here takes the place of
    linear = nn.Linear(config.hidden_size, outputs)
    nn.init.normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    head = nn.Sequential(nn.Dropout(asked.dropout), linear)
    return TextModel(made, head, pool=asked.pool, shift=spec.shift, padding=config.pad_token_id or 0)


def _check(name: str, config: Any, spec: InputSpec) -> None:
    rows = getattr(config, "vocab_size", None)
    if spec.kind in ("text", "language") and rows is not None and spec.vocabulary - spec.shift > rows:
        raise ModelError(
            f"'hf:{name}' knows {rows} tokens, the data has {spec.vocabulary}; leave data.like out, so that its own "
            f"tokenizer is used, or set data.vocabulary = {rows}"
        )
    longest = getattr(config, "max_position_embeddings", None)
    if spec.kind in ("text", "language") and longest is not None and spec.shape[0] > longest:
        raise ModelError(
            f"'hf:{name}' reads {longest} tokens at most, the data has {spec.shape[0]}; set data.length = {longest}"
        )
    side = getattr(config, "image_size", None)
    if spec.kind == "image" and isinstance(side, int) and spec.shape[1:] != (side, side):
        raise ModelError(
            f"'hf:{name}' takes images of {side}x{side} pixels, and these are {spec.shape[1]}x{spec.shape[2]}; "
            f"set data.image_size = {side}"
        )
    channels = getattr(config, "num_channels", None)
    if spec.kind == "image" and isinstance(channels, int) and spec.shape[0] != channels:
        raise ModelError(f"'hf:{name}' takes images of {channels} channels, and these have {spec.shape[0]}")


def _check_weights(name: str, made: nn.Module, report: Mapping[str, Any], spec: InputSpec) -> None:
    """Refuse weights that leave a part of the body as it was drawn: that would be no pretrained model."""
    mismatched = {str(one[0] if isinstance(one, list | tuple) else one) for one in report["mismatched_keys"]}
    absent = {str(one) for one in report["missing_keys"]} | mismatched
    if spec.kind == "text":
        absent = {one for one in absent if not one.startswith("pooler.")}
    if spec.kind == "image":
        part = last_part(made)
        path = next((path for path, module in made.named_modules() if module is part), "")
        absent = {one for one in absent if not one.startswith(path)}
    if absent:
        raise ModelError(
            f"the weights of '{name}' lack {len(absent)} of the model's, such as '{min(absent)}'; give another one, or "
            "set model.pretrained = false to train it from nothing"
        )


@contextmanager
def _quiet(library: ModuleType) -> Iterator[None]:
    """Without the library's progress bars and reports, which are no part of what is shown here."""
    log = library.utils.logging
    bars = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        with hushed("transformers", "huggingface_hub"):
            yield
    finally:
        if bars:
            log.enable_progress_bar()
