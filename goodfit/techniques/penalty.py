"""Penalties on large weights: L2 in the gradient, L1 as a step of its own that makes weights exactly zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from goodfit.technique import NotNegative, technique
from goodfit.techniques.groups import grouped_parameters


@technique("penalty", name="penalty")
class Penalty:
    """A price on large weights: ``l2`` shrinks all of them, ``l1`` sets the least useful to zero; both: elastic net.

    Formula: loss + ``l2 sum w²`` (gradient ``2 l2 w``), and after the update ``w <- sign(w) max(|w| - lr l1, 0)``,
        the proximal step of ``l1 sum |w|``.
    Source: ridge: Hoerl and Kennard, 1970; lasso: Tibshirani, 1996; elastic net: Zou and Hastie, 2005; proximal
        gradient (ISTA): Daubechies et al., 2004.
    Ours: the loss that is shown stays free of the penalty, whose gradient is added to the batch's. The L1 part is no
        gradient at all, because gradient steps never reach zero; its lr is that of each weight's own group, also where
        the optimizer scales gradients (Adam). Both act on matrices and filters, not on norms and biases. The share of
        exact zeros stands in the results and the report; averaging of weights, which has none, is off by default
        beside ``l1``.
    Keys: ``l2``, ``l1``: strength on the scale of the loss; 1e-5 to 1e-3 are usual.
    Helps: ``l1`` prunes inputs and units; ``l2`` in linear models.
    Hurts: with Adam, L2 in the gradient is divided by the gradient's size and hardly acts on weights with large
        gradients: use ``optimizer.weight_decay`` with AdamW instead. Too much of either underfits.
    Often wrong: L2 has a factor 2 that PyTorch's ``weight_decay`` does not have: ``l2 = 1e-4`` acts in SGD like
        ``weight_decay = 2e-4``. ``w (1 - lambda)`` without the learning rate decays 10 times faster at lr 0.1. L1 by
        plain (sub)gradient steps gives small weights and no zeros.
    """

    l2: NotNegative = 0.0
    l1: NotNegative = 0.0

    def __call__(self, parameters: Sequence[Tensor]) -> Tensor:
        """What L2 adds to the loss, a scalar: ``l2 sum w²``, for those who want it there and differentiate it."""
        return l2_penalty(parameters, self.l2)

    def add_gradient(self, parameters: Sequence[Tensor]) -> None:
        """Add the gradient of the L2 part, ``2 l2 w``, to every ``.grad``, in place; nothing for ``l2 = 0``."""
        if self.l2:
            add_l2_gradient_(parameters, self.l2)

    def after_step(self, parameters: Sequence[Tensor], lr: float | torch.optim.Optimizer) -> None:
        """The proximal step of L1, in place; nothing for ``l1 = 0``.

        lr: the learning rate, or the optimizer, whose groups may have several.
        """
        if not self.l1:
            return
        if isinstance(lr, torch.optim.Optimizer):
            wanted = {id(parameter) for parameter in parameters}
            for group in lr.param_groups:
                soft_threshold_([p for p in group["params"] if id(p) in wanted], float(group["lr"]) * self.l1)
        else:
            soft_threshold_(parameters, lr * self.l1)


ALL = (Penalty,)


def penalised(model: nn.Module) -> list[Tensor]:
    """The trainable weights of a model that penalties are for: matrices and filters, no norms and no biases."""
    groups = grouped_parameters(model, lr=1.0, weight_decay=1.0)
    return _weights([p for group in groups if group["weight_decay"] for p in group["params"]])


def l2_penalty(parameters: Sequence[Tensor], l2: float) -> Tensor:
    """``l2`` times the sum of squares of the weights, a scalar whose gradient is ``2 l2 w``."""
    squares = [weight.square().sum() for weight in _weights(parameters)] if l2 else []
    return l2 * torch.stack(squares).sum() if squares else torch.zeros(())


@torch.no_grad()
def add_l2_gradient_(parameters: Sequence[Tensor], l2: float) -> None:
    """Add ``2 l2 w`` to the gradients, in place, where there is one."""
    owners = [weight for weight in _weights(parameters) if weight.grad is not None]
    if owners:
        torch._foreach_add_([w.grad for w in owners if w.grad is not None], owners, alpha=2 * l2)


@torch.no_grad()
def soft_threshold_(parameters: Sequence[Tensor], by: float) -> None:
    """Move every weight towards zero by ``by`` and stop there, in place."""
    for weight in _weights(parameters):
        if weight.requires_grad:  # a frozen layer keeps its weights
            weight.copy_(torch.nn.functional.softshrink(weight, by))


def sparsity(parameters: Sequence[Tensor]) -> float:
    """The share of weights that are exactly zero, vectors left out."""
    weights = _weights(parameters)
    total = sum(weight.numel() for weight in weights)
    return 1 - sum(int(torch.count_nonzero(weight)) for weight in weights) / total if total else 0.0


def _weights(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [weight for weight in parameters if weight.dim() >= 2]
