"""accelerator-idle: an accelerator could compute the same faster."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The accelerator computes in float32, with layer sizes that are no multiple of 8, or images not in channels_last.

    Advice. Looked at once, in the 20th pass.

    Fix: ``torch.autocast``, sizes that are multiples of 8, ``memory_format=torch.channels_last``.
    """
    one = log["speed.work"]
    ways = []
    if not one.half:
        ways.append("run forward pass and loss under torch.autocast in bfloat16")
    if one.layers and one.odd > one.layers / 2:
        ways.append("choose layer sizes that are multiples of 8")
    if one.plain_images:
        ways.append("move network and images to memory_format=torch.channels_last")
    if not ways:
        return "the accelerator is used well"
    numbers = {"under autocast": one.half, "linear layers with other sizes": f"{one.odd} of {one.layers}"}
    text = f"{len(ways)} {'way' if len(ways) == 1 else 'ways'} to compute the same faster"
    return [Finding("accelerator-idle", "advice", text, one.where, numbers, "; ".join(ways))]


RULE = Rule("accelerator-idle", check, ("speed.work",))
