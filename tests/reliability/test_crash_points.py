"""After every prefix of a run's file operations, with all that was not synced torn, lost or reordered, it goes on."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.torture import count, tell
from bench.torture.disks import Careless, Crashed, Recording, Step
from bench.torture.story import LOSSES, truth, wrong
from bench.torture.story import tell as run_story
from goodfit import store


def recorded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Every file operation of a whole run, and what was finished when."""
    disk = Recording()
    folder.parent.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(store, "disk", disk)
        run_story(folder, disk.mark)
    return disk


def crash_states(
    disk: Recording,
    folder: Path,
    place: Path,
    tries: int,
    *,
    without: Callable[[Step], bool] = lambda step: False,
    first: int = 0,
    most: int = 10,
) -> list[str]:
    """What is wrong after each of so many crashes: at every prefix, with all done or some of it lost."""
    known = truth(place / "truth")
    found = []
    for number in range(first, first + tries):
        stop = number * 7919 % (len(disk.log) + 1)  # a prime: all prefixes in turn, spread over the run from the start
        done = [mark for place, mark in disk.marks if place <= stop]
        crashed = Crashed(folder.parent)
        crashed.play(disk.log[:stop], without=without)
        left = place / f"crash{number}"
        crashed.leave(left, random.Random(number) if number % 4 else None)
        problem = wrong(
            left / folder.name,
            begun="begun" in done,
            saved=max((m[1] for m in done if m[0] == "saved"), default=0),
            tried=max((m[1] for m in done if m[0] == "trying"), default=0),
            finished="finished" in done,
            known=known,
        )
        if problem:
            found.append(f"crash {number} before {disk.log[stop] if stop < len(disk.log) else 'nothing'}: {problem}")
        if len(found) == most:
            break
    return found


def test_no_crash_loses_more_than_an_interval_or_shows_a_wrong_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = recorded(tmp_path / "disk" / "run", monkeypatch)
    assert disk.marks[-1][1] == "finished"
    assert sum(mark[0] == "saved" for _, mark in disk.marks if isinstance(mark, tuple)) == len(LOSSES)
    tries = count("crash points")
    monkeypatch.setattr(store, "disk", Careless())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", store.DamageWarning)
        assert crash_states(disk, tmp_path / "disk" / "run", tmp_path, tries) == []
    tell("crash points", tries, operations=len(disk.log))
