"""What goodfit's loop costs: its steps against a hand-written PyTorch loop that does the same mathematics.

Both train the same small convolutional net on the same batches in one process, in blocks that take turns in random
order, so that whatever else the machine does falls on both. In the end both must hold the same weights to the last bit.

goodfit's side is `goodfit.loop.fit` as a run uses it: slots resolved from a recipe, keyed order, seeds for each step,
the check for a loss that is not finite, counted clipping, recorder and screen. The plan is so long that no
validation falls
into what is measured. The other side is what one writes by hand, and is handed its order of samples for nothing.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import goodfit
from bench import record
from goodfit.data.data import Data
from goodfit.distributed import World
from goodfit.interrupt import Signals
from goodfit.job import Job, plan_for
from goodfit.loop import Slots, State, fit
from goodfit.machine import keep_freed_memory
from goodfit.recipe import DataSettings
from goodfit.record import Recorder
from goodfit.screen import Screen
from goodfit.techniques import TABLE as TECHNIQUES
from goodfit.techniques.sampling import shuffled
from goodfit.types import Tensors

BATCH, SIDE, CLASSES = 64, 32, 10
LR, DECAY, BETAS, NORM, KEEP = 1e-3, 0.05, (0.9, 0.99), 1.0, 0.99
WIDTHS = (4, 8, 12, 16, 24, 32, 48, 64, 96)
STEP_MS = 5.0
AT_MOST = 3.0
"""Per cent by which goodfit's step may be slower."""


class Net(nn.Module):
    """Three convolutions with batch norm and a linear layer, about what a first own net looks like."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = (3, width, 2 * width, 4 * width)
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(4 * width, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, 3, height, width)``, standardised; gives logits ``(batch, classes)``."""
        logits: Tensor = self.head(self.body(inputs).mean((2, 3)))
        return logits


def by_hand(
    net: nn.Module, data: Data, orders: Sequence[Tensor], *, total: int, average: bool
) -> Iterator[dict[str, Tensor] | None]:
    """The loop as one writes it; each ``next`` trains one block and gives the averaged weights."""
    part = data.train
    assert isinstance(part, Tensors)
    assert isinstance(part.inputs, Tensor)
    images, labels = part.inputs, part.targets
    mean, std = (torch.tensor(getattr(data.encoder, name), dtype=torch.float64) for name in ("mean", "std"))
    scale, shift = (1 / std).float()[:, None, None], (-mean / std).float()[:, None, None]
    parameters = list(net.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=1e-8, fused=True)
    averaged = copy.deepcopy(net.state_dict()) if average else None
    held = [] if averaged is None else [t for t in averaged.values() if t.is_floating_point()]
    live = [t for t in net.state_dict().values() if t.is_floating_point()]
    step = 0
    net.train()
    for order in orders:
        running = torch.zeros(())
        for chosen in torch.split(order, BATCH):
            inputs = images.index_select(0, chosen).float().mul_(scale).add_(shift)
            loss = F.cross_entropy(net(inputs), labels.index_select(0, chosen))
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, NORM)
            lr = LR * 0.5 * (1 + math.cos(math.pi * (step / (total - 1))))
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if held:
                torch._foreach_lerp_(held, live, 1 - min(KEEP, (1 + step) / (10 + step)))
            running += loss.detach()
            step += 1
        yield averaged


