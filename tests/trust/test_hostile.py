"""Hostile files end in one line, and nothing in them is run, imported, fetched or written elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from goodfit.visible import visible
from tests.trust.cases import CASES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every case did, in a process of their own: its audit hook cannot be taken away again."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "temporary").mkdir()
    places = {"TMPDIR": str(root / "temporary"), "XDG_CACHE_HOME": str(root / "cache"), "HOME": str(root)}
    offline = {"HF_HUB_OFFLINE": "1", "COLUMNS": "400", "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(root / "cache")}
    command = [sys.executable, "-P", "-m", "tests.trust.worker", str(root), str(root / "told.json")]
    done = subprocess.run(command, env={**os.environ, **places, **offline}, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((root / "told.json").read_bytes())
    return found


def test_there_are_at_least_150_cases_of_different_names() -> None:
    assert len({one.name for one in CASES}) == len(CASES) >= 150


@pytest.mark.parametrize("case", CASES, ids=lambda one: one.name)
def test_a_hostile_file_ends_as_expected_and_nothing_of_it_is_run(case: Any, told: dict[str, Any]) -> None:
    found = told[case.name]
    said = found["out"] + found["err"]
    assert found["seen"] == []
    assert found["code"] == case.code, said
    assert case.says in said
    assert "Traceback" not in said
    if case.code == 2:
        assert found["err"].startswith("goodfit: ")
    assert said == visible(said), "control characters must not reach the terminal"
    assert found["seconds"] < 20


def test_pages_hold_names_as_text_alone(told: dict[str, Any]) -> None:
    pages = {name: one["page"] for name, one in told.items() if one["page"]}
    assert len(pages) >= 10
    for name, page in pages.items():
        body = page.split("</style>", 1)[1]
        assert not re.search(r"<(script|img|style|link|iframe|svg)\b", body.replace('<img src="data:', "")), name
        assert not re.search(r"<[^>]*\son\w+\s*=", body), name
        assert visible(page) == page, name
