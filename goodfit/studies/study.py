"""A study is a list of runs (a recipe, a patch, a seed) in one folder; this is how one of them comes to its outcome.

::

    my-study/
      study.json               source, recipe, fingerprint of the data: one folder is one study
      runs/mixup-3/            a run folder like any other, without page, baselines and calibration
      outcomes/mixup-3.json    what the run came to; written last, so a run that has it is never repeated
      outcomes/mixup-3.rows    for each row that judged: was it right, and its loss
      claims/mixup-3           locked by the process that trains it, freed by the system when that dies

Which rows judge. The validation part picks each run's best weights, so its score flatters every arm, and most the arm
whose curve is the noisiest. A study therefore cuts the validation part once, by the seed of the split: a third picks
(`goodfit.studies.rows.PICKS`), the rest judges and is seen by no run before its end. It costs nothing: the training
part stays whole and the test part stays locked. All arms and seeds are judged on the same rows, so a study speaks of
these rows; how much other rows of the same kind could differ is the second view (`goodfit.studies.statistics.mcnemar`).

What is paired. With the same seed two arms have the same initial weights, order of samples, and every draw that both
make, because each is a function of its place (`goodfit.keyed`). An arm whose model has other parameters cannot begin
from the same weights; ``Outcome.start`` says so.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import signal
import threading
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from goodfit import store
from goodfit.data.data import Data
from goodfit.data.image_sets import cache_folder
from goodfit.data.variants import rewritten
from goodfit.distributed import World
from goodfit.errors import GoodfitError, RecipeError, RunError, nearest
from goodfit.evaluate import metrics_for
from goodfit.evaluation.metrics import SHOWN, headline, names_for
from goodfit.interrupt import Interrupted, Signals
from goodfit.job import Job, Lean, choose_folder, plan_for, read_data
from goodfit.machine import default_device, usable
from goodfit.plan import Plan
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.studies.rows import halves, subset
from goodfit.teacher import taught
from goodfit.techniques.determinism import determinism, threads
from goodfit.types import Moment


@dataclass(frozen=True)
class Arm:
    """A way to train: a name, and what it changes of the study's recipe (dotted keys)."""

    name: str
    patch: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What one run of a study came to.

    value: the study's metric on the rows that judge. metrics: every metric on them, None where not available.
    start: digests of the initial weights and of their names and shapes. picked: the best validation on the rows that
    pick weights, by the metric that picks them: what a setting may be chosen by without touching the rows that judge.
    seconds: from reading the plan to the end.
    error: why it failed, in one line. folder: the run, open it with ``goodfit.Run``.
    """

    arm: str
    seed: int
    status: str
    value: float | None
    metrics: Mapping[str, float | None]
    seconds: float
    error: str
    folder: Path
    patch: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, str] = field(default_factory=dict)
    picked: float | None = None
    rows: Path | None = None

    @property
    def right(self) -> Tensor | None:
        """``(judging rows,)`` bool, where the task has hits (classes: the likeliest is the true one); else None."""
        return self._saved().get("right")

    @property
    def losses(self) -> Tensor:
        """``(judging rows,)`` float32: log loss, squared error in original units, or mean nats of each row."""
        return self._saved()["losses"]

    @property
    def index(self) -> Tensor:
        """``(judging rows,)`` int64: their sample numbers in the source."""
        return self._saved()["index"]

    def _saved(self) -> dict[str, Tensor]:
        if self.rows is None:
            raise RunError(f"{self.arm} with seed {self.seed} has not finished: {self.error}")
        saved = store.unpack_tensors(self.rows.read_bytes())
        return {k: v.bool() if k == "right" else v for k, v in saved.items()}


class Study:
    """A folder of runs of one recipe on one source.

    folder: where it lies or lay; a study that was killed goes on. source, target, time, horizon: as `goodfit.train`
        reads them. recipe: what every arm has in common; its ``data.seed`` (else its ``seed``, else 0) splits the
        data for all of them. rows: positions of the training part that are trained on, all unless said.
    metric: by which arms are judged, the headline of the task unless said. model: makes a module of your own for each
        run. calibrate: fit a temperature on the rows that pick, and judge what it makes of the outputs.

    Raises RunError where the folder holds a study of another recipe or source, RecipeError for an unknown metric.
    """

    def __init__(
        self,
        folder: str | Path,
        source: Any,
        recipe: Recipe | None = None,
        *,
        target: str | None = None,
        time: str | None = None,
        horizon: int | None = None,
        screen: Screen | None = None,
        rows: Sequence[int] | Tensor | None = None,
        metric: str | None = None,
        model: Any = None,
        device: str | torch.device | None = None,
        calibrate: bool = False,
    ) -> None:
        self.folder, self.source = Path(folder), source
        self.screen = screen or Screen()
        given = {"data.target": target, "data.time": time, "data.horizon": horizon}
        recipe = (recipe or Recipe()).patched({k: v for k, v in given.items() if v is not None})
        flat = recipe.flat()
        self.split = int(flat.get("data.seed", flat.get("seed", 0)))
        self.recipe = recipe.patched({"data.seed": self.split})
        self.device = usable(device) if device else default_device()
        self.calibrate, self.model = calibrate, model
        self.rows, self.asked_metric = rows, metric
        self._read: dict[str, Data] = {}
        self.looked = False
        self._known: dict[str, Outcome] = {}
        self._again: set[str] = set()
        self._open()

    def _open(self) -> None:
        store.probe(self.folder)
        path = self.folder / "study.json"
        if not path.exists() and any((self.folder / name).exists() for name in ("plan.json", "results.json")):
            raise RunError(f"{self.folder} is a run and no study; choose another --out")
        mine = {
            "recipe": self.recipe.flat(),
            "source": str(self.source) if isinstance(self.source, str | Path) else "",
            "metric": self.asked_metric,
            "calibrate": self.calibrate,
            "rows": None if self.rows is None else _digest(self.rows),
        }
        mine = json.loads(store.json_bytes(mine))
        if not path.exists():
            store.write_json(path, mine)
        kept = store.read_json(path)
        wrong = [k for k in mine if kept.get(k) != mine[k]]
        if wrong:
            raise RunError(f"{self.folder} holds a study with another {' and '.join(wrong)}; choose another --out")

    @property
    def typed(self) -> str:
        """The source as it is typed in a command."""
        return shlex.quote(str(self.source)) if isinstance(self.source, str | Path) else "SOURCE"

    @property
    def data(self) -> Data:
        """The source as read for the study's own recipe; read once in a process."""
        return self.data_for(self.recipe)

    def data_for(self, recipe: Recipe) -> Data:
        """The source as an arm's recipe reads it, which is nearly always as all others do."""
        flat = recipe.flat()
        reads = {k: v for k, v in flat.items() if k.split(".")[0] in ("data", "task")}
        # A pretrained model brings its own tokenizer and pixels.
        reads |= {"model": flat["model.name"]} if ":" in str(flat.get("model.name", "")) else {}
        key = json.dumps(reads, sort_keys=True, default=str)
        if key not in self._read:
            screen = Screen.silent() if self._read else self.screen
            self._read[key] = read_data(self.source, recipe, screen)
        return self._read[key]

    @property
    def metric(self) -> str:
        """The metric that judges."""
        data = self.data
        known = names_for(data.task)
        if self.asked_metric is not None and self.asked_metric not in known:
            raise RecipeError([f"no metric '{self.asked_metric}' for this task{nearest(self.asked_metric, known)}"])
        share = float((data.train.targets == 1).double().mean()) if data.task.binary else None
        return self.asked_metric or headline(data.task, positive_share=share)

    @property
    def larger_is_better(self) -> bool:
        """Whether more of the metric is better."""
        return SHOWN[self.metric].better == "higher"

    def retry_failed(self) -> None:
        """Take runs that failed up to now for runs that are still to be made; each goes on where it was saved last."""
        self._again |= {self._path(one.folder.name).name for one in self.outcomes() if one.status == "failed"}

    def outcomes(self) -> list[Outcome]:
        """Every run of this folder that came to its end, by any process, in order of name and seed."""
        found = []
        for path in sorted((self.folder / "outcomes").glob("*.json")):
            if path.stem not in self._known:
                self._known[path.stem] = self._outcome(path)
            if path.name not in self._again:
                found.append(self._known[path.stem])
        return sorted(found, key=lambda one: (one.arm, one.seed))

    def stored(
        self, arm: Arm, seed: int, *, rows: Sequence[int] | Tensor | None = None, held: Any = None
    ) -> Outcome | None:
        """The outcome of a run that is done, else None."""
        path = self._path(self.name(arm, seed, rows=rows, held=held))
        if not path.exists() or path.name in self._again:
            return None
        outcome = self._outcome(path)
        if _plain(outcome.patch) != _plain(arm.patch):
            raise RunError(f"{path} is of an arm '{arm.name}' with another patch; name the arms differently")
        return outcome

    def name(self, arm: Arm, seed: int, *, rows: Any = None, held: Any = None) -> str:
        """The name of a run: its arm, its seed, and a digest of its rows where it has rows of its own."""
        slug = re.sub(r"[^A-Za-z0-9_.=+]+", "-", arm.name).strip("-.") or "arm"
        if slug != arm.name or len(slug) > 60:  # a changed name could be another's
            slug = f"{slug[:60]}-{hashlib.sha256(arm.name.encode()).hexdigest()[:6]}"
        own = "" if rows is None and held is None else f"-rows-{_digest(rows, held)[:10]}"
        return f"{slug}-{int(seed)}{own}"

    def run(
        self,
        arm: Arm,
        seed: int,
        *,
        rows: Sequence[int] | Tensor | None = None,
        held: Sequence[int] | Tensor | None = None,
        wait: bool = True,
        deadline: float | None = None,
        watch: Watch | None = None,
    ) -> Outcome:
        """The outcome of an arm with a seed: the stored one, else that of a run made now, resumed where it was killed.

        rows: positions of the training part to train on (a share, a fold, a resample with repeats).
        held: positions of the training part that judge instead of validation rows (a fold); all of validation picks.
        wait: where another process is at this run, wait for its end; else raise ``Busy``.
        deadline: by `time.monotonic`; a run that reaches it is saved, to be resumed, and OutOfTime is raised.
        watch: told the number and the row of each validation; where it says True the run is stopped, Pruned is raised.

        A run that fails gives an outcome with status ``failed`` and its error. Raises Interrupted on Ctrl-C.
        """
        name = self.name(arm, seed, rows=rows, held=held)
        while True:
            if (known := self.stored(arm, seed, rows=rows, held=held)) is not None:
                return known
            with store.claimed(self.folder / "claims" / name) as mine:
                if mine:
                    # Another process may have finished it between our look and our claim.
                    known = self.stored(arm, seed, rows=rows, held=held)
                    return known or self._train(arm, seed, name, rows, held, deadline, watch)
            if not wait:
                raise Busy(f"another process is at {name}")
            clock.sleep(0.3)

    def _train(
        self, arm: Arm, seed: int, name: str, rows: Any, held: Any, deadline: float | None, watch: Watch | None
    ) -> Outcome:
        began = clock.monotonic()
        folder = self.folder / "runs" / name
        values: dict[str, Any] = {"arm": arm.name, "seed": int(seed), "patch": _plain(arm.patch), "folder": name}
        try:
            results, saved = self._job(arm, seed, folder, rows, held, deadline, watch)
        except Pruned:
            raise
        except Interrupted as stop:
            if deadline is not None and clock.monotonic() >= deadline:
                raise OutOfTime(f"the time ended in {name}", stop.code, share=_share(folder)) from None
            raise Interrupted(f"stopped in {name}; the same command goes on with {self.folder}", stop.code) from None
        except (Exception, SystemExit) as error:  # an arm's own mistake, of whatever type, must not sink the study
            if isinstance(error, RunError) and not folder.exists():
                raise
            line = " ".join(str(error).split()) or type(error).__name__
            said = line if isinstance(error, GoodfitError) else f"{type(error).__name__}: {line}"
            values |= {"status": "failed", "value": None, "metrics": {}, "error": said[:500], "start": {}}
        else:
            metrics = {k: one["value"] for k, one in results["metrics"].items()}
            value = metrics.get(self.metric)
            values |= {"metrics": metrics, "value": value, "start": results["start"], "error": ""}
            values["picked"] = self._picked(folder)
            values["status"] = "finished" if value is not None else "failed"
            if value is None:
                values["error"] = f"{self.metric} cannot be had: {results['metrics'][self.metric]['note']}"
            store.write_file(self._path(name).with_suffix(".rows"), store.pack_tensors(saved))
        values["seconds"] = round(clock.monotonic() - began, 3)
        store.write_json(self._path(name), values)
        self._again.discard(self._path(name).name)
        self._known.pop(name, None)
        return self._outcome(self._path(name))

    def _job(
        self, arm: Arm, seed: int, folder: Path, rows: Any, held: Any, deadline: float | None, watch: Watch | None
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        recipe = self.recipe.patched({**arm.patch, "seed": int(seed)})
        data, judge = self._parts(recipe, rows, held)
        model: nn.Module | None = None if self.model is None else self.model()
        if _is_done(folder, recipe):  # killed between the end of the run and its outcome
            return Run(folder).results, store.unpack_tensors((folder / "rows.safetensors").read_bytes())
        plan, tutor = taught(plan_for(recipe, data, self.device, model), data, self.device)
        data = rewritten(data, plan.many("batch"), cache=cache_folder() / "variants", device=self.device)
        _, resumed = choose_folder(folder, data, plan)
        # Pre-flight looks at data and model, and takes as long as a short run: the first run of a process tells enough.
        lean = Lean(judge, preflight=not self.looked, calibrate=self.calibrate)
        said = str(self.source) if isinstance(self.source, str | Path) else ""
        deterministic = bool(plan["numerics.deterministic"])
        with (
            Signals() as signals,
            threads(plan["numerics.threads"]),
            determinism(deterministic) as met,
        ):
            seen = Watched(folder, watch, signals)
            job = Job(
                folder, data, plan, recipe, seen, self.device, model, signals, said, World(), tutor,
                not_deterministic=met, lean=lean,
            )  # fmt: skip
            late = threading.Timer(max(deadline - clock.monotonic(), 0.0), _stop, [signals]) if deadline else None
            if late is not None:
                late.daemon = True
                late.start()
            try:
                run = job.run(resumed)
            except Interrupted:
                if seen.stopped:
                    raise Pruned(f"{folder.name} was stopped: others do better") from None
                raise
            finally:
                if late is not None:
                    late.cancel()
        self.looked = True
        return run.results, store.unpack_tensors((folder / "rows.safetensors").read_bytes())

    def _parts(self, recipe: Recipe, rows: Any, held: Any) -> tuple[Data, Any]:
        """The data of a run (its training rows, the validation rows that pick) and the part that judges it."""
        data = self.data_for(recipe)
        rows = self.rows if rows is None else rows
        if held is None:
            pick, judge = halves(data.valid, seed=self.split)
            base = self.data if data is not self.data else data
            if data is not base and not torch.equal(data.valid.index, base.valid.index):
                raise RecipeError(["this arm splits the data otherwise, so its rows cannot be compared row by row"])
        else:
            pick, judge = data.valid, subset(data.train, torch.as_tensor(held, dtype=torch.int64))
        train, fingerprint = data.train, data.fingerprint
        if rows is not None:
            train = subset(train, torch.as_tensor(rows, dtype=torch.int64))
            fingerprint = hashlib.sha256(f"{fingerprint} {_digest(rows)}".encode()).hexdigest()
        return replace(data, train=train, valid=pick, fingerprint=fingerprint), judge

    @property
    def picks_name(self) -> str:
        """The metric that picks weights."""
        return metrics_for(self.data)[1].name

    @property
    def picks_larger(self) -> bool:
        """Whether more is better of the metric that picks weights, which ``Outcome.picked`` is."""
        return metrics_for(self.data)[1].larger_is_better

    def _picked(self, folder: Path) -> float | None:
        """The best row of a run's validations."""
        key = f"valid_{metrics_for(self.data)[1].name}"
        seen = [row[key] for row in store.read_lines(folder / "metrics.jsonl") if row.get(key) is not None]
        return float((max if self.picks_larger else min)(seen)) if seen else None

    def _path(self, name: str) -> Path:
        return self.folder / "outcomes" / f"{name}.json"

    def _outcome(self, path: Path) -> Outcome:
        values = store.read_json(path)
        saved = path.with_suffix(".rows")
        values["folder"] = self.folder / "runs" / values["folder"]
        return Outcome(**values, rows=saved if saved.exists() else None)


class Busy(RunError):
    """Another process is at this run."""


class Pruned(RunError):
    """A run was stopped by its watch."""


Watch = Callable[[int, Mapping[str, float]], bool]


class Watched(Screen):
    """A screen that shows nothing and lets a watch stop the run after a validation."""

    def __init__(self, folder: Path, watch: Watch | None, signals: Signals) -> None:
        super().__init__(Console(quiet=True), quiet=True)
        self.folder, self.watch, self.signals = folder, watch, signals
        self.stopped = False

    def evaluated(self, moment: Moment, row: Mapping[str, float], best: bool) -> None:
        """Ask the watch; validations before a resumption count."""
        # What ends anyway is not stopped.
        if self.watch is None or moment.step + 1 >= moment.total:
            return
        if self.watch(len(store.read_lines(self.folder / "metrics.jsonl")), row):
            self.stopped = True
            _stop(self.signals)


class OutOfTime(Interrupted):
    """The time for a study ended in a run, which is saved; ``share`` of it was done."""

    def __init__(self, message: str, code: int, *, share: float) -> None:
        super().__init__(message, code)
        self.share = share


def _stop(signals: Signals) -> None:
    signals.requested = signals.requested or signal.SIGTERM


def _share(folder: Path) -> float:
    """How much of an interrupted run is done, by its last checkpoint."""
    plan = Plan.from_json(store.read_json(folder / "plan.json"))
    total, _ = plan.steps(int(plan.data["samples"]["train"]))
    steps = [int(p.name) for p in (folder / "checkpoints").glob("*") if p.name.isdigit()]
    return max(steps, default=0) / total


def _is_done(folder: Path, recipe: Recipe) -> bool:
    if not (folder / "rows.safetensors").exists() or Run(folder).status != "finished":
        return False
    return Recipe.read(folder / "recipe.toml").to_toml() == recipe.to_toml()


def _plain(values: Any) -> Any:
    return json.loads(store.json_bytes(values))


def _digest(*rows: Any) -> str:
    plain = [None if one is None else torch.as_tensor(one, dtype=torch.int64).tolist() for one in rows]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()
