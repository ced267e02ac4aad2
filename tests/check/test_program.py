"""`goodfit check` on programs as users have them: every way to start, to end and to misbehave; CI, JSON and page."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from goodfit import children, cli, store
from goodfit.errors import GoodfitError
from goodfit.program import check_program
from goodfit.types import Finding

HEAD = """
import sys, torch, torch.nn.functional as F
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
x, y = torch.randn(16, 4), torch.randint(0, 3, (16,))
def step(clear=True):
    if clear:
        optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss
"""
GOOD = HEAD + "for _ in range(6): step()\n"
BAD = HEAD + "for _ in range(6): step(clear=False)\n"
LINE = 12
"""Of ``optimizer.step()``."""


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Writes ``train.py`` and runs ``goodfit check`` on these words, or on the program alone."""

    def run(source: str | None, *words: object) -> Said:
        if source is not None:
            Path("train.py").write_text(source)
        monkeypatch.setattr(sys, "argv", ["goodfit", "check", *map(str, words or ("train.py",))])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return Said(int(stop.value.code or 0), out, err)

    return run


@pytest.fixture(autouse=True)
def modules_kept() -> Iterator[None]:
    """What programs import is forgotten for the next test."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("pack", "beside"):
            del sys.modules[name]


def test_a_fault_is_told_with_its_line_and_a_healthy_program_is_left_alone(check: Callable[..., Said]) -> None:
    said = check(BAD)
    assert said.code == 0
    assert f"error stale-gradient train.py:{LINE}: " in said.out
    assert "1 finding, 1 certain in 6 steps\n" in said.out
    assert "goodfit explain stale-gradient" in said.out
    said = check(GOOD)
    assert said.code == 0
    assert "nothing wrong was found in 6 steps\n" in said.out


@pytest.mark.parametrize(("grave", "code"), [("error", 1), ("warning", 1), ("advice", 1)])
def test_fail_on_is_for_continuous_integration(check: Callable[..., Said], grave: str, code: int) -> None:
    assert check(BAD, "--fail-on", grave, "train.py").code == code
    assert check(None, "train.py", f"--fail-on={grave}", "--ignore", "stale-gradient").code == 0


SHOWS = "import sys\nprint('given', sys.argv[1:])\n"


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["train.py", "--epochs", "3", "-m", "0.9", "--lr=-1", "-x"], ["--epochs", "3", "-m", "0.9", "--lr=-1", "-x"]),
        (["--steps", "3", "train.py", "--epochs", "2", "--steps", "5"], ["--epochs", "2"]),
        (["train.py", "--epochs", "2", "--fail-on", "error", "file.txt", ""], ["--epochs", "2", "file.txt", ""]),
        (["train.py", "--", "--steps", "5", "-m", "--json"], ["--steps", "5", "-m", "--json"]),
        (["-m", "train", "--steps", "2", "-m", "7"], ["-m", "7"]),
        (["--steps=2", "-m", "train", "a", "--", "--steps=1"], ["a", "--steps=1"]),
    ],
)
def test_our_options_are_taken_and_all_others_are_the_programs(
    check: Callable[..., Said], words: list[str], given: list[str]
) -> None:
    assert f"given {given}\n" in check(SHOWS, *words).out


def test_steps_end_it_even_where_everything_is_caught(check: Callable[..., Said]) -> None:
    forever = HEAD + "while True:\n    try: step()\n    except Exception: pass\n"
    said = check(forever, "train.py", "--steps", "4")
    assert said.code == 0
    assert "nothing wrong was found in 4 steps; stopped there\n" in said.out


def test_json_alone_is_on_stdout(check: Callable[..., Said]) -> None:
    said = check("print('noise')\n" + BAD + "float('nan')\n", "train.py", "--json", "--fail-on", "error")
    told = json.loads(said.out)
    assert said.code == 1
    assert told["findings"][0]["rule"] == "stale-gradient"
    assert (told["findings"][0]["where"], told["steps"], told["ended"]) == (f"train.py:{LINE + 1}", 6, "done")
    assert "noise" in said.err


def test_the_page_is_self_contained_and_everything_in_it_is_escaped(check: Callable[..., Said]) -> None:
    name = "a<b>&'\".py"
    Path(name).write_text(BAD + "import os; os.makedirs('elsewhere'); os.chdir('elsewhere')\n")
    said = check(None, name, "--report", "pages/page.html")
    page = Path("pages/page.html").read_text()
    assert "pages/page.html" in said.out.replace("\n", "")
    assert "<b>&'" not in page
    assert "a&lt;b&gt;&amp;&#39;&#34;.py" in page
    assert "stale-gradient" in page
    assert "default-src 'none'" in html.unescape(page)
    assert not re.search(r"<script|https?://|<link|src=|url\(|javascript:", page)
    check(GOOD, "train.py", "--report", "page.html", "--json")
    assert "No rule found a fault" in Path("page.html").read_text()


def test_a_page_that_cannot_be_written_is_refused_before_anything_runs(check: Callable[..., Said]) -> None:
    Path("file").write_text("")
    said = check("print('ran')", "train.py", "--report", "file/page.html")
    assert said.code == 2
    assert "ran" not in said.out
    assert "--report" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.py"], "nothing.py does not exist"),
        (["-m", "nothing.at.all"], "there is no module nothing.at.all that can be run"),
        (["-m", "pack"], "there is no module pack that can be run"),
        (["train.py", "--ignore", "stale-gradent"], "did you mean 'stale-gradient'?"),
        (["train.py", "--fail-on", "all"], "give error, warning or advice"),
        (["train.py", "--steps", "0"], "--steps"),
        ([], "say what to check"),
        (["book.ipynb"], "%%goodfit"),
        (["nothing-here"], "nothing-here"),
    ],
)
def test_a_mistake_is_one_clear_line(check: Callable[..., Said], words: list[str], message: str) -> None:
    Path("pack").mkdir()
    Path("pack/__init__.py").write_text("")
    Path("train.py").write_text(GOOD)
    Path("book.ipynb").write_text("{}")
    said = check(None, *words) if words else check(None, "--json")
    assert said.code == 2
    assert said.err.startswith("goodfit: ")
    assert message in said.err
    assert "Traceback" not in said.err


def test_a_program_that_fails_shows_its_own_traceback_and_what_was_found(check: Callable[..., Said]) -> None:
    said = check(BAD + "def deep(): raise KeyError('mine')\ndeep()\n")
    assert said.code == 1
    assert "stale-gradient" in said.out
    assert "6 steps; then the program failed" in said.out
    assert said.err.startswith("Traceback (most recent call last):\n  File ")
    assert said.err.rstrip().endswith("KeyError: 'mine'")
    assert "runpy" not in said.err
    assert "goodfit/program" not in said.err


def test_a_program_that_python_cannot_read(check: Callable[..., Said]) -> None:
    said = check("x = (\n")
    assert said.code == 1
    assert "SyntaxError" in said.err
    assert "goodfit/program" not in said.err
    assert "saw no optimizer step" in said.out
    Path("train.py").write_bytes(b"\xff\xfe\x00")
    assert "SyntaxError" in check(None).err


@pytest.mark.parametrize(
    ("leave", "code", "err"),
    [("sys.exit()", 0, ""), ("sys.exit(7)", 7, ""), ("sys.exit('why')", 1, "why\n"), ("raise SystemExit(3)", 3, "")],
)
def test_sys_exit_keeps_its_status(check: Callable[..., Said], leave: str, code: int, err: str) -> None:
    said = check(BAD + leave + "\n")
    assert (said.code, said.err) == (code, err)
    assert "1 finding" in said.out


def test_a_program_that_never_trains(check: Callable[..., Said]) -> None:
    said = check("import torch\ntorch.nn.Linear(2, 2)(torch.ones(1, 2))\n")
    assert said.code == 0
    assert "saw no optimizer step" in said.out
    assert "nothing wrong" not in said.out
    assert "not checked" not in said.out


def test_main_guard_argparse_and_a_module_beside_it(check: Callable[..., Said]) -> None:
    Path("work").mkdir()
    Path("work/beside.py").write_text("EPOCHS = 4\n")
    Path("work/train.py").write_text(
        HEAD
        + "import argparse, beside\n"
        + "def main():\n    p = argparse.ArgumentParser()\n"
        + "    p.add_argument('--epochs', type=int, default=beside.EPOCHS)\n"
        + "    for _ in range(p.parse_args().epochs): step(False)\n"
        + "if __name__ == '__main__': main()\n"
    )
    before = list(sys.path), sys.argv, os.getcwd()
    assert "in 3 steps" in check(None, "work/train.py", "--epochs", "3").out
    assert "in 4 steps" in check(None, "work/train.py").out
    said = check(None, "work/train.py", "--epoch", "many")
    assert said.code == 2
    assert "usage: train.py" in said.err
    assert before[0] == sys.path
    assert before[2] == os.getcwd()


def test_a_package_is_run_as_a_module_and_a_file_of_it_is_told_how(check: Callable[..., Said]) -> None:
    Path("pack").mkdir()
    Path("pack/__init__.py").write_text("")
    Path("pack/sizes.py").write_text("STEPS = 5\n")
    Path("pack/train.py").write_text(HEAD + "from .sizes import STEPS\nfor _ in range(STEPS): step(False)\n")
    Path("pack/__main__.py").write_text("from . import train\n")
    said = check(None, "-m", "pack.train")
    assert f"stale-gradient pack/train.py:{LINE}: " in said.out
    assert "in 5 steps" in said.out
    assert "in 5 steps" in check(None, "-m", "pack").out
    said = check(None, "pack/train.py")
    assert said.code == 1
    assert "attempted relative import" in said.err
    assert "check -m pack.train" in said.err
    Path("pack/broken.py").write_text("import nothing_of_that_name\n")
    said = check(None, "-m", "pack.broken")
    assert said.code == 1
    assert "No module named 'nothing_of_that_name'" in said.err


def test_it_reads_stdin_prints_binary_and_moves_elsewhere() -> None:
    Path("away").mkdir()
    Path("train.py").write_text(
        BAD + "import os\nos.chdir('away')\nsys.stdout.write(sys.stdin.readline())\nsys.stdout.flush()\n"
        "sys.stdout.buffer.write(bytes(range(256)))\nsys.stdout.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "goodfit", "check", "train.py"], input=b"a line\n", capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"stale-gradient" in done.stdout
    assert b"a line\n" in done.stdout
    assert bytes(range(256)) in done.stdout


def test_ctrl_c_keeps_what_was_found() -> None:
    Path("train.py").write_text(BAD + "import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    with subprocess.Popen(
        [sys.executable, "-m", "goodfit", "check", "train.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        before = ""
        while "ready" not in before:
            before += process.stdout.readline()
            assert process.poll() is None
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stale-gradient" in before + out
    assert "in 6 steps; interrupted" in out
    assert "Traceback" not in err


def test_a_run_folder_shows_what_it_has_noted(check: Callable[..., Said], tmp_path: Path) -> None:
    run = tmp_path / "run"
    one = {"rule": "batch-leak", "severity": "error", "message": "it leaks", "where": "model", "evidence": {"by": 0.5}}
    store.write_json(run / "plan.json", {})
    store.write_json(run / "results.json", {"steps": 12})
    store.write_json(run / "findings.json", [one])
    store.write_json(run / "preflight.json", [{"name": "causal-leak", "outcome": "not checked", "text": "no tokens"}])
    said = check(None, run)
    assert said.code == 0
    assert "error batch-leak model: it leaks" in said.out
    assert "not checked  causal-leak: no tokens" in said.out
    assert check(None, run, "--fail-on", "error").code == 1
    assert json.loads(check(None, "--json", run).out)["findings"][0]["message"] == "it leaks"
    assert check(None, run, "--fail-on", "error", "--ignore", "batch-leak").code == 0
    store.write_json(run / "findings.json", [{"nothing": 1}])
    assert "is damaged" in check(None, run).err


def test_a_data_set_is_audited(check: Callable[..., Said]) -> None:
    rows = "".join(f"{k % 7},{k % 3},{'same'},{'ab'[k % 2]}\n" for k in range(60))
    Path("rows.csv").write_text("one,two,three,kind\n" + rows)
    said = check(None, "rows.csv", "--target", "kind")
    assert said.code == 0
    assert "three" in said.out
    told = json.loads(check(None, "rows.csv", "--json", "--target=kind").out)
    assert any("three" in one["where"] for one in told["findings"])
    assert check(None, "rows.csv", "--target", "nowhere").code == 2
    assert "only --target" in check(None, "rows.csv", "--epochs", "3").err


def test_from_python() -> None:
    Path("train.py").write_text(BAD)
    heard: list[Finding] = []
    checked = check_program("train.py", steps=4, say=heard.append)
    assert [one.rule for one in checked.findings] == ["stale-gradient"] == [one.rule for one in heard]
    assert (checked.steps, checked.ended, checked.code) == (4, "stopped", 0)
    with pytest.raises(GoodfitError, match="at least 1"):
        check_program("train.py", steps=0)


CHILDREN = (
    HEAD
    + """
