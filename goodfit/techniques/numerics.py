"""In which number format, memory layout and mode of execution the mathematics runs."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Literal

import torch

from goodfit.technique import Count, technique

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@technique("numerics", name="numerics")
class Numerics:
    """How numbers are held and computed; ``auto`` is settled by timing a few real steps.

    Formula: weights, optimizer state and losses stay in float32 ("master weights"); with ``bf16`` or ``fp16`` matrix
        products and convolutions run in 16 bits under autocast. fp16 has a range of 6e-8 to 65504, so gradients are
        multiplied by a loss scale first and divided by it before clipping; a step that overflows is left out, counted,
        and halves the scale, which doubles after 2,000 steps without one.
    precision: ``fp32``, ``bf16`` or ``fp16``; ``auto`` takes bf16 only where it was measured to be faster, never fp16.
    memory_format: ``channels_last`` stores images as (batch, height, width, channels), which convolutions prefer.
    compile: ``torch.compile``, worth its start-up time in long runs.
    threads: of the CPU; as many as PyTorch takes by itself unless given.
    deterministic: repeatable algorithms where PyTorch has them, no choice left to a stopwatch, and a certificate in
        the run folder (``determinism.json``) and the report: what repeats bit for bit on this device, tried on two
        steps made twice, and each operation that ran and cannot be made to. On a CPU runs repeat without it too, with
        the same number of threads.
    Source: Micikevicius et al., 2018 (mixed precision).
    Ours: fp16 on a CPU, and bf16 on a GPU without it, are refused before training.
    sync_batchnorm: in several processes (``goodfit explain distributed``) batch norms take their statistics
        from the whole batch.
    Helps: speed and memory. Hurts: bf16 has 8 bits of precision: sums over long axes and tiny updates suffer, which
        is why weights are not held in it.
    Often wrong: fp16 without loss scaling, whose small gradients become zero: here the scaling is automatic, and bf16
        needs none. ``torch.cuda.amp.autocast()`` is the old spelling of ``torch.autocast("cuda")``.
    """

    precision: Precision = "auto"
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    threads: Count | None = None
    deterministic: bool = False
    sync_batchnorm: bool = True


ALL = (Numerics,)

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the forward pass and the loss run: nothing for fp32. ``auto`` must be settled before."""
    if precision == "auto":
        raise ValueError("precision 'auto' must be settled before the first step")
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_TYPES[precision], cache_enabled=True)


def scaled_step(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> bool:
    """An update with gradients that ``scaler`` has unscaled; False where they overflowed and it was left out.

    After an overflow the scale is halved, after 2,000 updates without one it is doubled.
    """
    before = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    return scaler.get_scale() >= before


def refusals(precision: Precision, device: torch.device) -> list[str]:
    """Why this precision cannot be used on this device, each reason with what to do; empty where it can."""
    if precision == "fp16" and device.type == "cpu":
        return ["numerics.precision = 'fp16' does not train on a CPU; use 'bf16' or 'fp32'"]
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return ["numerics.precision = 'bf16' is not supported by this GPU; use 'fp16' or 'fp32'"]
    return []


def candidates(device: torch.device) -> tuple[Precision, ...]:
    """The precisions worth timing on this device, float32 first. fp16 is never chosen by itself."""
    if device.type == "cpu":
        return ("fp32", "bf16") if _bf16_on_cpu() else ("fp32",)
    return ("fp32", "bf16") if not refusals("bf16", device) else ("fp32",)


def _bf16_on_cpu() -> bool:
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported()) if supported is not None else False
