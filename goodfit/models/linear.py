"""The baseline: every input flattened, one weight per input and output."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import pixels, trimmed, words_of
from goodfit.models.weights import GeneratorFor, normal_
from goodfit.technique import technique
from goodfit.types import Inputs, InputSpec


@technique("model")
class Linear:
    """Linear (softmax) regression on the flattened input: what any network has to beat.

    Formula: ``logits = x W + b``. Categories and tokens count as one-hot inputs: a category adds one row of weights,
    a text the mean of its tokens' rows. On language it is the bigram model, a table of the next token given this one.
    Takes every kind of input. Nothing is hidden in it, so ``init.name = "zeros"`` is allowed.
    """

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for inputs like ``spec`` and ``outputs`` logits."""
        return LinearModel(spec, outputs)


class LinearModel(nn.Module):
    """Sums one row of weights per input; see ``Linear``."""

    def __init__(self, spec: InputSpec, outputs: int) -> None:
        super().__init__()
        tokens = spec.vocabulary if spec.kind in ("text", "language") or spec.length else 0
        if spec.kind == "language" and tokens > 8192:
            raise ModelError(
                f"model 'linear' needs a table of {tokens} x {tokens} on language; use model.name = 'transformer', "
                "or a smaller data.vocabulary"
            )
        size = spec.numeric if spec.kind == "table" else 0 if tokens else math.prod(spec.shape)
        self.head = nn.Linear(size, outputs, bias=False) if size else None
        self.bias = nn.Parameter(torch.zeros(outputs))
        codes = spec.cardinalities if spec.kind == "table" else ()
        starts = torch.tensor((0, *codes)).cumsum(0)
        self.starts: Tensor
        self.register_buffer("starts", starts[:-1], persistent=False)
        self.category = nn.Embedding(int(starts[-1]), outputs) if codes else None
        self.table = nn.Embedding(tokens, outputs) if spec.kind == "language" else None
        words = words_of(spec)[0] if spec.kind == "text" else spec.length and tokens
        self.length = words_of(spec)[1] if spec.kind == "text" else spec.length
        self.tokens = nn.EmbeddingBag(words, outputs, mode="mean", padding_idx=0) if words else None
        self.image = nn.Linear(math.prod(spec.image), outputs) if spec.image else None

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Small weights: the scale of the inputs must not decide the first loss."""
        nn.init.zeros_(self.bias)
        for name, module in self.named_children():
            weight = module.get_parameter("weight")
            std = 0.1 / math.sqrt(weight.shape[1]) if isinstance(module, nn.Linear) else 0.01
            normal_(weight, std, generator=generator_for(f"{name}.weight"))
        if self.tokens is not None:
            nn.init.zeros_(self.tokens.weight[0].detach())

    def forward(self, inputs: Inputs) -> Tensor:
        """Inputs of any kind to logits ``(batch, outputs)``, or ``(batch, length, outputs)`` for language."""
        if not isinstance(inputs, dict):
            if self.head is not None:
                rows = self.head(pixels(inputs).flatten(1))
            else:
                rows = self.table(inputs) if self.table is not None else self.text(inputs)
            return torch.as_tensor(rows + self.bias)
        total: Tensor = self.bias
        if self.head is not None:
            total = total + self.head(inputs["numeric"])
        if self.category is not None:
            total = total + self.category(inputs["category"] + self.starts).sum(1)
        if self.tokens is not None:
            total = total + self.text(inputs["tokens"])
        if self.image is not None:
            total = total + self.image(pixels(inputs["image"]).flatten(1))
        return torch.as_tensor(total)

    def text(self, tokens: Tensor) -> Tensor:
        """The mean of the tokens' rows: ``(batch, length)`` int64 to ``(batch, outputs)``."""
        assert self.tokens is not None
        return torch.as_tensor(self.tokens(trimmed(tokens[:, : self.length])))
