"""Assertions about a network, for the tests of whoever wrote it.

Each is a plain function of a module and a batch that raises AssertionError with what is wrong, in numbers:

    from goodfit import testing

    def test_my_model():
        testing.assert_learns_one_batch(MyModel(), (inputs, targets))

batch: ``(inputs, targets)``, or inputs alone where no loss is needed. inputs: a tensor, a tuple of what the module is
called with, or a dict of its keyword arguments. A dict alone is a batch for modules that return their own ``loss``.
loss: ``loss(outputs, targets)``; unless given, the module's own, or cross-entropy for targets of whole numbers (classes
on the outputs' last axis) and mean squared error for others.

The module is left as it is, bit by bit, and so are the generators of random numbers: copies are tried. What cannot be
decided, because a module draws random numbers where it should not or cannot be copied, raises ModelError.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodfit.check import Log, Rule, run_rules
from goodfit.errors import ModelError
from goodfit.probes import before_training as probe
from goodfit.probes.record import NotRecorded, Values, generators_kept, said
from goodfit.rules import batch_leak, causal_leak, no_gradient, one_batch, wrong_gradient
from goodfit.types import Finding
from goodfit.watching import in_words

Loss = Callable[[Any, Any], Tensor]

RATES = (1e-3, 1e-2, 1e-4)
"""Adam's rates that a module may learn a batch at."""


def assert_learns_one_batch(
    model: nn.Module, batch: Any, loss: Loss | None = None, *, steps: int = 300, floor: float = 0.0
) -> None:
    """The module memorises this batch: the loss falls to less than half of where it began, dropout switched off.

    steps: updates by Adam for each of three rates, until one has brought the loss to a tenth. floor: the least value
    that the loss can have (a smoothed target's entropy, say). A few samples are enough, and faster.
    """
    inputs, targets = _parted(batch)
    best: Values = {}

    def attempt(rate: float) -> Values:
        trial = probe.without_dropout(probe.copied(model).train())
        parameters = [p for p in trial.parameters() if p.requires_grad]
        if not parameters:
            _fail(Finding("one-batch", "error", "the model has no trainable parameter", "model"))
        optimizer = torch.optim.Adam(parameters, lr=rate)
        first = last = math.nan
        made = 0
        for made in range(1, steps + 1):
            optimizer.zero_grad()
            value = _loss(loss, _call(trial, inputs), targets)
            last = float(value.detach())
            first = last if made == 1 else first
            if last - floor <= 0.1 * max(first - floor, 0.0) or not math.isfinite(last):
                break
            if not value.requires_grad:
                _fail(Finding("one-batch", "error", "the loss depends on no parameter", "model"))
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return {"one_batch.first": first, "one_batch.last": last, "one_batch.steps": made}

    for rate in RATES:
        values = _tried(lambda rate=rate: attempt(rate))  # type: ignore[misc]
        if not best or values["one_batch.last"] < best["one_batch.last"] or not math.isfinite(best["one_batch.last"]):
            best = values
        if best["one_batch.last"] - floor <= 0.1 * max(best["one_batch.first"] - floor, 0.0):
            break
    _judge(one_batch.RULE, best | {"one_batch.floor": floor, "one_batch.size": _size(inputs)})


def assert_no_batch_leak(model: nn.Module, batch: Any) -> None:
    """In eval mode a sample's outputs do not depend on the other samples of its batch (at least four are needed)."""
    inputs, _ = _parted(batch)
    wrapped, ready = _Called(model, inputs), _tensors(inputs)
    _judge(batch_leak.RULE, _tried(lambda: probe.batch_leak(wrapped, ready)))


def assert_causal(model: nn.Module, batch: Any) -> None:
    """In eval mode outputs at a position do not depend on later positions.

    The inputs' first tensor (of a dict: ``input_ids`` where there is one) is ``(batch, time, ...)``, tokens or values,
    and so are the outputs.
    """
    inputs, _ = _parted(batch)
    ready = _tensors(inputs)
    name = "input_ids" if "input_ids" in ready else next(iter(ready))
    sequence = ready[name]
    if sequence.dim() < 2 or sequence.shape[1] < 3:
        raise ModelError(f"inputs of shape (batch, time, ...) with time at least 3 are wanted, not {_shape(sequence)}")
    wrapped = _Sequence(model, inputs, name)
    vocabulary = int(sequence.max()) + 1 if not sequence.is_floating_point() else 2
    _judge(causal_leak.RULE, _tried(lambda: probe.causal_leak(wrapped, sequence, vocabulary)))


