"""Many fits in one process, and many steps with loader workers: what grows that must not.

    python -m bench.soak fits 1000        python -m bench.soak lean 50        python -m bench.soak steps 100000

Prints a JSON table with what Python holds (traced by tracemalloc), what the process holds (resident), open descriptors
and threads, after a warm-up and at the end, and the growth per 100 fits or 10,000 steps.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from goodfit import Recipe, train
from goodfit.distributed import World
from goodfit.interrupt import Signals
from goodfit.job import Job, Lean, choose_folder, plan_for, read_data
from goodfit.screen import Screen

WARM = 10


def held() -> dict[str, float]:
    """What this process holds now; memory in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "traced": tracemalloc.get_traced_memory()[0] / 2**20 if tracemalloc.is_tracing() else 0.0,
        "resident": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "system_threads": len(os.listdir("/proc/self/task")),
    }


def fit(number: int, folder: Path, *, lean: bool) -> None:
    """One small run from data to report; lean: without pre-flight, baselines and report, as a study makes them."""
    random = np.random.default_rng(number)
    inputs = random.normal(size=(60, 4)).astype(np.float32)
    source = inputs, (inputs[:, 0] > 0).astype(np.int64)
    recipe = Recipe(epochs=2, seed=number, model={"name": "mlp", "width": 8}, numerics={"precision": "fp32"})
    screen, device = Screen.silent(), torch.device("cpu")
    if lean:
        data = read_data(source, recipe, screen)
        plan = plan_for(recipe, data, device)
        choose_folder(folder, data, plan)
        judge = Lean(data.valid, preflight=False, calibrate=True)
        Job(folder, data, plan, recipe, screen, device, None, Signals(), "", World(), lean=judge).run(False)
    else:
        train(source, recipe=recipe, out=folder, screen=screen)
    shutil.rmtree(folder)


def fits(count: int, *, lean: bool = False, warm: int = WARM) -> dict[str, object]:
    """``count`` runs after some to warm up."""
    with tempfile.TemporaryDirectory() as root:
        for number in range(warm):
            fit(number, Path(root) / str(number), lean=lean)
        tracemalloc.start()
        for number in range(3):
            fit(number, Path(root) / str(number), lean=lean)
        before = held()
        for number in range(count):
            fit(number, Path(root) / str(number), lean=lean)
        after = held()
    return {
        "what": "fits",
        "count": count,
        "before": before,
        "after": after,
        "growth": _growth(before, after, count / 100),
    }


def steps(count: int) -> dict[str, object]:
    """One run of ``count`` steps over a DataLoader with two workers."""
    random = np.random.default_rng(0)
    inputs = torch.from_numpy(random.normal(size=(8192, 4)).astype(np.float32))
    targets = (inputs[:, 0] > 0).long()
    loaders = [
        DataLoader(TensorDataset(inputs, targets), batch_size=32, num_workers=2, shuffle=n == 0) for n in range(2)
    ]
    seen: list[dict[str, float]] = []
    recipe = Recipe(epochs=f"{count} steps", model={"name": "mlp", "width": 8}, stopping="none")
    with tempfile.TemporaryDirectory() as root:
        train(tuple(loaders), recipe=recipe, out=Path(root) / "short", screen=Screen.silent())
        before = held()
        train(tuple(loaders), recipe=recipe, out=Path(root) / "long", screen=Screen.silent())
        seen.append(held())
    return {
        "what": "steps",
        "count": count,
        "before": before,
        "after": seen[-1],
        "growth": _growth(before, seen[-1], count / 10_000),
    }


def _growth(before: dict[str, float], after: dict[str, float], units: float) -> dict[str, float]:
    return {name: round((after[name] - before[name]) / units, 4) for name in before}


if __name__ == "__main__":
    what, many = sys.argv[1], int(sys.argv[2])
    made = steps(many) if what == "steps" else fits(many, lean=what == "lean")
    print(json.dumps(made, indent=1))
