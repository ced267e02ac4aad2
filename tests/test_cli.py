"""The command line: happy paths, one clear line for every bad input, Ctrl-C and resume in real processes."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import goodfit
from goodfit import cli, store
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, parse_set
from goodfit.run import Run
from goodfit.screen import Screen

QUICK = [
    *("--set", "epochs=1", "--set", "model.name=mlp", "--set", "model.width=8", "--set", "batch_size=32"),
    *("--set", "numerics.precision=fp32", "--set", "numerics.compile=false"),
]


class Said(NamedTuple):
    """What a command printed, and its exit status. ``out`` has every run of white space made one space."""

    code: int
    out: str
    err: str


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs a command in this process."""

    def run(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["goodfit", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return Said(code, " ".join(out.split()), err)

    return run


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder, the cache left out."""
    files = (p for p in root.rglob("*") if p.is_file() and "cache" not in p.relative_to(root).parts[:1])
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


@pytest.fixture
def refused(say: Callable[..., Said], tmp_path: Path) -> Callable[..., str]:
    """Runs a command that must be refused with one clear line, code 2 and not a byte changed; returns the line."""

    def run(*words: object) -> str:
        before = contents(tmp_path)
        said = say(*words)
        assert said.code == 2
        assert said.err.startswith("goodfit: ")
        assert said.err.count("\n") == 1, "one clear line"
        assert "Traceback" not in said.err + said.out
        assert contents(tmp_path) == before
        return said.err

    return run


def table(path: str, rows: int = 60, **columns: object) -> str:
    """Writes a CSV of a number, a letter and a class, with some columns given."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": random.normal(size=rows).round(4),
            "letter": random.choice(list("abc"), rows),
            "kind": random.choice(["yes", "no"], rows),
        }
    )
    for name, values in columns.items():
        frame[name] = values
    frame.to_csv(path, index=False)
    return path


# Happy paths, on one tiny run.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the iris flowers."""
    root = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        patch.chdir(root)
        patch.setattr(sys, "argv", ["goodfit", "train", "iris", *QUICK, "--out", "run"])
        cli.main()
    return root / "run"


@pytest.fixture
def copy_of_tiny(tiny: Path, tmp_path: Path) -> Path:
    """The tiny run, to be damaged."""
    return Path(shutil.copytree(tiny, tmp_path / "run"))


def test_training_shows_data_plan_preflight_progress_and_result(say: Callable[..., Said]) -> None:
    said = say("train", "iris", *QUICK)
    assert said.code == 0
    places = [
        said.out.index(word)
        for word in ("Data", "Plan", "Pre-flight", "Training", "Baselines", "on validation", "runs/iris-1/report.html")
    ]
    assert places == sorted(places)
    assert "goodfit test runs/iris-1" in said.out
    assert "goodfit predict runs/iris-1 NEW_DATA" in said.out
    assert Path("runs/iris-1/report.html").is_file()
    assert json.loads(Path("runs/iris-1/status.json").read_text())["status"] == "finished"


def test_a_second_run_gets_a_folder_of_its_own(say: Callable[..., Said], copy_of_tiny: Path) -> None:
    shutil.move(copy_of_tiny, "runs/iris-1")
    before = contents(Path("runs/iris-1"))
    assert say("train", "iris", *QUICK, "--quiet").code == 0
    assert contents(Path("runs/iris-1")) == before
    assert Path("runs/iris-2/results.json").is_file()


def test_quiet_prints_the_result_only(say: Callable[..., Said]) -> None:
    said = say("train", "iris", *QUICK, "--quiet", "--out", "r")
    assert "Plan" not in said.out
    assert "on validation" in said.out


def test_a_dry_run_prints_every_value_and_writes_nothing(say: Callable[..., Said], tmp_path: Path) -> None:
    said = say("train", "iris", *QUICK, "--dry-run", "--layers")
    assert said.code == 0
    for word in ("optimizer.lr", "schedule.name", "numerics.precision", "seed", "parameters", "multiply-adds"):
        assert word in said.out
    assert contents(tmp_path) == {}


def test_predict_prints_and_writes_tables(say: Callable[..., Said], tiny: Path) -> None:
    frame = pd.DataFrame(np.tile([5.1, 3.5, 1.4, 0.2], (25, 1)), columns=pd.Index(columns_of(tiny)))
    frame.to_csv("new.csv", index=False)
    said = say("predict", tiny, "new.csv")
    assert said.code == 0
    assert "p(setosa)" in said.out
    assert "25 rows; write them all with --out" in said.out
    for name in ("p.csv", "p.parquet"):
        assert say("predict", tiny, "new.csv", "--out", name).out == f"25 predictions written to {name}"
    assert pd.read_csv("p.csv").shape == pd.read_parquet("p.parquet").shape == (25, 4)


