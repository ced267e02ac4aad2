"""What a training step is made of, copied once a fault is suspected: enough to replay some steps elsewhere.

Until it is asked it holds nothing. Asked, it follows one whole step to learn how it is built, takes a copy of network,
optimizer and gradients at its end, and copies of the batches that follow.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from goodfit.observer.events import Listener, LossCall
from goodfit.observer.live import Live
from goodfit.probes.record import NotRecorded, said

BATCHES = 8
"""Batches that a replay goes through in turns."""
NUMBERS = 5_000_000
"""Weights of a network, and numbers in all its batches, up to which a step is copied and replayed."""

Bridge = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sample:
    """One batch as it was seen at the network's and the loss's call. shape: of what the loss was given."""

    inputs: tuple[Any, ...]
    target: Tensor
    shape: tuple[int, ...]


@dataclass
class Kit:
    """Copies to replay steps with.

    actions: of one step in the program's order: ``zero_grad``, ``forward``, ``backward``, ``clip``, ``step``.
    loss: its name. options: its other arguments. bridge: what lies between network and loss, by name (``softmax(1)``).
    factor: what the loss is multiplied by before it is back-propagated. clip: kind and limit.
    """

    network: nn.Module
    optimizer: Optimizer
    gradients: list[Tensor | None]
    actions: tuple[str, ...]
    loss: str
    options: dict[str, Any]
    bridge: str
    factor: float
    clip: tuple[str, float] | None
    samples: list[Sample] = field(default_factory=list)


BRIDGES: dict[str, Bridge] = {
    "": lambda x: x,
    "softmax(1)": lambda x: x.softmax(1 if x.dim() > 1 else 0),
    "softmax(-1)": lambda x: x.softmax(-1),
    "softmax(0)": lambda x: x.softmax(0),
    "sigmoid": lambda x: x.sigmoid(),
    "log_softmax": lambda x: x.log_softmax(1 if x.dim() > 1 else 0),
    "log_softmax(-1)": lambda x: x.log_softmax(-1),
    "relu": lambda x: x.relu(),
    "transposed": lambda x: x.transpose(1, 2),
    "all but the last": lambda x: x[:, :-1],
}
"""What may lie between a network's output and the loss, apart from a change of shape."""


