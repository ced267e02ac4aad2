"""What each technique costs in a training step on the CPU, beside the same thing from torch, torchvision or timm.

Three kinds of training give the measure: a small residual net on images, a transformer on text, an MLP on numbers.
What changes a batch is timed by itself, and its time set against the step; what works inside the step (losses,
optimizers, clipping, averages ...) is timed as the difference of two steps that take turns, with it and without.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.utils import ModelEmaV3, adaptive_clip_grad
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss
from torchvision.transforms import v2

import goodfit
from bench import record
from goodfit.data.data import Data
from goodfit.distributed import World
from goodfit.errors import GoodfitError, MissingExtra
from goodfit.interrupt import Signals
from goodfit.job import Job, plan_for
from goodfit.loop import Slots, State, train_step
from goodfit.machine import keep_freed_memory
from goodfit.plan import Plan
from goodfit.recipe import DataSettings, Recipe
from goodfit.screen import Screen
from goodfit.techniques import TABLE
from goodfit.techniques.batch import active
from goodfit.types import Batch, Moment

BATCH, CLASSES, ROWS = 256, 10, 2048
AT_MOST = 5.0
"""Per cent of the small residual net's step that a batch technique may cost."""
TIMES_FASTER = 5.0
"""How many times faster than torchvision, image by image, flip, crop and mixup together must be."""

INSIDE = ("loss", "penalty", "gradient", "clip", "optimizer", "schedule", "average", "sampling")
"""Slots that work inside the step, in the order of the table."""
NEEDS = {
    "loss.distill": "its price is the teacher's forward pass",
    "optimizer.schedule_free": "",
    "schedule.plateau": "",
}


@dataclasses.dataclass(frozen=True)
class Ground:
    """One kind of training to measure on."""

    name: str
    source: Callable[[], Any]
    recipe: Mapping[str, Any]


def _images() -> Any:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (ROWS, 3, 32, 32), dtype=np.uint8)
    return images, np.arange(ROWS) % CLASSES


def _texts() -> Any:
    import pandas as pd  # the benchmark's other parts do without

    draw = np.random.default_rng(0)
    words = np.array([f"word{k}" for k in range(2000)])
    texts = [" ".join(row) for row in draw.choice(words, (ROWS, 32))]
    return pd.DataFrame({"text": texts, "label": [f"class {k % 4}" for k in range(ROWS)]})


def _numbers() -> Any:
    draw = np.random.default_rng(0)
    return draw.normal(size=(ROWS, 32)).astype(np.float32), np.arange(ROWS) % CLASSES


GROUNDS = (
    Ground("resnet", _images, {"model.name": "resnet", "model.depth": 8, "model.width": 32}),
    Ground("transformer", _texts, {"model.name": "transformer", "model.depth": 4, "model.width": 128}),
    Ground("mlp", _numbers, {"model.name": "mlp", "model.depth": 3, "model.width": 256}),
)


