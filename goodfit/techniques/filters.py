"""Muon for the filters of convolutions, which `torch.optim.Muon` refuses: each filter bank is a matrix, one row a
filter."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class FilterMuon(Optimizer):
    """Momentum made orthogonal over ``(filters, channels x height x width)``.

    Formula: ``B <- momentum B + (1 - momentum) g``; O = Newton-Schulz steps towards ``U V^T`` of B (with Nesterov of
    ``(1 - momentum) g + momentum B``); ``w <- w - lr weight_decay w - lr a O``, a = ``sqrt(max(1, rows / columns))``
    for ``adjust = "original"`` and ``0.2 sqrt(max(rows, columns))`` for ``"match_rms_adamw"``. With ``fixed_norm`` the
    weights are first brought to norm ``sqrt(filters)``, which a batch norm behind them makes free of effect on the
    outputs and which keeps the relative step equal to lr throughout.
    Source: Jordan et al., 2024; the fixed norm: Jordan, airbench, 2024.

    Order of columns does not matter to ``U V^T``, so they are taken in memory order and channels-last filters are
    not copied.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        steps: int,
        fixed_norm: bool,
        adjust: str = "original",
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": 0.0}
        super().__init__(groups, defaults)
        self.nesterov, self.steps, self.fixed_norm, self.adjust = nesterov, steps, fixed_norm, adjust

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every filter bank that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                mean = state["momentum_buffer"].lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(mean, group["momentum"]) if self.nesterov else mean
                if self.fixed_norm:
                    weight.mul_(math.sqrt(len(weight)) / weight.norm())
                elif group["weight_decay"]:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                scale = step_scale(len(weight), weight[0].numel(), self.adjust)
                weight.add_(orthogonal(update, steps=self.steps), alpha=-group["lr"] * scale)


def step_scale(rows: int, columns: int, adjust: str) -> float:
    """What an orthogonal step of a matrix is multiplied by.

    >>> step_scale(8, 2, "original"), step_scale(2, 100, "match_rms_adamw")
    (2.0, 2.0)
    """
    return math.sqrt(max(1.0, rows / columns)) if adjust == "original" else 0.2 * math.sqrt(max(rows, columns))


def orthogonal(matrix: Tensor, *, steps: int = 5) -> Tensor:
    """The nearest matrix with orthonormal rows (or columns), roughly: singular values end between about 0.7 and 1.2.

    matrix: ``(rows, ...)``, flattened behind the first axis.
    Formula: ``X <- a X + (b A + c A²) X`` with ``A = X X^T``, from ``X = G / |G|``, ``(a, b, c) = (3.4445, -4.7750,
    2.0315)``, in bfloat16. Returns the shape and dtype of ``matrix``.
    """
    ordered = matrix.permute(0, 2, 3, 1) if matrix.dim() == 4 else matrix
    x = ordered.reshape(len(matrix), -1).bfloat16()
    tall = x.size(0) > x.size(1)
    x = (x.T if tall else x) / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * (square @ square)) @ x
    made = (x.T if tall else x).reshape(ordered.shape).to(matrix.dtype)
    return made.permute(0, 3, 1, 2) if matrix.dim() == 4 else torch.as_tensor(made)
