"""A run that stops anywhere ends with the same bits; what cannot be exact is named in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.torture import little
from goodfit import job, loop, record, report, store
from goodfit.errors import GoodfitError, RunError
from goodfit.interrupt import Interrupted, Leave
from goodfit.recipe import Recipe
from goodfit.report import charts
from goodfit.run import Run
from goodfit.screen import Screen


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without drawings, which take longer than the run; checkpoints as ``little.train`` sets them, put back after."""
    monkeypatch.setattr(charts, "_svg", lambda figure: "data:,")
    monkeypatch.setattr(job, "preflight", lambda *a, **k: [])
    monkeypatch.setattr(record, "SAVE_EVERY", record.SAVE_EVERY)
    monkeypatch.setattr(record, "SHARE", record.SHARE)


class Stop(BaseException):
    """What stands for a crash: nothing of ours catches it on purpose, and nothing more is written."""


def crash(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, when: Callable[..., bool], work: Callable[[], Any]):
    """Do some work that dies inside ``owner.name`` as soon as ``when`` says so; flushing dies with it."""
    real = getattr(owner, name)

    def dying(*args: Any, **more: Any) -> Any:
        if when(*args, **more):
            monkeypatch.setattr(record.Saver, "write", dead)
            raise Stop
        return real(*args, **more)

    def dead(*args: Any) -> bool:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        writing = record.Saver.write
        try:
            with pytest.raises(Stop):
                work()
        finally:
            monkeypatch.setattr(record.Saver, "write", writing)


def nth(number: int) -> Callable[..., bool]:
    """True at the n-th call, from 1."""
    calls = iter(range(1, 10**6))
    return lambda *_, **__: next(calls) == number


