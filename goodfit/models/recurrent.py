"""Recurrent networks: one hidden state carried along a text, a token stream or a series."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import Dropout, lengths_of, small_head, words_of
from goodfit.models.mixing import mixed
from goodfit.models.weights import GeneratorFor, normal_
from goodfit.technique import Chance, Count, technique
from goodfit.types import InputSpec

Pool = Literal["last", "mean", "max"]


@technique("model")
class Rnn:
    """A plain recurrent network: one state, made anew from each token and the state before it.

    Formula: ``h_t = tanh(W x_t + U h_{t-1} + b)``.
    Source: Elman (1990).
    Ours: texts are packed, so padding is never read and the logits do not depend on how much of it there is. On
        language the state is carried from window to window and the gradient is not: truncated back-propagation
        through time, after ``data.length`` tokens (see ``sampling.name = "streams"``).
    Helps: short sequences, and to see what ``lstm`` and ``gru`` are for. Hurts: it forgets within tens of steps,
        because its gradient is a product of one factor per step. Takes text, language and series.

    width: size of the state. depth: layers on top of one another. embedding: numbers per token (text and language).
    bidirectional: read a text in both directions (never language or series). pool: how the states of a text become
    one row. truncate: cut the gradient after so many tokens or time steps within a sample too (0: never); the state
    itself is carried on.
    """

    width: Count = 128
    depth: Count = 1
    embedding: Count = 128
    dropout: Chance = 0.2
    bidirectional: bool = True
    pool: Pool = "max"
    truncate: Annotated[int, Field(ge=0)] = 0

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for inputs like ``spec`` and ``outputs`` logits. Raises ModelError for images, tables and
        tensors."""
        return _recurrent("rnn", nn.RNN, self, spec, outputs)


@technique("model")
class Lstm:
    """A long short-term memory: a cell that three gates write to, clear and read.

    Formula: ``i, f, o = sigmoid(W x_t + U h_{t-1} + b)`` (one each), ``g = tanh(...)``; ``c_t = f c_{t-1} + i g``;
        ``h_t = o tanh(c_t)``.
    Source: Hochreiter and Schmidhuber (1997), forget gate by Gers et al. (2000); its bias starts at 1 (Jozefowicz et
        al., 2015), so that a new net remembers.
    Ours: packed texts and carried states as for ``rnn``.
    Helps: memory over hundreds of steps: the cell's gradient is a product of forget gates near 1. Hurts: one step
        after the other, so it is slow on long texts. Takes text (in both directions), language and series.

    Settings as for ``rnn``.
    """

    width: Count = 128
    depth: Count = 1
    embedding: Count = 128
    dropout: Chance = 0.2
    bidirectional: bool = True
    pool: Pool = "max"
    truncate: Annotated[int, Field(ge=0)] = 0

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for inputs like ``spec`` and ``outputs`` logits. Raises ModelError for images, tables and
        tensors."""
        return _recurrent("lstm", nn.LSTM, self, spec, outputs)


@technique("model")
class Gru:
    """A gated recurrent unit: two gates and no separate cell, three quarters of an LSTM's weights.

    Formula: ``r, z = sigmoid(W x_t + U h_{t-1} + b)``; ``n = tanh(W_n x_t + b_n + r (U_n h_{t-1} + c_n))``;
        ``h_t = (1 - z) n + z h_{t-1}``.
    Source: Cho et al. (2014).
    Ours: the reset gate stands after the matrix product, as cuDNN and PyTorch have it; packed texts and carried states
        as for ``rnn``.
    Helps: where an LSTM does, with fewer weights. Hurts: as an LSTM; neither is better everywhere, so try both. Takes
        text, language and series.

    Settings as for ``rnn``.
    """

    width: Count = 128
    depth: Count = 1
    embedding: Count = 128
    dropout: Chance = 0.2
    bidirectional: bool = True
    pool: Pool = "max"
    truncate: Annotated[int, Field(ge=0)] = 0

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for inputs like ``spec`` and ``outputs`` logits. Raises ModelError for images, tables and
        tensors."""
        return _recurrent("gru", nn.GRU, self, spec, outputs)


