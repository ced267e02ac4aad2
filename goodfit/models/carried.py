"""The hidden states of a text that is read as parallel streams, carried from one batch to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Carried:
    """Truncated back-propagation through time: the state goes on, the gradient does not.

    A text is cut into as many streams as a batch has rows, and a batch holds the next window of each. The model's
    ``carry(inputs, state)`` gets the state in which it left each stream, cut off from what made it, so that the
    gradient reaches back to the start of the window only, while memory reaches back further.
    Source: Williams and Peng (1990); Mikolov et al. (2010) for language models.

    streams: how many there are. states: ``(streams, ...)``, or None at the beginning of the text.
    """

    streams: int
    states: Tensor | None = None

    def __post_init__(self) -> None:
        self._next: Tensor | None = None

    def forward(self, model: Any, inputs: Any, rows: Tensor) -> Tensor:
        """Logits of the next window of the streams ``rows`` ``(batch,)``; a batch may come in pieces, or twice."""
        logits, after = model.carry(inputs, None if self.states is None else self.states[rows])
        after = after.detach()
        if self._next is None:
            self._next = after.new_zeros(self.streams, *after.shape[1:]) if self.states is None else self.states.clone()
        self._next[rows] = after
        return torch.as_tensor(logits)

    def go_on(self) -> None:
        """The batch is done: what it left is where the next one starts."""
        self.states, self._next = self._next, None

    def stay(self) -> None:
        """The batch was left out: the next one starts where this one did."""
        self._next = None

    def forget(self) -> None:
        """The text begins anew."""
        self.states = self._next = None


def can_carry(model: nn.Module) -> bool:
    """Whether a model says that it is ``recurrent``: the states of its ``carry`` are tensors ``(batch, ...)``."""
    return bool(getattr(model, "recurrent", False)) and callable(getattr(model, "carry", None))