import multiprocessing, os, subprocess
from torch.utils.data import DataLoader
class Sees:
    def __len__(self): return 4
    def __getitem__(self, k): return torch.tensor([float(hasattr(F.cross_entropy, "__wrapped__"))])
def work():
    for _ in range(int(sys.argv[1])): step(clear=False)
    bare = torch.cat(list(DataLoader(Sees(), num_workers=1, multiprocessing_context="fork")))
    print("slowed:", bool(bare.any()), flush=True)
if __name__ == "__main__":
    print("watched:", hasattr(F.cross_entropy, "__wrapped__"), flush=True)
    if "RANK" in os.environ:
        work()
    elif sys.argv[2] == "fork":
        one = multiprocessing.get_context("fork").Process(target=work)
        one.start()
        one.join()
        print("status", one.exitcode)
    else:
        env = {**os.environ, "RANK": "3"}
        print("status", subprocess.run([sys.executable, __file__, sys.argv[1]], env=env, stdout=1, stderr=2).returncode)
"""
)


def fresh(*arguments: str) -> tuple[dict[str, Any], str]:
    """What ``goodfit check --json`` tells of the program in a process of its own: a fork of this one, whose OpenMP
    threads have already worked, would wait for ever for threads that it does not have."""
    command = [sys.executable, "-m", "goodfit", "check", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("kind", ["fork", "new"])
def test_processes_that_it_starts_are_watched_and_workers_are_not(kind: str) -> None:
    Path("train.py").write_text(CHILDREN)
    told, printed = fresh("train.py", "6", kind)
    assert "status 0" in printed
    assert [one["rule"] for one in told["findings"]] == ["stale-gradient"]
    assert told["findings"][0]["where"] == f"train.py:{LINE}"
    told_by = told["findings"][0]["evidence"]["in"]
    assert told_by == "rank 3" if kind == "new" else told_by.startswith("process ")
    assert (told["steps"], told["ended"]) == (6, "done")
    assert "slowed: False" in printed


def test_what_children_need_is_taken_away_again() -> None:
    Path("train.py").write_text(BAD)
    before = os.environ.get("PYTHONPATH"), os.environ.get("GOODFIT_CHECK")
    check_program("train.py", steps=4)
    assert before == (os.environ.get("PYTHONPATH"), os.environ.get("GOODFIT_CHECK"))


def test_the_steps_asked_for_end_a_child_as_a_success() -> None:
    Path("train.py").write_text(CHILDREN)
    told, printed = fresh("--steps", "4", "train.py", "60", "fork")
    assert (told["steps"], told["ended"]) == (4, "stopped")
    assert "status 0" in printed


def test_a_child_that_said_nothing_is_named_as_not_checked(tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "told.json").write_text("{")
    told = {"name": "rank 1", "findings": [], "not_checked": [], "steps": 9, "stopped": False, "ended": False}
    store.write_json(tmp_path / "30" / "told.json", told)
    others = children.collected(tmp_path)
    assert [why for _, why in others.not_checked] == [
        "process 7 built an optimizer, but could not be watched",
        "process 12 built an optimizer, but could not be watched",
        "rank 1 ended without a last word, after step 9",
    ]
    assert (others.steps, others.findings) == (9, ())


def test_one_finding_of_several_ranks_is_one(tmp_path: Path) -> None:
    one = {"rule": "stale-gradient", "severity": "error", "message": "m", "where": "train.py:7", "folded": ["a: b"]}
    for rank in (0, 1):
        told = {"name": f"rank {rank}", "findings": [one], "not_checked": [["a", "b"]], "steps": 5 + rank}
        store.write_json(tmp_path / str(rank) / "told.json", told | {"stopped": rank == 1, "ended": True})
    others = children.collected(tmp_path)
    assert [(f.where, f.evidence["in"], f.folded) for f in others.findings] == [
        ("train.py:7", "rank 0, rank 1", ("a: b",))
    ]
    assert (others.not_checked, others.steps, others.stopped) == ((("a", "b"),), 6, True)


@pytest.mark.parametrize("own", [True, False])
def test_a_users_own_sitecustomize_still_runs_and_nothing_heavy_is_imported(own: bool, tmp_path: Path) -> None:
    paths = [str(children.SITE)]
    if own:
        (tmp_path / "sitecustomize.py").write_text("import sys\nsys.own = True\n")
        paths.append(str(tmp_path))
    asked = json.dumps({"folder": str(tmp_path), "package": str(tmp_path), "steps": None, "ignore": []})
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; print(hasattr(sys, 'own'), 'torch' in sys.modules, 'goodfit' in sys.modules)",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), children.VARIABLE: asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{own} False False\n", "")
