"""In which number format, memory layout and mode of execution the mathematics runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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
        multiplied by a loss scale first and divided by it before clipping; overflowing steps are left out and counted.
    Source: Micikevicius et al., 2018 (mixed precision).
    Ours: ``auto`` takes bf16 only where it was measured to be faster; fp16 on a CPU is refused. ``memory_format``
        ``channels_last`` stores images as (batch, height, width, channels), which convolutions prefer. ``compile`` is
        ``torch.compile``, worth its start-up time in long runs. ``deterministic`` asks PyTorch for algorithms that
        give the same bits each time; runs on one machine with the same threads repeat exactly on CPU without it.
    Helps: speed and memory. Hurts: bf16 has 8 bits of precision: sums over long axes and tiny updates suffer, which
        is why weights are not held in it.
    Often wrong: fp16 without loss scaling. ``torch.cuda.amp.autocast()`` is the old spelling.
    """

    precision: Precision = "auto"
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    threads: Count | None = None
    deterministic: bool = False


ALL = (Numerics,)

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the forward pass and the loss run: nothing for fp32. ``auto`` must be settled before."""
    if precision == "auto":
        raise ValueError("precision 'auto' must be settled before the first step")
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_TYPES[precision], cache_enabled=True)


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


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Ask PyTorch for repeatable algorithms inside, and put its settings back afterwards.

    Operations that have no such algorithm warn and run; the warning names them.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


def _bf16_on_cpu() -> bool:
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported()) if supported is not None else False
