"""A trained model as the teacher of another: found, checked against the data, and asked for its logits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from goodfit import store
from goodfit.data.data import Data
from goodfit.data.loaders import DatasetPart, LoaderPart
from goodfit.errors import ModelError, RecipeError, RunError
from goodfit.loop import Shifting, predict
from goodfit.plan import Plan
from goodfit.run import Run
from goodfit.techniques.distill import mean_logits
from goodfit.types import Batch, Inputs, Part

OWN = "custom:"
"""How a module given from Python is called in a plan, before its class name."""
LARGEST = 2**30
"""Bytes of logits that are kept for a training part at most."""


class Teacher:
    """Gives the teacher's logits for a batch: from memory where they were computed once, else by asking the model.

    model: kept as a copy on ``device``, in eval mode and without gradients. prepare: what its inputs need last.
    warning: what speaks against this teacher, or an empty text.
    """

    def __init__(
        self, model: nn.Module, prepare: Callable[[Inputs], Inputs], device: torch.device, *, warning: str = ""
    ) -> None:
        self.model = copy.deepcopy(model).to(device).eval().requires_grad_(False)
        self.prepare, self.device, self.warning = prepare, device, warning
        self.digest = store.weights_digest(self.model.state_dict())
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self._index: Tensor | None = None
        self._kept: Tensor | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Logits for the batch as the model under training sees it, augmented. Call it inside the run's autocast."""
        if self._kept is not None and self._index is not None:
            return self._kept.index_select(0, torch.searchsorted(self._index, batch.index))
        with torch.no_grad():
            return torch.as_tensor(self.model(self.prepare(batch.inputs)))

    def remember(self, part: Part, plan: Plan) -> str:
        """Compute the logits of a whole training part once, where no step can change its inputs; says what was done."""
        why = self._changing(part, plan)
        if why:
            return f"the teacher is asked at every step: {why}"
        logits = mean_logits(
            predict(self.model, part, self.prepare, precision=plan["numerics.precision"], device=self.device)
        )
        self._index, order = part.index.sort()
        self._index, self._kept = self._index.to(self.device), logits[order].to(self.device)
        return f"the teacher's logits for {len(part):,} samples are computed once: nothing changes the inputs"

    def _changing(self, part: Part, plan: Plan) -> str:
        changes = [technique.name for technique in plan.many("batch")]
        if changes:
            return f"it sees what {', '.join(changes)} makes of the inputs"
        if isinstance(part, DatasetPart | LoaderPart | Shifting) or plan.data["task"]["kind"] != "classification":
            return "the inputs may differ from epoch to epoch"
        if len(part) * len(plan.data["task"]["classes"]) * 4 > LARGEST:
            return "its logits for all samples would take more than a gigabyte"
        numbers = part.index.sort().values
        return "sample numbers are not unique" if bool((numbers[1:] == numbers[:-1]).any()) else ""


def taught(
    plan: Plan, data: Data, device: torch.device, given: nn.Module | Run | str | Path | None = None
) -> tuple[Plan, Teacher | None]:
    """The teacher that a plan asks for, and the plan with the digest of its weights; ``(plan, None)`` without one.

    given: the teacher itself, where it was given from Python; else the plan's run folder is opened. Raises RecipeError
    without any, ModelError for one that does not fit the data, RunError for another one than the plan was made with.
    """
    if plan["loss.name"] != "distill":
        return plan, None
    name = plan["loss.teacher"]
    if given is None and name is None:
        raise RecipeError(
            ["loss.name = 'distill' needs a teacher: --set loss.teacher=runs/NAME-1, or train(..., teacher=module)"]
        )
    if given is None and name.startswith(OWN):
        own = name.removeprefix(OWN)
        raise ModelError(f"this plan was taught by your own module {own}; give it again: train(..., teacher={own}())")
    if not isinstance(given, nn.Module):
        run = given if isinstance(given, Run) else Run(str(given or name).removeprefix("run:"))
        _check_run(run, data, str(name))
        teacher = Teacher(run.model(), run.encoder.prepare, device, warning=_seen_before(run, plan, data))
    else:
        teacher = Teacher(given, data.prepare, device)
    _check_outputs(teacher, data, str(name))
    if plan["loss.digest"] not in (None, teacher.digest):
        raise RunError(
            f"the teacher {name} has other weights than when this plan was made; train anew without loss.digest"
        )
    reason = f"the teacher's weights: {type(teacher.model).__name__}, {teacher.parameters:,} parameters"
    return plan.changed("loss.digest", teacher.digest, reason=reason, source=str(name)), teacher


