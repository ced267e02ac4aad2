"""Starts little runs of two processes under torchrun's own agent, without importing everything anew.

`python -m bench.torture.pair` imports what a run needs and starts no thread; each run is an agent forked from that
state, as `torchrun --nproc-per-node 2` makes it, whose two workers are forked in turn. Reads ``{"folder", "fault"}`` a
line, answers with the agent's exit status, 71 where a process outlived it. What all of them say goes to ``FOLDER.log``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch._dynamo  # an optimizer imports it at its first step
from rich.console import Console
from torch import Tensor, nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from goodfit import job, record
from goodfit.errors import GoodfitError
from goodfit.recipe import Recipe
from goodfit.report import charts
from goodfit.screen import Screen

ROOT = Path(__file__).parents[2]
STEPS = 24
RECIPE = {
    "optimizer.name": "adamw", "schedule.name": "constant", "average.name": "ema", "average.decay": 0.9,
    "stopping.name": "none", "batch_size": 16, "epochs": 4, "numerics.precision": "fp32", "numerics.compile": False,
    "numerics.memory_format": "contiguous",
}  # fmt: skip


class Pair:
    """The other end: run two processes to their end."""

    def __init__(self) -> None:
        own = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.torture.pair"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **own}, cwd=ROOT,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def __call__(self, folder: Path, *, kind: str = "", rank: int = 0, step: int = -1) -> tuple[int, float]:
        """Train, or go on, in a folder, with a fault at a step of a rank; exit status, seconds since the fault."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"folder": str(folder), "fault": [kind, rank, step]}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        mark = Path(f"{folder}.fault")
        since = time.time() - mark.stat().st_mtime if mark.exists() else 0.0
        mark.unlink(missing_ok=True)
        return status, since

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


class Faulty(nn.Module):
    """A head whose forward pass does what a fault asks for, at one step of training in one rank."""

    def __init__(self, folder: str, kind: str, rank: int, step: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        self.asked = folder, kind, rank, step

    def forward(self, inputs: Tensor) -> Tensor:
        """``(batch, 4)`` to ``(batch, 3)``."""
        logits = torch.as_tensor(self.layers(inputs))
        folder, kind, rank, step = self.asked
        if not (self.training and kind and rank == int(os.environ["RANK"]) and self.now() == step):
            return logits
        Path(f"{folder}.fault").touch()
        if kind == "raise":
            raise RuntimeError("a wire came loose")
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        while kind == "hang":
            time.sleep(0.1)
        if kind == "slow":
            time.sleep(4)
        if kind in ("term one", "term all"):
            os.kill(os.getpid() if kind == "term one" else os.getppid(), signal.SIGTERM)
            time.sleep(0.5)
        return logits * (torch.nan if kind == "nan" else 1)

    def now(self) -> int:
        """The step that the loop is at; -1 outside of it."""
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            if frame.f_code.co_name == "fit" and "state" in frame.f_locals:
                return int(frame.f_locals["state"].step)
        return -1


def rows(count: int = 120) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Four columns and three classes."""
    random = np.random.default_rng(1)
    targets = np.arange(count) % 3
    return (random.normal(size=(count, 4)) + targets[:, None]).astype(np.float32), targets


def work(folder: str, fault: list[Any]) -> None:
    """What each of the two processes does; ends it with the status that the command line would give."""
    record.SAVE_EVERY, record.SHARE = 0.0, float("inf")
    charts._svg = lambda *figure, **how: "<svg/>"  # drawing takes longer than the whole run
    code = 0
    try:
        model = Faulty(folder, *fault)
        screen = Screen(Console(width=400))
        job.train(rows(), out=folder, recipe=Recipe().patched(RECIPE), model=model, screen=screen, device="cpu")
    except GoodfitError as error:
        code = int(getattr(error, "code", 2))
        if not getattr(error, "told", False):
            print(f"goodfit: {error}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if code:
        os._exit(code)


def _agent(asked: dict[str, Any]) -> int:
    log = os.open(f"{asked['folder']}.log", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.setsid()
    config = LaunchConfig(
        1, 1, 2, run_id=f"pair{os.getpid()}", rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork",
        max_restarts=0, local_addr="localhost",
    )  # fmt: skip
    elastic_launch(config, work)(asked["folder"], asked["fault"])
    return 0


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = _agent(asked)
            except BaseException as error:  # what the agent says of failed workers is long, and said by them
                print(f"{type(error).__name__}: {str(error)[:300]}", file=sys.stderr, flush=True)
                code = 1
            finally:
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(status if _gone(pid) else 71, flush=True)


def _gone(group: int) -> bool:
    """Whether nothing of a group of processes outlives its agent; what does is killed."""
    end = time.monotonic() + 3
    try:
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.02)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return True
    return False


if __name__ == "__main__":
    main()
