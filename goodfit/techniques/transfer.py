"""What of a pretrained model learns on: the head, the last layers, one layer after the other, or all of it gently."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field
from torch import nn

from goodfit.technique import Count, Duration, Positive, Span, technique
from goodfit.techniques.groups import head, layers
from goodfit.types import Moment

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
    Ours: what is frozen stays in evaluation mode (``goodfit.models.layers.train_mode``), so that running statistics
        stay too and dropout is off below the head. Where no technique changes the inputs, features are computed once
        and only the head runs in training: the same numbers up to rounding, many times faster.
    Helps: little data (below some thousand samples), a source domain close to yours, and speed. Hurts: a distant
        domain. The report's baseline "linear probe on frozen features" tells which it is: beside it stand the same
        net untrained and models trained from nothing.
    Often wrong: "always below 10,000 images" is a rule of thumb for photographs; short texts are learned better by
        all layers from a thousand on (``docs/lab-notes.md``).

    cache: compute the features once where that is the same.
    """

    cache: bool = True

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
        the final norm counts to the head. What is frozen stays in evaluation mode.
    Helps: between ``head`` and ``full`` in data and time. Hurts: nothing in particular; tune ``k``.

    lr_factor: the learning rate of the layers below the head, as a share of the head's.
    """

    k: Annotated[int, Field(ge=0)] = 1
    lr_factor: Positive = 0.1

    def __call__(self, model: nn.Module) -> list[str]:
        """Freeze all but the last layers; returns the names of frozen parameters."""
        return freeze_all_but(model, _last(model, self.k))

    def rates(self) -> dict[str, float]:
        """What ``parameter_groups`` is to be told."""
        return {"body_lr": self.lr_factor}


@technique("transfer")
class Full:
    """Everything learns, the pretrained layers more gently than the head.

    Formula: lr of a layer = ``lr lr_factor layer_decay ** (layers above it)``; the head's is ``lr``.
    Source: Howard and Ruder, 2018 (discriminative rates); layer decay of 0.65 to 0.9: Clark et al., 2020; Bao et al.,
        2022.
    Helps: from some thousand samples on. Hurts: too high a rate forgets what was learned before; warm up.
    Often wrong: transfer learning needs warm-up as much as training from nothing does, if for another reason: the
        new head's first gradients are noise to the layers below.
    """

    lr_factor: Positive = 0.1
    layer_decay: Factor = 0.9

    def __call__(self, model: nn.Module) -> list[str]:
        """Freeze nothing; returns the names of frozen parameters: none."""
        return []

    def rates(self) -> dict[str, float]:
        """What ``parameter_groups`` is to be told."""
        return {"body_lr": self.lr_factor, "layer_decay": self.layer_decay}


@technique("transfer")
class Progressive:
    """The head learns first, and layer after layer thaws below it.

    Formula: from step ``n every`` on, the head and the last ``n k`` layers learn; rates are those of ``full``.
    Source: Howard and Ruder, 2018 (gradual unfreezing); with a large ``k``: one frozen epoch, then everything, as
        fastai's ``fine_tune`` does.
    Ours: what is thawed is a function of the step, so a resumed run stands where it stood. An optimizer's state of a
        layer begins when it thaws; until then its weights, weight decay included, do not move.
    Helps: a new head whose first, random gradients would disturb good features; little data. Hurts: short runs, in
        which the lowest layers hardly learn.

    every: between two thaws. k: layers thawed at a time.
    """

    every: Span = Duration(amount=1, unit="epochs")
    k: Count = 1
    lr_factor: Positive = 0.1
    layer_decay: Factor = 0.9

    def __call__(self, model: nn.Module) -> list[str]:
        """Freeze nothing for good, since every layer's turn comes; returns the names of frozen parameters: none."""
        return []

    def rates(self) -> dict[str, float]:
        """What ``parameter_groups`` is to be told."""
        # Some optimizers want all parameters of a group to be new, or none.
        return {"body_lr": self.lr_factor, "layer_decay": self.layer_decay, "by_layer": True}

    def stage(self, moment: Moment) -> int:
        """How many thaws lie behind this step."""
        return moment.step // max(self.every.steps(moment.total, moment.steps_per_epoch), 1)

    def thawed(self, model: nn.Module, stage: int) -> set[str]:
        """Names of the parameters that learn after so many thaws."""
        return _last(model, self.k * stage)


ALL = (NoTransfer, Head, LastK, Full, Progressive)


def thaw(model: nn.Module, learning: set[str], parameters: Iterable[nn.Parameter]) -> None:
    """Of these parameters let exactly those learn whose names are given; the model's others are left as they are."""
    mine = {id(parameter) for parameter in parameters}
    for name, parameter in model.named_parameters():
        if id(parameter) in mine:
            parameter.requires_grad_(name in learning)


def freeze_all_but(model: nn.Module, learning: set[str]) -> list[str]:
    """Freeze every parameter whose name is not in ``learning``; returns the names of those that are frozen now."""
    for name, parameter in model.named_parameters():
        if name not in learning:
            parameter.requires_grad_(False)
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def suggest(kind: str, samples: int) -> tuple[str, str]:
    """The strategy for so many training samples of ``image``, ``text`` or other inputs, and the reason for it.

    >>> suggest("image", 3000)[0], suggest("text", 7000)[0]
    ('head', 'full')
    """
    if kind == "text":
        few = samples < 500
        return ("head", f"{samples:,} texts, fewer than 500") if few else ("full", f"{samples:,} texts")
    if kind == "image" and samples < 10_000:
        return "head", f"{samples:,} images, fewer than 10,000: the pretrained features stay as they are"
    return "full", f"{samples:,} samples"


def _last(model: nn.Module, count: int) -> set[str]:
    """Names of the head's parameters and of those of the last ``count`` layers below it."""
    last = layers(model)[-(count + 1) :]
    return {name for names in last for name in names} | set(head(model))
