"""The mechanism of studies: runs that are stored, resumed, claimed, failed and cut to rows."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from goodfit.ensemble import Ensemble
from goodfit.errors import DataError, RecipeError, RunError
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.soup import soup
from goodfit.studies import Arm, Study
from goodfit.studies import crew as crew_module
from goodfit.studies import study as module
from goodfit.studies.crew import Crew, Wanted, crew
from goodfit.studies.rows import halves, subset
from goodfit.studies.study import Busy, OutOfTime, Pruned
from goodfit.types import Tensors

QUICK = Recipe(model={"name": "mlp", "width": 8}, epochs=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = Study(tmp_path_factory.mktemp("study"), "iris", QUICK, screen=Screen.silent())
    for seed in (0, 1):
        for arm in (Arm("default"), Arm("smooth", {"loss.label_smoothing": 0.1})):
            study.run(arm, seed)
    return study


def test_a_run_has_an_outcome_with_its_rows(made: Study) -> None:
    one = made.run(Arm("default"), 0)
    assert one.status == "finished"
    assert one.value == one.metrics["accuracy"] == pytest.approx(float(one.right.double().mean()))
    assert one.losses.double().mean() == pytest.approx(one.metrics["log_loss"], rel=1e-5)
    judging = set(one.index.tolist())
    valid = set(made.data.valid.index.tolist())
    assert judging < valid
    assert len(judging) == len(valid) - round(len(valid) / 3)
    table = pd.read_parquet(one.folder / "predictions.parquet")
    assert set(table["index"]) == judging
    assert not (one.folder / "report.html").exists()
    assert not list((one.folder / "checkpoints").glob("0*"))
    assert not (one.folder / "test.json").exists()


def test_arms_of_a_seed_begin_from_the_same_weights_and_other_shapes_are_told(made: Study) -> None:
    one, two = made.run(Arm("default"), 1), made.run(Arm("smooth", {"loss.label_smoothing": 0.1}), 1)
    assert one.start == two.start
    assert one.start["weights"] != made.run(Arm("default"), 0).start["weights"]
    wide = made.run(Arm("wide", {"model.width": 16}), 1)
    assert wide.start["shapes"] != one.start["shapes"]


def test_a_technique_that_does_nothing_changes_no_other_draw(tmp_path: Path) -> None:
    """Noise too small for float32 draws numbers and adds nothing: order, dropout and weights are as without it."""
    recipe = QUICK.patched({"model.dropout": 0.3})
    study = Study(tmp_path, "iris", recipe, screen=Screen.silent())
    plain, noise = (
        study.run(Arm("default"), 3),
        study.run(Arm("noise", {"batch.noise": True, "batch.noise.std": 1e-30}), 3),
    )
    assert noise.error == ""
    assert Run(noise.folder).results["digest"] == Run(plain.folder).results["digest"]


def test_a_finished_run_is_not_repeated(made: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Study, "_train", lambda *_: pytest.fail("trained again"))
    again = Study(made.folder, "iris", QUICK, screen=Screen.silent())
    assert again.run(Arm("default"), 1).value == made.run(Arm("default"), 1).value
    assert {(o.arm, o.seed) for o in again.outcomes()} >= {("default", 0), ("smooth", 1)}


def test_a_failed_arm_is_an_outcome_with_its_error(made: Study) -> None:
    wrong = made.run(Arm("wild", {"optimizer.lr": 1e30, "clip.norm": "none"}), 0)
    assert (wrong.status, wrong.value) == ("failed", None)
    assert "loss" in wrong.error
    unknown = made.run(Arm("typo", {"optimizer.lrr": 1}), 0)
    assert "did you mean" in unknown.error


def test_names_are_safe_and_never_mixed_up(made: Study) -> None:
    assert made.name(Arm("a/b: c"), 1) != made.name(Arm("a-b-c"), 1)
    assert "/" not in made.name(Arm("../../x"), 0)
    with pytest.raises(RunError, match="another patch"):
        made.run(Arm("smooth", {"loss.label_smoothing": 0.2}), 0)


def test_one_folder_is_one_study(made: Study, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="another recipe"):
        Study(made.folder, "iris", QUICK.patched({"epochs": 3}), screen=Screen.silent())
    with pytest.raises(RecipeError, match="no metric 'acuracy' for this task; did you mean 'accuracy'"):
        _ = Study(tmp_path, "iris", QUICK, metric="acuracy", screen=Screen.silent()).metric


def test_rows_of_the_training_part_train_and_judge(made: Study) -> None:
    rows, held = list(range(40)), list(range(40, 70))
    one = made.run(Arm("default"), 0, rows=rows, held=held)
    assert one.index.tolist() == made.data.train.index[40:70].tolist()
    assert one.folder != made.run(Arm("default"), 0).folder
    assert made.run(Arm("default"), 0, rows=torch.tensor(rows), held=held).folder == one.folder


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(made: Study, tmp_path: Path) -> None:
    recipe = QUICK.patched({"epochs": 6})
    whole = Study(tmp_path / "whole", "iris", recipe, screen=Screen.silent()).run(Arm("default"), 0)
    cut = Study(tmp_path / "cut", "iris", recipe, screen=Screen.silent())
    with pytest.raises(Pruned):
        cut.run(Arm("default"), 0, watch=lambda place, row: place >= 2)
    assert cut.outcomes() == []
    resumed = cut.run(Arm("default"), 0)
    assert Run(resumed.folder).results["digest"] == Run(whole.folder).results["digest"]
    assert resumed.metrics == whole.metrics


def test_a_deadline_saves_the_run_and_tells_its_share(tmp_path: Path) -> None:
    study = Study(tmp_path, "iris", QUICK.patched({"epochs": 4000}), screen=Screen.silent())
    _ = study.data
    with pytest.raises(OutOfTime) as late:
        study.run(Arm("default"), 0, deadline=time.monotonic() + 1.5)
    assert 0 < late.value.share < 1


def test_a_run_that_another_process_has_is_busy(made: Study) -> None:
    name = made.name(Arm("busy"), 0)
    code = (
        "import fcntl, os, sys\n"
        "handle = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)\n"
        "fcntl.flock(handle, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()"
    )
    path = made.folder / "claims" / name
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Busy):
            made.run(Arm("busy"), 0, wait=False)
    finally:
        other.kill()
        other.communicate()
    # A process that was killed leaves nothing behind that would have to be taken over.
    assert made.run(Arm("busy"), 0, wait=False).status == "finished"


def test_processes_on_one_study_lose_no_run_and_repeat_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two beside this one, since each takes seconds to start; the file system's claims know no number."""
    monkeypatch.setattr(crew_module, "WORTH", 0.0)
    study = Study(tmp_path, "iris", QUICK, screen=Screen.silent())
    wanted = [Wanted(Arm(a, {"loss.label_smoothing": x}), s) for s in range(3) for a, x in (("one", 0.1), ("two", 0.2))]
    alone = Study(tmp_path / "alone", "iris", QUICK, screen=Screen.silent()).run(wanted[0].arm, 0)
    with crew(study, at_once=3, size=3) as others:
        others.call(wanted, seconds=1.0)
        members = list(others.members)
        assert len(members) == 2
        give_up = time.monotonic() + 120
        while len(study.outcomes()) < 2 and time.monotonic() < give_up:  # what this process did not make
            time.sleep(0.1)
        assert study.outcomes()
        values = {(one.arm.name, one.seed): study.run(one.arm, one.seed).value for one in wanted}
    assert all(member.poll() is not None for member in members)
    assert {(one.arm, one.seed): one.value for one in study.outcomes()} == values
    assert len(list((tmp_path / "runs").iterdir())) == 6
    # Whoever made it, it is the same run.
    assert Run(study.run(wanted[0].arm, 0).folder).results["digest"] == Run(alone.folder).results["digest"]


