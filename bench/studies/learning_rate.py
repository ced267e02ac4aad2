"""Is the rate that ``goodfit lr`` suggests near the best? On each data set a grid of rates is trained beside it.

    python -m bench.studies.learning_rate --data DATA --out runs/lr-bench

Rates: the planned one times 1/30 to 30, and the suggested one; ``--seeds`` runs each, shortened. Runs that lie in
``--out`` are not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from goodfit import Recipe, range_test
from goodfit.screen import Screen
from goodfit.studies import Arm, Study

FACTORS = (1 / 30, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("digits", {"epochs": 12}),
    "digits-sgd": ("digits", {"epochs": 12, "optimizer.name": "sgd"}),
    "abalone": ("{data}/tabular/abalone.csv", {"epochs": 20}),
    "wine": ("{data}/tabular/wine_quality_white.csv", {"epochs": 20}),
    "mammography": ("{data}/tabular/mammography.csv", {"epochs": 10}),
    "reviews": ("{data}/text/movie_review_sentences.csv", {"epochs": 4}),
    "temperatures": ("{data}/series/daily_min_temperatures.csv", {"epochs": 8, "data.horizon": 3}),
}


def measure(name: str, data: str, out: Path, *, seeds: int) -> dict[str, Any]:
    """The suggested rate and what it reaches, beside the planned one and the best of the grid."""
    source, settings = SOURCES[name]
    source, recipe, screen = source.format(data=data), Recipe().patched(settings), Screen.silent()
    test = range_test(source, recipe=recipe, screen=screen)
    study = Study(out / name, source, recipe, screen=screen)
    rates = {f"{factor:.2g} x planned": test.planned * factor for factor in FACTORS}
    rates |= {"suggested": test.patch["optimizer.lr"]} if test.patch else {}
    reached: dict[str, float] = {}
    for arm, rate in rates.items():
        values = [study.run(Arm(arm, {"optimizer.lr": rate}), seed).value for seed in range(seeds)]
        if known := [value for value in values if value is not None]:
            reached[arm] = mean(known)
    pick = max if study.larger_is_better else min
    grid = {arm: value for arm, value in reached.items() if arm != "suggested"}
    best = pick(grid, key=lambda arm: grid[arm])
    return {
        "data": name, "metric": study.metric, "planned": test.planned, "suggested": rates.get("suggested"),
        "at planned": reached.get("1 x planned"), "at suggested": reached.get("suggested"),
        "best": grid[best], "best at": rates[best], "sweep": round(test.seconds, 1),
    }  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    """Measure the data sets asked for, one row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SOURCES), help="data sets; all unless said")
    parser.add_argument("--data", default="data")
    parser.add_argument("--out", type=Path, default=Path("runs/lr-bench"))
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args(words)
    for name in asked.names:
        print(measure(name, asked.data, asked.out, seeds=asked.seeds), flush=True)


if __name__ == "__main__":
    main()
