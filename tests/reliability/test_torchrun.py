"""Two processes under torchrun's agent, of which one fails, dies, hangs, is slow or is told to stop.

The run ends within 30 seconds and names rank and step, no process is left, and the same command goes on to the bits of
the undisturbed run.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.torture import count, little, tell
from bench.torture.pair import STEPS, Pair
from goodfit import store
from goodfit.run import Run

KINDS = ("raise", "kill", "hang", "nan", "slow", "term all", "term one", "freeze")
"""In CI's six tries there is one of each but the last two."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def expected(kind: str, rank: int, step: int) -> str:
    """What must be said."""
    return {
        "raise": f"rank {rank} failed at step {step}: RuntimeError: a wire came loose; all processes stop",
        "kill": f"rank {rank} ended without a word at step {step} (killed, or out of memory?)",
        "hang": f"rank {rank} has not answered for 15 s at step {step} (it hangs)",
        "freeze": f"rank {rank} has not answered for 15 s at step {step} (it hangs)",
        "nan": f"the loss became nan at step {step} in rank {rank} ",
        "term one": "the same command goes on from there",
        "term all": "the same command goes on from there",
        "slow": "",
    }[kind]


def test_a_fault_in_one_process_ends_both_and_the_next_start_goes_on(pair: Pair, tmp_path: Path) -> None:
    status, _ = pair(tmp_path / "whole")
    assert status == 0, (tmp_path / "whole.log").read_text()
    whole = outcome(tmp_path / "whole")
    chance, tries, slowest = random.Random(7), count("torchrun"), 0.0
    for number in range(tries):
        kind, rank, step = KINDS[number % len(KINDS)], chance.randrange(2), chance.randrange(2, STEPS - 2)
        folder = tmp_path / f"run{number}"
        status, seconds = pair(folder, kind=kind, rank=rank, step=step)
        told = Path(f"{folder}.log").read_text()
        case = f"{kind} in rank {rank} at step {step}, after {seconds:.1f} s:\n{told}"
        assert status == (0 if kind == "slow" else 1), case
        assert seconds < 30, case
        assert " ".join(told.split()).count(expected(kind, rank, step)) == 1 or kind == "slow", case
        slowest = max(slowest, 0.0 if kind == "slow" else seconds)
        if kind != "slow":
            assert Run(folder, model=object()).status == "interrupted", case  # type: ignore[arg-type]
            saved = store.steps_in(folder / "checkpoints")[0]
            assert step <= saved <= step + 1 + 4 * kind.startswith("term"), case
            status, _ = pair(folder)
            told = Path(f"{folder}.log").read_text()
            assert status == 0, case + told
            assert f"at step {saved}" in " ".join(told.split()), told
        assert outcome(folder) == whole, case
        assert little.strays(folder) == []
    tell("torchrun", tries, slowest_end=round(slowest))


def outcome(folder: Path) -> tuple[object, object]:
    """The digest of the weights, and the metrics without the clock."""
    rows = [
        {k: v for k, v in row.items() if k not in little.CLOCKS} for row in store.read_lines(folder / "metrics.jsonl")
    ]
    return store.read_json(folder / "results.json")["digest"], rows
