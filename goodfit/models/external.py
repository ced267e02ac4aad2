"""Models of other libraries by prefix: ``timm:NAME``, ``torchvision:NAME`` and ``hf:NAME``, pretrained unless said.

Weights are read as safetensors, or by PyTorch's reader that takes tensors and nothing else; no code that comes with
a model is ever run. A model from a library has an attribute ``architecture``: the plain values (``name``,
``settings``, ``config``) from which ``build`` makes the same layers again without the files they came from.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from goodfit.errors import ModelError, hushed, nearest, optional
from goodfit.foreign import safe_copy
from goodfit.models.heads import head_names
from goodfit.models.hugging_face import Hf, hugging_face, short
from goodfit.models.layers import set_dropout
from goodfit.technique import Chance, technique
from goodfit.types import InputSpec

PREFIXES = ("timm:", "torchvision:", "hf:", "run:")
_FROM_NOTHING = "or set model.pretrained = false to train it from nothing"


@technique("model")
class Timm:
    """An image model of the timm library: ``model.name = "timm:resnet18"``, or the folder of one that timm saved.

    Its classification head is made anew for the task's outputs, its first layer adapted to the images' channels, and
    a vision transformer's positions to their size. What follows the colon is timm's own name, with or without the tag
    of its weights. Takes images, standardised as the weights expect them (``data.like``).

    pretrained: start from the published weights; they are downloaded once. dropout: of the head; the model's own
    unless given. drop_path: stochastic depth, where the model has it.
    """

    pretrained: bool = True
    dropout: Chance | None = None
    drop_path: Chance | None = None


@technique("model")
class Torchvision:
    """An image model of torchvision: ``model.name = "torchvision:resnet18"``.

    Its classification head is made anew for the task's outputs; for gray images the first layer's filters are summed
    over their colours. Takes images, standardised as the weights expect them (``data.like``); vision transformers
    want the size they were trained at (``data.image_size = 224``).

    pretrained: start from the published weights (torchvision's newest); they are downloaded once. dropout: of every
    dropout layer that the model has; its own numbers unless given.
    """

    pretrained: bool = True
    dropout: Chance | None = None


@technique("model", name="run")
class FromRun:
    """The model of a finished run with its weights: ``model.name = "run:runs/3"``.

    Everything but the head is taken over; the head too where the classes are the same. Inputs are made as that run
    made them (``data.like``): its tokens, its standardisation, its columns. The new run keeps what it needs, so the
    old one may go once this one has finished.
    """


def external(
    name: str, settings: Mapping[str, Any], spec: InputSpec, outputs: int, config: Mapping[str, Any] | None = None
) -> nn.Module:
    """The model behind a prefixed name, giving ``outputs`` logits.

    settings: of ``Timm``, ``Torchvision`` or ``Hf``. config: that of ``architecture``, for layers without weights.
    Raises ModelError for an unknown prefix or name, inputs that it does not take and weights that cannot be had, and
    MissingExtra where the library is not installed.
    """
    prefix, _, rest = name.partition(":")
    if prefix == "timm":
        made, layers = _timm(rest, Timm(**settings), spec, outputs, config)
    elif prefix == "torchvision":
        made, layers = _torchvision(rest, Torchvision(**settings), spec, outputs, config)
    elif prefix == "hf":
        made, layers = hugging_face(rest, Hf(**settings), spec, outputs, config)
    elif prefix == "run":
        raise ModelError(f"'{name}': a run's model is made by goodfit.origin.model_for, which reads its folder")
    else:
        raise ModelError(f"unknown model prefix '{prefix}:'{nearest(prefix, [p[:-1] for p in PREFIXES])}")
    plain = {"name": name, "settings": {**settings, "pretrained": False}, "config": layers}
    object.__setattr__(made, "architecture", plain)
    return made


def _timm(
    name: str, asked: Timm, spec: InputSpec, outputs: int, config: Mapping[str, Any] | None
) -> tuple[nn.Module, dict[str, Any]]:
    if spec.kind != "image":
        raise ModelError(f"'timm:{name}' takes images, but the data is {spec.kind}")
    timm = optional("timm", "timm")
    folder = Path(name).expanduser()
    saved = (folder / "config.json").is_file()
    channels, height, width = spec.shape
    extra: dict[str, Any] = {"num_classes": outputs, "in_chans": channels}
    if config is not None:
        own, called = dict(config), str(config["architecture"])
        extra = {**own["args"], **extra}
    elif saved:
        own, called = _saved_by_timm(folder), f"local-dir:{folder}"
    else:
        known = timm.list_models()
        if name.split(".")[0] not in known:
            what = "a folder with a config.json" if folder.is_dir() else "such a model"
            raise ModelError(f"timm has no model '{name}', nor is it {what}{nearest(name.split('.')[0], known)}")
        own, called = {"architecture": name, "args": {}}, name
    _check_timm(timm, name, own)
    extra |= {} if asked.dropout is None else {"drop_rate": asked.dropout}
    extra |= {} if asked.drop_path is None else {"drop_path_rate": asked.drop_path}
    try:
        made: nn.Module = timm.create_model(called, pretrained=False, **extra)
        need = getattr(getattr(made, "patch_embed", None), "img_size", None)
        resized = need is not None and tuple(need) != (height, width)
        extra |= {"img_size": (height, width)} if resized else {}
        if resized and not asked.pretrained:
            made = timm.create_model(called, pretrained=False, **extra)
    except (RuntimeError, OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"timm cannot make '{name}' for {channels}x{height}x{width} images: {short(error)}") from error
    if asked.pretrained and config is None:
        try:
            with hushed("timm", "huggingface_hub"), _safe_folder(folder if saved else None) as place:
                made = timm.create_model(place or called, pretrained=True, **extra)
        except ModelError:
            raise
        except Exception as error:  # downloads fail with errors of several libraries, not all of them OSError
            where = f"in {folder} cannot be read" if saved else "cannot be downloaded"
            raise ModelError(f"the weights of 'timm:{name}' {where}: {short(error)}; {_FROM_NOTHING}") from error
    return made, own


def _check_timm(timm: ModuleType, name: str, own: Mapping[str, Any]) -> None:
    """Refuse a description from a folder that names another source of the model, or files to read on the way."""
    kind = str(own["architecture"])
    if kind.split(".")[0] not in timm.list_models():
        raise ModelError(f"'timm:{name}' is described as '{kind}', which is no model of timm's own")
    theirs = set(inspect.signature(timm.create_model).parameters) & set(own["args"])
    if theirs or "pretrained_model_args" in own["args"]:
        raise ModelError(f"'timm:{name}' is described with {', '.join(sorted(theirs))}, which no layer takes")


@contextmanager
def _safe_folder(folder: Path | None) -> Iterator[str]:
    """How timm calls a saved model's folder: one with the same weights as safetensors where it holds a pickle."""
    if folder is None:
        yield ""
        return
    pickled = folder / "pytorch_model.bin"
    if any(folder.glob("*.safetensors")) or not pickled.exists():
        yield f"local-dir:{folder}"
        return
    with safe_copy(pickled, folder / "config.json") as safe:
        yield f"local-dir:{safe}"


def _saved_by_timm(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / "config.json").read_bytes())
        return {"architecture": str(values["architecture"]), "args": dict(values.get("model_args") or {})}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / 'config.json'} is not what timm writes: {short(error)}") from error


