"""Coverage of the intervals and false alarms under peeking, over simulated studies with known effects."""

from __future__ import annotations

import numpy as np

from bench.studies.simulate import KINDS, corrected, draw
from goodfit.studies.statistics import ADVERSE, FIRST_LOOK, LAST_LOOK, bound, paired


def covered(kind: str, method: str, *, pairs: int, studies: int, effect: float = 0.0, seed: int = 1) -> float:
    """The share of studies of a fixed number of pairs whose 95 % interval holds the true effect."""
    inside = 0
    for row in draw(kind, studies, pairs, seed=seed) + effect:
        found = paired(row, method=method)
        inside += found.low <= effect <= found.high
    return inside / studies


def stopped(kind: str, *, effect: float, most: int, studies: int, seed: int = 2) -> dict[str, float]:
    """Studies that look after each pair and stop where the always-valid interval leaves 0, or at the most pairs.

    Returns the shares called ``helps`` and ``hurts``, the mean number of ``pairs``, and how often the interval where
    they stopped held the truth (``held``).
    """
    d = draw(kind, studies, most, seed=seed) + effect
    t, size = corrected(d, adverse=ADVERSE)
    called = size > bound(0.05)
    called[:, : FIRST_LOOK - 1] = False
    stop = np.where(called.any(1), called.argmax(1), most - 1)
    here = np.arange(studies)
    _, distance = corrected(d - effect, adverse=ADVERSE)
    sign = np.where(called.any(1), np.sign(t[here, stop]), 0)
    return {
        "helps": float((sign > 0).mean()),
        "hurts": float((sign < 0).mean()),
        "pairs": float((stop + 1).mean()),
        "held": float((distance[here, stop] <= bound(0.05)).mean()),
    }


def main(studies: int = 2000) -> None:
    """Print both tables as Markdown."""
    print(f"Coverage of 95 % intervals, fixed number of pairs, {studies:,} studies each\n")
    print("| differences | method | " + " | ".join(f"{n} pairs" for n in (3, 5, 10, 20, 50)) + " |")
    print("|---|---|" + "---:|" * 5)
    for kind in KINDS:
        for method in ("t", "studentised", "bca"):
            row = [100 * covered(kind, method, pairs=n, studies=studies) for n in (3, 5, 10, 20, 50)]
            print(f"| {kind} | {method} | " + " | ".join(f"{one:.1f} %" for one in row) + " |")
    print(f"\nStudies that look after every pair and stop where it is clear, {studies:,} each\n")
    print("| differences | most pairs | effect (sd) | false or true helps | hurts | pairs | interval held the truth |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kind in KINDS:
        for most in (10, 20, LAST_LOOK):
            for effect in (0.0, 0.5, 1.0, 2.0):
                one = stopped(kind, effect=effect, most=most, studies=studies)
                shares = " | ".join(f"{100 * one[k]:.1f} %" for k in ("helps", "hurts"))
                print(f"| {kind} | {most} | {effect} | {shares} | {one['pairs']:.1f} | {100 * one['held']:.1f} % |")
