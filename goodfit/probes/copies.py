"""Asks a copy of the network, once, whether samples mix in a batch and whether it sees later tokens."""

from __future__ import annotations

import contextlib
import io
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from goodfit.observer.events import Listener, LossCall
from goodfit.observer.live import Live
from goodfit.probes.before_training import batch_leak, causal_leak
from goodfit.probes.record import generators_kept

NUMBERS = 5_000_000
"""Weights and input numbers up to which a network is copied and asked."""


class Copies(Listener):
    """Records ``leak.batch`` and ``leak.spread``, ``leak.future`` and ``leak.future_spread``, ``leak.where``.

    Asked is a network with one tensor as its input, at its third batch of three different ones: a network that gets
    the same samples at each step (a graph) may mix them. A network with hooks of its own is not copied, for those
    would write into the program's lists. Whether it sees later tokens is asked where it is trained on the next token.
    """

    signals = ("leak.batch", "leak.spread", "leak.future", "leak.future_spread")
    absent = "saw no network with one tensor as its input that could be asked"

    def __init__(self, live: Live) -> None:
        self.live = live
        # Held until the backward pass only, while the graph needs it anyway.
        self.given: tuple[weakref.ref[nn.Module], Tensor, str] | None = None
        self.prints: list[float] = []
        self.first: weakref.ref[nn.Module] | None = None
        self.done = False

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth or self.done or not torch.is_grad_enabled():
            return
        if next(module.parameters(), None) is None:  # a loss
            return
        self.given = None
        if len(inputs) == 1 and isinstance(inputs[0], Tensor) and inputs[0].layout == torch.strided:
            given = inputs[0]
            if 2 <= given.dim() <= 5 and len(given) >= 4 and given.numel() <= NUMBERS and not given.requires_grad:
                self.given = (weakref.ref(module), given, str(self.live.where()))

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        self.given = None

    @override
    def loss(self, call: LossCall) -> None:
        if self.given is None or self.done or not call.input.requires_grad:
            return
        root, given = self.given[0](), self.given[1]
        if root is None or (self.first is not None and self.first() is not root):
            return
        self.first = weakref.ref(root)
        mark = float((given.double().flatten()[:4096] * torch.arange(1, min(given.numel(), 4096) + 1)).sum())
        if mark in self.prints:
            self.done = True  # the same samples again: they may belong together
            return
        self.prints.append(mark)
        if len(self.prints) < 3:
            return
        self.done = True
        if sum(p.numel() for p in root.parameters()) > NUMBERS or any(_hooked(one) for one in root.modules()):
            return
        tokens = given.dtype == torch.int64 and given.dim() == 2
        shift = _shift(given, call.target) if tokens else 0
        if shift < 0:
            return
        if not tokens and (not given.is_floating_point() or call.target.shape[:1] != given.shape[:1]):
            return
        with generators_kept(), contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            found = (
                causal_leak(root, given.detach().clone(), _words(root))
                if tokens
                else batch_leak(root, given[:32].detach().clone())
            )
            if tokens and not shift:  # it may be meant to see everything, as an autoencoder does
                self.live.values["tokens.causal"] = found["leak.future"] <= 1e-3 * found["leak.future_spread"]
                return
            self.live.values |= found
            self.live.values["leak.where"] = self.given[2]


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _shift(given: Tensor, target: Tensor) -> int:
    """By how many places the targets are the tokens shifted, where they count; -1 where they are not."""
    size, length = given.shape
    if target.is_floating_point() or target.numel() % size or not 0 <= length - target.numel() // size <= 3:
        return -1
    aim = target.reshape(size, -1)
    for shift in range(4):
        overlap = min(aim.shape[1], length - shift)
        counts = aim[:, :overlap] >= 0
        if overlap > 2 and bool((aim[:, :overlap] == given[:, shift : shift + overlap])[counts].all()):
            return shift
    return -1


def _words(root: nn.Module) -> int:
    return max((m.num_embeddings for m in root.modules() if isinstance(m, nn.Embedding)), default=2)
