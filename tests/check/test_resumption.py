"""A program that restores everything is exact; of each piece that it leaves out, that piece is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goodfit.errors import GoodfitError
from goodfit.resumption import trials
from goodfit.resumption.verdict import Resumption, check_resume
from tests.check.forked import Forked

PROGRAM = '''
import os, random, sys
import numpy as np, torch
from torch import nn
from torch.nn import functional as F
lacks = sys.argv[1] if len(sys.argv) > 1 else ""
place = sys.argv[2] if len(sys.argv) > 2 else "."
random.seed(0); np.random.seed(0); torch.manual_seed(0)
x = torch.randn(64, 6); y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.7)
swa = torch.optim.swa_utils
average = swa.AveragedModel(model, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9))
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=4)
parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "ema": average, "scaler": scaler}
last, step, weight, epochs = f"{place}/last.pt", 0, 1.0, 0
if os.path.exists(last) and lacks not in ("all", "resume"):
    if lacks == "fails":
        raise KeyError("no such entry")
    held = torch.load(last, weights_only=False)
    for name, one in parts.items():
        if name == lacks:
            continue
        if lacks == "buffers" and name == "model":
            one.load_state_dict({k: v for k, v in held[name].items() if "running" not in k}, strict=False)
        else:
            one.load_state_dict(held[name])
    if lacks == "rates": optimizer.param_groups[0]["lr"] = 0.1
    if lacks != "step": step = held["step"]
    if lacks != "hidden": weight = held["weight"]
    if lacks != "python": random.setstate(held["python"])
    if lacks != "numpy": np.random.set_state(held["numpy"])
    if lacks != "torch": torch.set_rng_state(held["torch"])
skip = 0 if lacks == "position" else step % 8
seed = 200 if lacks == "order" and step else 100
if lacks == "random": torch.seed()
while step < 24:
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed + step // 8)).split(8)
    for batch in order[skip:]:
        noise = torch.from_numpy(np.random.randn(8, 6)).float() if step % 2 else random.random()
        loss = weight * F.cross_entropy(model(x[batch] + 0.1 * noise), y[batch])
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer); scaler.update(); schedule.step(); average.update_parameters(model)
        step += 1
        weight *= 0.99
        if step % 3 == 0 and lacks != "saves":
            torch.save({**{k: v.state_dict() for k, v in parts.items()}, "step": step, "weight": weight,
                "python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}, "new.pt")
            os.replace("new.pt", last)
    skip = 0
'''  # fmt: skip


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    made = Forked()
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path, forked: Forked, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(trials, "start", forked)
    (tmp_path / "train.py").write_text(PROGRAM)
    return tmp_path


def examined(folder: Path, *words: str) -> Resumption:
    result = check_resume(["train.py", *words], folder=folder)
    assert [p.name for p in folder.iterdir()] == ["train.py"], "the program's own folder is left alone"
    return result


def test_a_program_that_restores_everything_is_exact(folder: Path) -> None:
    result = examined(folder)
    assert result.text == "exact (3 kills, 24 steps, weights bit-equal)"
    assert result.began == (9, 12, 18)


@pytest.mark.parametrize(
    ("lacks", "names", "text"),
    [
        ("model", ["model weights"], "not the ones of step 9"),
        ("buffers", ["buffers"], "running statistics"),
        ("optimizer", ["optimizer state"], "is empty, it begins anew (momentum_buffer)"),
        ("schedule", ["lr schedule"], "at [0] where it was at [9]"),
        ("rates", ["lr schedule"], "the learning rate is 0.1 at step 9, it was 0.07"),
        ("step", ["epoch or step counter"], "at step 9 it repeats the batches from step 0"),
        ("position", ["epoch or step counter"], "at step 9 it repeats the batches from step 8"),
        ("order", ["data order"], "other batches than the uninterrupted run's from step 9 on"),
        ("python", ["random generator (python)"], "is in another state at step 9"),
        ("numpy", ["random generator (numpy)"], "is in another state at step 9"),
        ("torch", ["random generator (torch)"], "is in another state at step 9"),
        ("ema", ["EMA"], "average of weights"),
        ("scaler", ["loss scaler"], "scale or its count"),
        ("hidden", ["something that is not seen"], "a value of the program's own"),
    ],
)
def test_each_piece_that_is_not_restored_is_named_and_nothing_else(
    lacks: str, names: list[str], text: str, folder: Path
) -> None:
    result = examined(folder, lacks)
    assert result.outcome == "not exact"
    assert [piece.name for piece in result.pieces] == names, result.text
    assert text in result.text


@pytest.mark.parametrize(
    ("lacks", "outcome", "text"),
    [
        ("all", "did not resume", "did not resume: started over from step 0"),
        ("saves", "did not resume", "started over from step 0; nothing is saved"),
        ("fails", "fails on resume", "fails on resume: KeyError: 'no such entry'"),
        ("random", "not deterministic", "two uninterrupted runs differ, in their losses from step 0 on"),
    ],
)
def test_programs_that_cannot_be_compared_are_told_apart(lacks: str, outcome: str, text: str, folder: Path) -> None:
    result = examined(folder, lacks)
    assert result.outcome == outcome, result.text
    assert text in result.text
    if lacks == "fails":
        assert result.said.startswith("Traceback")


def test_another_command_goes_on(folder: Path) -> None:
    assert check_resume(["train.py", "resume"], folder=folder).outcome == "did not resume"
    assert check_resume(["train.py", "resume"], again="python train.py x", folder=folder).outcome == "exact"


def test_a_place_outside_is_found_out_and_can_be_given(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    with pytest.raises(GoodfitError, match=r"writes outside of its folder|two are needed"):
        check_resume(["train.py", "", str(outside)], folder=folder)
    (folder / "train.py").write_text(PROGRAM.replace("last, step", "os.makedirs(place, exist_ok=True)\nlast, step"))
    assert check_resume(["train.py", "", "{trial}"], folder=folder).outcome == "exact"


def test_the_first_steps_alone_can_be_looked_at(folder: Path) -> None:
    assert check_resume(["train.py"], folder=folder, steps=12).text == "exact (3 kills, 12 steps, weights bit-equal)"
    assert [p.name for p in check_resume(["train.py", "numpy"], folder=folder, steps=12).pieces] == [
        "random generator (numpy)"
    ]


def test_mistakes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "empty.py").write_text("print('nothing')")
    with pytest.raises(GoodfitError, match="0 optimizer steps"):
        check_resume(["empty.py"], folder=folder)
    (folder / "broken.py").write_text("1 / 0")
    with pytest.raises(GoodfitError, match=r"fails without any interruption.*\nTraceback[\s\S]*ZeroDivisionError"):
        check_resume(["broken.py"], folder=folder)
    monkeypatch.setattr(trials, "LARGEST", 1000)
    with pytest.raises(GoodfitError, match="--share PATH"):
        check_resume(["train.py"], folder=folder)


def test_data_is_linked_and_old_files_are_left_out(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "rows.txt").write_text("1")
    (folder / "last.pt").write_text("of an old run")
    with trials.copies(folder, shared=[folder / "data"], without=[folder / "last.pt"]) as fresh:
        work = fresh().work
        assert sorted(p.name for p in work.iterdir()) == ["data", "train.py"]
        assert (work / "data").is_symlink()
        assert (work / "data" / "rows.txt").read_text() == "1"
    assert not work.exists()


def test_the_command_line_starts_new_interpreters(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "goodfit", "check-resume", "--json", "train.py", "optimizer"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert (done.returncode, told["outcome"], told["steps"]) == (1, "not exact", 24), done.stderr
    assert [piece["name"] for piece in told["pieces"]] == ["optimizer state"]
    assert list(tmp_path.glob("*.pt")) == []
    done = subprocess.run(
        [sys.executable, "-m", "goodfit", "check-resume", "trian.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        2, "goodfit: trian.py does not exist; give the Python file that trains, or -m and a module's name\n"
    )  # fmt: skip
