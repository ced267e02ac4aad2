"""Where a model's head begins: its last part, the one that turns features into logits."""

from __future__ import annotations

from torch import nn


def last_part(model: nn.Module) -> nn.Module | None:
    """The module that gives the logits; None for a model without parameters.

    The attribute ``head``, or what ``get_classifier()`` returns (timm), or the last module with parameters of its own.
    """
    part: object = getattr(model, "head", None)
    if not _owns(part) and callable(getattr(model, "get_classifier", None)):
        part = model.get_classifier()  # type: ignore[operator]
    if not _owns(part):
        part = next((m for m in reversed(list(model.modules())) if any(True for _ in m.parameters(False))), None)
    return part if isinstance(part, nn.Module) else None


def head_names(model: nn.Module) -> list[str]:
    """Names of the parameters of the last part, as ``named_parameters`` tells them."""
    part = last_part(model)
    owned = {id(p) for p in part.parameters()} if part is not None else set()
    return [name for name, p in model.named_parameters() if id(p) in owned]


def _owns(part: object) -> bool:
    return isinstance(part, nn.Module) and any(True for _ in part.parameters())