MOMENTS = {
    "before the first step": (loop, "train_step", 1),
    "in the middle of an epoch": (loop, "train_step", 7),
    "in one piece of a batch": (loop, "autocast", 40),
    "in the other piece": (loop, "autocast", 41),
    "within a validation": (loop, "evaluate_now", 3),
    "in the middle of saving": (store, "_write_synced", 60),
    "while the weights are moved": (loop, "update_weights", 9),
    "after the last step": (job, "assess", 1),
    "within the report": (report, "render", 1),
    "before it is marked as finished": (store, "list_files", 2),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "_svg", lambda figure: "data:,")
        patch.setattr(job, "preflight", lambda *a, **k: [])
        patch.setattr(record, "SAVE_EVERY", 0.0)
        patch.setattr(record, "SHARE", 1.0)
        folder = tmp_path_factory.mktemp("undisturbed") / "run"
        little.train(folder)
        yield little.outcome(folder)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_dies_goes_on_to_the_very_same_bits(
    moment: str, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, number = MOMENTS[moment]
    folder = tmp_path / "run"
    crash(monkeypatch, owner, name, nth(number), lambda: little.train(folder))
    assert Run(folder).status == "interrupted"
    little.train(folder)
    assert little.outcome(folder) == undisturbed
    assert little.strays(folder) == []
    assert [one["exact"] for one in Run(folder).results["resumes"]] == [True]


STATES: dict[str, dict[str, Any]] = {
    "swa": {
        "average.name": "swa",
        "average.decay": None,
        "average.start": "10%",
        "average.every": "2 steps",
        "schedule.name": "constant",
    },
    "lawa": {"average.name": "lawa", "average.decay": None, "average.window": 3, "average.every": "2 steps"},
    "early stopping": {"stopping.name": "patience", "stopping.patience": 2, "optimizer.lr": 0.0, "epochs": 12},
    "momentum": {"optimizer.name": "sgd", "schedule.name": "one_cycle"},
}


@pytest.mark.parametrize("what", STATES)
def test_every_technique_with_a_state_goes_on_with_it(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little.train(tmp_path / "whole", **STATES[what])
    steps = int(Run(tmp_path / "whole").results["steps"])
    torn = lambda: little.train(tmp_path / "torn", **STATES[what])  # noqa: E731
    for number in (steps // 2, 3):
        crash(monkeypatch, loop, "train_step", nth(number), torn)
    # Once more where training is over: early stopping must not train on.
    crash(monkeypatch, job, "assess", nth(1), torn)
    torn()
    assert little.outcome(tmp_path / "torn") == little.outcome(tmp_path / "whole")


class Pictures(Dataset[tuple[Tensor, int]]):
    """Someone's own data set. noise: it draws random numbers of its own."""

    def __init__(self, *, noise: bool = False) -> None:
        self.pixels, self.kinds = little.pictures()
        self.noise = noise

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        pixels = torch.from_numpy(self.pixels[number])
        return pixels + torch.randint(0, 2 + 5 * self.noise, pixels.shape, dtype=torch.uint8) * self.noise, int(
            self.kinds[number]
        )


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
def test_loader_workers_may_change_between_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"epochs": 2, "batch.crop": False, "batch.mixup.alpha": None}
    little.train(tmp_path / "whole", source=Pictures(), **few)
    for workers, number in ((2, 3), (1, 2), (0, 2)):
        again = lambda workers=workers: little.train(  # noqa: E731
            tmp_path / "torn", source=Pictures(), data__workers=workers, **few
        )
        crash(monkeypatch, loop, "train_step", nth(number), again)
    little.train(tmp_path / "torn", source=Pictures(), data__workers=2, **few)
    assert little.outcome(tmp_path / "torn") == little.outcome(tmp_path / "whole")


def test_a_signal_before_a_run_is_taken_up_again_says_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(_: job.Job) -> nn.Module:
        raise Leave

    monkeypatch.setattr(record, "SAVE_EVERY", 0.0)
    crash(monkeypatch, loop, "train_step", nth(4), lambda: little.train(tmp_path / "run", epochs=2))
    with monkeypatch.context() as patch:
        patch.setattr(job.Job, "make_model", leave)
        with pytest.raises(Interrupted, match="the same command goes on from there"):
            little.train(tmp_path / "run", epochs=2)
    little.train(tmp_path / "run", epochs=2)
    assert Run(tmp_path / "run").status == "finished"


def resumed_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, change: Callable[[], object],
    **more: Any,
) -> str:  # fmt: skip
    """The line about exactness that a resumed run shows, after something was changed."""
    recipe = Recipe().patched({**little.RECIPE, "epochs": 2})
    monkeypatch.setattr(record, "SAVE_EVERY", 0.0)

    def train(screen: Screen) -> Run:
        return job.train(more.get("source", little.pictures()), out=folder, recipe=recipe, screen=screen, device="cpu")

    crash(monkeypatch, loop, "train_step", nth(4), lambda: train(Screen(quiet=True)))
    change()
    capsys.readouterr()
    run = train(Screen())
    shown = " ".join(capsys.readouterr().out.split())
    written = run.results["resumes"][-1]
    line = shown[shown.index("resume: ") : shown.index(" Training")]
    assert written["exact"] == (line == "resume: exact")
    assert all(why in line for why in written["because"])
    assert store.read_sealed(folder / "status.json")["resumes"] == run.results["resumes"]
    return line


def test_an_exact_resume_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resumed_line(tmp_path / "r", monkeypatch, capsys, change=lambda: None) == "resume: exact"


def test_another_number_of_threads_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    change = lambda: monkeypatch.setattr(torch, "get_num_threads", lambda: before + 1)  # noqa: E731
    line = resumed_line(tmp_path / "r", monkeypatch, capsys, change=change)
    assert line == f"resume: not exact, because the threads were {before} and are {before + 1} now"


def test_a_data_set_that_draws_random_numbers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "_resumable", lambda folder, plan: True)  # its fingerprint may change with what it draws
    line = resumed_line(tmp_path / "r", monkeypatch, capsys, change=lambda: None, source=Pictures(noise=True))
    assert line == "resume: not exact, because your own data set draws random numbers: a sample was not the same twice"


def test_a_loader_of_ones_own_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (DataLoader(Pictures(), batch_size=24, shuffle=True), DataLoader(Pictures(), batch_size=24))
    monkeypatch.setattr(job, "_resumable", lambda folder, plan: True)  # its fingerprint may change with its order
    monkeypatch.setattr(little, "RECIPE", {k: v for k, v in little.RECIPE.items() if k != "batch_size"})
    line = resumed_line(tmp_path / "r", monkeypatch, capsys, change=lambda: None, source=source)
    assert line.startswith("resume: not exact, because the order of your own DataLoader")


