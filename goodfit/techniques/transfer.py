"""What of a pretrained model learns on: the head, the last layers, or everything more gently."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from goodfit.technique import Positive, technique
from goodfit.techniques.groups import head, layers

Factor = Annotated[float, Field(gt=0, le=1)]


@technique("transfer", name="none")
class NoTransfer:
    """Everything learns at the same rate, as for a model that starts from nothing."""

    def __call__(self, model: nn.Module) -> list[str]:
        """Freeze nothing; returns the names of frozen parameters: none."""
        return []

    def rates(self) -> dict[str, float]:
        """What ``parameter_groups`` is to be told: nothing."""
        return {}


@technique("transfer")
class Head:
    """Only the head learns: the pretrained rest is a fixed extractor of features.

    Source: Razavian et al., 2014; Kumar et al., 2022 on when it beats fine-tuning.
    Ours: frozen norms stay in evaluation mode (``goodfit.models.layers.train_mode``), so that
        their running statistics stay too.
    Helps: little data (some thousand samples), a source domain close to yours, and speed. Hurts: a distant domain;
        this score against training from scratch tells whether it is close enough.
    """

    def __call__(self, model: nn.Module) -> list[str]:
        """Freeze all but the head; returns the names of frozen parameters."""
        return freeze_all_but(model, set(head(model)))

    def rates(self) -> dict[str, float]:
        """What ``parameter_groups`` is to be told: nothing."""
        return {}


@technique("transfer")
class LastK:
    """The head and the last ``k`` layers below it learn.

    Source: Yosinski et al., 2014. Ours: layers are the model's numbered blocks (``goodfit.techniques.groups.layers``);
        the final norm counts to the head. Frozen norms stay in evaluation mode.
    Helps: between ``head`` and ``full`` in data and time. Hurts: nothing in particular; tune ``k``.
    """

    k: Annotated[int, Field(ge=0)] = 1

    def __call__(self, model: nn.Module) -> list[str]:
        """Freeze all but the last layers; returns the names of frozen parameters."""
        last = layers(model)[-(self.k + 1) :]
        return freeze_all_but(model, {name for names in last for name in names} | set(head(model)))

    def rates(self) -> dict[str, float]:
        """What ``parameter_groups`` is to be told: nothing."""
        return {}


@technique("transfer")
class Full:
    """Everything learns, the pretrained layers more gently than the head.

    Formula: lr of a layer = ``lr lr_factor layer_decay ** (layers above it)``; the head's is ``lr``.
    Source: Howard and Ruder, 2018 (discriminative rates); layer decay of 0.65 to 0.9: Clark et al., 2020; Bao et al.,
        2022.
    Helps: from some thousand samples on. Hurts: too high a rate forgets what was learned before; warm up.
    """

    lr_factor: Positive = 0.1
    layer_decay: Factor = 0.9

    def __call__(self, model: nn.Module) -> list[str]:
        """Freeze nothing; returns the names of frozen parameters: none."""
        return []

    def rates(self) -> dict[str, float]:
        """What ``parameter_groups`` is to be told."""
        return {"body_lr": self.lr_factor, "layer_decay": self.layer_decay}


ALL = (NoTransfer, Head, LastK, Full)


def freeze_all_but(model: nn.Module, learning: set[str]) -> list[str]:
    """Freeze every parameter whose name is not in ``learning``; returns the names of those that are frozen now."""
    for name, parameter in model.named_parameters():
        if name not in learning:
            parameter.requires_grad_(False)
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
