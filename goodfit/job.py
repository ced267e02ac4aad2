"""The main job, from a source to a finished run: read, plan, pre-flight, train, calibrate, compare, report."""

from __future__ import annotations

import base64
import copy
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goodfit import execution, keyed, store
from goodfit.data import read
from goodfit.data.data import Data
from goodfit.data.image_encoder import thumbnail
from goodfit.data.image_sets import cache_folder
from goodfit.data.loaders import DatasetPart, LoaderPart, draws
from goodfit.data.variants import rewritten
from goodfit.distributed import Elsewhere, Lost, Shares, World, joined, rank_here
from goodfit.errors import DataError, GoodfitError, ModelError, RecipeError, RunError
from goodfit.evaluate import assess, metrics_for, predictions_table, sample_text, token_outputs
from goodfit.evaluation import TrainingMetric, baselines, fit_temperature, rows_right
from goodfit.evaluation.language import IGNORED
from goodfit.evaluation.probe import FROZEN, UNTRAINED, Probe
from goodfit.features import as_features, head_alone, probe, probe_of
from goodfit.hindsight import hindsight
from goodfit.interrupt import Interrupted, Leave, Signals, command_line
from goodfit.judged import judged
from goodfit.lock import locked
from goodfit.loop import (
    NonFinite,
    Slots,
    State,
    epoch_batches,
    fit,
    foresee,
    made_again,
    predict,
    seed_generators,
    train_step,
)
from goodfit.machine import default_device, keep_freed_memory, usable
from goodfit.models import fit_to
from goodfit.models.carried import Carried, can_carry
from goodfit.models.describe import describe, render
from goodfit.models.layers import nonlinearity_of, set_dropout, train_mode
from goodfit.models.synchronised import synchronised
from goodfit.origin import model_for, untrained
from goodfit.plan import Plan, resolve
from goodfit.preflight import preflight
from goodfit.pretrained import inputs_like, is_pretrained
from goodfit.probes.before_training import plain_loss
from goodfit.recipe import DataSettings, Recipe, TaskSettings, make
from goodfit.record import Recorder, Saver
from goodfit.report import what_next, write_report
from goodfit.report.augmented import sheet
from goodfit.run import Run, latest_folder, next_folder
from goodfit.screen import Screen
from goodfit.teacher import Teacher, named, taught
from goodfit.techniques.average import FreshNorms
from goodfit.techniques.batch import by_rarity
from goodfit.techniques.determinism import certificate, determinism, threads
from goodfit.techniques.fitted import fit_batch
from goodfit.techniques.loss import plain
from goodfit.techniques.memory import Memory, out_of_memory
from goodfit.techniques.numerics import autocast
from goodfit.techniques.optimizer import parameter_groups
from goodfit.techniques.penalty import penalised, sparsity
from goodfit.techniques.phases import in_phases, restarting
from goodfit.techniques.stopping import cost
from goodfit.techniques.views import View
from goodfit.trust import check_folder, strange
from goodfit.types import Batch, Inputs, Moment, Part, Tensors, to_device

