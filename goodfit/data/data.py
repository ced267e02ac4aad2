"""What every reader gives: three parts, what they look like, what was found, and how new data becomes the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from goodfit.types import Finding, Inputs, InputSpec, Part, Task


class Encoder(Protocol):
    """Turns new data into the same inputs that the model was trained on. It holds plain values only."""

    kind: ClassVar[str]

    def encode(self, source: Any, *, targets: bool = False) -> Part:
        """New data as a part; its targets where they are asked for and present, zeros otherwise.

        Raises DataError that names every missing column, or what else does not fit.
        """

    def prepare(self, inputs: Inputs) -> Inputs:
        """The last change before the model, on its device: uint8 images become standardised floats."""

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; ``from_json`` gives an equal encoder back."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The encoder that ``to_json`` described."""


@dataclass(frozen=True)
class Data:
    """A source, read: what goes into a run.

    spec: what one input looks like. task: what is to be predicted.
    prepare: the encoder's last change before the model (identity except for images).
    summary: rows for the screen, such as ``("rows", "32,561")``.
    findings: what the audit noticed. fingerprint: sha256 of what was read.
    target_mean, target_std: what a regression's targets were standardised with; 0 and 1 elsewhere. A value in original
        units is ``prediction * target_std + target_mean``.
    """

    name: str
    spec: InputSpec
    task: Task
    train: Part
    valid: Part
    test: Part
    encoder: Encoder
    prepare: Callable[[Inputs], Inputs]
    summary: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    fingerprint: str
    target_mean: float = 0.0
    target_std: float = 1.0