def _torchvision(
    name: str, asked: Torchvision, spec: InputSpec, outputs: int, config: Mapping[str, Any] | None
) -> tuple[nn.Module, dict[str, Any]]:
    if spec.kind != "image":
        raise ModelError(f"'torchvision:{name}' takes images, but the data is {spec.kind}")
    models = importlib.import_module("torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(f"torchvision has no model '{name}'{nearest(name, known)}")
    channels, height, width = spec.shape
    if channels not in (1, 3):
        raise ModelError(f"'torchvision:{name}' takes images of 1 or 3 channels, and these have {channels}")
    extra = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    made: nn.Module = models.get_model(name, weights=None, num_classes=outputs, **extra)
    side = getattr(made, "image_size", None)
    if side is not None and (height, width) != (side, side):
        raise ModelError(
            f"'torchvision:{name}' takes images of {side}x{side} pixels, and these are {height}x{width}; "
            f"set data.image_size = {side}"
        )
    if channels == 1:
        _take_gray(made)
    if asked.pretrained and config is None:
        try:
            weights = models.get_model_weights(name).DEFAULT
            found = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except Exception as error:  # a download fails in many ways; so does an unsafe file
            raise ModelError(
                f"the weights of 'torchvision:{name}' cannot be had: {short(error)}; {_FROM_NOTHING}"
            ) from error
        take_over(made, found, of=f"'torchvision:{name}'")
    if asked.dropout is not None and set_dropout(made, asked.dropout) == 0:
        raise ModelError(f"'torchvision:{name}' has no dropout layer; take out model.dropout")
    return made, {}


def take_over(model: nn.Module, found: Mapping[str, Tensor], *, of: str, with_head: bool = False) -> None:
    """Copy every weight but the head's into ``model``; of filters over three colours, their sum where one is wanted.

    with_head: the head's too. of: whose weights, for the message. Raises ModelError where a weight is missing or of
    another shape.
    """
    own = model.state_dict()
    heads = set() if with_head else set(head_names(model))
    body = [name for name in own if name not in heads]
    if not any(own[name].is_floating_point() and own[name].dim() for name in body):
        raise ModelError(f"{of} is nothing but a head, so there is nothing to take over for other classes")
    for name in body:
        value = found.get(name)
        if value is not None and value.dim() == 4 and own[name].shape == (value.shape[0], 1, *value.shape[2:]):
            value = value.sum(1, keepdim=True)
        if value is None or value.shape != own[name].shape:
            there = "is missing" if value is None else f"has the shape {tuple(value.shape)}"
            raise ModelError(
                f"the weights of {of} do not fit: '{name}' {there}, and {tuple(own[name].shape)} is wanted; "
                "the inputs must have the same form as there"
            )
        own[name] = value
    model.load_state_dict(own)


def _take_gray(model: nn.Module) -> None:
    for parent in model.modules():
        for name, module in parent.named_children():
            if isinstance(module, nn.Conv2d) and module.in_channels == 3:
                made = nn.Conv2d(
                    1,
                    module.out_channels,
                    module.kernel_size,  # type: ignore[arg-type]
                    stride=module.stride,  # type: ignore[arg-type]
                    padding=module.padding,  # type: ignore[arg-type]
                    bias=module.bias is not None,
                )
                setattr(parent, name, made)
                return
