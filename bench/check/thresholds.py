"""The usual thresholds on magnitudes, as a comparison: what a checker without exact facts says of the same programs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook


class Thresholds:
    """Collects the names of alarms in ``alarms``: norms of gradients, shares of zeros, sizes of updates and inputs."""

    def __init__(self) -> None:
        self.alarms: set[str] = set()
        self.before: list[tuple[Tensor, Tensor]] = []

    def __enter__(self) -> Thresholds:
        self.undo = [
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
            register_module_forward_hook(self._forward),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.undo:
            one.remove()

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, *_: Any) -> None:
        held = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = sum(float(p.grad.float().square().sum()) for p in held) ** 0.5
        if not norm <= 100:
            self.alarms.add("gradient norm > 100")
        if norm < 1e-7:
            self.alarms.add("gradient norm < 1e-7")
        self.before = [(p, p.detach().clone()) for p in held if p.dim() > 1]

    @torch.no_grad()
    def _after(self, *_: Any) -> None:
        for parameter, old in self.before:
            ratio = float((parameter - old).norm() / (old.norm() + 1e-12))
            if not 1e-5 <= ratio <= 0.1:
                self.alarms.add("update ratio outside 1e-5..0.1")
        self.before = []

    @torch.no_grad()
    def _forward(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if next(module.children(), None) is not None or not isinstance(output, Tensor) or not output.numel():
            return
        if output.is_floating_point() and float((output == 0).float().mean()) > 0.9:
            self.alarms.add("zeros > 90 %")
