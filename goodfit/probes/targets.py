"""Losses and targets call by call: how the loss stands beside a guess, and where targets come from."""

from __future__ import annotations

import math
import weakref
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from goodfit.observer.events import Listener, LossCall
from goodfit.observer.live import Live

FEW = 10
LOOKS = 400


@dataclass
class TargetFacts:
    """What was seen at one line that calls a loss.

    calls: looked at. guess: what a guess that ignores the input loses: ln C of C classes, or the targets' mean square.
    first: the first loss. above: calls in a row, the latest ones, that lose more than three times the guess (ten times
    for regression) and more than at first. losses: the latest hundred; early: the mean of the hundred before.
    counts: of classes. shifts: by how many places the targets are the inputs shifted, with counts. padded: calls in
    which every place that is padding in the input counts as a target; padding: the share of such targets.
    columns: input columns that determine the target exactly, in ``rows`` samples. own: calls whose targets came from a
    loader as they are.
    """

    name: str
    where: str
    calls: int = 0
    classes: int = 0
    guess: float = 0.0
    first: float = math.nan
    above: int = 0
    latest: float = math.nan
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    early: float = math.nan
    counts: Counter[int] = field(default_factory=Counter)
    shifts: Counter[int] = field(default_factory=Counter)
    padded: int = 0
    padding: float = 0.0
    pad: int = 0
    columns: tuple[int, ...] = ()
    rows: int = 0
    width: int = 0
    joined: int = 0
    own: int = 0
    plain: bool = True
    negated: int = 0
    negated_where: str = ""


