"""Deterministic mode: PyTorch's repeatable algorithms, and a certificate of what could not be made repeatable."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

_SAYS = r"(\S+) does not have a deterministic implementation"
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[list[str]]:
    """Ask PyTorch for repeatable algorithms inside, and put its settings back afterwards.

    Gives the names of operations that have no such algorithm and ran all the same, in the order in which they were
    met; the list grows as they run. Nothing is asked for unless ``wanted``.
    """
    met: list[str] = []
    if not wanted:
        yield met
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(_CUBLAS)
    # cuBLAS sums in a fixed order only with a workspace of fixed size; it reads the variable when it starts.
    os.environ.setdefault(_CUBLAS, ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("always", message=rf".*{_SAYS}")
            shown = warnings.showwarning

            def note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
                found = re.search(_SAYS, str(message))
                if found is None:
                    shown(message, category, *where, **more)
                elif found[1] not in met:
                    met.append(found[1])

            warnings.showwarning = note
            yield met
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop(_CUBLAS, None)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads for PyTorch's work on the CPU inside; as many as before afterwards."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def certificate(
    met: Sequence[str], *, device: torch.device, repeated: bool | None, elsewhere: Sequence[str] = ()
) -> dict[str, Any]:
    """What is deterministic on this device and what is not, as plain values with sentences for a reader.

    met: operations without a deterministic algorithm, as ``determinism`` gave them. repeated: whether steps made twice
    gave the same bits; None where that was not tried. elsewhere: what else of this run is outside anybody's control.
    """
    count = torch.get_num_threads()
    sure = [
        "the order of the samples, augmentation, initial weights and dropout: each a function of the seed and of where "
        "the run stands",
        f"every operation of PyTorch that ran on {device.type}" + (", but for those named below" if met else ""),
    ]
    if repeated:
        sure.append("tried: two steps, made twice from the same weights, gave the same bits")
    unsure = [f"{name}: PyTorch has no deterministic algorithm for it on {device.type}" for name in met]
    if repeated is False:
        unsure.insert(0, "tried: two steps, made twice from the same weights, gave different bits")
    if repeated is None:
        unsure.append("whether a step repeats was not tried")
    unsure += elsewhere
    unsure.append(
        f"another processor, another version of PyTorch, or another number of threads than {count} or of processes: "
        "sums are taken in another order there, and the last digits differ"
    )
    return {
        "certified": not met and repeated is True and not elsewhere,
        "device": device.type,
        "threads": count,
        "torch": torch.__version__,
        "repeated": repeated,
        "operations": list(met),
        "deterministic": sure,
        "not_deterministic": unsure,
    }