@dataclasses.dataclass
class Bench:
    """A ground with its data, ready to make jobs."""

    ground: Ground
    folder: Path
    precision: str

    def __post_init__(self) -> None:
        self.data: Data = goodfit.read(self.ground.source(), DataSettings(), seed=0)
        positions = torch.arange(len(self.data.train))[:BATCH]
        self.batch: Batch = self.data.train.take(positions)
        self.moment = Moment(0, 0, 5, 1000, len(self.data.train) // BATCH, self.classes)

    @property
    def classes(self) -> int:
        """How many classes the targets name."""
        return len(self.data.task.classes)

    def steps(self, patch: Mapping[str, Any]) -> Callable[[], Tensor]:
        """A function that makes one training step of a plain recipe with this change."""
        state, slots = self.assemble(patch)
        state.model.train()

        def step() -> Tensor:
            return train_step(state, slots, self.batch, self.moment)

        return step

    def assemble(self, patch: Mapping[str, Any]) -> tuple[State, Slots]:
        """State and slots of a plain recipe with this change."""
        recipe = Recipe().patched(
            {
                **self.ground.recipe,
                "batch_size": BATCH,
                "epochs": "100 epochs",
                **{f"batch.{name}": False for name in TABLE["batch"]},
                "loss.name": "cross_entropy",
                "optimizer.name": "sgd",
                "optimizer.lr": 1e-3,
                "schedule.name": "constant",
                "average.name": "none",
                "clip.norm": "none",
                "numerics.precision": self.precision,
                "numerics.memory_format": "channels_last" if self.ground.name == "resnet" else "contiguous",
                "numerics.compile": False,
                **patch,
            }
        )
        device = torch.device("cpu")
        plan: Plan = plan_for(recipe, self.data, device)
        job = Job(self.folder, self.data, plan, recipe, Screen(quiet=True), device, None, Signals(), "", World())
        torch.manual_seed(0)
        return job.assemble(job.make_model())


def in_turns(ways: Mapping[str, Callable[[], Any]], *, rounds: int, seed: int = 0) -> dict[str, list[float]]:
    """Milliseconds of each function, called in random order round after round after two calls that warm up."""
    for call in ways.values():
        call()
        call()
    found: dict[str, list[float]] = {name: [] for name in ways}
    coin = random.Random(seed)
    for _ in range(rounds):
        for name in coin.sample(sorted(ways), len(ways)):
            began = time.perf_counter()
            ways[name]()
            found[name].append(1000 * (time.perf_counter() - began))
    return found


def changing_batches(bench: Bench, *, rounds: int) -> list[dict[str, Any]]:
    """Every batch technique that works on this ground: its time, the step's, and a peer's."""
    step_ms = statistics.median(in_turns({"step": bench.steps({})}, rounds=max(5, rounds // 2))["step"])
    peers = _batch_peers(bench.batch, bench.classes) if bench.ground.name == "resnet" else {}
    rows = []
    for name in TABLE["batch"]:
        try:
            _, slots = bench.assemble({f"batch.{name}": True})
        except (GoodfitError, MissingExtra):
            continue  # made for other inputs
        (change,) = slots.batch
        moment = next(m for m in _moments(bench.moment) if active(change, m))
        ways: dict[str, Callable[[], Any]] = {"ours": lambda change=change, m=moment: change(bench.batch, m)}
        peer = peers.get(name)
        if peer:
            ways["peer"] = peer[1]
        taken = {k: statistics.median(v) for k, v in in_turns(ways, rounds=rounds).items()}
        rows.append(_row(bench, f"batch.{name}", taken["ours"], step_ms, peer and peer[0], taken.get("peer")))
    return rows


def inside_steps(bench: Bench, *, rounds: int, only: str) -> list[dict[str, Any]]:
    """Every technique that works inside a step: the difference of two steps that take turns."""
    peers = _step_peers(bench) if bench.ground.name == "resnet" else {}
    rows = []
    for key, patch in _patches(only):
        try:
            with_it = bench.steps(patch)
        except (GoodfitError, MissingExtra):
            continue  # made for other tasks, or an optional package is missing
        taken = in_turns({"plain": bench.steps({}), "with": with_it}, rounds=rounds)
        more = [b - a for a, b in zip(taken["plain"], taken["with"], strict=True)]
        low, _, high = statistics.quantiles(more, n=4)
        peer = peers.get(key)
        beside = statistics.median(in_turns({"peer": peer[1]}, rounds=rounds)["peer"]) if peer else None
        step_ms = statistics.median(taken["plain"])
        row = _row(bench, key, statistics.median(more), step_ms, peer and peer[0], beside)
        rows.append(row | {"low": low, "high": high})
    return rows


def together(bench: Bench, *, rounds: int) -> dict[str, Any]:
    """Flip, crop and mixup: whole batches against torchvision's transforms, image by image."""
    _, slots = bench.assemble({"batch.flip": True, "batch.crop": True, "batch.mixup": True})

    def ours() -> Batch:
        batch = bench.batch
        for change in slots.batch:
            batch = change(batch, bench.moment)
        return batch

    one = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(32, padding=4, padding_mode="reflect")])
    mix = v2.MixUp(num_classes=bench.classes)
    images = bench.batch.inputs
    assert isinstance(images, Tensor)

    def theirs() -> Any:
        return mix(torch.stack([one(image) for image in images]).float(), bench.batch.targets)

    taken = in_turns({"ours": ours, "theirs": theirs}, rounds=rounds)
    ratios = [b / a for a, b in zip(taken["ours"], taken["theirs"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {k: statistics.median(v) for k, v in taken.items()} | {"times": middle, "low": low, "high": high}


def _patches(only: str) -> list[tuple[str, dict[str, Any]]]:
    """``(key, change of the plain recipe)`` for every technique inside the step."""
    special: dict[str, dict[str, Any]] = {
        "penalty.l2": {"penalty.l2": 1e-4},
        "penalty.l1": {"penalty.l1": 1e-4},
        "clip.norm": {"clip.norm": 1.0},
        "clip.value": {"clip.value": 1.0},
        "clip.adaptive": {"clip.adaptive": 0.01},
        "clip.auto": {"clip.auto": 90},
        "loss.label_smoothing": {"loss.label_smoothing": 0.1},
        "gradient.accumulate": {"gradient.name": "accumulate", "gradient.microbatch": BATCH // 2},
    }
    made = list(special.items())
    for slot in ("loss", "gradient", "optimizer", "schedule", "average"):
        for name in TABLE[slot]:
            key = f"{slot}.{name}"
            if key not in special and name not in ("plain", "constant", "none", "cross_entropy", "sgd", "distill"):
                made.append((key, {f"{slot}.name": name}))
    return [(key, patch) for key, patch in made if only in key]


def _moments(moment: Moment) -> Sequence[Moment]:
    return [dataclasses.replace(moment, step=step) for step in (5, 300, 600, 900)]


def _row(bench: Bench, key: str, own: float, step: float, peer: str | None, beside: float | None) -> dict[str, Any]:
    return {
        "ground": bench.ground.name,
        "key": key,
        "ms": own,
        "step_ms": step,
        "share": 100 * own / step,
        "peer": peer or "",
        "peer_ms": beside,
    }


def _batch_peers(batch: Batch, classes: int) -> dict[str, tuple[str, Callable[[], Any]]]:
    """The same from torchvision: image by image, as its transforms are used in a Dataset; mixing by batch."""
    images = batch.inputs
    assert isinstance(images, Tensor)

    def each(transform: Any) -> Callable[[], Any]:
        return lambda: torch.stack([transform(image) for image in images])

    def mixed(transform: Any) -> Callable[[], Any]:
        return lambda: transform(images.float(), batch.targets)

    one_by_one = {
        "flip": v2.RandomHorizontalFlip(),
        "random_resized_crop": v2.RandomResizedCrop(32),
        "rotation": v2.RandomRotation(15),
        "crop": v2.RandomCrop(32, padding=4, padding_mode="reflect"),
        "auto_augment": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
        "rand_augment": v2.RandAugment(),
        "trivial_augment": v2.TrivialAugmentWide(),
        "colour_jitter": v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
        "erasing": v2.RandomErasing(),
    }
    whole = {"mixup": v2.MixUp(num_classes=classes), "cutmix": v2.CutMix(num_classes=classes)}
    return {name: ("torchvision, image by image", each(t)) for name, t in one_by_one.items()} | {
        name: ("torchvision, whole batch", mixed(t)) for name, t in whole.items()
    }


def _step_peers(bench: Bench) -> dict[str, tuple[str, Callable[[], Any]]]:
    """The same from torch or timm, on the gradients, weights and logits of this net."""
    state, _ = bench.assemble({})
    for parameter in state.parameters:
        parameter.grad = torch.randn_like(parameter)
    ema = ModelEmaV3(state.model, decay=0.99)
    logits, targets = torch.randn(BATCH, bench.classes, requires_grad=True), bench.batch.targets
    hot = nn.functional.one_hot(targets, bench.classes).float()

    def focal() -> None:
        sigmoid_focal_loss(logits, hot, reduction="mean").backward()

    def smoothed() -> None:
        nn.functional.cross_entropy(logits, targets, label_smoothing=0.1).backward()  # type: ignore[no-untyped-call]

    return {
        "clip.norm": ("torch", lambda: nn.utils.clip_grad_norm_(state.parameters, 1.0)),
        "clip.value": ("torch", lambda: nn.utils.clip_grad_value_(state.parameters, 1.0)),
        "clip.adaptive": ("timm", lambda: adaptive_clip_grad(state.parameters, 0.01)),
        "average.ema": ("timm ModelEmaV3", lambda: ema.update(state.model)),
        "loss.focal": ("torchvision, whole", focal),
        "loss.label_smoothing": ("torch, whole", smoothed),
    }


def describe(rows: Sequence[dict[str, Any]], pair: Mapping[str, float], environment: Mapping[str, Any]) -> str:
    """The part of RESULTS.md."""
    steps = {row["ground"]: row["step_ms"] for row in rows}
    shown = [
        (
            row["key"],
            row["ground"],
            f"{row['ms']:+.2f}" if "low" in row else f"{row['ms']:.2f}",
            f"{row['low']:+.2f} to {row['high']:+.2f}" if "low" in row else "",
            f"{row['share']:+.1f} %" if "low" in row else f"{row['share']:.1f} %",
            _verdict(row),
            "-" if row["peer_ms"] is None else f"{row['peer_ms']:.2f} ({row['peer']})",
        )
        for row in rows
    ]
    header = ("technique", "on", "ms a step", "quartiles", "of the step", f"at most {AT_MOST:g} %", "peer, ms")
    met = "met" if pair["times"] >= TIMES_FASTER else "NOT MET"
    return f"""## What techniques cost

`python -m bench.techniques`: batch {BATCH}; a residual net of depth 8 and width 32 on 3x32x32 images in channels-last
bf16 (median step {steps.get("resnet", 0):.0f} ms), a transformer of 4 layers and width 128 on 32 words
({steps.get("transformer", 0):.0f} ms), an MLP of 3 x 256 ({steps.get("mlp", 0):.1f} ms). Batch techniques are timed by
themselves; the others as differences of steps in turns (medians with quartiles), so differences below the quartiles'
width are noise. A peer marked "whole" does the entire thing, not the difference.

Flip, crop and mixup on a whole batch: {pair["ours"]:.2f} ms; torchvision, image by image: {pair["theirs"]:.2f} ms,
{pair["times"]:.1f} times as long (quartiles {pair["low"]:.1f} to {pair["high"]:.1f}); at least {TIMES_FASTER:g}: {met}.

{record.table(header, shown)}

Hardware: {record.hardware(environment)}."""


def _verdict(row: Mapping[str, Any]) -> str:
    if not str(row["key"]).startswith("batch.") or row["ground"] != "resnet":
        return ""
    return "met" if row["share"] <= AT_MOST else "NOT MET"


def main() -> None:
    parser = argparse.ArgumentParser(description="What each technique costs in a training step.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", default="", help="keys that contain this")
    parser.add_argument("--grounds", nargs="+", default=[one.name for one in GROUNDS])
    parser.add_argument("--quick", action="store_true", help="few rounds, nothing written")
    asked = parser.parse_args()
    if asked.quick:
        asked.rounds = min(asked.rounds, 5)
    keep_freed_memory()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    rows: list[dict[str, Any]] = []
    pair: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for ground in GROUNDS:
            if ground.name not in asked.grounds:
                continue
            bench = Bench(ground, Path(folder), "bf16" if ground.name == "resnet" else "fp32")
            if ground.name == "resnet":
                pair = together(bench, rounds=asked.rounds)
                print(f"flip + crop + mixup: torchvision takes {pair['times']:.1f} times as long", flush=True)
            found = changing_batches(bench, rounds=asked.rounds) if asked.only in "batch." else []
            found += inside_steps(bench, rounds=asked.rounds, only=asked.only)
            for row in found:
                beside = "" if row["peer_ms"] is None else f"   {row['peer']}: {row['peer_ms']:.2f} ms"
                print(
                    f"{row['ground']:12} {row['key']:28} {row['ms']:8.2f} ms {row['share']:6.1f} %{beside}", flush=True
                )
            rows += found
    if not asked.quick and not asked.only and len(asked.grounds) == len(GROUNDS):
        record.keep_rows("techniques", rows, same=("ground", "key"))
        record.write_part("techniques", describe(rows, pair, record.this_machine()), order=record.ORDER)


if __name__ == "__main__":
    main()