def columns_of(run: Path) -> list[str]:
    """The input columns of a table's run."""
    columns = json.loads((run / "data.json").read_text())["encoder"]["columns"]
    return [one["name"] for one in columns]


def test_the_test_part_is_opened_and_counted(say: Callable[..., Said], copy_of_tiny: Path) -> None:
    first, second = say("test", copy_of_tiny), say("test", copy_of_tiny)
    assert first.code == second.code == 0
    assert "opened 1 time" in first.out
    assert "opened 2 times; choices made after the first look are no longer unbiased" in second.out


def test_report_writes_the_page_anew_and_says_where(say: Callable[..., Said], copy_of_tiny: Path) -> None:
    page = copy_of_tiny / "report.html"
    page.unlink()
    assert say("report", copy_of_tiny).out == str(page)
    assert page.read_text().startswith("<!")


def test_explain_and_list_print_pages(say: Callable[..., Said]) -> None:
    assert say("explain", "mixup").out.startswith("mixup (batch)")
    names = say("list")
    assert names.code == 0
    assert all(word in names.out for word in ("mixup", "adamw", "resnet", "roc_auc", "batch-leak", "data.target"))


def test_the_same_command_works_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "goodfit", "--help"], capture_output=True, text=True, check=True)
    assert "train" in done.stdout


# What bad words get.


def test_without_a_command_the_help_is_shown(say: Callable[..., Said]) -> None:
    said = say()
    assert "train" in said.out + said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["trian", "digits"], "no such command 'trian'"),
        (["train"], "missing argument"),
        (["train", "digits", "--horizon", "x"], "--horizon"),
        (["train", "digits", "--recipee", "r.toml"], "did you mean --recipe"),
        (["train", "digits", "--epochs", "3"], "it is a key of the recipe: --set epochs=VALUE"),
        (["train", "digits", "--lr", "3"], "--set optimizer.lr=VALUE"),
        (["train", "digits", "--set", "lr"], "write it as key=value"),
        (["train", "digits", "--set", "lr=1"], "did you mean 'optimizer.lr'?"),
        (["train", "digits", "--set", "optimizer.lr=fast"], "'optimizer.lr': 'fast'"),
        (["train", "digits", "--set", "epochs=3 weeks"], "epochs"),
        (["train", "digits", "--recipe", "none.toml"], "none.toml cannot be read"),
        (["train", "digitz"], "did you mean 'digits'?"),
        (["train", "digits", "--device", "tpu"], "device 'tpu' cannot be used here"),
        (["train", "digits", "--device", "cuda:63"], "device 'cuda:63' cannot be used here"),
        (["explain", "mixupp"], "did you mean 'mixup'?"),
        (["explain", "zzzzzz"], "goodfit list shows every name"),
        (["predict", "nowhere", "x.csv"], "nowhere is no run folder"),
        (["test", "nowhere"], "nowhere is no run folder"),
        (["report", "nowhere"], "nowhere is no run folder"),
    ],
)
def test_bad_words_get_one_line_that_says_what_to_do(
    words: list[str], answer: str, refused: Callable[..., str]
) -> None:
    assert answer in refused(*words)


def test_a_recipe_with_five_mistakes_reports_all_of_them_at_once(say: Callable[..., Said], tmp_path: Path) -> None:
    Path("r.toml").write_text(
        'epoch = 3\nbatch_size = "many"\n[optimiser]\nlr = 0.1\n[batch.mixup]\nalfa = 1\n[schedule]\nname = "cosin"\n'
    )
    before = contents(tmp_path)
    said = say("train", "iris", "--recipe", "r.toml")
    assert said.code == 2
    assert "5 problems in the recipe" in said.err
    for right in ("'epochs'", "'batch_size'", "'optimizer.lr'", "'batch.mixup.alpha'", "'cosine'"):
        assert right in said.err
    assert said.err.count("\n") == 6
    assert contents(tmp_path) == before


def test_a_recipe_that_is_no_toml_is_refused_with_its_line(refused: Callable[..., str]) -> None:
    Path("r.toml").write_text("epochs = 3\noptimizer = = 3\n")
    line = refused("train", "iris", "--recipe", "r.toml")
    assert "r.toml" in line
    assert "line 2" in line


# What bad data gets.