class Targets(Listener):
    """Records ``targets.facts`` by line, and of the first cross-entropy of an untrained network ``loss.initial``,
    ``loss.expected``, ``loss.expected_name``, ``loss.where``; ``targets.distinct`` and ``targets.where``."""

    signals = ("targets.facts", "loss.initial", "loss.expected", "loss.expected_name", "targets.distinct")
    absent = "saw no call of a loss of torch.nn.functional"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.calls: Counter[str] = Counter()
        self.from_loader = False
        # Held until the backward pass only, while the graph needs it anyway.
        self.given: Tensor | None = None
        self.root: weakref.ref[nn.Module] | None = None
        self.places: set[int] = set()

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("loss",))

    @override
    def state_loaded(self, owner: Any, state: Mapping[str, Any]) -> None:
        self.from_loader = self.from_loader or isinstance(owner, nn.Module)

    @override
    def batch(self, loader: Any, number: int, batch: Any) -> None:
        if number < FEW + 1:
            self.places = {one.data_ptr() for one in _tensors(batch) if one.dim() == 1}

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth == 0 and torch.is_grad_enabled() and next(module.parameters(), None) is not None:
            first = next((one for one in inputs if isinstance(one, Tensor)), None)
            self.given = first if self.live.step < 3 * FEW else None
            self.root = weakref.ref(module)

    @override
    def loss(self, call: LossCall) -> None:
        if not isinstance(call.input, Tensor) or not call.input.requires_grad or call.output.numel() != 1:
            return
        where = str(self.live.where())
        self.calls[where] += 1
        count = self.calls[where]
        if count > LOOKS and count % 20:
            return
        if call.output.device.type != "cpu" and count > 50 and count % 10:
            return
        held: dict[str, TargetFacts] = self.live.values.setdefault("targets.facts", {})
        one = held.get(where)
        if one is None:
            one = held[where] = TargetFacts(call.name, where)
        one.calls += 1
        self._value(one, call)
        if one.calls <= FEW:
            with torch.no_grad():
                if call.output.grad_fn is not None:
                    call.output.grad_fn.metadata["goodfit.loss"] = where  # type: ignore[index]
                self._origin(one, call)
        if one.calls == FEW and one.own == FEW and sum(one.counts.values()) >= 100:
            self.live.values["targets.distinct"] = len(one.counts)
            self.live.values["targets.where"] = where
            self.live.values["targets.balance"] = f"{len(one.counts)} classes"

    @override
    def backward(self, roots: tuple[Tensor, ...]) -> None:
        self.given = None
        root = roots[0].grad_fn if len(roots) == 1 else None
        behind = root.next_functions[0][0] if root is not None and root.next_functions else None
        if root is None or behind is None or self.live.step > 100:
            return
        other = getattr(root, "_saved_other", None) if root.name() in ("MulBackward0", "DivBackward0") else None
        minus = root.name() == "NegBackward0" or (other is not None and other.numel() == 1 and float(other) < 0)
        told: dict[str, str] = behind.metadata  # type: ignore[assignment]
        one = self.live.values.get("targets.facts", {}).get(told.get("goodfit.loss", "")) if minus else None
        if one is not None:
            one.negated += 1
            one.negated_where = one.negated_where or str(self.live.where())

    def _value(self, one: TargetFacts, call: LossCall) -> None:
        value = one.latest = call.output.item()
        target = call.target
        mean = call.options.get("reduction", "mean") == "mean"
        if call.name == "cross_entropy" and not target.is_floating_point() and mean:
            one.classes = call.input.shape[1 if call.input.dim() > 1 else 0]
            one.guess = math.log(max(2, one.classes))
            factor = 3.0
            plain = call.options.get("weight") is None and not call.options.get("label_smoothing")
            one.plain = one.plain and plain
            if (one.calls <= 3 * FEW or one.calls % 8 == 0) and one.calls <= LOOKS and one.classes <= 1000:
                flat = target.flatten()
                ignored = int(call.options.get("ignore_index", -100))
                shares = torch.bincount(flat[(flat >= 0) & (flat != ignored)], minlength=1)
                one.counts.update({k: int(n) for k, n in enumerate(shares.tolist()) if n})
            fresh = (
                one.calls == 1
                and self.live.step == 0
                and not self.from_loader
                and "loss.initial" not in self.live.values
            )
            if fresh and plain and one.classes >= 2 and math.isfinite(value):
                self.live.values["loss.initial"], self.live.values["loss.expected"] = value, one.guess
                self.live.values["loss.expected_name"] = f"ln {one.classes}"
                self.live.values["loss.where"] = one.where
        elif call.name == "mse_loss" and mean and target.shape == call.input.shape:
            one.guess, factor = max(one.guess, float(target.float().square().mean())), 10.0
        else:
            return
        one.first = value if one.calls == 1 else one.first
        one.above = one.above + 1 if value > max(factor * one.guess, one.first) or value != value else 0
        if len(one.losses) == 100:
            one.early = one.losses[0] if math.isnan(one.early) else 0.99 * one.early + 0.01 * one.losses[0]
        one.losses.append(value)

    def _origin(self, one: TargetFacts, call: LossCall) -> None:
        target = call.target
        given = self.given
        if not target.is_floating_point():
            one.own += target.data_ptr() in self.places
        if given is None or given.device != target.device or given.layout != torch.strided:
            return
        if given.dtype == torch.int64 and given.dim() == 2 and not target.is_floating_point():
            self._tokens(one, call, given, target)
        elif given.is_floating_point() and given.dim() == 2 and 2 <= given.shape[1] <= 2000:
            self._columns(one, given, target)

    def _tokens(self, one: TargetFacts, call: LossCall, given: Tensor, target: Tensor) -> None:
        size, length = given.shape
        if length < 4 or target.numel() % size or not 0 <= length - target.numel() // size <= 3:
            return
        aim = target.reshape(size, -1)
        ignored = int(call.options.get("ignore_index", -100))
        one.joined += 1
        for shift in range(4):
            overlap = min(aim.shape[1], length - shift)
            mine, other = aim[:, :overlap], given[:, shift : shift + overlap]
            counts = mine != ignored
            if int(counts.sum()) >= 8 and bool((mine == other)[counts].all()):
                one.shifts[shift] += 1
        root = None if self.root is None else self.root()
        layers = [] if root is None else [m for m in root.modules() if isinstance(m, nn.Embedding)]
        for pad in {m.padding_idx for m in layers if m.padding_idx is not None} - {ignored}:
            if aim.shape == given.shape:
                hidden = torch.eq(given, pad)
                share = float((hidden & torch.eq(aim, pad)).float().mean())
                if share >= 0.05 and bool(torch.eq(aim[hidden], pad).all()):
                    one.padded += 1
                    one.padding, one.pad = share, int(pad or 0)

    def _columns(self, one: TargetFacts, given: Tensor, target: Tensor) -> None:
        few = target.dtype in (torch.int64, torch.int32) or bool(((target == 0) | (target == 1)).all())
        if target.numel() != len(given) or len(given) < 8 or not few:
            return
        aim = target.reshape(-1, 1).double()
        aim = aim - aim.mean(0)
        columns = given.double() - given.double().mean(0)
        norm = columns.norm(dim=0) * aim.norm()
        exact = ((columns * aim).sum(0).abs() >= (1 - 1e-9) * norm) & (norm > 1e-9)
        if float(aim.norm()) == 0:
            return
        now = exact.nonzero().flatten().tolist()
        one.columns = tuple(now[:20]) if not one.rows else tuple(k for k in one.columns if k in now)
        one.rows += len(given)
        one.width = given.shape[1]


def _tensors(batch: Any) -> Sequence[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        return [one for value in batch.values() for one in _tensors(value)]
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return [one for value in batch for one in _tensors(value)]
    return []