def test_kernels_of_a_gpu_are_named_unless_deterministic_ones_are_asked_for() -> None:
    made = object.__new__(job.Job)
    made.device = torch.device("cuda")
    made.data = type("D", (), {"train": None})()  # type: ignore[assignment]
    made.plan = {"numerics.deterministic": False}  # type: ignore[assignment]
    assert made.loose == ["GPU kernels sum in any order (numerics.deterministic = true asks for those that do not)"]
    made.plan = {"numerics.deterministic": True}  # type: ignore[assignment]
    assert made.loose == []


class Failing(nn.Module):
    """A user's module that raises in the middle of its n-th forward pass in training, behind a batch norm."""

    def __init__(self, fail_at: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6))
        self.head = nn.Linear(6, 3)
        self.fail_at, self.calls = fail_at, 0

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.body(inputs.float())
        if self.training and torch.is_grad_enabled():
            self.calls += 1
            if self.calls == self.fail_at:
                raise ZeroDivisionError("mine")
        return torch.as_tensor(self.head(found))


OWN = {"batch_size": 24, "epochs": 3, "numerics.precision": "fp32", "numerics.compile": False}


def own(folder: Path, model: nn.Module, source: Any = None, **more: Any) -> Run:
    recipe = Recipe().patched({**OWN, **{k.replace("__", "."): v for k, v in more.items()}})
    data = little.pictures() if source is None else source
    torch.manual_seed(0)
    return job.train(data, out=folder, model=model, recipe=recipe, screen=Screen(quiet=True), device="cpu")


def test_a_users_exception_saves_the_last_step_boundary_and_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job.Job, "measure_execution", lambda self, model: None)
    torch.manual_seed(1)
    start = Failing(0).state_dict()

    def module(fail_at: int) -> Failing:
        made = Failing(fail_at)
        made.load_state_dict(start)
        return made

    whole = own(tmp_path / "whole", module(0))
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        own(tmp_path / "torn", module(6))
    assert caught.traceback[-1].name == "forward"
    assert store.steps_in(tmp_path / "torn" / "checkpoints")[0] == 5
    resumed = own(tmp_path / "torn", module(0))
    # The forward pass that failed had moved the running statistics; they are those of the boundary again.
    assert resumed.results["digest"] == whole.results["digest"]


def test_a_loss_that_is_not_finite_touches_nothing_is_counted_and_its_batch_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job.Job, "measure_execution", lambda self, model: None)
    inputs, kinds = little.pictures()
    values = inputs.astype(np.float32)
    seen: dict[int, Tensor] = {}
    real = loop.fill_gradients

    def watching(state: Any, slots: Any, batch: Any, moment: Any) -> Any:
        seen[moment.step] = batch.inputs.clone()
        if moment.step == 4:
            batch = batch._replace(inputs=batch.inputs * float("nan"))
        return real(state, slots, batch, moment)

    monkeypatch.setattr(loop, "fill_gradients", watching)
    run = own(tmp_path / "r", Failing(0), (values, kinds), nonfinite="skip")
    assert (run.results["skipped"], run.results["refused"]) == (1, [4])
    state = run.model().state_dict()
    assert all(bool(value.isfinite().all()) for value in state.values())
    torch.testing.assert_close(job.batch_at(run, 4, model=Failing(0)).inputs, seen[4], rtol=0, atol=0)
    with pytest.raises(RunError, match="no step 99"):
        job.batch_at(run, 99, model=Failing(0))
    Screen().batch(job.batch_at(run, 4, model=Failing(0)), 4)
    assert "The batch of step 4" in capsys.readouterr().out
    with pytest.raises(GoodfitError, match=r"the loss became nan at step 4.*goodfit batch RUN 4"):
        own(tmp_path / "s", Failing(0), (values, kinds))
    assert store.steps_in(tmp_path / "s" / "checkpoints")[0] == 4
    shutil.rmtree(tmp_path / "s")
