"""What the untrained model is made of, read from its autograd graph: linear maps in a row, saturating chains.

The graph of one forward pass knows what each product was fed with, whether it was written as a module or as a function,
and with whose weights. It is taken from a copy in eval mode in which every parameter learns.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from goodfit.probes.before_training import copied
from goodfit.probes.record import NotRecorded, Values
from goodfit.types import Inputs

Node = Any
"""A node of the autograd graph; PyTorch gives them no common public type."""

# Name of a product's node -> the places of its input and its weight among the node's inputs.
_LINEAR = {"AddmmBackward0": (1, 2), "MmBackward0": (0, 1), "LinearBackward0": (0, 1), "ConvolutionBackward0": (0, 1)}
_RESHAPES = {
    "ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "TransposeBackward0", "TransposeBackward1",
    "PermuteBackward0", "TBackward0", "CloneBackward0", "SqueezeBackward0", "SqueezeBackward1", "UnsqueezeBackward0",
    "ToCopyBackward0", "AliasBackward0",
}  # fmt: skip
# In eval mode batch normalisation is one more linear map.
_AFFINE = {"NativeBatchNormBackward0", "CudnnBatchNormBackward0", "BatchNormBackward0"}
_CALM = {
    "NativeLayerNormBackward0", "NativeGroupNormBackward0", "MeanBackward1", "MaxPool2DWithIndicesBackward0",
    "AvgPool2DBackward0", "AdaptiveAvgPool2DBackward0", "MkldnnMaxPool2DBackward0",
}  # fmt: skip
_SATURATING = {"SigmoidBackward0": "sigmoid", "TanhBackward0": "tanh"}


@dataclass(frozen=True)
class Product:
    """One linear map: a matrix product or convolution with a parameter.

    inputs: numbers that one output sums over. kernel: of a convolution, else empty.
    """

    name: str
    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    grouped: bool


def linear_pairs(model: nn.Module, ready: Inputs) -> Values:
    """Pairs of linear maps of which the first feeds nothing but the second, with nothing non-linear between them.

    Left out, since each says less than one map would or is cheaper: a narrow middle (a factorisation), grouped and
    depthwise convolutions, and kernels that are long in one direction.
    """
    graph = Graph(model, ready)
    pairs = []
    for node, second in graph.products.items():
        first_node = graph.before(node, graph.input_of(node), _RESHAPES | _AFFINE, alone=True)
        first = graph.products.get(first_node)
        if first is None or first.name == second.name:
            continue
        long = any(len(set(one.kernel)) > 1 for one in (first, second))
        if first.outputs >= min(first.inputs, second.outputs) and not (first.grouped or second.grouped or long):
            pairs.append((first.name, second.name))
    return {"linear.pairs": pairs, "linear.count": len(graph.products)}


def saturating_chain(model: nn.Module, ready: Inputs) -> Values:
    """The longest line of layers with a sigmoid or tanh between each two, and how gradients shrink along it.

    shrink: root mean square of the gradient at the first layer's output over that at the last hidden one's, with random
    gradients at the model's outputs. Sums (skip connections) and products (gates) end a line.
    """
    graph = Graph(model, ready)
    best: list[tuple[Node, str]] = []
    for node in graph.products:
        chain = _chain(graph, node)
        best = chain if len(chain) > len(best) else best
    names = [graph.products[node].name for node, _ in best]
    values: Values = {
        "saturating.length": len(best),
        "saturating.kinds": sorted({kind for _, kind in best}),
        "saturating.first": names[-1] if names else "",
        "saturating.shrink": 1.0,
    }
    if len(best) < 2:
        return values
    sizes: dict[int, float] = {}

    def measured(place: int) -> Callable[[tuple[Tensor, ...]], None]:
        def keep(gradients: tuple[Tensor, ...]) -> None:
            sizes[place] = float(gradients[0].float().square().mean().sqrt())

        return keep

    for place, (node, _) in enumerate(best):
        node.register_prehook(measured(place))
    draw = torch.randn(graph.outputs.shape, generator=torch.Generator().manual_seed(0)).to(graph.outputs)
    (graph.outputs * draw).sum().backward()  # type: ignore[no-untyped-call]
    last, first = sizes.get(0, 0.0), sizes.get(len(best) - 1, 0.0)
    if not last > 0.0:
        raise NotRecorded("no gradient reaches the last hidden layer")
    return {**values, "saturating.shrink": first / last}


class Graph:
    """The autograd graph of one forward pass in eval mode on a few samples of a copy.

    products: the linear maps with a parameter, by node. uses: how many nodes read each node's output.
    """

    def __init__(self, model: nn.Module, ready: Inputs) -> None:
        trial = copied(model).eval()
        with torch.no_grad():
            for name, parameter in trial.named_parameters():
                # Behind a head or branch that starts at zero, every gradient would be zero.
                if parameter.is_floating_point() and parameter.numel() and float(parameter.abs().max()) < 1e-6:
                    scale = 0.1 / math.sqrt(max(parameter[0].numel() if parameter.dim() > 1 else 1, 1))
                    seed = sum(name.encode())
                    draw = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
                    parameter.copy_(draw * scale)
        for parameter in trial.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        outputs = trial(few_of(ready, 8))
        if not isinstance(outputs, Tensor) or outputs.grad_fn is None:
            raise NotRecorded("the outputs have no gradient to follow back")
        self.outputs = outputs
        self.names = {id(parameter): name for name, parameter in trial.named_parameters()}
        self.uses: Counter[Node] = Counter()
        self.products: dict[Node, Product] = {}
        self._kept = list(self._walk(outputs.grad_fn))
        for node in self._kept:
            product = self._product(node)
            if product is not None:
                self.products[node] = product

    def input_of(self, node: Node) -> Node | None:
        """The node that a linear map's input comes from; None where that is the data."""
        return node.next_functions[_LINEAR[node.name()][0]][0]

    def before(self, node: Node, start: Node | None, through: set[str], *, alone: bool = False) -> Node | None:
        """The first node at or above ``start`` that is none of ``through``; with ``alone``, None where another node
        reads one of them too."""
        here = start
        while here is not None:
            if alone and self.uses[here] > 1:
                return None
            if here.name() not in through:
                return here
            here = here.next_functions[0][0]
        return None

    def _walk(self, start: Node) -> Iterator[Node]:
        seen, waiting = {start}, [start]
        while waiting:
            node = waiting.pop()
            yield node
            for one, _ in node.next_functions:
                if one is None:
                    continue
                self.uses[one] += 1
                if one not in seen:
                    seen.add(one)
                    waiting.append(one)

    def _product(self, node: Node) -> Product | None:
        places = _LINEAR.get(node.name())
        if places is None:
            return None
        turned, weight = False, node.next_functions[places[1]][0]
        while weight is not None and not hasattr(weight, "variable"):
            if weight.name() not in _RESHAPES | {"WeightNormInterfaceBackward0"}:
                return None
            turned = turned or weight.name() == "TBackward0"
            weight = weight.next_functions[0][0]
        name = self.names.get(id(weight.variable)) if weight is not None else None
        if name is None:
            return None
        shape = tuple(weight.variable.shape)
        own = re.sub(r"\.(parametrizations\.weight\..*|weight(_[vg])?)$", "", name)
        if node.name() == "ConvolutionBackward0":
            grouped = node._saved_groups > 1
            rows, columns = (shape[1], shape[0]) if node._saved_transposed else (shape[0], shape[1])
            return Product(own, columns * math.prod(shape[2:]), rows, shape[2:], grouped)
        if len(shape) != 2:
            return None
        rows, columns = shape if turned or node.name() == "LinearBackward0" else shape[::-1]
        return Product(own, columns, rows, (), False)


def few_of(ready: Inputs, count: int) -> Inputs:
    """The first samples of a batch."""
    return {k: v[:count] for k, v in ready.items()} if isinstance(ready, dict) else ready[:count]


def _chain(graph: Graph, node: Node) -> list[tuple[Node, str]]:
    """Hidden layers on the line that feeds a linear map, last first, each with the activation behind it."""
    chain: list[tuple[Node, str]] = []
    through = _RESHAPES | _AFFINE | _CALM
    seen = {graph.products[node].name}
    while True:
        active = graph.before(node, graph.input_of(node), through)
        kind = _SATURATING.get(active.name()) if active is not None else None
        if active is None or kind is None:
            return chain
        node = graph.before(active, active.next_functions[0][0], through)
        # A recurrent net comes back to the same weights: that is no depth.
        if node is None or node not in graph.products or graph.products[node].name in seen:
            return chain
        seen.add(graph.products[node].name)
        chain.append((node, kind))