class Ingredients(Listener):
    """Records nothing for rules. ``ask`` starts it, ``kit`` is ready when ``ready`` says so, ``why`` says why not."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.asked = False
        self._begin()

    def _begin(self) -> None:
        self.kit: Kit | None = None
        self.why = ""
        self._whole = False
        self._clear()

    def _clear(self) -> None:
        self._actions: list[str] = []
        self._networks: list[tuple[weakref.ref[nn.Module], tuple[Any, ...], Any]] = []
        self._losses: list[LossCall] = []
        self._roots: list[Tensor] = []
        self._clip: tuple[str, float] | None = None
        self._open: tuple[nn.Module, tuple[Any, ...]] | None = None

    def ask(self) -> None:
        """Begin with the next step."""
        if not self.asked:
            self._begin()
            self.asked = True

    def end(self) -> None:
        """Let go of everything."""
        self.asked = False
        self._begin()

    @property
    def ready(self) -> bool:
        """Whether there is nothing more to wait for."""
        return bool(self.why) or (self.kit is not None and len(self.kit.samples) >= BATCHES)

    @property
    def _hears(self) -> bool:
        return self.asked and not self.ready

    @override
    def zero_grad(self, owner: Optimizer | nn.Module) -> None:
        if self._hears:
            self._actions.append("zero_grad")

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if self._hears and depth == 0 and torch.is_grad_enabled() and next(module.parameters(), None) is not None:
            self._actions.append("forward")

    @override
    def forward(self, module: nn.Module, inputs: tuple[Any, ...], output: Any, depth: int) -> None:
        if self._hears and depth == 0 and torch.is_grad_enabled() and next(module.parameters(), None) is not None:
            self._networks.append((weakref.ref(module), inputs, output))
            if len(self._networks) > 20:
                self.why = "a step makes more than one call of a network"
                self._clear()

    @override
    def loss(self, call: LossCall) -> None:
        if self._hears and isinstance(call.input, Tensor) and call.input.requires_grad:
            self._losses.append(call)

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        if self._hears:
            self._actions.append("backward")
            self._roots += roots
            if self._whole:
                # Before back-propagation and the update change anything in place.
                try:
                    self._take()
                except NotRecorded as error:
                    self.why = str(error)

    @override
    def clip(self, parameters: list[Tensor], kind: str, limit: float, norm: Tensor | None) -> None:
        if self._hears:
            self._actions.append("clip")
            self._clip = (kind, limit)

    @override
    def scaler(self, scaler: Any, what: str, optimizer: Optimizer | None) -> None:
        if self._hears and scaler.is_enabled():
            self.why = "the program scales its loss for mixed precision"

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        if self._hears:
            self._actions.append("step")

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        if not self._hears:
            return
        try:
            if self._whole and self.kit is None:
                self._copy(optimizer)
            elif self.kit is not None and type(optimizer) is not type(self.kit.optimizer):
                raise NotRecorded("several optimizers take turns")
        except NotRecorded as error:
            self.why = str(error)
        self._whole = True  # the step that was under way when it was asked is not known from its start
        self._clear()

    def _copy(self, optimizer: Optimizer) -> None:
        network, _, _, call = self._understood()
        _copyable(network)
        if any(p.grad is not None and p.grad.layout != torch.strided for p in network.parameters()):
            raise NotRecorded("its gradients are sparse")
        if self._actions.count("backward") != 1 or self._actions.count("step") != 1:
            raise NotRecorded("a step is made of several backward passes")
        try:
            trial, its = copy.deepcopy((network, optimizer))
        except Exception as error:  # what cannot be copied raises anything
            raise NotRecorded(f"network and optimizer cannot be copied ({said(error)})") from error
        gradients = [None if p.grad is None else p.grad.detach().clone() for p in parameters_of(network, optimizer)]
        actions, options = tuple(self._actions), _options(call)
        self.kit = Kit(trial, its, gradients, actions, call.name, options, self._bridge, self._factor, self._clip)

    def _take(self) -> None:
        """A copy of this step's batch."""
        network, inputs, output, call = self._understood()
        self._bridge = _bridge(output, call.input)
        self._factor = _factor(self._roots[0], call.output)
        if self.kit is None:
            return  # the first whole step is only looked at: its update lies before the copy
        if type(network) is not type(self.kit.network) or call.name != self.kit.loss:
            raise NotRecorded("its steps are of several kinds")
        kept = tuple(one.detach().clone() if isinstance(one, Tensor) else one for one in inputs)
        sample = Sample(kept, call.target.detach().clone(), tuple(call.input.shape))
        numbers = sum(one.numel() for one in (*kept, sample.target) if isinstance(one, Tensor))
        if numbers * BATCHES > NUMBERS:
            raise NotRecorded("its batches are large")
        self.kit.samples.append(sample)

    def _understood(self) -> tuple[nn.Module, tuple[Any, ...], Tensor, LossCall]:
        """The parts of the step now under way. Raises NotRecorded where it is made of other things."""
        if torch.is_autocast_enabled() or torch.is_autocast_enabled("cpu"):
            raise NotRecorded("the program trains in mixed precision")
        if len(self._networks) != 1:
            count = "no" if not self._networks else "more than one"
            raise NotRecorded(f"a step makes {count} call of a network")
        if len(self._losses) != 1:
            count = "no" if not self._losses else "more than one"
            raise NotRecorded(f"a step makes {count} call of a loss of torch.nn.functional")
        if len(self._roots) != 1:
            raise NotRecorded("a step is made of several backward passes")
        ref, inputs, output = self._networks[0]
        network, call = ref(), self._losses[0]
        if network is None or not isinstance(output, Tensor):
            raise NotRecorded("the network does not return one tensor")
        if not inputs or not all(isinstance(one, (Tensor, int, float, bool, type(None))) for one in inputs):
            raise NotRecorded("the network is called with more than tensors")
        if not isinstance(call.target, Tensor) or call.target.requires_grad:
            raise NotRecorded("its targets come out of a network")
        return network, inputs, output, call


def _copyable(network: nn.Module) -> None:
    if isinstance(network, nn.parallel.DistributedDataParallel):
        raise NotRecorded("it is trained by several processes")
    if sum(p.numel() for p in network.parameters()) > NUMBERS:
        raise NotRecorded("the network is large")
    if any(one._forward_hooks or one._forward_pre_hooks or one._backward_hooks for one in network.modules()):
        raise NotRecorded("the network has hooks of its own")


def parameters_of(network: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    """Of both, each once, in an order that is the same for copies."""
    every = [*network.parameters(), *(p for group in optimizer.param_groups for p in group["params"])]
    return list({id(p): p for p in every}.values())


def _options(call: LossCall) -> dict[str, Any]:
    return {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in call.options.items()}


def _bridge(output: Tensor, given: Tensor) -> str:
    """What makes the loss's input of the network's output: known by trying."""
    with torch.no_grad():
        for name, bridge in BRIDGES.items():
            try:
                made = bridge(output.detach())
            except (IndexError, RuntimeError):
                continue
            if made.numel() == given.numel() and torch.equal(made.reshape(given.shape), given.detach()):
                return name
    raise NotRecorded("what lies between network and loss is not known")


def _factor(root: Tensor, output: Tensor) -> float:
    """What the loss was multiplied by. Raises NotRecorded where more was added."""
    value, whole = output.detach(), root.detach()
    if root is output or root.grad_fn is output.grad_fn:
        return 1.0
    behind = root.grad_fn.next_functions if root.grad_fn is not None else ()
    alone = sum(node is not None for node, _ in behind) == 1 and behind[0][0] is output.grad_fn
    if alone and whole.numel() == 1 and value.numel() == 1 and float(value):
        return float(whole / value)
    raise NotRecorded("the loss is made of several parts")


__all__ = ["BATCHES", "BRIDGES", "Ingredients", "Kit", "Sample", "parameters_of"]
