"""What pairing saves on real runs: how many times more runs the same study would need without it."""

from __future__ import annotations

import sys

from goodfit.recipe import Recipe
from goodfit.studies import Arm, Study
from goodfit.studies.statistics import pairing_gain

ARMS = (Arm("weight_decay=0", {"optimizer.weight_decay": 0.0}), Arm("lr x 0.8", {"optimizer.lr": 0.0024}),
        Arm("label_smoothing", {"loss.label_smoothing": 0.05}), Arm("ema", {"average.name": "ema"}))  # fmt: skip


def main(seeds: int = 12, source: str = "breast-cancer") -> None:
    """Print the table as Markdown: variance ratios of the headline metric and of the log loss."""
    recipe = Recipe(model={"name": "mlp"}, epochs=10, optimizer={"name": "adamw", "lr": 3e-3})
    print(f"{source}, {seeds} pairs an arm: runs that an unpaired study needs for one of the paired\n")
    print("| arm | accuracy | log loss |\n|---|---:|---:|")
    study = Study(f"runs/pairing-{source}", source, recipe)
    names = ("accuracy", "log_loss")
    default = [study.run(Arm("default"), seed).metrics for seed in range(seeds)]
    for arm in ARMS:
        mine = [study.run(arm, seed).metrics for seed in range(seeds)]
        gains = [pairing_gain([float(d[n] or 0) for d in default], [float(m[n] or 0) for m in mine]) for n in names]
        print(f"| {arm.name} | {gains[0]:.1f} | {gains[1]:.1f} |", flush=True)
    sys.stdout.flush()
