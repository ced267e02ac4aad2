"""Models by name. Every one gives logits, and is initialised by ``goodfit.techniques.init``.

Three optional protocols that any model, also your own, may follow:

- ``fit_to(inputs, targets)``: called once before the first step with training samples, prepared as in training, best
  all of them: the place for what is read from data, such as whitening filters, the bins of a column, or word counts.
  It must be a pure function of its arguments, and what it sets must lie in buffers or frozen parameters, so that it
  is saved with the weights.
- ``initialise(generator_for)``: the model's own rules for its initial weights, called after the general ones;
  ``generator_for(name)`` is a random generator keyed by the seed and the parameter's name.

- ``carry(inputs, state)``: logits of the tokens that come next and the state behind them, None at the start of a
  text: so a text is written without reading all of it again for each token (``goodfit.models.generate``). Where the
  attribute ``recurrent`` is true as well, states are tensors ``(batch, ...)`` and can be carried from window to window
  while training (``sampling.name = "streams"``).

A model that is an ensemble inside has an attribute ``members`` and gives ``(batch, members, outputs)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
from torch import Tensor, nn

from goodfit.errors import ModelError, RecipeError, nearest
from goodfit.models.bag import Bag
from goodfit.models.convolutional import Cnn, Fastnet
from goodfit.models.external import PREFIXES, FromRun, Timm, Torchvision, external
from goodfit.models.generate import generate
from goodfit.models.hugging_face import Hf
from goodfit.models.layers import nonlinearity_of, set_dropout
from goodfit.models.linear import Linear
from goodfit.models.mlp import Mlp
from goodfit.models.recurrent import Gru, Lstm, Rnn
from goodfit.models.residual import Resnet
from goodfit.models.series import Dlinear, Seasonal
from goodfit.models.tabular import Tabular
from goodfit.models.transformer import Transformer, TransformerEncdec
from goodfit.models.weights import own_rules
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
    Seasonal,
    Timm,
    Torchvision,
    Hf,
    FromRun,
)


def build(
    name: str,
    settings: Mapping[str, Any],
    spec: InputSpec,
    outputs: int,
    *,
    config: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A model by name for inputs like ``spec``, giving ``outputs`` logits.

    name: of a class in ``MODELS``, or ``timm:NAME``, ``torchvision:NAME``, ``hf:NAME``. settings: plain values of its
    fields; the rest are defaults. config: of the ``architecture`` of such a library's model: its layers are then made
    from that, without weights. ``techniques.init`` fills the weights; a library's own models draw theirs from
    PyTorch's global generator, so seed that.

    Raises ModelError for an unknown name (with the nearest one) or inputs the model does not take, RecipeError for
    wrong settings.
    """
    known = {kind.name: kind for kind in MODELS}
    plain, colon, rest = name.partition(":")
    libraries = {prefix[:-1] for prefix in PREFIXES}
    if plain not in known or bool(colon) != (plain in libraries) or (colon and not rest):
        prefixed = [prefix + rest for prefix in PREFIXES] if rest else []
        raise ModelError(f"unknown model '{name}'{nearest(name, [*(set(known) - libraries), *prefixed])}")
    if spec.kind == "sequence" and name != "transformer_encdec":
        raise ModelError(f"model '{name}' takes no pairs of sequences; use model.name = 'transformer_encdec'")
    try:
        if colon:
            return external(name, settings, spec, outputs, config)
        made: nn.Module = known[name](**settings).build(spec, outputs)
        own_rules(made, seed=0)
    except pydantic.ValidationError as error:
        raise RecipeError(_problems(known[plain], error)) from error
    return made


def fit_to(model: nn.Module, inputs: Inputs, targets: Tensor | None = None) -> bool:
    """Let a model read what it needs from prepared training samples; False where it has no ``fit_to``."""
    read = getattr(model, "fit_to", None)
    if not callable(read):
        return False
    read(inputs, targets)
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
