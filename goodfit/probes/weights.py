"""Probes of the untrained model that change its weights on a copy: squashed outputs, equal units, dropout and norms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from goodfit import keyed
from goodfit.probes.before_training import copied
from goodfit.probes.record import NotRecorded, Values
from goodfit.probes.structure import few_of
from goodfit.types import Inputs


def squashed_outputs(model: nn.Module, ready: Inputs) -> Values:
    """Whether outputs are probabilities whatever the weights are: ``softmax`` (rows sum to one), ``sigmoid`` or "".

    Logits may lie in [0, 1] or sum to one by chance, above all in an untrained model; so the copy gets other weights
    three times, and only what holds on each batch with each of them counts.
    """
    modes: dict[str, str] = {}
    classes = 0
    for training in (True, False):
        found: set[str] = set()
        for trial_number in range(3):
            trial = copied(model).train(training)
            if trial_number:
                _other_weights(trial, trial_number)
            with torch.no_grad():
                outputs = torch.as_tensor(trial(few_of(ready, 16))).float()
            if not bool(torch.isfinite(outputs).all()):
                raise NotRecorded("outputs are not finite with other weights")
            classes = outputs.shape[-1]
            found.add(_kind(outputs, fresh=trial_number > 0))
        modes["train" if training else "eval"] = found.pop() if len(found) == 1 else ""
    kinds = [kind for kind in modes.values() if kind]
    return {
        "squashed.kind": kinds[0] if kinds else "",
        "squashed.modes": [mode for mode, kind in modes.items() if kind],
        "squashed.classes": classes,
    }


def equal_units(model: nn.Module, ready: Inputs) -> Values:
    """Units of a layer that start with equal weights and still have equal ones after three steps.

    The steps are in float64, in eval mode, towards random outputs, so that every output unit is pulled elsewhere: a
    head or a residual branch that starts at zero comes apart, and only units that nothing ever tells apart are left.
    """
    kinds = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase)
    trial = copied(model).double().eval()
    watched: dict[str, Tensor] = {}
    for path, module in trial.named_modules():
        if isinstance(module, kinds):
            for own, parameter in module.named_parameters(recurse=False):
                if "weight" in own and parameter.dim() > 1 and parameter.requires_grad and len(parameter) > 1:
                    watched[f"{path}.{own}" if path else own] = parameter
    before = {name: _groups(parameter) for name, parameter in watched.items()}
    before = {name: groups for name, groups in before.items() if groups}
    if not before:
        return {"equal.layers": {}, "equal.checked": len(watched)}
    small = few_of(ready, 16)
    small = {k: _double(v) for k, v in small.items()} if isinstance(small, dict) else _double(small)
    parameters = [p for p in trial.parameters() if p.requires_grad]
    for _ in range(3):
        outputs = torch.as_tensor(trial(small))
        if not outputs.requires_grad:
            raise NotRecorded("no gradient reaches the parameters")
        draw = torch.randn(outputs.shape, generator=keyed.generator(keyed.key(0, "equal units")), dtype=torch.float64)
        gradients = torch.autograd.grad((outputs * draw.to(outputs.device)).mean(), parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    dense = gradient.to_dense() if gradient.is_sparse else gradient
                    parameter.sub_(0.1 * dense / dense.norm().clamp_min(1e-30))
    stuck = {name: _still_equal(watched[name], groups) for name, groups in before.items()}
    return {
        "equal.layers": {name: (count, len(watched[name])) for name, count in stuck.items() if count},
        "equal.checked": len(watched),
    }


def dropout_before_norm(model: nn.Module, ready: Inputs) -> Values:
    """How much larger the variance that a batch norm sees is with dropout on than with dropout off, the largest ratio.

    Both in train mode on the same batch: a batch norm keeps the first as its running variance and meets the second at
    prediction.
    """
    norms = _batch_norms(model)
    drops = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
    if not norms or not drops:
        return {"shift.ratio": 1.0, "shift.where": "", "shift.norms": len(norms), "shift.dropouts": len(drops)}
    seen: list[dict[str, Tensor]] = []
    for on in (True, False):
        trial = copied(model).train()
        for module in trial.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd) and not on:
                module.p = 0.0
        with torch.no_grad(), _input_variances(trial) as variances:
            torch.manual_seed(0)
            trial(ready)
        seen.append(variances)
    with_dropout, without = seen
    ratios = {
        name: float((with_dropout[name] / without[name]).median())
        for name in with_dropout
        if name in without and bool((without[name] > 0).all())
    }
    worst = max(ratios, key=lambda name: ratios[name], default="")
    return {
        "shift.ratio": ratios.get(worst, 1.0), "shift.where": worst, "shift.norms": len(norms),
        "shift.dropouts": len(drops),
    }  # fmt: skip


def norm_batches(model: nn.Module, ready: Inputs, *, samples: int) -> Values:
    """Samples per statistic of a batch norm, and the fewest numbers (samples times positions) that one is made from.

    samples: that go through the model at once in training.
    """
    norms = _batch_norms(model)
    values: Values = {"statistic.norms": len(norms), "statistic.samples": samples, "statistic.where": ""}
    if not norms:
        return {**values, "statistic.numbers": samples}
    trial = copied(model).train()
    positions: dict[str, int] = {}
    some = few_of(ready, 4)
    size = len(next(iter(some.values())) if isinstance(some, dict) else some)

    def look(name: str) -> object:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            inputs = arguments[0]
            positions[name] = inputs.numel() // (inputs.shape[1] * size)

        return hook

    handles = [m.register_forward_pre_hook(look(name)) for name, m in _batch_norms(trial).items()]  # type: ignore[arg-type]
    with torch.no_grad():
        trial(some)
    for handle in handles:
        handle.remove()
    if not positions:
        return {**values, "statistic.norms": 0, "statistic.numbers": samples}
    least = min(positions, key=lambda name: positions[name])
    return {**values, "statistic.numbers": samples * positions[least], "statistic.where": least}


def _kind(outputs: Tensor, *, fresh: bool) -> str:
    inside = bool((outputs >= -1e-5).all() and (outputs <= 1 + 1e-5).all())
    if not inside:
        return ""
    if outputs.shape[-1] > 1 and bool((outputs.sum(-1) - 1).abs().max() < 1e-3):
        return "softmax"
    # A ReLU gives numbers from 0 up; with other weights they would pass 1, or all be zero.
    spread = float(outputs.max() - outputs.min())
    return "sigmoid" if spread > 0.5 or (not fresh and float(outputs.min()) > 0) else ""


@torch.no_grad()
def _other_weights(model: nn.Module, seed: int) -> None:
    """Every parameter drawn anew, large enough that logits would leave [0, 1]."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.numel():
            fan = parameter[0].numel() if parameter.dim() > 1 else 1
            draw = torch.randn(parameter.shape, generator=keyed.generator(keyed.key(seed, "other", name)))
            parameter.copy_(draw * 3.0 / math.sqrt(max(fan, 1)))