class Recurrent(nn.Module):
    """Embedding or input, recurrent layers, pooling, head; see ``Rnn``."""

    recurrent = True

    def __init__(
        self,
        spec: InputSpec,
        outputs: int,
        *,
        cell: type[nn.RNNBase],
        width: int,
        depth: int,
        embedding: int,
        dropout: float,
        bidirectional: bool,
        pool: Pool,
        truncate: int,
    ) -> None:
        super().__init__()
        self.kind, self.pool, self.truncate = spec.kind, pool, truncate
        both = bidirectional and spec.kind == "text"
        words = spec.kind in ("text", "language")
        vocabulary, self.length = words_of(spec) if words else (0, 0)
        padding = 0 if spec.kind == "text" else None
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=padding) if words else None
        size = embedding if words else spec.shape[1]
        between = dropout if depth > 1 else 0.0
        made: Any = cell
        self.cell: nn.RNNBase = made(size, width, depth, batch_first=True, bidirectional=both, dropout=between)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(width * (2 if both else 1), outputs)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Unit embeddings, so that gates are not blind to the input; a small head."""
        if self.embedding is not None:
            normal_(self.embedding.weight, 1.0, generator=generator_for("embedding.weight"))
            if self.embedding.padding_idx is not None:
                nn.init.zeros_(self.embedding.weight[0].detach())
        small_head(self.head, generator_for("head.weight"))

    def forward(self, inputs: Tensor) -> Tensor:
        """Tokens ``(batch, length)`` or a series ``(batch, lookback, channels)`` to logits.

        Returns ``(batch, outputs)``, or ``(batch, length, outputs)`` for language.
        """
        if self.kind == "text":
            return torch.as_tensor(self.head(self.dropout(mixed(lambda t: self._read(t[:, : self.length]), inputs))))
        if self.kind == "language":
            return self.carry(inputs, None)[0]
        return torch.as_tensor(self.head(self.dropout(self._run(inputs, None)[0][:, -1])))

    def carry(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits ``(batch, length, outputs)`` of the tokens that come next, and the state behind them.

        state: ``(batch, parts, layers, width)``, what the call before returned, or None at the start of a text. An
            LSTM's parts are its hidden state and its cell; the others have one.
        """
        assert self.embedding is not None
        before: Any = None
        if state is not None:
            parts = tuple(part.transpose(0, 1).contiguous() for part in state.unbind(1))
            before = parts if len(parts) == 2 else parts[0]
        states, after = self._run(self.dropout(self.embedding(inputs)), before)
        parts = after if isinstance(after, tuple) else (after,)
        return torch.as_tensor(self.head(self.dropout(states))), torch.stack(parts).permute(2, 0, 1, 3)

    def _run(self, steps: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The top layer's states ``(batch, length, width)`` and the last state as PyTorch has it."""
        if not self.truncate or not self.training:
            states, state = self.cell(steps, state)
            return states, state
        pieces = []
        for piece in torch.split(steps, self.truncate, 1):
            states, state = self.cell(piece, state)
            state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
            pieces.append(states)
        return torch.cat(pieces, 1), state

    def _read(self, tokens: Tensor) -> Tensor:
        assert self.embedding is not None
        lengths = lengths_of(tokens)
        tokens = tokens[:, : int(lengths.max())]
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(self.embedding(tokens)), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, last = self.cell(packed)
        if self.pool == "last":
            final = last[0] if isinstance(last, tuple) else last
            return torch.cat([final[-2], final[-1]], 1) if self.cell.bidirectional else torch.as_tensor(final[-1])
        if self.pool == "max":
            states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True, padding_value=float("-inf"))
            return torch.as_tensor(states.amax(1))
        states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
        return torch.as_tensor(states.sum(1) / lengths[:, None])


def _recurrent(
    name: str, cell: type[nn.RNNBase], settings: Rnn | Lstm | Gru, spec: InputSpec, outputs: int
) -> nn.Module:
    if spec.kind not in ("text", "language", "series"):
        raise ModelError(
            f"model '{name}' takes text, language and series, but the data is {spec.kind}; use model.name = "
            + ("'resnet'" if spec.kind == "image" else "'mlp'")
        )
    return Recurrent(
        spec,
        outputs,
        cell=cell,
        width=settings.width,
        depth=settings.depth,
        embedding=settings.embedding,
        dropout=settings.dropout,
        bidirectional=settings.bidirectional,
        pool=settings.pool,
        truncate=settings.truncate,
    )