def test_a_crew_is_for_sources_that_others_can_read_and_work_that_is_worth_it(made: Study, tmp_path: Path) -> None:
    assert Crew(made, at_once=1, size=4).size == 1
    x = (np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2)
    assert Crew(Study(tmp_path, x, QUICK, screen=Screen.silent()), at_once=4, size=4).size == 1
    beside = Crew(made, at_once=4, size=2)
    beside.call([], seconds=crew_module.WORTH - 1)
    assert (beside.size, beside.members) == (2, [])


def test_a_failed_run_is_made_again_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(tmp_path, "iris", QUICK, screen=Screen.silent())
    monkeypatch.setattr(module.Job, "run", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
    assert study.run(Arm("default"), 0).error == "MemoryError: no room"
    monkeypatch.undo()
    again = Study(tmp_path, "iris", QUICK, screen=Screen.silent())
    assert again.run(Arm("default"), 0).status == "failed"
    again.retry_failed()
    assert again.outcomes() == []
    assert again.run(Arm("default"), 0).status == "finished"
    assert [one.status for one in again.outcomes()] == ["finished"]


def test_a_run_whose_process_was_killed_before_its_outcome_is_not_made_again(
    made: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Arm("late", {"loss.label_smoothing": 0.05})
    first = made.run(late, 0)
    (made.folder / "outcomes" / "late-0.json").unlink()
    again = Study(made.folder, "iris", QUICK, screen=Screen.silent())
    monkeypatch.setattr(module.Job, "run", lambda *_: pytest.fail("trained again"))
    assert again.run(late, 0).metrics == first.metrics


def test_an_ensemble_and_a_soup_are_made_of_a_studys_runs(tmp_path: Path) -> None:
    study = Study(tmp_path / "study", "breast-cancer", QUICK, screen=Screen.silent())
    outcomes = [study.run(Arm("default"), 0), study.run(Arm("smooth", {"loss.label_smoothing": 0.1}), 0)]
    folders = [one.folder for one in outcomes]
    assert Ensemble(folders).evaluate()["samples"] == len(outcomes[0].index)
    cooked = soup(folders, out=tmp_path / "soup")
    assert cooked.status == "finished"
    assert set(cooked.results["soup"]["alone"]) == {str(one) for one in folders}


def test_halves_share_no_row_and_subsets_keep_numbers() -> None:
    part = Tensors(torch.arange(30.0)[:, None], torch.zeros(30, dtype=torch.int64), torch.arange(30) + 100)
    pick, judge = halves(part, seed=0)
    assert len(pick) == 10
    assert sorted([*pick.index.tolist(), *judge.index.tolist()]) == part.index.tolist()
    again = subset(part, torch.tensor([3, 3, 5]))
    assert again.index.tolist() == [103, 103, 105]
    assert again.take(torch.tensor([1])).inputs.tolist() == [[3.0]]
    with pytest.raises(DataError, match="validation rows"):
        halves(subset(part, torch.tensor([1, 2])), seed=0)
