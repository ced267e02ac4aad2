"""Models by name. Every one gives logits, and is initialised by ``goodfit.techniques.init``.

Two optional protocols that any model, also your own, may follow:

- ``fit_to(inputs)``: called once before the first step with a large sample of the training inputs, prepared as in
  training; the place for what is read from data, such as whitening filters or the bins of a column. It must be a pure
  function of the inputs and the model.
- ``initialise(generator_for)``: the model's own rules for its initial weights, called after the general ones;
  ``generator_for(name)`` is a random generator keyed by the seed and the parameter's name.

A model that is an ensemble inside has an attribute ``members`` and gives ``(batch, members, outputs)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
from torch import nn

from goodfit.errors import ModelError, RecipeError, nearest
from goodfit.models.bag import Bag
from goodfit.models.convolutional import Cnn, Fastnet
from goodfit.models.external import PREFIXES, Hf, Timm, external
from goodfit.models.generate import generate
from goodfit.models.layers import nonlinearity_of, set_dropout
from goodfit.models.linear import Linear
from goodfit.models.mlp import Mlp
from goodfit.models.recurrent import Gru, Lstm, Rnn
from goodfit.models.residual import Resnet
from goodfit.models.series import Dlinear
from goodfit.models.tabular import Tabular
from goodfit.models.transformer import Transformer, TransformerEncdec
from goodfit.types import Inputs, InputSpec

__all__ = ["MODELS", "build", "fit_to", "generate", "nonlinearity_of", "set_dropout"]

MODELS: tuple[type[Any], ...] = (
    Linear,
    Mlp,
    Tabular,
    Cnn,
    Fastnet,
    Resnet,
    Bag,
    Rnn,
    Lstm,
    Gru,
    Transformer,
    TransformerEncdec,
    Dlinear,
    Timm,
    Hf,
)


def build(name: str, settings: Mapping[str, Any], spec: InputSpec, outputs: int) -> nn.Module:
    """A model by name for inputs like ``spec``, giving ``outputs`` logits.

    name: of a class in ``MODELS``, or ``timm:NAME``, ``hf:NAME``. settings: plain values of its fields; the rest are
    defaults. ``techniques.init`` fills the weights; a library's own models draw theirs from PyTorch's global
    generator, so seed that.

    Raises ModelError for an unknown name (with the nearest one) or inputs the model does not take, RecipeError for
    wrong settings.
    """
    known = {kind.name: kind for kind in MODELS}
    plain, colon, rest = name.partition(":")
    if plain not in known or bool(colon) != (plain in ("timm", "hf")) or (colon and not rest):
        raise ModelError(f"unknown model '{name}'{nearest(name, [*(set(known) - {'timm', 'hf'}), *PREFIXES])}")
    try:
        if colon:
            return external(name, settings, spec, outputs)
        made: nn.Module = known[name](**settings).build(spec, outputs)
    except pydantic.ValidationError as error:
        raise RecipeError(_problems(known[plain], error)) from error
    return made


def fit_to(model: nn.Module, inputs: Inputs) -> bool:
    """Let a model read what it needs from prepared training inputs; False where it has no ``fit_to``."""
    read = getattr(model, "fit_to", None)
    if not callable(read):
        return False
    read(inputs)
    return True


def _problems(kind: type[Any], error: pydantic.ValidationError) -> list[str]:
    problems = []
    for one in error.errors():
        key = str(one["loc"][0]) if one["loc"] else ""
        if one["type"] == "unexpected_keyword_argument":
            problems.append(f"unknown key 'model.{key}'{nearest(key, kind.__dataclass_fields__)}")
        else:
            problems.append(f"model.{key} = {one['input']!r}: {one['msg'].removeprefix('Input ')}")
    return problems
