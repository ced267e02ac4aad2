"""The table of bounds in ``goodfit/studies/statistics.py``, by simulation."""

from __future__ import annotations

import numpy as np

from bench.studies.simulate import KINDS, corrected, draw
from goodfit.studies.statistics import ADVERSE, FIRST_LOOK, LAST_LOOK

LEVELS = (0.5, 0.2, 0.1, 0.05, 0.025, 0.0167, 0.0125, 0.01, 0.005, 0.0025, 0.001)


def table(studies: int, *, seed: int = 0) -> list[tuple[float, float]]:
    """``(error rate, bound)``: the greatest of the bounds that each kind of differences asks for."""
    # The exponential, the most skewed, is left to check: guarding five arms against it would cost twice the pairs.
    worst: dict[str, list[float]] = {kind: [] for kind in KINDS if kind != "exponential"}
    for kind in worst:
        highest = []
        for part in range(0, studies, 10_000):
            t, size = corrected(draw(kind, min(10_000, studies - part), LAST_LOOK, seed=seed + part), adverse=ADVERSE)
            # Of skewed differences only the side counts on which the rare value was missed: a false "helps".
            counted = size if kind == "normal" else np.where(t > 0, size, 0)
            highest.append(counted[:, FIRST_LOOK - 1 :].max(1))
        worst[kind] = [float(np.quantile(np.concatenate(highest), 1 - level)) for level in LEVELS]
    for kind, bounds in worst.items():
        print(kind.ljust(12), " ".join(f"{b:.3f}" for b in bounds))
    return [(level, max(bounds[k] for bounds in worst.values())) for k, level in enumerate(LEVELS)]


def main(studies: int = 200_000) -> None:
    """Print the table as it stands in the code."""
    for level, reach in table(studies):
        print(f"    ({level}, {reach:.2f}),")