def test_a_missing_file_is_named_with_one_like_it(refused: Callable[..., str]) -> None:
    table("houses.csv")
    assert "house.csv does not exist; did you mean houses.csv?" in refused("train", "house.csv")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.parquet", "a.txt"])
def test_an_empty_file_is_refused(name: str, refused: Callable[..., str]) -> None:
    Path(name).write_bytes(b"")
    line = refused("train", name)
    assert name in line
    assert "empty" in line


def test_a_header_without_rows_is_refused(refused: Callable[..., str]) -> None:
    Path("a.csv").write_text("size,kind\n")
    assert "a.csv has a header and no rows" in refused("train", "a.csv")


@pytest.mark.parametrize("content", [b"PAR1 not a table PAR1", b"PAR1", bytes(range(256)) * 40])
def test_a_damaged_parquet_file_is_refused(content: bytes, refused: Callable[..., str]) -> None:
    Path("a.parquet").write_bytes(content)
    assert "a.parquet" in refused("train", "a.parquet")


def test_a_table_without_the_target_names_its_columns(refused: Callable[..., str]) -> None:
    line = refused("train", table("a.csv"), "--target", "kinds")
    assert "a.csv has no column 'kinds'" in line
    assert "'kind'" in line or "kind" in line.split("kinds")[1]


def test_one_class_only_is_refused(refused: Callable[..., str]) -> None:
    line = refused("train", table("a.csv", kind="yes"), "--target", "kind")
    assert "a.csv" in line
    assert "only one class, 'yes'" in line


def test_a_class_with_one_sample_is_named_with_its_row(refused: Callable[..., str]) -> None:
    kinds = ["yes", "no"] * 30
    kinds[40] = "perhaps"
    line = refused("train", table("a.csv", kind=kinds), "--target", "kind")
    assert "'perhaps'" in line
    assert "a.csv:42" in line


def test_an_all_missing_column_is_told_and_left_out(say: Callable[..., Said]) -> None:
    said = say("train", table("a.csv", size=np.nan), "--target", "kind", "--dry-run")
    assert said.code == 0
    assert "column 'size' is left out: all its values are missing" in said.out


def test_a_target_that_is_missing_everywhere_is_refused(refused: Callable[..., str]) -> None:
    line = refused("train", table("a.csv", kind=np.nan), "--target", "kind")
    assert "kind" in line


def test_text_in_a_numeric_column_is_told_with_its_row(say: Callable[..., Said]) -> None:
    sizes: list[object] = [round(0.1 * k, 2) for k in range(60)]
    sizes[17] = "about three"
    said = say("train", table("a.csv", size=sizes), "--target", "kind", "--dry-run")
    assert said.code == 0
    assert "'about three' at a.csv:19" in said.out


