"""The only place that touches PyTorch: wrappers around a few of its functions that tell listeners what happens.

Wrappers call what they wrap with the same arguments and return what it returned; they draw no random numbers and hold
no tensor. They are on the classes and modules of PyTorch, never on a user's objects, so saving a model works,
and they are taken off at the end. Inside a listener nothing is told, so a listener may use PyTorch itself.

Not seen: functions that were imported from ``torch.nn.functional`` by name before, calls inside ``torch.compile``
regions that were compiled before, other processes, optimizers that are no subclass of ``torch.optim.Optimizer``.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils import data

from goodfit.observer.attention import EACH_STEP, Attention
from goodfit.observer.events import Listener, LossCall

LOSSES = (
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "gaussian_nll_loss",
)  # fmt: skip
"""The losses of ``torch.nn.functional`` that are listened to; the modules of ``torch.nn`` go through them."""


class Hooks:
    """Wrappers that are on between ``install`` and ``remove``.

    listeners: told in this order. failed: what a listener raised, by the listener; it hears nothing more.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners = list(listeners)
        self.failed: dict[Listener, BaseException] = {}
        self._undo: list[Callable[[], None]] = []
        self._busy = False
        self._depth = 0
        self._running: list[nn.Module] = []
        self._in_backward = False
        self._with_gradients = True
        self._since_step = 0
        self.attention = Attention()
        # Who hears what: in full, and of that what is in force now.
        self._all: dict[str, list[Listener]] = {}
        self._wanted: dict[str, list[Listener]] = {}

    def install(self) -> None:
        """Put all wrappers on."""
        for name in [n for n, _ in inspect.getmembers(Listener, inspect.isfunction) if not n.startswith("_")]:
            base = getattr(Listener, name)
            self._all[name] = [one for one in self.listeners if getattr(type(one), name) is not base]
        self._wanted = self._all
        self._optimizers()
        self._autograd()
        self._modules()
        self._losses()
        self._clipping()
        self._schedulers()
        self._loaders()
        self._states()

    def remove(self) -> None:
        """Take all wrappers off, newest first."""
        while self._undo:
            self._undo.pop()()

    def tell(self, event: str, *arguments: Any) -> None:
        """Call this event's method of every listener that has one; nothing that happens inside is told again."""
        wanted = self._wanted.get(event)
        if not wanted or self._busy:
            return
        self._busy = True
        try:
            for listener in tuple(wanted):
                try:
                    getattr(listener, event)(*arguments)
                except Exception as error:
                    self._switch_off(listener, error)
        finally:
            self._busy = False

    def _hears(self, event: str) -> bool:
        """Whether anybody wants this event now; code that is being compiled is left alone."""
        return bool(self._wanted.get(event)) and not self._busy and not torch.compiler.is_compiling()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """A stretch in which nothing is told."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    @property
    def running(self) -> nn.Module | None:
        """The innermost module that is running."""
        return self._running[-1] if self._running else None

    def _switch_off(self, listener: Listener, error: BaseException) -> None:
        self.failed[listener] = error
        for wanted in (*self._all.values(), *self._wanted.values()):
            if listener in wanted:
                wanted.remove(listener)

    def _attend(self) -> None:
        """Tell everything, or only what is to be heard at each step: as `Attention` says."""
        if self.attention.close:
            if self._wanted is not self._all:
                self._wanted = self._all
                self.tell("woken")
        elif self._wanted is self._all:
            self._wanted = {
                event: [one for one in wanted if event in one.always] if event in EACH_STEP else wanted
                for event, wanted in self._all.items()
            }

    def _stepped(self, optimizer: Optimizer, *_: Any) -> None:
        self.tell("after_step", optimizer)
        if not self._busy:
            self._since_step = 0
            self.attention.stepped()
            self._attend()

    def _news(self, kind: str, steps: int = 5) -> None:
        if self._busy:
            return
        self.attention.news(kind, steps)
        self._attend()

    def _wrap(self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Put a wrapper in place of ``owner.name``, to be taken off by ``remove``."""
        original = owner.__dict__[name] if name in vars(owner) else getattr(owner, name)
        wrapper = functools.wraps(original)(make(original))
        setattr(owner, name, wrapper)

        def undo() -> None:
            if getattr(owner, name, None) is wrapper:
                setattr(owner, name, original)

        self._undo.append(undo)

    def _before(self, owner: Any, name: str, event: str, pick: Callable[..., tuple[Any, ...]]) -> None:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if self._hears(event):
                    self.tell(event, *pick(*args, **kwargs))
                return original(*args, **kwargs)

            return call

        self._wrap(owner, name, make)

    def _after(
        self, owner: Any, name: str, event: str, pick: Callable[..., tuple[Any, ...]], *, news: bool = False
    ) -> None:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                result = original(*args, **kwargs)
                if news:
                    self._news(event)
                if self._hears(event):
                    self.tell(event, *pick(result, *args, **kwargs))
                return result

            return call

        self._wrap(owner, name, make)

    def _optimizers(self) -> None:
        self._after(Optimizer, "__init__", "optimizer_made", lambda result, self, *a, **k: (self,), news=True)
        self._before(Optimizer, "zero_grad", "zero_grad", lambda self, *a, **k: (self,))
        self._before(nn.Module, "zero_grad", "zero_grad", lambda self, *a, **k: (self,))
        before = register_optimizer_step_pre_hook(lambda optimizer, *_: self.tell("before_step", optimizer))
        after = register_optimizer_step_post_hook(self._stepped)
        self._undo += [before.remove, after.remove]

    def _autograd(self) -> None:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(tensors: Any, *args: Any, **kwargs: Any) -> Any:
                roots = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
                self.tell("backward", roots)
                self._in_backward = True
                try:
                    result = original(tensors, *args, **kwargs)
                finally:
                    self._in_backward = False
                self.tell("after_backward", roots)
                self._since_step += not self._busy
                if self._since_step > 20:  # updates by hand, or many backward passes for one update
                    self.attention.stepped()
                    self._attend()
                return result

            return call

        # Tensor.backward looks this up in torch.autograd at each call.
        self._wrap(torch.autograd, "backward", make)

    def _modules(self) -> None:
        is_compiling, is_grad_enabled = torch.compiler.is_compiling, torch.is_grad_enabled

        def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if self._in_backward or self._busy or is_compiling():  # recomputed by checkpointing, or being traced
                return
            depth = self._depth
            if depth == 0:
                graded = is_grad_enabled()
                if self._with_gradients and not graded:
                    self._news("evaluation")
                self._with_gradients = graded
            if depth == 0 or self._wanted is self._all:
                self.tell("before_forward", module, inputs, depth)
            self._depth += 1
            self._running.append(module)

        def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if self._in_backward or self._busy or is_compiling():
                return
            if self._running:
                self._running.pop()
            self._depth = max(0, self._depth - 1)
            if self._wanted is self._all:
                self.tell("forward", module, inputs, output, self._depth)

        first = register_module_forward_pre_hook(before)
        second = register_module_forward_hook(after, always_call=True)
        self._undo += [first.remove, second.remove]

        def dropped(input: Tensor, p: float = 0.5, training: bool | None = None, inplace: bool = False) -> Any:
            return p, training is not False, self.running, training is not None

        self._before(F, "dropout", "dropout", dropped)

    def _losses(self) -> None:
        for name in LOSSES:
            names = tuple(inspect.signature(getattr(F, name)).parameters)

            # "loss_name" and "names" are no arguments of any loss.
            def pick(
                result: Any, *args: Any, loss_name: str = name, names: tuple[str, ...] = names, **kwargs: Any
            ) -> tuple[Any, ...]:
                given = dict(zip(names, args, strict=False)) | kwargs
                input, target = given.pop("input"), given.pop("target")
                return (LossCall(loss_name, input, target, given, result),)

            self._after(F, name, "loss", pick)

    def _clipping(self) -> None:
        def listed(parameters: Any) -> list[Tensor]:
            return [parameters] if isinstance(parameters, Tensor) else list(parameters)

        def make(kind: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
            def outer(original: Callable[..., Any]) -> Callable[..., Any]:
                def call(parameters: Any, limit: float, *args: Any, **kwargs: Any) -> Any:
                    parameters = listed(parameters)  # may be a generator, which can be read once only
                    result = original(parameters, limit, *args, **kwargs)
                    self.tell("clip", parameters, kind, float(limit), result)
                    return result

                return call

            return outer

        clipping = torch.nn.utils.clip_grad
        for kind, name in (("norm", "clip_grad_norm_"), ("value", "clip_grad_value_")):
            self._wrap(clipping, name, make(kind))
            wrapper, original = getattr(clipping, name), getattr(torch.nn.utils, name)
            setattr(torch.nn.utils, name, wrapper)
            self._undo.append(functools.partial(setattr, torch.nn.utils, name, original))
        scaler = torch.amp.GradScaler
        self._before(scaler, "scale", "scaler", lambda self, outputs: (self, "scale", None))
        self._before(scaler, "unscale_", "scaler", lambda self, optimizer: (self, "unscale", optimizer))
        self._before(scaler, "step", "scaler", lambda self, optimizer, *a, **k: (self, "step", optimizer))
        self._before(scaler, "update", "scaler", lambda self, *a, **k: (self, "update", None))

    def _schedulers(self) -> None:
        for cls in (LRScheduler, ReduceLROnPlateau):
            self._after(cls, "__init__", "scheduler_made", lambda result, self, *a, **k: (self,))
            self._after(cls, "step", "scheduler_step", lambda result, self, *a, **k: (self, a))

    def _loaders(self) -> None:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(loader: Any) -> Any:
                self.tell("loader_begins", loader)
                return _Told(self, loader, original(loader))

            return call

        self._wrap(data.DataLoader, "__iter__", make)
        for module in (data, data.dataset):
            self._after(module, "random_split", "data_split", lambda result, *a, **k: (result,))

    def _states(self) -> None:
        for cls in (nn.Module, Optimizer, LRScheduler):
            self._after(
                cls, "load_state_dict", "state_loaded", lambda result, self, state, *a, **k: (self, state), news=True
            )
        self._after(nn.Module, "_apply", "moved", lambda result, self, *a, **k: (self,))
        self._after(torch, "load", "loaded", lambda result, *a, **k: (result,))
        self._before(torch, "save", "saved", lambda what, *a, **k: (what,))


class _Told:
    """An iterator over a loader's batches that tells of each; everything else is the loader's own iterator's."""

    def __init__(self, hooks: Hooks, loader: Any, inner: Any) -> None:
        self._hooks, self._loader, self._inner, self._count = hooks, loader, inner, 0
        try:
            self._total = len(loader)
        except TypeError:  # a stream has no length
            self._total = 0

    def __iter__(self) -> _Told:
        return self

    def __next__(self) -> Any:
        began = time.perf_counter()
        try:
            batch = next(self._inner)
        except StopIteration:
            self._hooks.tell("loader_ends", self._loader, self._count)
            raise
        self._count += 1
        self._hooks.tell("waited", self._loader, began, time.perf_counter())
        if self._count == self._total > 1:  # the last batch may be smaller than the others
            self._hooks._news("last batch", 1)
        self._hooks.tell("batch", self._loader, self._count - 1, batch)
        return batch

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