def with_goodfit(
    net: nn.Module, data: Data, *, steps: int, epochs: int, seed: int, average: bool
) -> Iterator[dict[str, Tensor] | None]:
    """The same by `goodfit.loop.fit`; each ``next`` trains one block, which is one epoch."""
    recipe = goodfit.Recipe().patched(
        {
            "seed": seed,
            "batch_size": BATCH,
            "epochs": f"{epochs} epochs",
            "optimizer.name": "adamw",
            "optimizer.lr": LR,
            "optimizer.weight_decay": DECAY,
            "optimizer.beta1": BETAS[0],
            "optimizer.beta2": BETAS[1],
            "schedule.name": "cosine",
            "schedule.warmup": "0 steps",
            "clip.norm": NORM,
            **{f"batch.{name}": False for name in TECHNIQUES["batch"]},
            "loss.label_smoothing": 0.0,
            "average.name": "ema" if average else "none",
            "stopping.name": "none",
            "numerics.precision": "fp32",
            "numerics.memory_format": "contiguous",
            "numerics.compile": False,
            **({"average.decay": KEEP} if average else {}),
        }
    )
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        screen = Screen(quiet=True)
        plan = plan_for(recipe, data, device, net)
        job = Job(Path(folder), data, plan, recipe, screen, device, net, Signals(), "", World())
        state, slots = job.assemble(net)
        watchers = [Recorder(Path(folder) / "metrics.jsonl"), screen]
        screen.begin(plan.steps(len(data.train))[0], 0, "accuracy")
        while True:
            _fit_block(state, slots, data, plan, until=state.step + steps, watchers=watchers)
            yield {k: v for k, v in state.averager.state_dict().items() if k != "average.count"} if average else None


def _fit_block(state: State, slots: Slots, data: Data, plan: Any, *, until: int, watchers: Sequence[Any]) -> None:
    def measure(_: nn.Module) -> dict[str, float]:
        raise RuntimeError("no validation may fall into a measured block")

    ended = fit(
        state,
        slots,
        data,
        plan,
        watchers=watchers,
        measure=measure,
        save=lambda *_: None,
        metric="accuracy",
        larger_is_better=True,
        stop_requested=lambda: state.step >= until,
    )
    assert (ended, state.step) == ("interrupted", until)


def make_data(samples: int, seed: int) -> Data:
    """Random images with random labels: what is learned does not matter here."""
    draw = np.random.default_rng(seed)

    def pair(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        images = draw.integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8)
        return images, np.arange(count) % CLASSES

    source = {"train": pair(samples), "valid": pair(100), "test": pair(100)}
    return goodfit.read(source, DataSettings(), seed=seed)


def compare(*, width: int, blocks: int, steps: int, seed: int, average: bool) -> dict[str, Any]:
    """Both loops in turns; milliseconds a step, the ratio of each pair of blocks, and whether the weights are equal."""
    data = make_data(steps * BATCH, seed)
    torch.manual_seed(seed)
    ours, theirs = (net := Net(width)), copy.deepcopy(net)
    # Validations come at most every 1/40 of a run: in one that is 80 times longer none is reached.
    epochs = 80 * (blocks + 1)
    orders = [shuffled(data.train.index, seed=seed, epoch=epoch) for epoch in range(blocks + 1)]
    sides = {
        "goodfit": with_goodfit(ours, data, steps=steps, epochs=epochs, seed=seed, average=average),
        "hand": by_hand(theirs, data, orders, total=epochs * steps, average=average),
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    averaged: dict[str, dict[str, Tensor] | None] = {}
    coin = random.Random(seed)
    for block in range(blocks + 1):
        for name in coin.sample(sorted(sides), 2):
            began = time.perf_counter()
            averaged[name] = next(sides[name])
            if block:  # the first one warms up
                taken[name].append(1000 * (time.perf_counter() - began) / steps)
    ratios = [a / b for a, b in zip(taken["goodfit"], taken["hand"], strict=True)]
    low, high = interval(ratios, seed)
    left, right = averaged["goodfit"], averaged["hand"]
    equal = _equal(ours.state_dict(), theirs.state_dict())
    return {
        "threads": torch.get_num_threads(),
        "seed": seed,
        "ema": average,
        "width": width,
        "blocks": blocks,
        "steps": steps,
        "goodfit_ms": statistics.median(taken["goodfit"]),
        "hand_ms": statistics.median(taken["hand"]),
        "slower": 100 * (statistics.median(ratios) - 1),
        "low": 100 * (low - 1),
        "high": 100 * (high - 1),
        "equal": equal and (left is None or right is None or _equal(left, right)),
    }


def interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """Bootstrap interval (95 %, percentile, 10,000 draws) of the median."""
    array = np.asarray(values)
    draws = np.random.default_rng(seed).integers(0, len(array), (10_000, len(array)))
    low, high = np.quantile(np.median(array[draws], 1), (0.025, 0.975))
    return float(low), float(high)


def choose_width(goal: float = STEP_MS) -> int:
    """The width whose hand-written step comes nearest to the wanted time with the present number of threads."""
    data = make_data(8 * BATCH, 0)
    found = {}
    for width in WIDTHS:
        order = torch.arange(8 * BATCH)
        side = by_hand(Net(width), data, [order] * 5, total=1000, average=False)
        next(side)
        seconds = []
        for _ in range(4):
            began = time.perf_counter()
            next(side)
            seconds.append(time.perf_counter() - began)
        # The fastest: what else runs on the machine only ever adds.
        found[width] = 1000 * min(seconds) / 8
        if found[width] > 1.5 * goal:
            break
    return min(found, key=lambda width: abs(math.log(found[width] / goal)))


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one if one[k].is_floating_point())


