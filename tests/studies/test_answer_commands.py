"""``goodfit lr``, ``curve`` and ``train --folds`` as typed: what they print and write, and one line for mistakes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from goodfit import cli

LEAN = ["--with", "epochs=1", "--with", "model.name=linear"]


def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["goodfit", *words])
    monkeypatch.setenv("COLUMNS", "80")
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_lr_draws_suggests_and_writes_a_page(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = typed(monkeypatch, capsys, "lr", "iris", "--points", "30", "--repeats", "2", *LEAN[2:])
    assert code == 0
    assert "goodfit train iris --set model.name=linear --set optimizer.lr=" in out
    assert max(map(len, out.splitlines())) <= 80
    (made,) = here.glob("runs/*/lr.json")
    assert f"optimizer.lr={json.loads(made.read_text())['patch']['optimizer.lr']:g}" in out
    assert made.with_name("lr.html").exists()


def test_folds_write_one_table_and_open_no_test_part(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = typed(
        monkeypatch, capsys, "train", "iris", "--folds", "3", *[w.replace("--with", "--set") for w in LEAN]
    )
    assert code == 0
    assert "out of fold" in out
    assert "standard deviation" in out
    assert len(list(here.glob("runs/*/out_of_fold.parquet"))) == 1
    assert not list(here.rglob("test.json"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "iris", "--folds", "1"), "2 or more"),
        (("train", "iris", "--folds", "3", "--groups", "nowhere"), "nowhere"),
        (("curve", "iris", "--shares", "a,b"), "numbers between 0 and 1"),
        (("curve", "iris", "--shares", "1,0.5"), "needs 3"),
        (("lr", "iris", "--low", "1", "--high", "0.1"), "small rate"),
        (("lr", "irsi"), "iris"),
    ],
)
def test_a_mistake_is_one_clear_line(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = typed(monkeypatch, capsys, *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