def named(teacher: nn.Module | Run | str | Path) -> str:
    """What a recipe calls a teacher that is given from Python: its folder, or its class."""
    if isinstance(teacher, nn.Module):
        return OWN + type(teacher).__name__
    return str(teacher.folder if isinstance(teacher, Run) else teacher)


def _check_run(run: Run, data: Data, name: str) -> None:
    if run.task.kind != data.task.kind:
        raise ModelError(f"the teacher {name} was trained for {run.task.kind}, and this is {data.task.kind}")
    if run.task.classes != data.task.classes:
        raise ModelError(
            f"the teacher {name} tells apart {_few(run.task.classes)}, and this data has {_few(data.task.classes)}; "
            "a teacher needs the same classes in the same order"
        )
    if run.spec != data.spec:
        raise ModelError(
            f"the teacher {name} takes {_shape(run.spec)}, and this data gives {_shape(data.spec)}; train a teacher on "
            "this data with the same [data] settings"
        )
    if data.spec.kind != "image" and run.encoder.to_json() != data.encoder.to_json():
        # An image is standardised by each model for itself; other inputs come to both as this data's encoder made them.
        raise ModelError(
            f"the teacher {name} was trained on inputs that were encoded otherwise (another file, split or seed); "
            "train teacher and student on the same source with the same seed and [data] settings"
        )


def _check_outputs(teacher: Teacher, data: Data, name: str) -> None:
    sample = data.train.take(torch.arange(min(2, len(data.train))))
    inputs = sample.inputs
    moved = (
        {k: v.to(teacher.device) for k, v in inputs.items()} if isinstance(inputs, dict) else inputs.to(teacher.device)
    )
    try:
        found = teacher(sample._replace(inputs=moved))
    except (RuntimeError, TypeError, KeyError, ValueError, IndexError, AttributeError, AssertionError) as error:
        line = str(error).strip().split("\n")[0][:200]
        raise ModelError(f"the teacher {name} fails on this data: {type(error).__name__}: {line}") from error
    wanted = data.task.outputs
    if found.shape[-1] != wanted and not (data.task.binary and found.shape[-1] == 1):
        raise ModelError(f"the teacher {name} gives {found.shape[-1]} outputs, and this data wants {wanted}")


def _seen_before(run: Run, plan: Plan, data: Data) -> str:
    """A warning where the teacher learned from this source on another split: it knows the samples that judge."""
    if run.plan.data["fingerprint"] != data.fingerprint:
        return ""
    keys = ["seed", *(key for key in plan.choices if key.startswith("data."))]
    other = [k for k in keys if k in run.plan.choices and run.plan.choices[k].value != plan.choices[k].value]
    if not other:
        return ""
    return (
        f"the teacher {run.folder} was trained on another split of this data ({', '.join(other)} differ), so it has "
        "seen samples that validate and test its student; their scores will flatter"
    )


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} classes ({shown}{', ...' if len(names) > 5 else ''})"


def _shape(spec: object) -> str:
    values = {k: v for k, v in vars(spec).items() if v}
    kind = values.pop("kind")
    return f"{kind} inputs ({', '.join(f'{k} {v}' for k, v in values.items())})"