def describe(rows: Sequence[dict[str, Any]]) -> str:
    """The part of RESULTS.md."""
    shown = [
        (
            str(row["threads"]),
            "on" if row["ema"] else "off",
            str(row["seed"]),
            f"{row['hand_ms']:.2f}",
            f"{row['goodfit_ms']:.2f}",
            f"{row['slower']:+.2f} %",
            f"{row['low']:+.2f} to {row['high']:+.2f} %",
            "met" if row["slower"] <= AT_MOST else "NOT MET",
            "yes" if row["equal"] else "NO",
            "-" if row["others"] is None else f"{100 * row['others']:.0f} %",
        )
        for row in sorted(rows, key=lambda row: (row["threads"], row["ema"], row["seed"]))
    ]
    header = (
        "threads",
        "EMA",
        "seed",
        "by hand, ms",
        "goodfit, ms",
        "slower",
        "95 % interval",
        f"at most {AT_MOST:g} %",
        "weights bit-equal",
        "CPU used by others",
    )
    one = rows[0]
    return f"""## The loop against a hand-written one

`python -m bench.loop`: {one["blocks"]} pairs of blocks of {one["steps"]} steps in one process, in random order;
convolutional
net on {SIDE}x{SIDE} uint8 images, batch {BATCH}, gather, standardise, cross-entropy, clipping by norm, fused AdamW,
cosine
per step, with and without EMA, fp32. Times are medians of blocks; "slower" is the median of the paired ratios, with a
bootstrap interval over pairs.

{record.table(header, shown)}

Hardware: {record.hardware(one["environment"])}."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Overhead of goodfit's training loop.")
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--steps", type=int, default=40, help="steps of one block")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--width", type=int, help="of the net; chosen for a step of 5 ms unless given")
    parser.add_argument("--quick", action="store_true", help="few blocks, one seed, nothing written")
    asked = parser.parse_args()
    if asked.quick:
        asked.blocks, asked.seeds = min(asked.blocks, 10), asked.seeds[:1]
    keep_freed_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rows = []
    for threads in asked.threads:
        if threads > cores:
            print(f"left out: {threads} threads, where {cores} cores may be used")
            continue
        torch.set_num_threads(threads)
        width = asked.width or choose_width()
        for seed in asked.seeds:
            for average in (False, True):
                with record.shared_cpu() as others:
                    row = compare(width=width, blocks=asked.blocks, steps=asked.steps, seed=seed, average=average)
                row |= {"others": others[0] if others else None, "environment": record.this_machine()}
                print(
                    f"{threads} threads, seed {seed}, ema {'on' if average else 'off'}: by hand "
                    f"{row['hand_ms']:.2f} ms, "
                    f"goodfit {row['goodfit_ms']:.2f} ms, {row['slower']:+.2f} % ({row['low']:+.2f} to "
                    f"{row['high']:+.2f}), "
                    f"weights {'equal' if row['equal'] else 'DIFFER'}",
                    flush=True,
                )
                rows.append(row)
    if rows and not asked.quick:
        kept = record.keep_rows("loop", rows, same=("threads", "seed", "ema"))
        record.write_part("loop", describe(kept), order=record.ORDER)


if __name__ == "__main__":
    main()
