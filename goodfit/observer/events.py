"""The events of a training program that probes may listen to. A probe has a method for each it wants, and only reads.

Every method gets live objects, which it must neither change nor keep alive: hold numbers, shapes and names, or weak
references. What a probe raises never reaches the program: the probe is switched off, and what it would have recorded
counts as *not checked*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class LossCall:
    """One call of a loss function of ``torch.nn.functional``.

    name: such as ``cross_entropy``. input, target: what it was given. options: its other arguments by name.
    output: what it returned.
    """

    name: str
    input: Tensor
    target: Tensor
    options: Mapping[str, Any]
    output: Tensor


class Listener:
    """Every event, doing nothing: a probe inherits this and overrides what it wants to hear.

    Order in an ordinary step: ``batch``, ``forward`` of each module, ``loss``, ``backward``, ``after_backward``,
    ``clip``, ``before_step``, ``after_step``, ``scheduler_step``, ``zero_grad``.
    """

    signals: tuple[str, ...] = ()
    """The names of what this probe records in the log."""
    absent: str = "it never happened"
    """Why a signal that was not recorded is not there."""
    matters: bool = False
    """Whether its absence is worth telling: a program without an optimizer, not one without this or that loss."""

    @property
    def always(self) -> frozenset[str]:
        """Events of ordinary steps that it must hear at each; the others it hears while `Attention` looks closely."""
        return frozenset()

    def woken(self) -> None:
        """Events were left out, and none is from now on: what was pending from before is no longer true."""

    def optimizer_made(self, optimizer: Optimizer) -> None:
        """An optimizer was built."""

    def zero_grad(self, owner: Optimizer | nn.Module) -> None:
        """Gradients are about to be cleared, through an optimizer or a module."""

    def backward(self, roots: tuple[Tensor, ...]) -> None:
        """Back-propagation from these tensors is about to begin; their graphs are still there."""

    def after_backward(self, roots: tuple[Tensor, ...]) -> None:
        """It has ended."""

    def before_step(self, optimizer: Optimizer) -> None:
        """The optimizer is about to update."""

    def after_step(self, optimizer: Optimizer) -> None:
        """It has updated."""

    def loss(self, call: LossCall) -> None:
        """A loss function returned."""

    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        """A module is about to be called. depth: 0 for the outermost call."""

    def forward(self, module: nn.Module, inputs: tuple[Any, ...], output: Any, depth: int) -> None:
        """A module returned."""

    def dropout(self, rate: float, training: bool, module: nn.Module | None, told: bool) -> None:
        """``torch.nn.functional.dropout`` is called.

        module: the innermost module that is running. told: whether the caller said ``training``.
        """

    def clip(self, parameters: list[Tensor], kind: str, limit: float, norm: Tensor | None) -> None:
        """Gradients were clipped, by ``norm`` or ``value``."""

    def scaler(self, scaler: Any, what: str, optimizer: Optimizer | None) -> None:
        """A ``GradScaler`` is about to ``scale`` a loss, ``unscale``, ``step`` or ``update``."""

    def scheduler_made(self, scheduler: Any) -> None:
        """A learning-rate scheduler was built."""

    def scheduler_step(self, scheduler: Any, arguments: tuple[Any, ...]) -> None:
        """A scheduler stepped."""

    def loader_begins(self, loader: Any) -> None:
        """A ``DataLoader`` is iterated from its start."""

    def batch(self, loader: Any, number: int, batch: Any) -> None:
        """A ``DataLoader`` gave its batch ``number``, from 0."""

    def waited(self, loader: Any, began: float, ended: float) -> None:
        """The program waited for a loader's batch, between these two moments of ``time.perf_counter``."""

    def loader_ends(self, loader: Any, batches: int) -> None:
        """A ``DataLoader`` ran out after so many batches."""

    def data_split(self, parts: Iterable[Any]) -> None:
        """``random_split`` gave these parts."""

    def state_loaded(self, owner: Any, state: Mapping[str, Any]) -> None:
        """``load_state_dict`` of a module, optimizer or scheduler has run."""

    def moved(self, module: nn.Module) -> None:
        """``to``, ``cuda``, ``half`` ... of a module has run."""

    def loaded(self, what: Any) -> None:
        """PyTorch has read this from a file."""

    def saved(self, what: Any) -> None:
        """PyTorch is about to write something to a file."""

    def ended(self) -> None:
        """The program, or the watch, is over."""