def assert_gradients_match(model: nn.Module, batch: Any, loss: Loss | None = None) -> None:
    """Back-propagation agrees with numerical gradients in float64, in eval mode, along sampled directions."""
    inputs, targets = _parted(batch)
    wrapped = _Called(model, inputs, whole=True)
    in_double = copy.deepcopy(loss).double() if isinstance(loss, nn.Module) else loss
    # A module that returns its own loss was given the targets with its inputs.
    aim = targets if isinstance(targets, Tensor) else torch.zeros(_size(inputs))

    def measured() -> Values:
        values = probe.numerical_gradient(
            lambda outputs, aims: _loss(in_double, outputs, None if targets is None else aims),
            wrapped, _tensors(inputs), aim,
        )  # fmt: skip
        return values | {"gradient.worst": values["gradient.worst"].removeprefix("model.")}

    _judge(wrong_gradient.RULE, _tried(measured))


def assert_all_parameters_learn(model: nn.Module, batch: Any, loss: Loss | None = None, *, steps: int = 5) -> None:
    """Every trainable parameter gets a gradient, and within a few steps one that is not zero.

    Parameters behind a zero-initialised layer get theirs from the second step on, which is why there are several.
    """
    inputs, targets = _parted(batch)

    def one_pass() -> Values:
        return probe.gradients(
            lambda outputs, _: _loss(loss, outputs, targets), _Called(model, inputs, whole=True), _tensors(inputs),
            torch.zeros(1),
        )  # fmt: skip

    values = _tried(one_pass)
    bare = {k: [n.removeprefix("model.") for n in v] if isinstance(v, list) else v for k, v in values.items()}
    _judge(no_gradient.RULE, bare)

    def trained() -> Values:
        trial = probe.copied(model).train()
        still = dict(trial.named_parameters())
        still = {n: p for n, p in still.items() if p.requires_grad}
        optimizer = torch.optim.Adam(still.values(), lr=1e-3)
        total = len(still)
        for _ in range(steps):
            optimizer.zero_grad()
            _loss(loss, _call(trial, inputs), targets).backward()  # type: ignore[no-untyped-call]
            still = {n: p for n, p in still.items() if p.grad is None or not bool(p.grad.to_dense().any())}
            optimizer.step()
        return {"still": list(still), "total": total}

    found = _tried(trained)
    if found["still"]:
        names = ", ".join(found["still"][:3]) + (" ..." if len(found["still"]) > 3 else "")
        _fail(
            Finding(
                "parameter-without-effect", "error",
                f"the gradient of {len(found['still'])} of {found['total']} parameters is zero in all "
                f"of {steps} steps: {names}",
                found["still"][0], {"without": len(found["still"]), "parameters": found["total"], "steps": steps},
                "look for a product with zero, units that are dead, or a branch whose result is not used",
            )
        )  # fmt: skip


def assert_deterministic_eval(model: nn.Module, batch: Any) -> None:
    """In eval mode the same inputs give the same outputs, whatever the generators of random numbers stand at."""
    inputs, _ = _parted(batch)

    def twice() -> Values:
        trial = probe.copied(model).eval()
        made = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            with torch.no_grad():
                made.append([t.detach().clone() for t in _all_tensors(_call(trial, inputs))])
        if not made[0]:
            raise NotRecorded("the module returns no tensor")
        if [t.shape for t in made[0]] != [t.shape for t in made[1]]:
            return {"change": math.inf, "spread": 0.0}
        pairs = [(one.double(), other.double()) for one, other in zip(*made, strict=True)]
        change = max(float(torch.nan_to_num(one - other).abs().max()) if one.numel() else 0.0 for one, other in pairs)
        spread = max(float(torch.nan_to_num(one).abs().max()) if one.numel() else 0.0 for one, _ in pairs)
        return {"change": change, "spread": spread}

    values = _tried(twice)
    if values["change"] > 1e-6 * values["spread"]:
        _fail(
            Finding(
                "dropout-in-eval", "error",
                f"outputs for the same inputs differ by {values['change']:.2g} between two calls in eval mode", "model",
                {"change": values["change"], "largest output": values["spread"]},
                "pass training=self.training to F.dropout; draw no random numbers in eval mode",
            )
        )  # fmt: skip


class _Called(nn.Module):
    """A module as probes call it: with a dict of tensors, whatever its own signature is.

    whole: return what the module returns; else its outputs of one row a sample, side by side as ``(batch, numbers)``.
    """

    def __init__(self, model: nn.Module, inputs: Any, *, whole: bool = False) -> None:
        super().__init__()
        self.model, self.like, self.whole = model, _frame(inputs), whole

    def forward(self, ready: Mapping[str, Tensor]) -> Any:
        """Call the module with these tensors in the places of those it was made for."""
        outputs = _call(self.model, _filled(self.like, ready))
        if self.whole:
            return outputs
        size = len(next(iter(ready.values())))
        rows = [t.reshape(size, -1).float() for t in _all_tensors(outputs) if t.dim() and len(t) == size and t.numel()]
        if not rows:
            raise NotRecorded("no output has the sample on its first axis")
        return torch.cat(rows, 1)


