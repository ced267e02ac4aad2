"""What the user calls a tensor or a module: ``encoder.layers.2.weight`` of the outermost module that holds it."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn


class Names:
    """Qualified names below the outermost modules that were seen. Holds only weak references."""

    def __init__(self) -> None:
        self._roots: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._parameters: dict[int, tuple[weakref.ref[Any], str]] = {}
        self._modules: dict[int, tuple[weakref.ref[Any], str]] = {}

    def seen(self, module: nn.Module) -> None:
        """A module was called from the outside: everything in it has a name below it."""
        if module not in self._roots and next(module.parameters(), None) is not None:
            self._roots.add(module)

    @property
    def roots(self) -> list[nn.Module]:
        """The outermost modules that are still alive."""
        return list(self._roots)

    def of(self, tensor: Tensor) -> str:
        """A parameter's or buffer's name, or its shape where no module that was called holds it."""
        found = self._look(self._parameters, tensor)
        return found or f"a tensor of shape {tuple(tensor.shape)}"

    def module(self, module: nn.Module) -> str:
        """A module's name and class, such as ``encoder.norm (LayerNorm)``."""
        found = self._look(self._modules, module)
        kind = type(module).__name__
        return f"{found} ({kind})" if found and found != kind else kind

    def known(self, tensor: Tensor) -> bool:
        """Whether a module that was called holds this tensor."""
        return bool(self._look(self._parameters, tensor))

    def _look(self, table: dict[int, tuple[weakref.ref[Any], str]], thing: object) -> str:
        held = table.get(id(thing))
        if held is None or held[0]() is not thing:  # ids are used again, so the object itself is compared
            self._build()
            held = table.get(id(thing))
        return held[1] if held is not None and held[0]() is thing else ""

    def _build(self) -> None:
        roots = self.roots
        several = len(roots) > 1
        self._parameters.clear()
        self._modules.clear()
        # A module inside another one that was called by itself too is named from the outer one.
        roots.sort(key=lambda root: -sum(1 for _ in root.modules()))
        for root in roots:
            for name, module in root.named_modules():
                full = ".".join(filter(None, [type(root).__name__ if several or not name else "", name]))
                self._modules.setdefault(id(module), (weakref.ref(module), full))
                for own, tensor in [*module._parameters.items(), *module._buffers.items()]:
                    if tensor is not None:
                        path = ".".join(filter(None, [type(root).__name__ if several else "", name, own]))
                        self._parameters.setdefault(id(tensor), (weakref.ref(tensor), path))