def _groups(parameter: Tensor) -> list[Tensor]:
    """Row numbers of each set of equal rows of two or more."""
    rows = parameter.detach().flatten(1)
    _, which, counts = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
    return [(which == number).nonzero()[:, 0][:256] for number in (counts > 1).nonzero()[:, 0].tolist()]


def _still_equal(parameter: Tensor, groups: list[Tensor]) -> int:
    rows, count = parameter.detach().flatten(1), 0
    for group in groups:
        apart = torch.cdist(rows[group], rows[group], compute_mode="donot_use_mm_for_euclid_dist")
        apart.fill_diagonal_(math.inf)
        count += int((apart.min(1).values < 1e-9).sum())
    return count


def _batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Batch norms that use the batch's own statistics in training: all but frozen ones."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = list(module.parameters(recurse=False))
            if not own or any(p.requires_grad for p in own):
                found[name] = module
    return found


@contextmanager
def _input_variances(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collects the variance of each channel that each batch norm is given."""
    variances: dict[str, Tensor] = {}

    def look(name: str) -> object:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            inputs = arguments[0].float()
            variances.setdefault(name, inputs.transpose(0, 1).flatten(1).var(1))

        return hook

    handles = [m.register_forward_pre_hook(look(name)) for name, m in _batch_norms(model).items()]  # type: ignore[arg-type]
    try:
        yield variances
    finally:
        for handle in handles:
            handle.remove()


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value
