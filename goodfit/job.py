"""The main job, from a source to a finished run: read, plan, pre-flight, train, calibrate, compare, report."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goodfit import execution, keyed, store
from goodfit.data import read
from goodfit.data.data import Data
from goodfit.data.image_encoder import thumbnail
from goodfit.errors import GoodfitError, ModelError, RunError
from goodfit.evaluate import assess, metrics_for, predictions_table
from goodfit.evaluation import TrainingMetric, baselines
from goodfit.evaluation.language import IGNORED
from goodfit.interrupt import Interrupted, Signals, command_line
from goodfit.loop import Slots, State, fit, nats, predict, train_step
from goodfit.machine import default_device, keep_freed_memory, usable
from goodfit.models import build, fit_to
from goodfit.models.carried import Carried, can_carry
from goodfit.models.describe import describe, render
from goodfit.plan import Plan, resolve
from goodfit.preflight import preflight
from goodfit.probes.before_training import plain_loss
from goodfit.recipe import DataSettings, Recipe, TaskSettings, make
from goodfit.record import Recorder, Saver
from goodfit.report import write_report
from goodfit.run import Run, latest_folder, next_folder
from goodfit.screen import Screen
from goodfit.techniques.optimizer import parameter_groups
from goodfit.types import Batch, Inputs, Moment, Part, Tensors, to_device

BEFORE_THE_PLAN = ("lock.json", "findings.json", "preflight.json", "recipe.toml", "data.json")
"""What a run that was refused in pre-flight leaves in its folder; the next try takes the folder over."""


def train(
    source: Any,
    *,
    target: str | None = None,
    model: nn.Module | None = None,
    recipe: Recipe | None = None,
    time: str | None = None,
    horizon: int | None = None,
    out: str | Path | None = None,
    device: str | torch.device | None = None,
    screen: Screen | None = None,
) -> Run:
    """Train a network on a source and return its run.

    source: a path (image folder, table, text), a name (``digits``, ``cifar10``), a DataFrame, ``(X, y)`` arrays or
        tensors, a Dataset, a DataLoader
        or a tuple of two or three of these (train, valid, test).
    target, time, horizon: column to predict; column of time stamps and rows ahead for forecasting.
    model: your own module, called with the inputs of one batch; it returns logits (or values).
    recipe: what you want otherwise than by default.
    out: the run folder; ``runs/NAME-N`` unless said. A folder with an interrupted run of the same recipe and data is
        resumed.

    Raises GoodfitError (one clear line) for anything that a change of the arguments can mend.

    >>> import goodfit  # doctest: +SKIP
    >>> run = goodfit.train("digits")  # doctest: +SKIP
    """
    screen = screen or Screen()
    recipe = _with_arguments(recipe or Recipe(), target=target, time=time, horizon=horizon)
    keep_freed_memory()
    place = usable(device) if device else default_device()
    data = read_data(source, recipe, screen)
    plan = plan_for(recipe, data, place, model)
    screen.heading("Plan")
    screen.plan(plan)
    folder, resumed = choose_folder(out, data, plan)
    with store.locked(folder), Signals() as signals:
        job = Job(folder, data, plan, recipe, screen, place, model, signals, str(source) if _is_path(source) else "")
        return job.run(resumed)


def dry_run(
    source: Any,
    *,
    recipe: Recipe,
    target: str | None = None,
    time: str | None = None,
    horizon: int | None = None,
    device: str | None = None,
    screen: Screen | None = None,
    layers: bool = False,
) -> Plan:
    """Read the data and print the whole plan, every value with its reason; nothing is trained or written."""
    screen = screen or Screen()
    recipe = _with_arguments(recipe, target=target, time=time, horizon=horizon)
    place = usable(device) if device else default_device()
    data = read_data(source, recipe, screen)
    plan = plan_for(recipe, data, place)
    total, per_epoch = plan.steps(len(data.train))
    screen.heading(f"Plan  {total:,} steps, {per_epoch:,} an epoch")
    screen.plan(plan, everything=True)
    if layers:
        settings = {k[6:]: c.value for k, c in plan.choices.items() if k.startswith("model.") and k != "model.name"}
        model = build(str(plan["model.name"]), settings, data.spec, data.task.outputs)
        settle(model, data, seed=int(plan["seed"]))
        sample = data.train.take(torch.arange(min(2, len(data.train))))
        screen.heading("Layers")
        screen.line(render(describe(model, data.prepare(sample.inputs))))
    return plan


def read_data(source: Any, recipe: Recipe, screen: Screen) -> Data:
    """Read and audit a source, and show what was found."""
    flat = recipe.flat()
    pick = {s: {k.split(".", 1)[1]: v for k, v in flat.items() if k.startswith(s + ".")} for s in ("data", "task")}
    settings: DataSettings = make("data", "", pick["data"])
    task: TaskSettings = make("task", "", pick["task"])
    screen.heading("Data")
    data = read(source, settings, task, seed=int(flat.get("seed", 0)))
    screen.rows(data.summary)
    screen.findings(data.findings)
    fatal = [f for f in data.findings if f.severity == "error"]
    if fatal:
        raise GoodfitError(f"{fatal[0].where}: {fatal[0].message}. {fatal[0].fix}".strip(": "))
    return data


def plan_for(recipe: Recipe, data: Data, device: torch.device, model: nn.Module | None = None) -> Plan:
    """The plan of a run on this data."""
    return resolve(recipe, data, device=device, custom_model="" if model is None else type(model).__name__)


def choose_folder(out: str | Path | None, data: Data, plan: Plan) -> tuple[Path, bool]:
    """The run folder, and whether it holds an interrupted run of this very plan and data, to be resumed."""
    name = re.sub(r"[^A-Za-z0-9_]+", "-", Path(data.name).stem).strip("-").lower() or "run"
    if out is not None:
        folder = Path(out)
    else:
        root = Path("runs")
        latest = latest_folder(root, name)
        folder = latest if latest and _resumable(latest, plan) else next_folder(root, name)
    if (folder / "plan.json").exists():
        if _resumable(folder, plan):
            return folder, True
        raise RunError(
            f"{folder} already holds a run ({'finished' if _finished(folder) else 'of another recipe or other data'}); "
            "nothing is written over. Choose another --out"
        )
    if folder.is_dir() and any(p for p in folder.iterdir() if p.name not in BEFORE_THE_PLAN):
        raise RunError(f"{folder} is not empty and holds no run; choose another --out")
    store.probe(folder)
    return folder, False


def _finished(folder: Path) -> bool:
    path = folder / "status.json"
    return path.exists() and store.read_json(path).get("status") == "finished"


def _resumable(folder: Path, plan: Plan) -> bool:
    if not (folder / "plan.json").exists() or _finished(folder):
        return False
    old = Plan.from_json(store.read_json(folder / "plan.json"))
    measured = {
        "numerics.precision",
        "numerics.memory_format",
        "numerics.compile",
        "gradient.name",
        "gradient.microbatch",
    }
    same = all(
        old.choices[k].value == c.value for k, c in plan.choices.items() if k in old.choices and k not in measured
    )
    return same and old.choices.keys() == plan.choices.keys() and old.data["fingerprint"] == plan.data["fingerprint"]


@dataclass
class Job:
    """One run on its way: the steps after the plan, in the order in which they happen."""

    folder: Path
    data: Data
    plan: Plan
    recipe: Recipe
    screen: Screen
    device: torch.device
    own_model: nn.Module | None
    signals: Signals
    source: str

    def run(self, resumed: bool) -> Run:
        """Do everything and return the finished run."""
        began = time.monotonic()
        data, screen = self.data, self.screen
        if resumed:
            self.plan = Plan.from_json(store.read_json(self.folder / "plan.json"))
            model = self.make_model()
        else:
            model = self.make_model()
            screen.heading("Pre-flight")
            verdicts = preflight(
                model, data, seed=int(self.plan["seed"]), device=self.device, at_once=self.samples_at_once
            )
            screen.rows((v.name, f"{v.mark}  {v.text}") for v in verdicts)
            findings = [*data.findings, *(f for v in verdicts for f in v.findings)]
            store.write_json(self.folder / "findings.json", [asdict(f) for f in findings])
            store.write_json(self.folder / "preflight.json", [v.to_json() for v in verdicts])
            screen.findings([f for v in verdicts for f in v.findings])
            fatal = [f for v in verdicts for f in v.findings if f.severity == "error"]
            fatal = [f for f in fatal if f.rule not in self.plan["ignore"]]
            if fatal:
                more = f" ({len(fatal) - 1} more above)" if len(fatal) > 1 else ""
                where = f"{fatal[0].where}: " if fatal[0].where else ""
                raise GoodfitError(
                    f"not trained: {where}{fatal[0].message}; {fatal[0].fix}{more} "
                    f"(if it is meant so: --set ignore={fatal[0].rule})"
                )
            model = self.measure_execution(model)
            store.write_file(self.folder / "recipe.toml", self.recipe.to_toml().encode())
            store.write_json(
                self.folder / "data.json",
                {"encoder": data.encoder.to_json(), "kind": data.encoder.kind, "source": self.source},
            )
            store.write_json(self.folder / "plan.json", self.plan.to_json())
        state, slots = self.assemble(model)
        recorder = Recorder(self.folder / "metrics.jsonl")
        saver = Saver(self.folder, recorder, screen.warn)
        if resumed:
            note = saver.restore(state)
            screen.line(f"Resuming {self.folder} at step {state.step:,}{note}")
        store.write_json(self.folder / "status.json", {"status": "running"})
        shown, metric = metrics_for(data)
        total, per_epoch = self.plan.steps(len(data.train))
        screen.heading(f"Training  {total:,} steps, {per_epoch:,} an epoch, into {self.folder}")
        screen.begin(total, state.step, shown.name)
        try:
            ended = fit(
                state,
                slots,
                data,
                self.plan,
                watchers=[recorder, screen],
                measure=self.measurer(shown, metric),
                save=saver.save,
                metric=metric.name,
                larger_is_better=metric.larger_is_better,
                stop_requested=lambda: self.signals.requested != 0,
            )
        except BaseException:
            saver.flush(state)
            raise
        finally:
            screen.end()
        if ended == "interrupted":
            raise self.interrupted(state.step, saved=saver.write(state))
        saver.load_best(state)
        self.finish(state, slots, ended, recorder, time.monotonic() - began)
        return Run(self.folder, model=self.own_model, data=data)

    def make_model(self) -> nn.Module:
        """The model of the plan on its device, initialised by keyed random numbers."""
        data, seed = self.data, int(self.plan["seed"])
        if self.own_model is not None:
            return self.own_model.to(self.device)
        settings = {k[6:]: c.value for k, c in self.plan.choices.items() if k.startswith("model.")}
        name = str(settings.pop("name"))
        torch.manual_seed(keyed.key(seed, "model") & 0x7FFFFFFFFFFFFFFF)
        model = build(name, settings, data.spec, data.task.outputs)
        self.plan.one("init")(model, activation=str(settings.get("activation") or "relu"), seed=seed)
        settle(model, data, seed=seed)
        return model.to(self.device)

    def measure_execution(self, model: nn.Module) -> nn.Module:
        """Time a few real steps each way and settle the plan's execution choices."""
        data, plan = self.data, self.plan
        total, per_epoch = plan.steps(len(data.train))
        size = -(-len(data.train) // per_epoch)
        order = keyed.permutation(keyed.key(0, "execution"), len(data.train))
        picks = [order[:size], order[-size:]]
        batches = [to_device(b, self.device) for b in data.train.batches(picks)]
        before = {k: v.clone() for k, v in model.state_dict().items()} if self.own_model is not None else None

        def step(trial: nn.Module, precision: str, channels_last: bool, compiled: bool, batch: Batch) -> None:
            known = getattr(trial, "_goodfit_trial", None)
            if known is None:
                choice = replace(plan)
                for key, value in (("precision", precision), ("compile", compiled)):
                    choice = choice.changed(f"numerics.{key}", value, reason="", source="")
                layout = "channels_last" if channels_last else "contiguous"
                choice = choice.changed("numerics.memory_format", layout, reason="", source="")
                known = self.assemble(trial, choice)
                object.__setattr__(trial, "_goodfit_trial", known)
            state, slots = known
            train_step(state, replace(slots, nonfinite="skip"), batch, Moment(0, 0, 1, total, per_epoch, self.classes))

        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goodfit" / "execution.json"
        image = data.spec.kind == "image"
        self.plan, trials = execution.measure(
            plan, model, batches, step, image=image, device=self.device, total_steps=total, cache=cache
        )
        if before is not None:
            model.load_state_dict(before)
        if len(trials) > 1:
            self.screen.heading("Execution")
            self.screen.rows((t.name, t.error or f"{t.milliseconds:.1f} ms a step") for t in trials)
        return model

    @property
    def classes(self) -> int:
        """How many classes the targets name; 0 for other targets."""
        return len(self.data.task.classes) if self.data.task.kind == "classification" else 0

    def assemble(self, model: nn.Module, plan: Plan | None = None) -> tuple[State, Slots]:
        """State and slots of a run, from its plan."""
        plan = plan or self.plan
        data = self.data
        channels_last = plan["numerics.memory_format"] == "channels_last" and data.spec.kind == "image"
        if channels_last:
            model.to(memory_format=torch.channels_last)

        def prepare(inputs: Inputs) -> Inputs:
            ready = data.prepare(inputs)
            if channels_last and isinstance(ready, Tensor):
                return ready.contiguous(memory_format=torch.channels_last)
            return ready

        transfer, chosen = plan.one("transfer"), plan.one("optimizer")
        transfer(model)
        optimizer = chosen.build(parameter_groups(model, chosen, batch_size=self.batch_size, **transfer.rates()))
        averager = plan.one("average").build(model)
        scaler = torch.amp.GradScaler(self.device.type) if plan["numerics.precision"] == "fp16" else None
        compiled = plan["numerics.compile"] is True
        clip = plan.one("clip")
        state = State(
            model,
            optimizer,
            prepare,
            averager=averager,
            clipping=clip.fresh(self.device),
            scaler=scaler,
            carried=self.carried(model, plan),
            run_model=torch.compile(model, dynamic=False) if compiled else None,
        )
        loss = plan.one("loss")
        if self.classes and hasattr(loss, "for_counts"):
            loss = loss.for_counts(torch.bincount(data.train.targets, minlength=self.classes))
        slots = Slots(
            batch=plan.many("batch"),
            loss=loss,
            penalty=plan.one("penalty"),
            gradient=plan.one("gradient"),
            clip=clip,
            schedule=plan.one("schedule"),
            average=plan.one("average"),
            stopping=plan.one("stopping"),
            sampling=plan.one("sampling"),
            precision=plan["numerics.precision"],
            nonfinite=str(plan["nonfinite"]),
            channels_last=channels_last,
        )
        return state, slots

    def carried(self, model: nn.Module, plan: Plan) -> Carried | None:
        """A place for the state of each stream where a text is read in streams, else None."""
        if plan["sampling.name"] != "streams":
            return None
        if not can_carry(model):
            raise ModelError(
                f"sampling.name = 'streams' needs a model with 'recurrent = True' and 'carry(inputs, state)', and "
                f"{type(model).__name__} has not both; use sampling.name = 'shuffle'"
            )
        count = len(self.data.train)
        return Carried(streams=-(-count // plan.steps(count)[1]))

    @property
    def samples_at_once(self) -> int:
        """The fewest samples that go through the model together in training."""
        _, per_epoch = self.plan.steps(len(self.data.train))
        size = len(self.data.train) // per_epoch
        micro = getattr(self.plan.one("gradient"), "microbatch", None)
        return min(size, micro) if isinstance(micro, int) else size

    @property
    def batch_size(self) -> int:
        """Samples per optimizer update."""
        size = self.plan["batch_size"]
        return len(self.data.train) if size == "full" else int(size)

    def outputs(self, model: nn.Module, part: Part, *, flip: bool = False) -> Any:
        """Logits of a part, or each position's nats for language."""
        precision = self.plan["numerics.precision"]
        if self.data.task.kind == "language":
            return nats(model, part, precision=precision, device=self.device)
        return predict(model, part, self.data.prepare, precision=precision, device=self.device, flip=flip)

    def measurer(self, *metrics: TrainingMetric) -> Callable[[nn.Module], dict[str, float]]:
        """The function that ``fit`` validates with: plain loss and the quick metrics."""
        targets = self.data.valid.targets

        def measure(model: nn.Module) -> dict[str, float]:
            found = self.outputs(model, self.data.valid)
            if self.data.task.kind == "language":
                mean = float(found.double().sum() / (targets != IGNORED).sum())
                return {"loss": mean, **{m.name: mean for m in metrics}}
            loss = float(plain_loss(self.data.task, found, targets))
            return {"loss": loss, **{m.name: float(m.function(found, targets)) for m in metrics}}

        return measure

    def interrupted(self, step: int, *, saved: bool) -> Interrupted:
        """Mark the run as one that can go on, and say how."""
        code = 128 + self.signals.requested
        store.write_json(self.folder / "status.json", {"status": "interrupted"})
        return Interrupted(
            f"stopped at step {step:,}, {'saved in' if saved else 'NOT saved (above) in'} {self.folder}; "
            f"the same command goes on from {'there' if saved else 'the checkpoint before'}:\n  "
            f"{command_line(self.folder, self.source)}",
            code,
        )

    def finish(self, state: State, slots: Slots, ended: str, recorder: Recorder, seconds: float) -> None:
        """Everything after the last step: weights, calibration, baselines, results, predictions, report."""
        data, screen = self.data, self.screen
        weights = {k: v for k, v in state.model.state_dict().items()}
        store.write_folder(self.folder / "model", {"model.safetensors": store.pack_tensors(weights)})
        flip = "batch.flip" in self.plan.choices
        outputs = self.outputs(state.model, data.valid, flip=flip)
        results = assess(data, outputs, data.valid)
        screen.heading("Baselines")
        results["baselines"] = baselines(data.train, data.valid, data.task, data.spec, data)
        results["part"] = "valid"
        results["ended"] = ended
        results["steps"] = state.step
        results["skipped"] = state.skipped
        results["seconds"] = seconds + recorder.before
        results["digest"] = store.weights_digest(weights)
        results["parameters"] = sum(p.numel() for p in state.model.parameters())
        store.write_json(self.folder / "results.json", results)
        store.write_json(self.folder / "examples.json", examples(data.valid, results, data.spec.kind))
        if data.task.kind != "language":
            store.write_table(
                self.folder / "predictions.parquet", predictions_table(data, outputs, data.valid, results)
            )
        report = write_report(self.folder)
        store.write_json(self.folder / "status.json", {"status": "finished"})
        store.prune(self.folder / "checkpoints", keep=1)
        screen.results(results, self.folder, report, source=self.source)


def examples(part: Part, results: Mapping[str, Any], kind: str) -> dict[str, dict[str, str]]:
    """What the report shows of the hardest samples: a picture or the text, by sample number."""
    shown: dict[str, dict[str, str]] = {}
    texts = getattr(part, "texts", None)
    rows = (results.get("hardest") or [])[:16]
    if kind == "image" and rows:
        inputs = part.take(torch.tensor([row["position"] for row in rows])).inputs
        assert isinstance(inputs, Tensor)
        for row, pixels in zip(rows, inputs, strict=True):
            png = base64.b64encode(thumbnail(pixels)).decode()
            shown[str(row["index"])] = {"image": f"data:image/png;base64,{png}"}
    elif texts is not None:
        for row in rows:
            shown[str(row["index"])] = {"text": str(texts[row["position"]])[:400]}
    return shown


def settle(model: nn.Module, data: Data, *, seed: int) -> None:
    """Let a model read from the training part what it needs (filters, bins, counts): all of it, of images a sample."""
    count = len(data.train)
    if data.spec.kind == "image" or not isinstance(data.train, Tensors):
        count = min(count, 4096)
    sample = data.train.take(keyed.permutation(keyed.key(seed, "fit_to"), len(data.train))[:count])
    fit_to(model, data.prepare(sample.inputs), sample.targets)


def _is_path(source: Any) -> bool:
    return isinstance(source, str | Path)


def _with_arguments(recipe: Recipe, *, target: str | None, time: str | None, horizon: int | None) -> Recipe:
    given = {"data.target": target, "data.time": time, "data.horizon": horizon}
    given = {k: v for k, v in given.items() if v is not None}
    return recipe.patched(given) if given else recipe
