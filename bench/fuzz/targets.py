"""What is fuzzed: each target takes bytes and raises nothing but an error of ours, whatever they are."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from goodfit import store
from goodfit.data import delimited
from goodfit.distributed import World
from goodfit.errors import GoodfitError
from goodfit.findings import of_run
from goodfit.interrupt import Signals
from goodfit.job import Job, Lean, choose_folder, plan_for, read_data
from goodfit.recipe import Recipe, parse_set
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.visible import guarded, message, visible

FILES = ("plan.json", "data.json", "recipe.toml", "results.json", "findings.json", "metrics.jsonl", "status.json")
INSIDE = ("model/MANIFEST.json", "model/model.safetensors", "model/architecture.json")


def recipe(raw: bytes) -> None:
    """The parser of recipes, and of ``--set``; what it takes is written and read again."""
    text = raw.decode("utf-8", "replace")
    try:
        made = Recipe.parse(text)
    except GoodfitError:
        pass
    else:
        assert Recipe.parse(made.to_toml()) == made
    try:
        Recipe().patched(parse_set(text))
    except GoodfitError:
        return


def table(raw: bytes) -> None:
    """Encoding, delimiter, header and rows of a delimited file."""
    try:
        found = delimited.parse(raw, "t.csv")
    except GoodfitError:
        return
    assert len(found.frame)
    assert found.frame.columns.is_unique
    found.lines([0, len(found.frame) - 1])


def name(raw: bytes) -> None:
    """What stands between a name and a terminal, a page or a spreadsheet."""
    text = raw.decode("utf-8", "surrogateescape")
    shown = visible(text, keep="")
    assert visible(shown, keep="") == shown
    assert "\x1b" not in message(text)
    cell = guarded(text)
    assert isinstance(cell, str)
    assert not cell.strip() or cell.lstrip()[0] not in "=+-@"


def run(raw: bytes) -> None:
    """One file of a run folder (the first byte says which) is replaced; the run is opened, shown and used."""
    if not raw:
        return
    files = (*FILES, *INSIDE)
    with tempfile.TemporaryDirectory() as folder:
        stranger = Path(folder) / "run"
        shutil.copytree(small_run(), stranger)
        path = stranger / files[raw[0] % len(files)]
        if path.parent.name == "model" and path.name != store.MANIFEST:
            store.write_folder(path.parent, {**store.read_folder(path.parent), path.name: raw[1:]})
        else:
            path.write_bytes(raw[1:])
        for use in (_open, of_run, lambda one: Run(one).report()):
            try:
                use(stranger)
            except GoodfitError:
                continue


def _open(folder: Path) -> None:
    opened = Run(folder)
    _ = opened.status, opened.metrics, opened.results, opened.recipe, opened.openings
    opened.predict(torch.zeros(2, 3).numpy())


TARGETS: dict[str, Callable[[bytes], None]] = {"recipe": recipe, "table": table, "name": name, "run": run}


@cache
def small_run() -> Path:
    """A finished run without a manifest, as a stranger may make one; it is made once."""
    folder = Path(tempfile.mkdtemp(prefix="goodfit-fuzz-")) / "run"
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    inputs = torch.arange(180, dtype=torch.float32).reshape(60, 3).sin().numpy()
    made = Recipe(epochs=1, model={"name": "mlp", "width": 4}, numerics={"precision": "fp32"})
    screen, device = Screen.silent(), torch.device("cpu")
    data = read_data((inputs, (inputs[:, 0] > 0).astype("int64")), made, screen)
    plan = plan_for(made, data, device)
    choose_folder(folder, data, plan)
    lean = Lean(data.valid, preflight=False, calibrate=True)
    Job(folder, data, plan, made, screen, device, None, Signals(), "", World(), lean=lean).run(False)
    shutil.rmtree(folder / store.KEPT)
    (folder / store.MANIFEST).unlink()
    return folder
