"""What loss functions are given: shapes, ranges, and whether the rows are probabilities already."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor
from typing_extensions import override

from goodfit.observer.events import Listener, LossCall
from goodfit.observer.live import Live

THOROUGH = 20
"""Calls at each line that are looked at; after them every 100th."""
LOGITS = ("cross_entropy", "binary_cross_entropy_with_logits")
LOGARITHMS = ("nll_loss", "kl_div")
PAIRWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


@dataclass
class LossFacts:
    """What the calls of one loss at one line were given. Numbers of calls count those that were looked at.

    calls; numbers: input values in them. value: the last loss. classes: size of the class axis, 0 without one.
    summing: calls whose rows lie in [0, 1] and sum to one within 1e-3; error: the largest departure of a sum.
    by_batch: calls whose columns, over the batch, do. inside: calls whose inputs all lie in [0, 1];
    open: calls whose inputs come right out of a sum or product, which nothing keeps in [0, 1].
    positive: calls of log-probabilities with a value above zero. low, high: of all inputs. zeros: inputs that are
    exactly zero; negative: inputs below zero. outside: calls whose targets leave [0, 1] (binary losses).
    ignored: calls in which no target counts. shapes: of input and target where they do not match, and what they
    spread to. soft: calls with targets that are probabilities.
    """

    name: str
    where: str
    calls: int = 0
    numbers: int = 0
    value: float = 0.0
    classes: int = 0
    rows: int = 0
    summing: int = 0
    error: float = 0.0
    by_batch: int = 0
    inside: int = 0
    open: int = 0
    positive: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    zeros: int = 0
    negative: int = 0
    outside: int = 0
    target_low: float = float("inf")
    target_high: float = float("-inf")
    ignored: int = 0
    soft: int = 0
    shapes: tuple[tuple[int, ...], ...] = ()
    spread: int = 0
    first: dict[str, int] = field(default_factory=dict)


class LossInputs(Listener):
    """Records ``loss.facts``: ``LossFacts`` for each line that calls a loss on something that wants gradients."""

    signals = ("loss.facts",)
    absent = "saw no call of a loss of torch.nn.functional"

    def __init__(self, live: Live) -> None:
        self.live = live
        self.calls: Counter[tuple[str, str]] = Counter()

    @override
    def loss(self, call: LossCall) -> None:
        if not isinstance(call.input, Tensor) or not isinstance(call.target, Tensor) or not call.input.requires_grad:
            return
        key = (str(self.live.where()), call.name)
        self.calls[key] += 1
        if (self.calls[key] > THOROUGH and self.calls[key] % 100) or call.input.numel() == 0:
            return
        held = self.live.values.setdefault("loss.facts", {})
        one = held.setdefault(f"{key[0]} {key[1]}", LossFacts(call.name, key[0]))
        with torch.no_grad():
            self._look(one, call, call.input.detach().float(), call.target.detach())

    def _look(self, one: LossFacts, call: LossCall, given: Tensor, target: Tensor) -> None:
        one.calls += 1
        one.numbers += given.numel()
        one.value = float(call.output.detach().float().mean())
        low, high = float(given.min()), float(given.max())
        one.low, one.high = min(one.low, low), max(one.high, high)
        one.open += _is_open(call.input)
        one.inside += low >= 0 and high <= 1 + 1e-6
        one.zeros += int((given == 0).sum())
        one.negative += int((given < 0).sum())
        if call.name in LOGARITHMS:
            one.positive += high > 1e-5
        if call.name in ("cross_entropy", "nll_loss"):
            self._classes(one, call, given, target)
        if call.name.startswith("binary"):
            one.target_low = min(one.target_low, float(target.min()))
            one.target_high = max(one.target_high, float(target.max()))
            one.outside += one.target_low < -1e-6 or one.target_high > 1 + 1e-6
        if call.name in PAIRWISE and given.shape != target.shape:
            spread = torch.broadcast_shapes(given.shape, target.shape)  # type: ignore[no-untyped-call]
            if spread.numel() > max(given.numel(), target.numel()):
                one.spread += 1
                one.shapes = (tuple(given.shape), tuple(target.shape), tuple(spread))

    def _classes(self, one: LossFacts, call: LossCall, given: Tensor, target: Tensor) -> None:
        axis = 1 if given.dim() > 1 else 0
        one.classes = given.shape[axis]
        one.rows = given.numel() // max(1, one.classes)
        likely = given if call.name == "cross_entropy" else given.exp()
        within = float(likely.min()) >= 0 and float(likely.max()) <= 1 + 1e-5
        error = float((likely.sum(axis) - 1).abs().max())
        if within and error < 1e-3:
            one.summing += 1
            one.error = max(one.error, error)
        if given.dim() == 2 and len(given) > 1 and within and float((likely.sum(0) - 1).abs().max()) < 1e-3:
            one.by_batch += 1
        if target.is_floating_point():
            one.soft += 1
        else:
            index = int(call.options.get("ignore_index", -100))
            one.ignored += not bool((target != index).any())


def _is_open(tensor: Tensor) -> bool:
    """Whether a tensor is the output of a linear map, a sum or the like, apart from changes of its shape and type."""
    node = tensor.grad_fn
    for _ in range(8):
        if node is None:
            return False
        name = node.name().removesuffix("Backward0").removesuffix("Backward1")
        if name in ("Addmm", "Mm", "Bmm", "Baddbmm", "Convolution", "Add", "Sub", "Neg", "NativeLayerNorm", "Linear"):
            return True
        if not name.endswith(("View", "Reshape", "queeze", "Select", "Slice", "Transpose", "T", "Permute", "Copy")):
            return False
        node = node.next_functions[0][0] if node.next_functions else None
    return False
