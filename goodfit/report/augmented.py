"""The sheet of augmented samples: what the model saw in its first steps, as small pictures with their targets."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from goodfit.data.image_encoder import thumbnail
from goodfit.techniques.batch import active
from goodfit.types import Batch, Moment

SAMPLES = 32


def sheet(
    steps: Iterable[tuple[Batch, Moment]], techniques: Sequence[Any], *, classes: Sequence[str]
) -> dict[str, Any]:
    """What the report shows of the batch techniques' work, as plain values for ``augmented.json``.

    steps: the first steps of a run, as many as are needed for 32 samples; each batch whole, since techniques that mix
    take each sample's partner from all of it. Images of one size a step.
    Returns the techniques' names and the samples with their pictures (PNG, as data URIs) and targets.
    """
    names: dict[str, None] = {}
    samples: list[dict[str, str]] = []
    for batch, moment in steps:
        for change in techniques:
            if active(change, moment):
                batch = change(batch, moment)
                names[change.name] = None
        assert isinstance(batch.inputs, Tensor)
        some = zip(batch.inputs[: SAMPLES - len(samples)].cpu(), batch.targets.cpu(), strict=False)
        samples += [{"image": _png(pixels), "target": in_words(target, classes)} for pixels, target in some]
        if len(samples) == SAMPLES:
            break
    return {"techniques": list(names), "samples": samples}


def in_words(target: Tensor, classes: Sequence[str]) -> str:
    """A target as people say it: a class, the shares of several (those of 1 % or more), or a number."""
    if not classes:
        return f"{float(target):.4g}"
    if target.dim() == 0:
        return classes[int(target)]
    shares = sorted(((float(share), name) for share, name in zip(target, classes, strict=True)), reverse=True)
    if shares[0][0] >= 0.995:
        return shares[0][1]
    return ", ".join(f"{100 * share:.0f}\u00a0%\u00a0{name}" for share, name in shares[:3] if share >= 0.005)


def _png(pixels: Tensor) -> str:
    return "data:image/png;base64," + base64.b64encode(thumbnail(pixels, side=64)).decode()
