"""Models of other libraries by prefix: ``timm:NAME`` and ``hf:NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from goodfit.errors import ModelError, nearest, optional
from goodfit.technique import Chance, technique
from goodfit.types import Inputs, InputSpec

PREFIXES = ("timm:", "hf:")


@technique("model")
class Timm:
    """An image model of the timm library: ``model.name = "timm:resnet18"``.

    Its classification head is made anew for the task's outputs, its first layer adapted to the images' channels, and
    a vision transformer's positions to their size. What follows the colon is timm's own name, with or without the tag
    of its weights. Takes images.

    pretrained: start from the published weights; needs a network the first time. dropout: of the head; the model's
    own unless given. drop_path: stochastic depth, where the model has it.
    """

    pretrained: bool = False
    dropout: Chance | None = None
    drop_path: Chance | None = None


@technique("model")
class Hf:
    """A model of Hugging Face transformers: ``model.name = "hf:prajjwal1/bert-tiny"``, or the path of a saved model's
    folder.

    Its classification head is made anew for the task's outputs. Takes text (token ids of its own tokenizer, 0 is
    padding), images and language.

    pretrained: start from the published weights; needs a network the first time. dropout: of the head, where the
    model has it.
    """

    pretrained: bool = False
    dropout: Chance | None = None


def external(name: str, settings: Mapping[str, Any], spec: InputSpec, outputs: int) -> nn.Module:
    """The model behind a prefixed name, giving ``outputs`` logits.

    settings: of ``Timm`` or ``Hf``. Raises ModelError for an unknown prefix or name, or inputs that it does not take,
    and MissingExtra where the library is not installed.
    """
    prefix, _, rest = name.partition(":")
    if prefix == "timm":
        return _timm(rest, Timm(**settings), spec, outputs)
    if prefix == "hf":
        return _hugging_face(rest, Hf(**settings), spec, outputs)
    raise ModelError(f"unknown model prefix '{prefix}:'{nearest(prefix, ['timm', 'hf'])}")


class HuggingFace(nn.Module):
    """A transformers model that takes and gives what goodfit's models do."""

    def __init__(self, model: nn.Module, kind: str, outputs: int) -> None:
        super().__init__()
        self.model, self.kind, self.outputs = model, kind, outputs

    def forward(self, inputs: Inputs) -> Tensor:
        """Tokens ``(batch, length)`` int64 or images ``(batch, channels, height, width)`` float to logits."""
        if self.kind == "image":
            return torch.as_tensor(self.model(pixel_values=inputs).logits)
        assert isinstance(inputs, Tensor)
        if self.kind == "language":
            return torch.as_tensor(self.model(input_ids=inputs, use_cache=False).logits)
        seen = (inputs != 0).long()
        seen[:, 0] = 1  # a text of padding alone would leave attention nothing to look at
        return torch.as_tensor(self.model(input_ids=inputs, attention_mask=seen).logits)


def _timm(name: str, asked: Timm, spec: InputSpec, outputs: int) -> nn.Module:
    if spec.kind != "image":
        raise ModelError(f"'timm:{name}' takes images, but the data is {spec.kind}")
    timm = optional("timm", "timm")
    known = timm.list_models()
    if name.split(".")[0] not in known:
        raise ModelError(f"timm has no model '{name}'{nearest(name.split('.')[0], known)}")
    extra: dict[str, Any] = {} if asked.dropout is None else {"drop_rate": asked.dropout}
    if asked.drop_path is not None:
        extra["drop_path_rate"] = asked.drop_path
    channels, height, width = spec.shape
    try:
        made: nn.Module = timm.create_model(
            name, pretrained=asked.pretrained, num_classes=outputs, in_chans=channels, **extra
        )
        need = getattr(getattr(made, "patch_embed", None), "img_size", None)
        if need is not None and tuple(need) != (height, width):
            made = timm.create_model(
                name,
                pretrained=asked.pretrained,
                num_classes=outputs,
                in_chans=channels,
                img_size=(height, width),
                **extra,
            )
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise ModelError(f"timm cannot make '{name}' for {channels}x{height}x{width} images: {_line(error)}") from error
    return made


def _hugging_face(name: str, asked: Hf, spec: InputSpec, outputs: int) -> nn.Module:
    kinds = {
        "text": "AutoModelForSequenceClassification",
        "image": "AutoModelForImageClassification",
        "language": "AutoModelForCausalLM",
    }
    if spec.kind not in kinds:
        raise ModelError(f"'hf:{name}' takes text, language and images, but the data is {spec.kind}")
    library = optional("transformers", "hf")
    kind = getattr(library, kinds[spec.kind])
    changes: dict[str, Any] = {} if spec.kind == "language" else {"num_labels": outputs}
    if asked.dropout is not None:
        changes["classifier_dropout"] = asked.dropout
    try:
        config = library.AutoConfig.from_pretrained(name, **changes)
        model = (
            kind.from_pretrained(name, config=config, ignore_mismatched_sizes=True)
            if asked.pretrained
            else kind.from_config(config)
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"transformers cannot load '{name}': {_line(error)}; give a name from the hub (needs a network once) "
            "or the folder of a saved model"
        ) from error
    table = model.get_input_embeddings()
    rows = getattr(table, "num_embeddings", None)
    if spec.kind in ("text", "language") and rows is not None and spec.vocabulary > rows:
        raise ModelError(
            f"'hf:{name}' knows {rows} tokens, the data has {spec.vocabulary}; set data.vocabulary = {rows}, "
            "or use its own tokenizer"
        )
    return HuggingFace(model, spec.kind, outputs)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
