"""A table of a model's layers: name, type, output shape, parameters, multiply-adds, and the memory that training will
take.

Multiply-adds are counted where they happen, at every matrix product, convolution and attention that PyTorch runs, and
booked on the innermost module that ran it, so that products written by hand inside a ``forward`` count too. Recurrent
layers are counted by formula: inside they differ from device to device. One multiply-add is two floating-point
operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from goodfit.types import Inputs


@dataclass(frozen=True)
class Row:
    """One module. Counts are the module's own, without its children's.

    output: shape with the batch axis, or an empty tuple for what is no tensor. parameters: numbers in weights, shared
    ones counted once. multiply_adds: for the whole batch.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Description:
    """All rows in the order the model registers them, and the totals.

    trainable: parameters that learn. saved: bytes of activations that one training step keeps for the backward pass,
    at this batch size, in the model's own precision. memory: estimated bytes of a training step: weights, their
    gradients, two optimizer moments (Adam) and ``saved``; working space of single operations comes on top. A training
    step computes about three times the forward's multiply-adds: the backward pass costs two.
    """

    rows: tuple[Row, ...]
    batch: int
    parameters: int
    trainable: int
    multiply_adds: int
    saved: int
    memory: int

    def __str__(self) -> str:
        return render(self)


def describe(model: nn.Module, inputs: Inputs) -> Description:
    """Run ``model`` once in eval mode on ``inputs`` and count.

    inputs: one batch as the model takes it. The model is left as it was: hooks removed; modes, buffers, gradients and
    random generators restored. Whatever the model raises comes through.
    """
    if not (len(_first(inputs)) if isinstance(inputs, dict) else len(inputs)):
        raise ValueError("describe needs at least one sample")
    counter = _Counter()
    modules = {module: name for name, module in model.named_modules()}
    outputs: dict[nn.Module, tuple[int, ...]] = {}
    saved: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)  # alive until counted: a freed address would be used again
        return tensor

    def enter(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        counter.stack.append(module)

    def leave(module: nn.Module, arguments: tuple[Any, ...], result: Any) -> None:
        counter.stack.pop()
        outputs.setdefault(module, _shape(result))
        if isinstance(module, nn.RNNBase):
            counter.counts[module] = counter.counts.get(module, 0) + recurrent_multiply_adds(module, arguments[0])

    kept: list[Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(_left_as_it_was(model))
        for module in modules:
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(counter)
        model(inputs)
    rows, seen = [], set[int]()
    for module, name in modules.items():
        count = 0
        for parameter in module.parameters(recurse=False):
            count += 0 if id(parameter) in seen else parameter.numel()
            seen.add(id(parameter))
        multiply_adds = counter.counts.get(module, 0)
        leaf = not any(True for _ in module.children())
        if (leaf and module in outputs) or count or multiply_adds:
            rows.append(Row(name, type(module).__name__, outputs.get(module, ()), count, multiply_adds))
    parameters = list(model.parameters())
    weights = sum(p.numel() * p.element_size() for p in parameters)
    learning = sum(p.numel() * p.element_size() for p in parameters if p.requires_grad)
    return Description(
        rows=tuple(rows),
        batch=len(_first(inputs)) if isinstance(inputs, dict) else len(inputs),
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        multiply_adds=sum(row.multiply_adds for row in rows),
        saved=sum(saved.values()),
        memory=weights + 3 * learning + sum(saved.values()),
    )


def render(described: Description, *, batch: int | None = None) -> str:
    """The table as text, one line a layer, with the totals below.

    batch: samples that go through the model at once in training, for which the memory is estimated (activations grow
    in proportion); those described unless said.
    """
    at_once = batch or described.batch
    saved = described.saved * at_once // described.batch
    memory = described.memory - described.saved + saved
    head = ("layer", "type", "output", "parameters", "multiply-adds")
    table: list[Sequence[str]] = [head]
    for row in described.rows:
        shape = " x ".join(map(str, row.output)) if row.output else "-"
        table.append((row.name or "(model)", row.kind, shape, _number(row.parameters), _number(row.multiply_adds)))
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    lines = []
    for line in table:
        cells = [
            cell.rjust(width) if column > 2 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * len(lines[0]))
    frozen = described.parameters - described.trainable
    lines += [
        "-" * len(lines[0]),
        f"parameters       {described.parameters:,}" + (f" ({frozen:,} frozen)" if frozen else ""),
        f"multiply-adds    {described.multiply_adds // described.batch:,} a sample forward, three times that to train",
        f"training memory  about {memory / 2**20:,.1f} MiB at batch {at_once:,} "
        f"({saved / 2**20:,.1f} MiB activations; the rest weights, gradients, Adam moments)",
    ]
    return "\n".join(lines)


def recurrent_multiply_adds(module: nn.RNNBase, inputs: Any) -> int:
    """Multiply-adds of a recurrent layer: per step, direction and layer ``gates * hidden * (inputs + hidden)``.

    inputs: ``(batch, length, features)``, or packed, where padding costs nothing.
    """
    packed = isinstance(inputs, nn.utils.rnn.PackedSequence)
    steps = len(inputs.data) if packed else math.prod(inputs.shape[:-1])
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
    both = 2 if module.bidirectional else 1
    state = module.proj_size or module.hidden_size
    total = 0
    for layer in range(module.num_layers):
        size = module.input_size if layer == 0 else state * both
        total += both * gates * module.hidden_size * (size + state)
        total += both * module.proj_size * module.hidden_size
    return steps * total


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts products below autograd, where every operation has its final shapes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack: list[nn.Module] = []
        self.counts: dict[nn.Module, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        count = _COUNTS.get(func.overloadpacket.__name__)
        inside = any(isinstance(module, nn.RNNBase) for module in self.stack)
        if count is not None and self.stack and not inside:
            here = self.stack[-1]
            self.counts[here] = self.counts.get(here, 0) + count(args, result)
        return result


def _product(args: tuple[Any, ...], result: Any) -> int:
    return int(args[0].shape[-1] * result.numel())


def _sum_and_product(args: tuple[Any, ...], result: Any) -> int:
    return int(args[1].shape[-1] * result.numel())


def _convolution(args: tuple[Any, ...], result: Any) -> int:
    weight, transposed = args[1], args[6]
    # every weight meets every output position, or every input position where the convolution is transposed
    positions = args[0] if transposed else result
    return int(weight.numel() * math.prod(positions.shape[2:]) * positions.shape[0])


def _attention(args: tuple[Any, ...], result: Any) -> int:
    query, key, value = (tensor.shape for tensor in args[:3])
    pairs = math.prod(query[:-1]) * key[-2]
    return int(pairs * (query[-1] + value[-1]))


_COUNTS: dict[str, Callable[[tuple[Any, ...], Any], int]] = {
    "mm": _product,
    "mv": _product,
    "dot": lambda args, result: int(args[0].numel()),
    "bmm": _product,
    "addmm": _sum_and_product,
    "addmv": _sum_and_product,
    "baddbmm": _sum_and_product,
    "convolution": _convolution,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
}


@contextmanager
def _left_as_it_was(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = list({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def _shape(result: Any) -> tuple[int, ...]:
    if isinstance(result, Tensor):
        return tuple(result.shape)
    if isinstance(result, nn.utils.rnn.PackedSequence):
        return tuple(result.data.shape)
    return _shape(result[0]) if isinstance(result, (tuple, list)) and result else ()


def _first(inputs: dict[str, Tensor]) -> Tensor:
    return next(iter(inputs.values()))


def _number(value: int) -> str:
    return f"{value:,}" if value else "-"