NORM_SAMPLES, NORM_SHARE = 2048, 0.25
"""Batch norms of averaged weights take fresh statistics from so many training samples: at each validation this share of
an epoch at most (a forward pass of it, or of 256), and no more than are needed."""
BEFORE_THE_PLAN = ("lock.json", store.KEPT, "findings.json", "preflight.json", "recipe.toml", "data.json")
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
    teacher: nn.Module | Run | str | Path | None = None,
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
    teacher: a module, a run or its folder to learn from (``goodfit explain distill``).

    Raises GoodfitError (one clear line) for anything that a change of the arguments can mend.

    >>> import goodfit  # doctest: +SKIP
    >>> run = goodfit.train("digits")  # doctest: +SKIP
    """
    recipe = _with_arguments(recipe or Recipe(), target=target, time=time, horizon=horizon, teacher=teacher)
    keep_freed_memory()
    with joined() as world:
        screen = (screen or Screen()) if world.rank == 0 else Screen.silent()
        if world.rank == 0 and out is not None:
            store.probe(Path(out), keep=False)
        place, data, plan = world.everywhere(lambda: _planned(source, recipe, screen, device, model, world))
        plan, tutor = world.everywhere(lambda: taught(plan, data, place, teacher))
        world.same(data.fingerprint, "reads other data than rank 0; every process must see the same")
        screen.heading("Plan")
        screen.plan(plan)
        if tutor is not None and tutor.warning:
            screen.warn(tutor.warning)
        data = _with_variants(data, plan, place, screen, world)
        name, resumed = world.on_first(lambda: [str(part) for part in choose_folder(out, data, plan)])
        lock = locked(Path(name)) if world.rank == 0 else nullcontext()
        said = str(source) if _is_path(source) else ""
        deterministic = bool(plan["numerics.deterministic"])
        with lock, Signals() as signals, threads(plan["numerics.threads"]), determinism(deterministic) as met:
            signals.quiet = world.rank > 0
            if world.rank == 0:
                store.sweep(Path(name))
                store.sweep(Path(name) / "checkpoints")
            world.everywhere(lambda: _seen(Path(name), world))
            job = Job(
                Path(name), data, plan, recipe, screen, place, model, signals, said, world, tutor, not_deterministic=met
            )
            return job.run(resumed == "True")


def _planned(
    source: Any,
    recipe: Recipe,
    screen: Screen,
    device: str | torch.device | None,
    model: nn.Module | None,
    world: World,
) -> tuple[torch.device, Data, Plan]:
    """What every process does for itself: find its device, read the data and plan."""
    place = usable(world.device(device or default_device()))
    data = read_data(source, recipe, screen)
    plan = plan_for(recipe, data, place, model)
    if world.size == 1:
        return place, data, plan
    if isinstance(data.train, LoaderPart):
        raise DataError("the order of a DataLoader cannot be shared by several processes; give its dataset")
    smallest = len(data.train) // plan.steps(len(data.train))[1]
    if smallest < world.size:
        raise RecipeError([f"a batch of {smallest} has nothing for some of {world.size} processes; raise 'batch_size'"])
    if plan["sampling.name"] == "streams":
        raise RecipeError(["sampling.name = 'streams' carries states in one process; use 'shuffle' in several"])
    return place, data, replace(plan, environment={**plan.environment, "processes": world.size})


def _with_variants(data: Data, plan: Plan, device: torch.device, screen: Screen, world: World) -> Data:
    """The data with the variants of its texts that batch techniques want, made by rank 0 where they are not kept."""

    def make() -> Data:
        return rewritten(data, plan.many("batch"), cache=cache_folder() / "variants", device=device, say=screen.line)

    if world.size > 1:
        world.on_first(lambda: len(make().train))
    return world.everywhere(make)


def _seen(folder: Path, world: World) -> None:
    if not folder.is_dir():
        raise RunError(f"rank {world.rank} does not see {folder}; the run folder must be one that all processes share")


def batch_at(run: Run, step: int, *, source: Any = None, model: nn.Module | None = None) -> Batch:
    """The batch that a run made of step ``step`` (from 0), augmented as the model saw it: what to look at after a loss
    that was not finite.

    source: where the data lies now, if not where it was read. model: an instance of your own module, if it trained one.
    Raises RunError for a step that the run has not, DataError where the order was that of a DataLoader of your own.
    """
    data, plan, screen, world = run.data or run.read_again(source), run.plan, Screen.silent(), World()
    total, _ = plan.steps(len(data.train))
    if not 0 <= step < total:
        raise RunError(f"{run.folder} has the steps 0 to {total - 1:,}, no step {step:,}")
    if isinstance(data.train, LoaderPart):
        raise DataError("the order of your own DataLoader cannot be made again; give its dataset")
    place = torch.device("cpu")
    data = _with_variants(data, plan, place, screen, world)
    job = Job(run.folder, data, plan, run.recipe, screen, place, model, Signals(), run.source, world)
    _, slots = job.assemble(job.make_model())
    return made_again(slots, data, plan, step)


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
    screen = (screen or Screen()) if rank_here() == 0 else Screen.silent()
    recipe = _with_arguments(recipe, target=target, time=time, horizon=horizon)
    place = usable(device) if device else default_device()
    data = read_data(source, recipe, screen)
    plan, _ = taught(plan_for(recipe, data, place), data, place)
    total, per_epoch = plan.steps(len(data.train))
    screen.heading(f"Plan  {total:,} steps, {per_epoch:,} an epoch")
    screen.plan(plan, everything=True)
    screen.line(plan.drawing(len(data.train)))
    if layers:
        settings = {k[6:]: c.value for k, c in plan.choices.items() if k.startswith("model.") and k != "model.name"}
        model = model_for(str(plan["model.name"]), settings, data)
        settle(model, data, seed=int(plan["seed"]))
        sample = data.train.take(torch.arange(min(2, len(data.train))))
        screen.heading("Layers")
        micro = getattr(plan.one("gradient"), "microbatch", None)
        at_once = min(plan.batch_size(len(data.train)), micro if isinstance(micro, int) else len(data.train))
        screen.line(render(describe(model, data.prepare(sample.inputs)), batch=at_once))
    return plan


def read_data(source: Any, recipe: Recipe, screen: Screen) -> Data:
    """Read and audit a source, and show what was found."""
    flat = recipe.flat()
    pick = {s: {k.split(".", 1)[1]: v for k, v in flat.items() if k.startswith(s + ".")} for s in ("data", "task")}
    if (like := inputs_like(flat)) is not None:
        pick["data"].setdefault("like", like)
    settings: DataSettings = make("data", "", pick["data"])
    task: TaskSettings = make("task", "", pick["task"])
    screen.heading("Data")
    own = settings.seed if settings.seed is not None else flat.get("seed", 0)
    data = read(source, settings, task, seed=int(own))
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
    if folder.is_dir():
        check_folder(folder)
    if (folder / "plan.json").exists():
        with strange(folder, "plan"):
            resumable = _resumable(folder, plan)
        if resumable:
            return folder, True
        raise RunError(
            f"{folder} already holds a run ({'finished' if _finished(folder) else 'of another recipe or other data'}); "
            "nothing is written over. Choose another --out"
        )
    mine = (p for p in (folder.iterdir() if folder.is_dir() else ()) if not store.is_staged(p))
    if any(p.name not in BEFORE_THE_PLAN for p in mine):
        raise RunError(f"{folder} is not empty and holds no run; choose another --out")
    store.probe(folder)
    return folder, False


def _finished(folder: Path) -> bool:
    """Whether a run has come to its end and all it left is whole; one that is damaged goes on as if it had not."""
    try:
        finished = store.read_sealed(folder / "status.json").get("status") == "finished"
    except RunError:
        return False
    return finished and not store.damaged(folder)


def _resumable(folder: Path, plan: Plan) -> bool:
    if not (folder / "plan.json").exists() or _finished(folder):
        return False
    old = Plan.from_json(store.read_json(folder / "plan.json"))
    measured = {
        "numerics.precision",
        "numerics.memory_format",
        "numerics.compile",
        "data.workers",  # which process reads a sample changes nothing of it
    }
    same = all(
        old.choices[k].value == c.value for k, c in plan.choices.items() if k in old.choices and k not in measured
    )
    alike = old.choices.keys() - measured == plan.choices.keys() - measured
    return same and alike and old.data["fingerprint"] == plan.data["fingerprint"]


@dataclass(frozen=True)
class Lean:
    """How a run of a study differs from others: no page, baselines, linear probes or timing of steps, and a judge.

    judge: the rows its results are about; validation picks its weights. preflight: look before training, as others do.
    calibrate: fit a temperature on validation.
    """

    judge: Part
    preflight: bool = True
    calibrate: bool = False


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
    world: World
    teacher: Teacher | None = None
    probes: dict[str, Probe] = field(default_factory=dict)
    not_deterministic: Sequence[str] = ()
    lean: Lean | None = None
    start: Mapping[str, str] = field(default_factory=dict)
    saver: Saver | None = field(default=None, init=False)

    def run(self, resumed: bool) -> Run:
        """Do everything and return the finished run."""
        self.signals.at_once = self.world.size == 1
        try:
            return self.through(resumed)
        except Leave:
            raise self.left() from None

    def through(self, resumed: bool) -> Run:
        """The steps of ``run``, in their order."""
        began = time.monotonic()
        data, screen, world = self.data, self.screen, self.world
        model = self.make_model()
        if self.lean is not None:
            self.start = beginning(model)
        self.plan = Plan.from_json(world.on_first(lambda: self.settled(model, resumed)))
        world.spread(model)
        if self.teacher is not None:
            screen.line(f"  {self.teacher.remember(data.train, self.plan)}")
        # Where all below the head is fixed, the loop trains the head on features; the rest stays as it is.
        head, why = self.head_alone(model)
        if why:
            screen.line(f"  features are not cached: {why}")
        job = self if head is None else self.on_features(model)
        if world.rank == 0 and self.lean is None:
            self.probes = self.linear_probes(model, None if head is None else job.data)
        state, slots = job.assemble(model if head is None else head, whole=model)
        path = self.folder / "metrics.jsonl"
        recorder = Recorder(path, more=lambda: self.shares_clipped(state, slots), say=screen.warn)
        if state.memory is not None:
            state.memory.say = screen.warn
        saver = Saver(self.folder, recorder, screen.warn, world=world)
        self.saver = saver
        if resumed:
            *notes, exactly = world.everywhere(lambda: saver.restore(state, loose=self.loose))
            screen.line("; ".join([f"Resuming {self.folder} at step {state.step:,}", *notes]))
            screen.line(exactly)
        if world.rank == 0:
            store.write_sealed(self.folder / "status.json", {"status": "running", "resumes": saver.resumes})
            store.unlist(self.folder)
        if world.size > 1:
            state.shares = self.shares(slots)
        shown, metric = metrics_for(data)
        total, per_epoch = self.plan.steps(len(data.train))
        processes = f", in {world.size} processes" if world.size > 1 else ""
        screen.heading(f"Training  {total:,} steps, {per_epoch:,} an epoch, into {self.folder}{processes}")
        screen.begin(total, state.step, shown.name)
        self.signals.at_once = False
        try:
            with synchronised(model, world) if self.synchronises else nullcontext():
                ended = fit(
                    state,
                    slots,
                    job.data,
                    self.plan,
                    watchers=[recorder, screen] if world.rank == 0 else [],
                    measure=job.measurer(shown, metric),
                    save=saver.save,
                    metric=metric.name,
                    larger_is_better=metric.larger_is_better,
                    stop_requested=lambda: (state.shares or self.signals).requested != 0,
                )
        except BaseException as error:
            world.where = f"at step {state.step:,}"
            if out_of_memory(error):  # the step ended in the middle: an earlier checkpoint is what is whole
                raise GoodfitError(
                    f"memory ran out at step {state.step:,} with {self.samples_at_once:,} samples at once; "
                    + execution.MEMORY_HINT
                ) from error
            # A step that ended in the middle may have moved running statistics: others go on from the checkpoint.
            if not isinstance(error, Lost):
                saver.flush(state)
            if isinstance(error, NonFinite) and world.rank:
                raise Elsewhere(str(error)) from error
            raise
        finally:
            screen.end()
        saved = (ended == "interrupted" or self.lean is None) and saver.write(state)
        self.signals.at_once = world.size == 1
        if ended == "interrupted" or (self.signals.requested and world.size == 1):
            raise self.interrupted(state.step, saved=saved)
        world.where = "after training"
        saver.load_best(state)
        state.model = model
        finish = self.finish if self.lean is None else self.finish_lean
        world.on_first(lambda: finish(state, slots, ended, recorder, time.monotonic() - began))
        return Run(self.folder, model=self.own_model, data=data)

    @property
    def resumes(self) -> list[dict[str, Any]]:
        """Where this run was taken up again, and how exactly."""
        return [] if self.saver is None else self.saver.resumes

    @property
    def loose(self) -> list[str]:
        """What of this run nobody can put back: randomness that is not ours."""
        found = []
        if self.device.type == "cuda" and not self.plan["numerics.deterministic"]:
            found.append("GPU kernels sum in any order (numerics.deterministic = true asks for those that do not)")
        if isinstance(self.data.train, LoaderPart):
            found.append("the order of your own DataLoader, and what it draws, cannot be put back")
        elif isinstance(self.data.train, DatasetPart) and draws(self.data.train):
            found.append("your own data set draws random numbers: a sample was not the same twice")
        return found

    def settled(self, model: nn.Module, resumed: bool) -> dict[str, Any]:
        """The plan of an interrupted run; of a new one after pre-flight and the timing of steps, written down."""
        if resumed:
            return dict(store.read_json(self.folder / "plan.json"))
        data, screen = self.data, self.screen
        screen.heading("Pre-flight")
        skipped = self.lean is not None and not self.lean.preflight
        seed, mirrors = int(self.plan["seed"]), self.plan.mirrors
        look = partial(preflight, seed=seed, device=self.device, at_once=self.samples_at_once, mirrors=mirrors)
        verdicts = [] if skipped else look(model, data)
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
        if self.lean is not None:
            self.plan = execution.unmeasured(self.plan, self.device, "all runs of a study are executed in one way")
        elif self.head_alone(model)[0] is None:
            self.measure_execution(model)
        else:
            self.plan = execution.unmeasured(self.plan, self.device, "only the head runs, on features computed once")
        described = {"encoder": data.encoder.to_json(), "kind": data.encoder.kind, "source": self.source}
        files = {"recipe.toml": self.recipe.to_toml().encode(), "data.json": store.json_bytes(described)}
        files["findings.json"] = store.json_bytes([asdict(f) for f in findings])
        files["preflight.json"] = store.json_bytes([v.to_json() for v in verdicts])
        # The plan comes last: a folder that holds it holds a run that can go on.
        store.write_twice(self.folder, {**files, "plan.json": store.json_bytes(self.plan.to_json())})
        return self.plan.to_json()

    def make_model(self) -> nn.Module:
        """The model of the plan on its device, initialised by keyed random numbers."""
        data, seed = self.data, int(self.plan["seed"])
        if self.own_model is not None:
            return self.adapted(self.own_model).to(self.device)
        settings = {k[6:]: c.value for k, c in self.plan.choices.items() if k.startswith("model.")}
        name = str(settings.pop("name"))
        torch.manual_seed(keyed.key(seed, "model") & 0x7FFFFFFFFFFFFFFF)
        model = model_for(name, settings, data)
        self.plan.one("init")(model, activation=str(settings.get("activation") or "relu"), seed=seed)
        settle(model, data, seed=seed)
        return model.to(self.device)

    def adapted(self, model: nn.Module) -> nn.Module:
        """A module of the user's own, with the dropout and the initial weights that the recipe asks for."""
        p = self.plan.choices.get("model.dropout")
        if p is not None and p.value is not None:
            count = set_dropout(model, float(p.value))
            none = f"model.dropout changes nothing: {type(model).__name__} has no dropout layer"
            self.screen.line(f"  dropout {p.value} in {count} layers" if count else f"  {none}")
        if self.plan["init.name"] not in ("auto", "keep"):
            self.plan.one("init")(model, activation=nonlinearity_of(model), seed=int(self.plan["seed"]))
        return model

    def measure_execution(self, model: nn.Module) -> None:
        """Time a few real steps each way and settle the plan's execution choices."""
        if self.plan["numerics.deterministic"]:
            self.plan = settled_without_a_stopwatch(self.plan)
            return
        data, plan = self.data, self.plan
        total, per_epoch = plan.steps(len(data.train))
        size = -(-len(data.train) // (per_epoch * self.world.size))
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

    @property
    def classes(self) -> int:
        """How many classes the targets name; 0 for other targets."""
        return len(self.data.task.classes) if self.data.task.kind == "classification" else 0

    def head_alone(self, model: nn.Module) -> tuple[nn.Module | None, str]:
        """The head, where the plan freezes all else and its features can be computed once; else None, and why."""
        plan = self.plan
        transfer = plan.one("transfer")
        if not getattr(transfer, "cache", False):
            return None, ""
        if self.teacher is not None or self.world.size > 1:
            return None, "a teacher, or several processes, want the inputs themselves"
        transfer(model)
        return head_alone(model, self.data, device=self.device, changed_inputs=bool(plan.many("batch")))

    def on_features(self, model: nn.Module) -> Job:
        """This run as the loop sees it where only the head learns: on features of the data, computed here and now."""
        began = time.monotonic()
        data = as_features(model, self.data, precision=self.plan["numerics.precision"], device=self.device)
        self.screen.line(
            f"  features of {len(data.train) + len(data.valid):,} samples computed in "
            f"{time.monotonic() - began:.1f} s; from here on only the head runs"
        )
        return replace(self, data=data)

    def linear_probes(self, model: nn.Module, known: Data | None) -> dict[str, Probe]:
        """Features for the linear probes that the report sets beside a pretrained model: its own, and untrained ones.

        known: the data as features, where they are at hand.
        """
        plan, data = self.plan, self.data
        values = {k: c.value for k, c in plan.choices.items()}
        if self.own_model is not None or not is_pretrained(values):
            return {}
        how: dict[str, Any] = {
            "precision": plan["numerics.precision"],
            "device": self.device,
            "seed": int(plan["seed"]),
        }
        mine = probe_of(known.train, known.valid) if known is not None else probe(model, data, **how)
        settings = {k[6:]: v for k, v in values.items() if k.startswith("model.") and k != "model.name"}
        torch.manual_seed(keyed.key(int(plan["seed"]), "model") & 0x7FFFFFFFFFFFFFFF)
        drawn = probe(untrained(str(plan["model.name"]), settings, data).to(self.device), data, **how)
        found = {FROZEN: mine, UNTRAINED: drawn}
        for name, one in found.items():
            if isinstance(one, str):
                self.screen.line(f"  no {name}: {one}")
        return {name: one for name, one in found.items() if isinstance(one, Probe)}

    def assemble(
        self, model: nn.Module, plan: Plan | None = None, *, whole: nn.Module | None = None
    ) -> tuple[State, Slots]:
        """State and slots of a run, from its plan. whole: the model, where only its head is what learns."""
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

        transfer, later = plan.one("transfer"), plan.phases(len(data.train))
        transfer(model if whole is None else whole)

        def optimizer_of(chosen: Any) -> torch.optim.Optimizer:
            groups = parameter_groups(model, chosen, batch_size=self.batch_size, **transfer.rates())
            made: torch.optim.Optimizer = chosen.build(groups)
            return made

        optimizer = in_phases(optimizer_of, plan.one("optimizer"), later)
        gradient = plan.one("gradient")
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
            memory=Memory(model) if getattr(gradient, "microbatch", None) == "auto" else None,
            carried=self.carried(model, plan),
            norms=FreshNorms(self.forwards),
            run_model=torch.compile(model, dynamic=False) if compiled else None,
        )
        loss = plan.one("loss")
        if self.classes and hasattr(loss, "for_counts"):
            loss = loss.for_counts(torch.bincount(data.train.targets, minlength=self.classes))
        changes = fit_batch(plan.many("batch"), data.train, data.spec, device=self.device)
        if self.classes:
            counts = torch.bincount(data.train.targets, minlength=self.classes).to(self.device)
            changes = by_rarity(changes, counts)
        slots = Slots(
            batch=changes,
            loss=loss,
            penalty=plan.one("penalty"),
            gradient=gradient,
            clip=clip,
            schedule=restarting(plan.one("schedule"), later),
            average=plan.one("average"),
            stopping=plan.one("stopping"),
            sampling=plan.one("sampling"),
            precision=plan["numerics.precision"],
            nonfinite=str(plan["nonfinite"]),
            channels_last=channels_last,
            teacher=self.teacher,
            plain=plain(loss),
            transfer=transfer,
        )
        return state, slots

    @property
    def streams(self) -> bool:
        """Whether a text is read in streams, the model's state carried from window to window."""
        return bool(self.plan["sampling.name"] == "streams")

    def carried(self, model: nn.Module, plan: Plan) -> Carried | None:
        """A place for the state of each stream where a text is read in streams, else None."""
        if plan["sampling.name"] != "streams":
            return None
        if not can_carry(model):
            raise ModelError(
                f"sampling.name = 'streams' needs a model with 'recurrent = True' and 'carry(inputs, state)', and "
                f"{type(model).__name__} has not both; use sampling.name = 'shuffle'"
            )
        if self.world.size > 1:
            raise RecipeError(["sampling.name = 'streams' works in one process; use 'shuffle', or no torchrun"])
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
        return self.plan.batch_size(len(self.data.train))

    def outputs(self, model: nn.Module, part: Part, *, views: View = "none") -> Any:
        """Logits of a part; each position's nats for language, with the texts written for sequences."""
        precision = self.plan["numerics.precision"]
        if self.data.task.tokens:
            return token_outputs(
                model, part, self.data.encoder, precision=precision, device=self.device, carry=self.streams
            )
        return predict(model, part, self.data.prepare, precision=precision, device=self.device, views=views)

    def forwards(self, model: nn.Module) -> Iterator[Tensor]:
        """The outputs for some training samples, always the same ones: what batch norms take fresh statistics from."""
        part, device = self.data.train, self.device
        most = min(NORM_SAMPLES, max(256, round(NORM_SHARE * len(part))))
        order = keyed.permutation(keyed.key(int(self.plan["seed"]), "norms"), len(part))[:most]
        pieces = order.tensor_split(-(-len(order) // max(1, min(self.samples_at_once, 512))))
        for batch in part.batches(pieces):
            with autocast(self.plan["numerics.precision"], device):
                yield model(self.data.prepare(to_device(batch, device).inputs))

    def measurer(self, *metrics: TrainingMetric) -> Callable[[nn.Module], dict[str, float]]:
        """The function that ``fit`` validates with: plain loss and the quick metrics."""
        targets = self.data.valid.targets
        precision = self.plan["numerics.precision"]

        def measure(model: nn.Module) -> dict[str, float]:
            if self.data.task.tokens:
                seen = foresee(model, self.data.valid, precision=precision, device=self.device, carry=self.streams)
                mean = float(seen.nats.double().sum() / (targets != IGNORED).sum())
                if self.data.task.kind == "language":
                    return {"loss": mean, **{m.name: mean for m in metrics}}
                sums = rows_right(seen.nats, seen.hits, targets)
                return {"loss": mean, **{m.name: float(m.finish(sums)) for m in metrics if m.finish}}
            found = self.outputs(model, self.data.valid)
            loss = float(plain_loss(self.data.task, found, targets))
            return {"loss": loss, **{m.name: float(m.function(found, targets)) for m in metrics}}

        def on_first(model: nn.Module) -> dict[str, float]:
            self.world.check_weights(model)
            return self.world.on_first(lambda: measure(model))

        return on_first

    def shares(self, slots: Slots) -> Shares:
        """What this process does in a step that several share."""
        some = self.data.train.targets[:64]
        return Shares(
            self.world,
            whole=any(getattr(change, "mixes", False) for change in slots.batch),
            usual=max(float(slots.loss.weigh(some, None)) / len(some) * self.batch_size, 1.0),
            signals=self.signals,
        )

    @property
    def synchronises(self) -> bool:
        """Whether batch norms look at the samples of all processes: not where batches go through in pieces."""
        pieces = getattr(self.plan.one("gradient"), "microbatch", None) is not None
        return self.world.size > 1 and bool(self.plan["numerics.sync_batchnorm"]) and not pieces

    def interrupted(self, step: int, *, saved: bool) -> GoodfitError:
        """Mark the run as one that can go on, and say how."""
        code = 128 + (self.signals.requested or signal.SIGTERM)
        if self.world.rank:
            return Elsewhere(f"stopped at step {step:,}", code)
        if self.saver is not None:  # else this process had not taken the run up yet
            with suppress(RunError):  # without it the run counts as interrupted all the same: nobody holds it
                store.write_sealed(self.folder / "status.json", {"status": "interrupted", "resumes": self.resumes})
        return Interrupted(
            f"stopped at step {step:,}, {'saved in' if saved else 'NOT saved (above) in'} {self.folder}; "
            f"the same command goes on from {'there' if saved else 'the checkpoint before'}:\n  "
            f"{command_line(self.folder, self.source)}",
            code,
        )

    def left(self) -> GoodfitError:
        """What to say where a signal came before training or after it."""
        steps = store.steps_in(self.folder / "checkpoints")
        if steps:
            return self.interrupted(steps[0], saved=True)
        return Interrupted(
            f"stopped before the first checkpoint; the same command begins again:\n  "
            f"{command_line(self.folder, self.source)}",
            128 + self.signals.requested,
        )

    def finish(self, state: State, slots: Slots, ended: str, recorder: Recorder, seconds: float) -> None:
        """Everything after the last step: weights, calibration, baselines, results, predictions, report."""
        data, screen = self.data, self.screen
        weights = {k: v for k, v in state.model.state_dict().items()}
        files = {"model.safetensors": store.pack_tensors(weights)}
        if (architecture := getattr(state.model, "architecture", None)) is not None:
            files["architecture.json"] = store.json_bytes(architecture)
        store.write_folder(self.folder / "model", files)
        outputs = self.outputs(state.model, data.valid, views=self.plan["tta"])
        results = assess(data, outputs, data.valid, tune_for=self.plan["task.threshold"])
        results["sample"] = sample_text(state.model, data, streams=self.streams)
        total, per_epoch = self.plan.steps(len(data.train))
        seen = hindsight(store.parse_lines(recorder.written), total / per_epoch)
        screen.findings(seen)
        results["findings"] = [asdict(one) for one in seen]
        screen.heading("Baselines")
        results["baselines"] = baselines(data.train, data.valid, data.task, data.spec, data, probes=self.probes)
        results["part"] = "valid"
        results["ended"] = ended
        results["steps"] = state.step
        results["skipped"] = state.skipped
        results["refused"] = state.refused
        results["resumes"] = self.resumes
        results |= self.numbers_of_training(state, slots)
        if state.history:
            _, metric = metrics_for(data)
            scores = [row[metric.name] for row in state.history]
            best = slots.stopping.best(scores, larger_is_better=metric.larger_is_better)
            total, _ = self.plan.steps(len(data.train))
            results["stopping"] = cost([int(row["step"]) for row in state.history], best=best, total=total)
        if self.plan["penalty.l1"]:
            results["sparsity"] = sparsity(penalised(state.model))
        results["seconds"] = seconds + recorder.before
        results["digest"] = store.weights_digest(weights)
        results["parameters"] = sum(p.numel() for p in state.model.parameters())
        store.write_json(self.folder / "results.json", results)
        store.write_json(self.folder / "examples.json", examples(data.valid, results, data.spec.kind))
        if data.spec.kind == "image" and slots.batch:
            store.write_json(self.folder / "augmented.json", self.augmented(slots))
        if data.task.kind != "language":
            store.write_table(
                self.folder / "predictions.parquet", predictions_table(data, outputs, data.valid, results)
            )
        if self.plan["numerics.deterministic"]:
            store.write_json(self.folder / "determinism.json", self.certificate(state.model))
        recorder.complete()
        report = write_report(self.folder)
        store.prune(self.folder / "checkpoints", keep=1)
        store.list_files(self.folder)
        store.write_sealed(self.folder / "status.json", {"status": "finished", "resumes": self.resumes})
        screen.results(results, self.folder, report, source=self.source, then=what_next(self.folder)[:2])

    def finish_lean(self, state: State, slots: Slots, ended: str, recorder: Recorder, seconds: float) -> None:
        """What a run of a study leaves: weights, metrics on the rows that judge, and what each of these contributed."""
        assert self.lean is not None
        data, judge, model = self.data, self.lean.judge, state.model
        weights = dict(model.state_dict())
        files = {"model.safetensors": store.pack_tensors(weights)}
        if (architecture := getattr(model, "architecture", None)) is not None:
            files["architecture.json"] = store.json_bytes(architecture)
        store.write_folder(self.folder / "model", files)
        warmth = 1.0
        if self.lean.calibrate and self.classes:
            warmth = fit_temperature(self.outputs(model, data.valid, views=self.plan["tta"]), data.valid.targets).value
        outputs = self.outputs(model, judge, views=self.plan["tta"])
        results, rows = judged(data, outputs, judge, temperature=warmth)
        results |= {"part": "judge", "ended": ended, "steps": state.step, "skipped": state.skipped}
        results |= {"start": dict(self.start), "seconds": seconds + recorder.before}
        results["digest"] = store.weights_digest(weights)
        results["parameters"] = sum(p.numel() for p in model.parameters())
        store.write_file(self.folder / "rows.safetensors", store.pack_tensors(rows))
        if data.task.kind != "language":
            store.write_table(self.folder / "predictions.parquet", predictions_table(data, outputs, judge, results))
        store.write_json(self.folder / "results.json", results)
        recorder.complete()
        store.list_files(self.folder)
        store.write_sealed(self.folder / "status.json", {"status": "finished"})
        store.prune(self.folder / "checkpoints", keep=0)

    def augmented(self, slots: Slots) -> dict[str, Any]:
        """The first steps' samples as the model saw them, for the report."""
        total, per_epoch = self.plan.steps(len(self.data.train))
        seed, equal = int(self.plan["seed"]), self.plan["numerics.compile"] is True
        order = epoch_batches(slots, self.data.train, seed=seed, epoch=0, per_epoch=per_epoch, equal=equal)
        steps = (
            (to_device(batch, self.device), Moment(seed, 0, step, total, per_epoch, self.classes))
            for step, batch in enumerate(self.data.train.batches(order[:32]))
        )
        return sheet(steps, slots.batch, classes=self.data.task.classes)

    def shares_clipped(self, state: State, slots: Slots) -> dict[str, float]:
        """The share of steps that were clipped so far, for the metrics; nothing without a bound."""
        counts = slots.clip.counts(state.clipping)
        return {"clipped": round(counts["share"], 4)} if counts else {}

    def numbers_of_training(self, state: State, slots: Slots) -> dict[str, Any]:
        """What training did beside learning: steps clipped, overflows of fp16, samples that fitted into memory."""
        found: dict[str, Any] = {}
        counts = slots.clip.counts(state.clipping)
        if counts:
            found["clipping"] = {**counts, "warning": slots.clip.warning(counts)}
        if state.scaler is not None:
            found["overflows"] = state.overflows
        if state.memory is not None and state.memory.samples is not None:
            found["microbatch"] = state.memory.samples
        return found

    def certificate(self, model: nn.Module) -> dict[str, Any]:
        """What of this run is deterministic, and what is not."""
        outside = []
        if self.own_model is not None:
            outside.append("numbers that your own module draws from other generators than PyTorch's")
        if isinstance(self.data.train, LoaderPart):
            outside.append("the order and the augmentation of your own DataLoader")
        repeated = self.repeats(model) if self.world.size == 1 else None
        return certificate(self.not_deterministic, device=self.device, repeated=repeated, elsewhere=outside)

    def repeats(self, model: nn.Module) -> bool | None:
        """Whether two steps, made twice on copies of a model, give the same bits; None where it cannot be copied."""
        total, per_epoch = self.plan.steps(len(self.data.train))
        seed, digests = int(self.plan["seed"]), []
        order = torch.arange(min(self.batch_size, len(self.data.train)))
        for _ in range(2):
            try:
                twin = copy.deepcopy(model)
            except Exception:  # locks, open files: each of them raises its own
                return None
            state, slots = self.assemble(twin)
            train_mode(twin)
            for batch in self.data.train.batches([order, order]):
                moment = Moment(seed, 0, state.step, max(total, 2), per_epoch, self.classes)
                seed_generators(self.device, seed)
                train_step(state, replace(slots, nonfinite="skip"), to_device(batch, self.device), moment)
            digests.append(store.weights_digest(twin.state_dict()))
        return digests[0] == digests[1]


def settled_without_a_stopwatch(plan: Plan) -> Plan:
    """The plan with the plain choice wherever a deterministic run would otherwise let time decide."""
    for key, value in (("precision", "fp32"), ("memory_format", "contiguous"), ("compile", False)):
        if plan[f"numerics.{key}"] == "auto":
            why = "a deterministic run lets no stopwatch decide"
            plan = plan.changed(f"numerics.{key}", value, reason=why, source="numerics.deterministic")
    return plan


def beginning(model: nn.Module) -> dict[str, str]:
    """Digests of a model's initial weights, and of their names and shapes alone."""
    state = model.state_dict()
    shapes = {name: torch.zeros_like(value) for name, value in state.items()}
    return {"weights": store.weights_digest(state), "shapes": store.weights_digest(shapes)}


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


def _with_arguments(
    recipe: Recipe,
    *,
    target: str | None,
    time: str | None,
    horizon: int | None,
    teacher: nn.Module | Run | str | Path | None = None,
) -> Recipe:
    if teacher is not None and recipe.flat().get("loss.name", "distill") != "distill":
        raise RecipeError(["a teacher is given, and the recipe asks for another loss; take out loss.name"])
    given = {"data.target": target, "data.time": time, "data.horizon": horizon}
    if teacher is not None:
        given |= {"loss.name": "distill", "loss.teacher": named(teacher)}
    given = {k: v for k, v in given.items() if v is not None}
    return recipe.patched(given) if given else recipe
