"""image-layout: images whose channels stand last go into a convolution that wants them first."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Images of shape (B, H, W, C) go into a convolution that reads them as (B, C, H, W).

    The batch has 1, 3 or 4 entries in its last axis and equal numbers in the two before, and the convolution was built
    with as many input channels as the image is high.

    Look-alikes that do not count: the memory format channels_last, which keeps the shape.

    Fix: ``images.permute(0, 3, 1, 2)``, and ``in_channels`` as many as there are colours.
    """
    found = [
        Finding(
            "image-layout",
            "error",
            f"images of shape {one.shape} have their channels last, but '{one.layer}' takes the height "
            f"({one.shape[1]}) for channels",
            one.where,
            {"shape": list(one.shape)},
            "permute them to (batch, channels, height, width) and give the convolution the number of colours",
        )
        for one in log["inputs.layout"][:1]
    ]
    return found or "images have their channels first"


RULE = Rule("image-layout", check, ("inputs.layout",), status="stable")
