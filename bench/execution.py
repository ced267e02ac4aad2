"""What number format, memory layout and the memory allocator are worth in training a small residual net on a CPU.

Whether freed memory is kept is a setting of a whole process, so processes with and without it take turns; in each one
the four ways to compute take turns in random order.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bench import record
from goodfit.machine import keep_freed_memory
from goodfit.models import build
from goodfit.techniques.numerics import autocast
from goodfit.types import InputSpec

WAYS = (("fp32", False), ("fp32", True), ("bf16", False), ("bf16", True))
"""Precision, and whether channels are last in memory; the first is PyTorch's default."""
DEPTH, WIDTH, BATCH, SIDE, CLASSES = 8, 32, 128, 32, 10
CPU = torch.device("cpu")


def name(precision: str, channels_last: bool) -> str:
    return f"{precision} {'channels-last' if channels_last else 'NCHW'}"


def measure(*, rounds: int, steps: int, seed: int) -> dict[str, list[float]]:
    """Images per second of each way in this process, one number a round."""
    ways = {name(*way): _step(*way, seed=seed) for way in WAYS}
    for step in ways.values():
        step()
        step()
    found: dict[str, list[float]] = {key: [] for key in ways}
    coin = random.Random(seed)
    for _ in range(rounds):
        for key in coin.sample(sorted(ways), len(ways)):
            began = time.perf_counter()
            for _ in range(steps):
                ways[key]()
            found[key].append(steps * BATCH / (time.perf_counter() - began))
    return found


def _step(precision: str, channels_last: bool, *, seed: int) -> Any:
    """A function that makes one training step: forward, cross-entropy, backward, SGD with momentum."""
    torch.manual_seed(seed)
    net = build("resnet", {"depth": DEPTH, "width": WIDTH}, InputSpec("image", shape=(3, SIDE, SIDE)), CLASSES)
    images, labels = torch.randn(BATCH, 3, SIDE, SIDE), torch.randint(0, CLASSES, (BATCH,))
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
    net.train()

    def step() -> None:
        with autocast("bf16" if precision == "bf16" else "fp32", CPU):
            logits = net(images)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def parameters() -> int:
    made: nn.Module = build(
        "resnet", {"depth": DEPTH, "width": WIDTH}, InputSpec("image", shape=(3, SIDE, SIDE)), CLASSES
    )
    return sum(p.numel() for p in made.parameters())


def in_turns(*, processes: int, rounds: int, steps: int, seed: int, threads: int | None) -> list[dict[str, Any]]:
    """Rows ``{way, kept, rates}``; processes with and without kept memory take turns."""
    found: dict[tuple[str, bool], list[float]] = {}
    for turn in range(processes):
        for kept in (False, True) if turn % 2 == 0 else (True, False):
            command = [sys.executable, "-m", "bench.execution", "--child", "kept" if kept else "plain"]
            command += ["--rounds", str(rounds), "--steps", str(steps), "--seed", str(seed + turn)]
            command += ["--threads", str(threads)] if threads else []
            root = Path(__file__).resolve().parents[1]
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
            for way, rates in json.loads(done.stdout.splitlines()[-1]).items():
                found.setdefault((way, kept), []).extend(rates)
    return [{"way": way, "kept": kept, "rates": rates} for (way, kept), rates in found.items()]


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median, quartiles and the ratio to PyTorch's default."""
    plain = next(r for r in rows if r["way"] == name(*WAYS[0]) and not r["kept"])
    base = statistics.median(plain["rates"])
    made = []
    for row in sorted(rows, key=lambda row: (row["kept"], [name(*way) for way in WAYS].index(row["way"]))):
        low, middle, high = statistics.quantiles(row["rates"], n=4)
        made.append({k: row[k] for k in ("way", "kept")} | {"low": low, "median": middle, "high": high})
        made[-1] |= {"times": middle / base, "measurements": len(row["rates"])}
    return made


def describe(rows: Sequence[dict[str, Any]]) -> str:
    """The part of RESULTS.md."""
    one = rows[0]
    lines = [
        (
            row["way"],
            "kept" if row["kept"] else "given back (default)",
            f"{row['median']:,.0f}",
            f"{row['low']:,.0f} to {row['high']:,.0f}",
            f"{row['times']:.2f}",
        )
        for row in rows
    ]
    busy = "" if one["others"] is None else f" Other programs took {100 * one['others']:.0f} % of the CPU meanwhile."
    return f"""## Execution choices

`python -m bench.execution`: training steps (forward, backward, SGD) of a ResNet-{DEPTH} of width {WIDTH}
({one["parameters"]:,} parameters) on {SIDE}x{SIDE} images, batch {BATCH}, seeds {one["seed"]} and following. Images per
second, medians and quartiles of {one["measurements"]} measurements each, in {one["processes"]} processes that keep
freed memory and as many that do not, which took turns.{busy}

{record.table(("way", "freed memory", "images/s", "quartiles", "times the default"), lines)}

Hardware: {record.hardware(one["environment"])}."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput by number format, memory layout and allocator.")
    parser.add_argument("--processes", type=int, default=3, help="with kept memory, and as many without")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each way in each process")
    parser.add_argument("--steps", type=int, default=4, help="training steps of one measurement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="as many as PyTorch takes unless given")
    parser.add_argument("--quick", action="store_true", help="one process each, nothing written")
    parser.add_argument("--child", choices=("kept", "plain"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    if asked.child:
        if asked.child == "kept":
            keep_freed_memory()
        print(json.dumps(measure(rounds=asked.rounds, steps=asked.steps, seed=asked.seed)))
        return
    processes, rounds, steps = (1, 3, 1) if asked.quick else (asked.processes, asked.rounds, asked.steps)
    with record.shared_cpu() as others:
        found = in_turns(processes=processes, rounds=rounds, steps=steps, seed=asked.seed, threads=asked.threads)
    common = {
        "processes": processes,
        "seed": asked.seed,
        "parameters": parameters(),
        "others": others[0] if others else None,
        "environment": record.this_machine(),
    }
    rows = [row | common for row in summarise(found)]
    print(describe(rows))
    if not asked.quick:
        record.keep_rows("execution", rows, same=("way", "kept"))
        record.write_part("execution", describe(rows), order=record.ORDER)


if __name__ == "__main__":
    main()
