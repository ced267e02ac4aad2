"""Gradient clipping: a bound on how far one batch can push the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils import get_total_norm

from goodfit.technique import Positive, technique

WINDOW, ENOUGH = 512, 20


@technique("clip", name="clip")
class Clip:
    """A bound on the gradient before the update, against rare batches that would throw the weights far off.

    Formula: ``norm``: ``g <- g min(1, c / (|g| + 1e-6))`` over all parameters together. ``value``: each element into
        [-c, c]. ``adaptive`` (AGC): each unit's gradient to at most ``c max(|w|, 1e-3)``, a unit being a row of a
        matrix, a filter, or a whole vector. ``auto``: as ``norm``, with c the given percentile of the last 512 norms;
        no bound before the 20th step.
    Source: Pascanu et al., 2013 (norm); Brock et al., 2021 (adaptive); the percentile: Godbole et al., 2023 (Deep
        Learning Tuning Playbook), Seetharaman et al., 2020 (AutoClip).
    Ours: equal to ``torch.nn.utils.clip_grad_norm_`` and ``clip_grad_value_``; no number is fetched from the GPU.
        Used together, ``value`` acts first, then ``adaptive``, then the norm. Gradients are unscaled before.
    Helps: recurrent nets, transformers, high learning rates. Hurts: a bound that acts on most steps is a smaller
        learning rate in disguise (``goodfit`` counts the clipped steps and warns above one half); ``value`` turns the
        gradient's direction.
    Often wrong: "cap the gradient at a maximum value" and "clip the norm" are two things with two keys. Clipping is
        no cure for vanishing gradients.
    """

    norm: Positive | None = None
    value: Positive | None = None
    adaptive: Positive | None = None
    auto: Annotated[float, Field(gt=0, le=100)] | None = None

    def fresh(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The state at the start: observed norms, how many steps there were and how many were clipped."""
        state = {name: torch.zeros((), dtype=torch.int64, device=device) for name in ("seen", "clipped")}
        if self.auto is not None:
            state["norms"] = torch.full((WINDOW,), torch.nan, device=device)
        return state

    @torch.no_grad()
    def __call__(self, parameters: Sequence[Tensor], *, state: dict[str, Tensor] | None = None) -> Tensor | None:
        """Bound the gradients in place.

        state: from ``fresh``, updated in place; ``auto`` needs it. Returns the total norm before any clipping, a scalar
        on the parameters' device; None where nothing is to be bounded or no parameter has a gradient.
        """
        if self.norm is None and self.value is None and self.adaptive is None and self.auto is None:
            return None
        owners = [p for p in parameters if p.grad is not None]
        grads = [p.grad for p in owners if p.grad is not None]
        if not grads:
            return None
        total = get_total_norm(grads, foreach=True)
        if self.value is not None:
            torch._foreach_clamp_min_(grads, -self.value)
            torch._foreach_clamp_max_(grads, self.value)
        if self.adaptive is not None:
            adaptive_clip_(owners, self.adaptive)
        bound: Tensor | float | None = self.norm
        if self.auto is not None:
            if state is None:
                raise ValueError("clip.auto needs a state: state = clip.fresh(device)")
            found = _percentile(state, total, self.auto)
            bound = found if self.norm is None else found.clamp(max=self.norm)
        if bound is not None:
            changed = self.value is not None or self.adaptive is not None
            scale_to_norm_(grads, bound, get_total_norm(grads, foreach=True) if changed else total)
        if state is not None:
            state["seen"] += 1
            if bound is not None:
                state["clipped"] += total > bound
        return total


ALL = (Clip,)


def scale_to_norm_(grads: Sequence[Tensor], bound: Tensor | float, total: Tensor) -> None:
    """Scale gradients of norm ``total`` in place so that their norm is at most ``bound``."""
    scale = (bound / (total + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(list(grads), scale)


@torch.no_grad()
def adaptive_clip_(parameters: Sequence[Tensor], ratio: float, *, eps: float = 1e-3) -> None:
    """Scale each unit's gradient in place to at most ``ratio`` times its weight's norm (at least ``eps``)."""
    owners = [p for p in parameters if p.grad is not None]
    grads = [p.grad for p in owners if p.grad is not None]
    bounds = [_unit_norm(p) for p in owners]
    torch._foreach_clamp_min_(bounds, eps)
    torch._foreach_mul_(bounds, ratio)
    norms = [_unit_norm(g) for g in grads]
    torch._foreach_clamp_min_(norms, 1e-6)
    torch._foreach_div_(bounds, norms)
    torch._foreach_clamp_max_(bounds, 1.0)
    torch._foreach_mul_(grads, bounds)


def _unit_norm(weight: Tensor) -> Tensor:
    axes = tuple(range(1, weight.dim())) or None
    norm: Tensor = torch.linalg.vector_norm(weight, dim=axes, keepdim=axes is not None)
    return norm


def _percentile(state: dict[str, Tensor], total: Tensor, percent: float) -> Tensor:
    """Put this norm among the observed ones (unless it is not finite); the percentile of those seen."""
    norms, seen = state["norms"], state["seen"]
    place = (seen % len(norms)).view(1)
    norms.index_copy_(0, place, torch.where(total.isfinite(), total.to(norms.dtype), torch.nan).view(1))
    return torch.where(seen + 1 < ENOUGH, torch.inf, torch.nanquantile(norms, percent / 100))
