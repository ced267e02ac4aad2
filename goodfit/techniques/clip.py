"""Gradient clipping: a bound on how far one batch can push the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils import get_total_norm

from goodfit.technique import Positive, technique

WINDOW, ENOUGH, TOO_OFTEN = 512, 20, 0.5


@technique("clip", name="clip")
class Clip:
    """A bound on the gradient before the update, against rare batches that would throw the weights far off.

    Formula: ``norm``: ``g <- g min(1, c / (|g| + 1e-6))`` over all parameters together. ``value``: each element into
        [-c, c]. ``adaptive`` (AGC): each unit's gradient to at most ``c max(|w|, 1e-3)``, a unit being a row of a
        matrix, a filter, or a whole vector. ``auto``: as ``norm``, with c the given percentile of the last 512 norms;
        no bound before the 20th step.
    Source: Pascanu et al., 2013 (norm); Brock et al., 2021 (adaptive); the percentile: Godbole et al., 2023 (Deep
        Learning Tuning Playbook), Seetharaman et al., 2020 (AutoClip).
    norm: the largest norm of the gradient of all parameters together.
    value: the largest absolute value of any element.
    adaptive: the largest norm of a unit's gradient, as a share of the norm of the unit's weights.
    auto: a percentile, such as 90, of the norms seen so far; with ``norm`` too, the smaller of both bounds.
    Ours: equal to ``torch.nn.utils.clip_grad_norm_`` and ``clip_grad_value_``, and ``adaptive`` to timm's
        ``adaptive_clip_grad``; no number is fetched from the GPU. Used together, ``value`` acts first, then
        ``adaptive``, then the norm. Gradients are unscaled before. Steps in which anything was bounded are counted
        (those of a loss scale that overflowed are not), and the share is in ``metrics.jsonl``, the results and the
        report.
    Helps: recurrent nets, transformers, high learning rates. Hurts: a bound that acts on most steps is a smaller
        learning rate in disguise: above one half of the steps there is a warning (with ``adaptive``: above one half of
        the units); ``value`` turns the gradient's direction.
    Often wrong: "cap the gradient at a maximum value" and "clip the norm" are two things with two keys. Clipping is
        a remedy for exploding gradients and no cure for vanishing ones: it only ever makes gradients smaller.
    """

    norm: Positive | None = None
    value: Positive | None = None
    adaptive: Positive | None = None
    auto: Annotated[float, Field(gt=0, le=100)] | None = None

    def fresh(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The state at the start: observed norms, how many steps there were and how many were clipped."""
        state = {name: torch.zeros((), dtype=torch.int64, device=device) for name in ("seen", "clipped")}
        if self.adaptive is not None:
            state["units"] = torch.zeros((), device=device)
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
        clipped: Tensor | bool = False
        if self.value is not None:
            clipped = get_total_norm(grads, float("inf"), foreach=True) > self.value
            torch._foreach_clamp_min_(grads, -self.value)
            torch._foreach_clamp_max_(grads, self.value)
        if self.adaptive is not None:
            share = adaptive_clip_(owners, self.adaptive)
            clipped = clipped | (share > 0)
            if state is not None:
                state["units"] += torch.where(total.isfinite(), share, 0.0)
        bound: Tensor | float | None = self.norm
        if self.auto is not None:
            if state is None:
                raise ValueError("clip.auto needs a state: state = clip.fresh(device)")
            found = _percentile(state, total, self.auto)
            bound = found if self.norm is None else found.clamp(max=self.norm)
        if bound is not None:
            changed = self.value is not None or self.adaptive is not None
            now = get_total_norm(grads, foreach=True) if changed else total
            clipped = clipped | (now > bound)
            scale_to_norm_(grads, bound, now)
        if state is not None:
            # A norm that is not finite belongs to a step that is left out.
            state["seen"] += total.isfinite()
            state["clipped"] += clipped & total.isfinite()
        return total

    def counts(self, state: Mapping[str, Tensor]) -> dict[str, float]:
        """How often the gradient was bounded: ``steps``, ``clipped`` ones, their ``share``; empty without any bound.

        With ``adaptive`` also ``units``, the mean share of units that were bounded in a step. Reads the device.
        """
        steps = int(state.get("seen", torch.zeros(())))
        if not steps:
            return {}
        clipped = int(state["clipped"])
        found = {"steps": steps, "clipped": clipped, "share": clipped / steps}
        return found | ({"units": float(state["units"]) / steps} if "units" in state else {})

    def warning(self, counts: Mapping[str, float]) -> str:
        """What to say where a bound acted more often than it should; an empty text where it did not."""
        if not counts:
            return ""
        alone = self.adaptive is not None and self.norm is None and self.value is None and self.auto is None
        share, what = (counts["units"], "units") if alone else (counts["share"], "steps")
        if share <= TOO_OFTEN:
            return ""
        key = next(k for k in ("norm", "auto", "value", "adaptive") if getattr(self, k) is not None)
        return (
            f"clip.{key} = {getattr(self, key):g} bounded the gradient in {100 * share:.0f} % of the {what}: that is a "
            "smaller learning rate in disguise. Try a larger bound, clip.auto = 90, or a smaller optimizer.lr"
        )


ALL = (Clip,)


def scale_to_norm_(grads: Sequence[Tensor], bound: Tensor | float, total: Tensor) -> None:
    """Scale gradients of norm ``total`` in place so that their norm is at most ``bound``."""
    scale = (bound / (total + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(list(grads), scale)


@torch.no_grad()
def adaptive_clip_(parameters: Sequence[Tensor], ratio: float, *, eps: float = 1e-3) -> Tensor:
    """Scale each unit's gradient in place to at most ``ratio`` times its weight's norm (at least ``eps``).

    Returns the share of units that were bounded, a scalar on their device.
    """
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
    return (torch.cat([one.flatten() for one in bounds]) < 1).float().mean()


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