def test_text_in_a_numeric_target_is_told_with_its_row(say: Callable[..., Said]) -> None:
    sizes: list[object] = [round(0.1 * k, 2) for k in range(60)]
    sizes[17] = "about three"
    said = say("train", table("a.csv", size=sizes), "--target", "size", "--set", "task.kind=regression", "--dry-run")
    assert said.code == 0
    assert "'about three' at a.csv:19" in said.out
    assert "left out" in said.out


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_arrays_are_refused_with_their_row(bad: float, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    x[7, 2] = bad
    with pytest.raises(DataError, match="7"):
        goodfit.train((x, np.arange(50) % 2), out="r", screen=Screen(quiet=True))
    y = np.random.default_rng(0).normal(size=50)
    y[9] = bad
    with pytest.raises(DataError, match="9"):
        goodfit.train((np.abs(np.nan_to_num(x)), y), out="r", screen=Screen(quiet=True))
    assert contents(tmp_path) == {}


def test_mixed_encodings_are_told_with_their_lines(say: Callable[..., Said]) -> None:
    lines = [f"{(k * 37) % 60},{'caf' if k % 2 else 'th'}\u00e9,{'yes' if k % 3 else 'no'}\n" for k in range(60)]
    encoded = (line.encode("latin-1" if k == 20 else "utf-8") for k, line in enumerate(lines))
    Path("a.csv").write_bytes(b"size,place,kind\n" + b"".join(encoded))
    said = say("train", "a.csv", "--target", "kind", "--dry-run")
    assert said.code == 0
    assert "a.csv:22" in said.out
    assert "mixes encodings" in said.out


def test_mixed_delimiters_are_refused_with_their_lines(refused: Callable[..., str]) -> None:
    rows = [f"{k};x;yes" if k == 30 else f"{k},x,no" for k in range(60)]
    Path("a.csv").write_text("size,letter,kind\n" + "\n".join(rows) + "\n")
    line = refused("train", "a.csv", "--target", "kind")
    assert "a.csv:32" in line
    assert "semicolon" in line


def test_classes_that_differ_in_case_only_are_refused(
    refused: Callable[..., str], image_folder: Callable[..., Path]
) -> None:
    line = refused("train", table("a.csv", kind=["Cat", "cat", "dog"] * 20), "--target", "kind")
    assert "'Cat'" in line
    assert "'cat'" in line
    pictures = image_folder(classes=2)
    try:
        shutil.copytree(pictures / "kind0", pictures / "KIND0")
    except FileExistsError:
        pytest.skip("this file system cannot hold two names that differ in case")
    assert "differ" in refused("train", pictures)


@pytest.mark.parametrize("content", [b"", b"this is no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_corrupt_pictures_are_told_and_left_out(
    content: bytes, say: Callable[..., Said], image_folder: Callable[..., Path]
) -> None:
    pictures = image_folder()
    (pictures / "kind1" / "3.png").write_bytes(content)
    said = say("train", pictures, "--dry-run")
    assert said.code == 0
    assert "kind1/3.png" in said.out


def test_a_picture_of_one_pixel_trains(say: Callable[..., Said], image_folder: Callable[..., Path]) -> None:
    pictures = image_folder()
    Image.new("RGB", (1, 1)).save(pictures / "kind1" / "3.png")
    assert say("train", pictures, "--dry-run").code == 0
    small = pictures.with_name("small")
    for kind in ("a", "b"):
        (small / kind).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (1, 1), number + 100 * (kind == "b")).save(small / kind / f"{number}.png")
    said = say("train", small, "--set", "epochs=1", "--out", "r")
    assert said.code == 0, said.err


def test_only_corrupt_pictures_are_refused(refused: Callable[..., str], image_folder: Callable[..., Path]) -> None:
    pictures = image_folder(classes=2)
    for path in pictures.rglob("*.png"):
        path.write_bytes(b"no picture")
    assert "pictures" in refused("train", pictures)


def test_what_preflight_refuses_is_told_in_one_line_and_the_next_try_takes_the_folder() -> None:
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    quiet, recipe = Screen(quiet=True), goodfit.Recipe(epochs=1)
    with pytest.raises(goodfit.GoodfitError, match=r"not trained: targets: .* the model has 2 outputs") as caught:
        goodfit.train((x, np.arange(60) % 3), model=nn.Linear(4, 2), recipe=recipe, out="r", screen=quiet)
    assert "\n" not in str(caught.value)
    run = goodfit.train((x, np.arange(60) % 3), model=nn.Linear(4, 3), recipe=recipe, out="r", screen=quiet)
    assert run.status == "finished"


class Neighbours(nn.Module):
    """Means to compare the samples of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x) + x.mean(0).sum()


def test_a_pre_flight_error_that_is_meant_so_can_be_ignored_by_name() -> None:
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    data, quiet = (x, np.arange(60) % 3), Screen(quiet=True)
    with pytest.raises(goodfit.GoodfitError, match=r"--set ignore=batch-leak"):
        goodfit.train(data, model=Neighbours(), recipe=goodfit.Recipe(epochs=1), out="r", screen=quiet)
    recipe = goodfit.Recipe().patched(parse_set("ignore=batch-leak") | {"epochs": 1})
    run = goodfit.train(data, model=Neighbours(), recipe=recipe, out="r", screen=quiet)
    assert run.status == "finished"
    assert "batch-leak" in (run.folder / "findings.json").read_text()


def test_an_ignored_rule_must_exist(refused: Callable[..., str]) -> None:
    assert "did you mean 'batch-leak'" in refused("train", "iris", "--set", "ignore=batch-lek")


def test_a_run_folder_named_like_its_data_does_not_hide_the_data(say: Callable[..., Said]) -> None:
    goodfit.train("iris", recipe=goodfit.Recipe(epochs=1), out="iris", screen=Screen(quiet=True))
    assert goodfit.read("iris", DataSettings(), seed=0).name == "iris"
    assert say("test", "iris").code == 0


# What a bad place to write gets.


def test_an_unwritable_output_folder_is_refused_before_training(refused: Callable[..., str]) -> None:
    Path("file").write_text("mine")
    line = refused("train", "iris", *QUICK, "--quiet", "--out", "file/run")
    assert "file/run cannot be written" in line
    assert "--out" in line


def test_an_output_that_is_a_file_is_refused_and_stays(refused: Callable[..., str]) -> None:
    Path("file").write_text("mine")
    assert "file" in refused("train", "iris", *QUICK, "--quiet", "--out", "file")


def test_a_finished_run_is_not_written_over(refused: Callable[..., str], copy_of_tiny: Path) -> None:
    line = refused("train", "iris", *QUICK, "--quiet", "--out", copy_of_tiny)
    assert "nothing is written over" in line


def test_a_disk_that_fills_up_is_one_line_and_what_was_written_stays_whole(
    say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store._write_synced

    def full(path: Path, content: bytes) -> None:
        if path.name == "model.safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(store, "_write_synced", full)
    said = say("train", "iris", *QUICK, "--quiet", "--out", "r")
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert "No space left on device" in said.err
    assert "free space" in said.err
    assert not Path("r/model").exists()
    assert not Path("r/lock.json").exists()
    assert [p for p in Path("r").rglob("*") if ".staging-" in p.name] == []
    monkeypatch.setattr(store, "_write_synced", write)
    # With room again the same command goes on and finishes.
    assert say("train", "iris", *QUICK, "--quiet", "--out", "r").code == 0


@pytest.mark.parametrize("name", ["plan.json", "data.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe\x00", b'{"choices": 3}'])
def test_a_damaged_run_folder_is_refused(
    name: str, content: bytes, refused: Callable[..., str], copy_of_tiny: Path
) -> None:
    (copy_of_tiny / name).write_bytes(content)
    line = refused("predict", copy_of_tiny, "x.csv")
    assert str(copy_of_tiny) in line
    assert "damaged" in line


def test_damaged_weights_are_refused(refused: Callable[..., str], copy_of_tiny: Path) -> None:
    pd.DataFrame(np.ones((3, 4)), columns=pd.Index(columns_of(copy_of_tiny))).to_csv("new.csv", index=False)
    path = copy_of_tiny / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    line = refused("predict", copy_of_tiny, "new.csv")
    assert "model.safetensors is damaged" in line


def test_new_data_without_a_column_is_refused(refused: Callable[..., str], tiny: Path) -> None:
    pd.DataFrame({"x": [1.0]}).to_csv("new.csv", index=False)
    line = refused("predict", tiny, "new.csv")
    assert columns_of(tiny)[0] in line


def test_predictions_to_a_file_of_another_kind_are_refused(refused: Callable[..., str], tiny: Path) -> None:
    pd.DataFrame(np.ones((3, 4)), columns=pd.Index(columns_of(tiny))).to_csv("new.csv", index=False)
    assert ".csv or .parquet" in refused("predict", tiny, "new.csv", "--out", "p.xlsx")


# Signals, in real processes.


COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'goodfit'; from goodfit.cli import main; main()"]
LONG = ["train", "iris", *QUICK[2:], "--set", "epochs=100000 steps", "--out", "r"]


def start(*words: str) -> subprocess.Popen[str]:
    """A process of its own that has begun to train."""
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Training"):
            break
    return process


def test_sigterm_saves_the_run_and_prints_the_command_that_goes_on() -> None:
    process = start(*LONG)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in err
    assert Run("r").status == "interrupted"
    assert not Path("r/lock.json").exists()
    assert shlex.split(err.strip().splitlines()[-1]) == ["goodfit", *LONG]


def test_ctrl_c_prints_a_command_that_resumes_and_finishes(say: Callable[..., Said]) -> None:
    words = ["train", "iris", *QUICK[2:], "--set", "epochs=900 steps", "--set", "stopping.name=none"]
    process = start(*words)
    assert process.stdout is not None
    next(line for line in process.stdout if line.lstrip().startswith("step"))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    printed = shlex.split(err.strip().splitlines()[-1])
    assert printed == ["goodfit", *words, "--out", "runs/iris-1"]
    step = store.newest(Path("runs/iris-1/checkpoints"))[0]  # type: ignore[index]
    assert 0 < step < 900
    said = say(*printed[1:])
    assert said.code == 0
    assert f"at step {step:,}" in said.out
    assert Run("runs/iris-1").status == "finished"
    assert Run("runs/iris-1").metrics[-1]["step"] == 900


def test_a_second_ctrl_c_leaves_at_once() -> None:
    process = start(*LONG, "--set", "nonfinite=skip")
    os.kill(process.pid, signal.SIGSTOP)
    # Both wait while it sleeps; awake again it takes them one after the other.
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode in (130, 143)
    assert json.loads(Path("r/status.json").read_text())["status"] == "running"
