"""The mechanism of studies: runs that are stored, resumed, claimed, failed and cut to rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

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
from goodfit.studies import study as module
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


CROWD = 3
WORKER = """
import json, os, sys
from goodfit.recipe import Recipe
from goodfit.screen import Screen
from goodfit.studies import Arm, Study
from goodfit.studies import study as module
folder, trained = sys.argv[1], []
make = module.Study._train
def counted(self, arm, seed, *more):
    trained.append((arm.name, seed))
    return make(self, arm, seed, *more)
module.Study._train = counted
recipe = Recipe(model={"name": "mlp", "width": 8}, epochs=1)
study = Study(folder, "iris", recipe, screen=Screen.silent())
values = {f"{a}-{s}": study.run(Arm(a, {"loss.label_smoothing": x}), s).value
          for s in range(3) for a, x in (("one", 0.1), ("two", 0.2))}
print(json.dumps([trained, values]))
"""


def test_processes_on_one_study_lose_no_run_and_repeat_none(tmp_path: Path) -> None:
    """Three of them, since each takes seconds to start; with CROWD = 8 it is the same."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    crowd = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=env)
        for _ in range(CROWD)
    ]
    said = [json.loads(one.communicate(timeout=300)[0].strip().split("\n")[-1]) for one in crowd]
    assert all(one.returncode == 0 for one in crowd)
    trained = sorted(tuple(one) for trained, _ in said for one in trained)
    assert trained == [(arm, seed) for arm in ("one", "two") for seed in range(3)]
    assert all(values == said[0][1] for _, values in said)


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
