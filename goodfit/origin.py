"""Models that start from weights learned elsewhere: by libraries, or in another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from goodfit.data.data import Data
from goodfit.errors import ModelError
from goodfit.models import build
from goodfit.models.external import take_over
from goodfit.run import Run


def model_for(name: str, settings: Mapping[str, Any], data: Data) -> nn.Module:
    """The model that a plan names, for this data, with the weights it starts from where it starts from any.

    name, settings: as ``goodfit.models.build`` takes them, and ``run:FOLDER`` for the model of a run, whose head comes
    along only where the classes are the same. Raises ModelError where a run's model does not fit the data, and
    RunError where it cannot be read.
    """
    if not name.startswith("run:"):
        return build(name, settings, data.spec, data.task.outputs)
    run, known = _opened(name)
    task = data.task
    if (run.spec.kind, run.task.kind) != (data.spec.kind, task.kind):
        raise ModelError(
            f"{run.folder} was trained for {run.task.kind} from {run.spec.kind}, and this is {task.kind} from "
            f"{data.spec.kind}; choose another model"
        )
    made = build(**known, spec=data.spec, outputs=task.outputs)
    same = (run.task.classes, run.task.outputs) == (task.classes, task.outputs)
    take_over(made, run.model().state_dict(), of=f"'{name}'", with_head=same)
    # What weights were learned with (filters, bins, counts) came along, and the new data must not replace it.
    object.__setattr__(made, "fit_to", None)
    object.__setattr__(made, "architecture", known)
    return made


def untrained(name: str, settings: Mapping[str, Any], data: Data) -> nn.Module:
    """The same layers as ``model_for`` makes, with weights drawn anew: what the pretrained ones are compared with."""
    if name.startswith("run:"):
        return build(**_opened(name)[1], spec=data.spec, outputs=data.task.outputs)
    return build(name, {**settings, "pretrained": False}, data.spec, data.task.outputs)


def _opened(name: str) -> tuple[Run, dict[str, Any]]:
    run = Run(name[4:])
    known = run.architecture
    if str(known["name"]).startswith("custom:"):
        raise ModelError(f"{run.folder} trained your own module, which a recipe cannot make; give it as the model")
    if str(known["name"]).startswith("run:"):
        raise ModelError(f"{run.folder} has not finished, so its model is not kept there yet")
    return run, known