class _Sequence(nn.Module):
    """A module as a function of one of its inputs, whose outputs keep ``(batch, time)`` in front."""

    def __init__(self, model: nn.Module, inputs: Any, name: str) -> None:
        super().__init__()
        self.model, self.like, self.name, self.rest = model, _frame(inputs), name, _tensors(inputs)

    def forward(self, sequence: Tensor) -> Tensor:
        """Outputs at each position."""
        rest = {k: v[: len(sequence)] for k, v in self.rest.items()}
        outputs = _all_tensors(_call(self.model, _filled(self.like, rest | {self.name: sequence})))
        fits = [t.float() for t in outputs if t.shape[:2] == sequence.shape[:2]]
        if not fits:
            raise NotRecorded(f"no output has the shape (batch, time, ...) of the inputs, {_shape(sequence)}")
        return torch.cat([t.reshape(*t.shape[:2], -1) for t in fits], 2)


def _parted(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets; a tensor or a dict is inputs alone."""
    if isinstance(batch, Tensor | Mapping):
        return batch, None
    if isinstance(batch, Sequence) and len(batch) == 2:
        return batch[0], batch[1]
    raise ModelError("a batch is (inputs, targets), a tensor, or a dict of keyword arguments")


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(inputs) if isinstance(inputs, Tensor) else model(*inputs)


def _items(inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, Mapping):
        return dict(inputs)
    return {str(k): v for k, v in enumerate([inputs] if isinstance(inputs, Tensor) else inputs)}


def _tensors(inputs: Any) -> dict[str, Tensor]:
    found = {k: v for k, v in _items(inputs).items() if isinstance(v, Tensor)}
    if not found or not next(iter(found.values())).dim():
        raise ModelError("the inputs hold no tensor with a batch axis")
    return found


def _frame(inputs: Any) -> Any:
    """The form of the inputs without their tensors, which are put back by ``_filled``."""
    kind = "dict" if isinstance(inputs, Mapping) else "one" if isinstance(inputs, Tensor) else "tuple"
    return kind, {k: None if isinstance(v, Tensor) else v for k, v in _items(inputs).items()}


def _filled(frame: Any, ready: Mapping[str, Tensor]) -> Any:
    kind, items = frame
    items = {k: ready.get(k, v) for k, v in items.items()}
    return items if kind == "dict" else items["0"] if kind == "one" else tuple(items.values())


def _size(inputs: Any) -> int:
    return len(next(iter(_tensors(inputs).values())))


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _all_tensors(outputs: Any) -> list[Tensor]:
    """Every tensor in what a module returned, in order: in lists, dicts and objects with attributes."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    elif not isinstance(outputs, list | tuple):
        outputs = list(getattr(outputs, "__dict__", {}).values())
    return [t for one in outputs for t in _all_tensors(one)]


def _loss(loss: Loss | None, outputs: Any, targets: Any) -> Tensor:
    if loss is not None:
        return loss(outputs, targets)
    own = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if isinstance(own, Tensor):
        return own
    outputs = getattr(outputs, "logits", outputs)
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
        raise ModelError("give loss=..., a function of outputs and targets that returns one number")
    if not targets.is_floating_point():
        return F.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets.flatten())
    if outputs.numel() != targets.numel():
        raise ModelError(f"outputs {_shape(outputs)} and targets {_shape(targets)} differ in shape; give loss=...")
    return F.mse_loss(outputs, targets.reshape(outputs.shape))


def _tried(measure: Callable[[], Values]) -> Values:
    """What a probe measured, with generators and gradient mode as they were. Raises ModelError where it could not."""
    try:
        with generators_kept(), torch.enable_grad():
            return measure()
    except NotRecorded as error:
        raise ModelError(f"cannot be decided: {error}") from error
    except (AssertionError, ModelError):
        raise
    except Exception as error:  # whatever a user's module raises
        raise ModelError(f"cannot be decided: the model or the loss failed: {said(error)}") from error


def _judge(rule: Rule, values: Values) -> None:
    (verdict,) = run_rules([rule], Log(values))
    if verdict.outcome == "not checked":
        raise ModelError(verdict.text)
    if verdict.findings:
        _fail(verdict.findings[0])


def _fail(finding: Finding) -> NoReturn:
    raise AssertionError(in_words(finding))
