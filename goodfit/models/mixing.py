"""Mixes two samples behind their embedding, where a batch brings each sample's partner along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from goodfit.types import Inputs

PARTNER, SHARE = "partner.", "share"
MIXING = ("tabular", "mlp", "bag", "rnn", "lstm", "gru", "transformer")
"""Models that mix embedded samples."""


def with_partners(inputs: Inputs, partner: Tensor, share: Tensor) -> dict[str, Tensor]:
    """Inputs that hold the partner of each sample too: ``x`` and ``partner.x`` for each part x, and ``share``.

    A tensor stands under the name ``""``. Each row knows its partner by value, so the batch may be cut into pieces.
    partner: ``(batch,)`` int64 positions. share: ``(batch,)`` in [0, 1], the part of the sample itself.
    """
    own = inputs if isinstance(inputs, dict) else {"": inputs}
    return {
        **own,
        **{PARTNER + name: value.index_select(0, partner) for name, value in own.items()},
        SHARE: share.float(),
    }


def mixed(embed: Callable[[Any], Tensor], inputs: Inputs) -> Tensor:
    """``embed(inputs)``; with partners in them, ``share embed(own) + (1 - share) embed(partner)``.

    embed: inputs as the model knows them to features ``(batch, ...)``.
    """
    if not isinstance(inputs, dict) or SHARE not in inputs:
        return embed(inputs)
    names = [name for name in inputs if name != SHARE and not name.startswith(PARTNER)]
    # A part without a partner (pixels, mixed before) is the same on both sides.
    pair = [{name: inputs.get(prefix + name, inputs[name]) for name in names} for prefix in ("", PARTNER)]
    own, partner = (embed(one.get("", one)) for one in pair)
    share = inputs[SHARE].to(own.dtype).reshape(-1, *[1] * (own.dim() - 1))
    return torch.lerp(partner, own, share)
