"""The tests' own strength: without any one sync, hash check or piece of restored state, one of them fails."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.torture import tell
from bench.torture.disks import Careless, Step
from bench.torture.story import Story, truth
from goodfit import store
from goodfit.errors import RunError
from tests.reliability.test_crash_points import crash_states, recorded
from tests.reliability.test_damage import flip

SYNCS: dict[str, Callable[[Step], bool]] = {
    "of a checkpoint's file": lambda s: s.what == "sync" and s.path.name == "model.safetensors" and _staged(s),
    "of a checkpoint's manifest": lambda s: s.what == "sync" and s.path.name == store.MANIFEST and _staged(s),
    "of the staged folder": lambda s: s.what == "sync folder" and ".staging-" in s.path.name,
    "of the folder a checkpoint was renamed in": lambda s: s.what == "sync folder" and s.path.name == "checkpoints",
    "of a single file": lambda s: s.what == "sync" and not _staged(s),
    "of the run folder": lambda s: s.what == "sync folder" and s.path.name == "run",
    "of the folder above a new one": lambda s: s.what == "sync folder" and s.path.name == "disk",
}


def _staged(step: Step) -> bool:
    return ".staging-" in step.path.parent.name


@pytest.mark.parametrize("which", SYNCS)
def test_without_a_sync_some_crash_loses_something(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = recorded(tmp_path / "disk" / "run", monkeypatch)
    assert any(SYNCS[which](step) for step in disk.log)
    monkeypatch.setattr(store, "disk", Careless())
    found: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", store.DamageWarning)
        for part in range(12):  # in parts, to stop at the first that fails
            place = tmp_path / f"part{part}"
            place.mkdir()
            found = crash_states(
                disk, tmp_path / "disk" / "run", place, 60, without=SYNCS[which], first=60 * part, most=1
            )
            if found:
                break
    assert found != []
    tell("strength: syncs", 1, noticed=1)


CHECKS: dict[str, tuple[str, Any]] = {
    "the hashes of a checkpoint": ("_entry", lambda content: {"size": 0, "sha256": ""}),
    "the hashes of a run's files": ("sha256", lambda content: "same"),
    "the seals": ("_sealed", None),
    "the checksums of lines": ("line_of", None),
}


@pytest.mark.parametrize("which", CHECKS)
def test_without_a_hash_check_some_flipped_bit_goes_unnoticed(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, replacement = CHECKS[which]
    if name == "_sealed":  # a seal that is written and never looked at

        def opened(path: Path) -> dict[str, Any]:
            try:
                return {k: v for k, v in json.loads(path.read_bytes()).items() if k != "seal"}
            except (ValueError, AttributeError) as error:
                raise RunError(str(error)) from error

        monkeypatch.setattr(store, "_opened", opened)
    elif name == "line_of":

        def rows(content: bytes) -> list[dict[str, Any]]:
            found = []
            for line in content.split(b"\n")[:-1]:
                try:
                    found.append({k: v for k, v in json.loads(line).items() if k != "crc"})
                except (ValueError, AttributeError):
                    break
            return found

        monkeypatch.setattr(store, "parse_lines", rows)
        monkeypatch.setattr(store, "_noted", lambda path, content: None)
    else:
        monkeypatch.setattr(store, name, replacement)
    story = Story(tmp_path / "run")
    story.begin()
    for _ in range(3):
        story.step()
    if name == "line_of":  # the checkpoint's copy tells as well: without it
        shutil.rmtree(tmp_path / "run" / "checkpoints")
    files = sorted(p for p in (tmp_path / "run").rglob("*") if p.is_file())
    chance = random.Random(3)
    unnoticed, usual = 0, store.damaged(tmp_path / "run")
    for number in range(8 * len(files)):
        path = files[number % len(files)]
        before = path.read_bytes()
        path.write_bytes(flip(before, chance))
        unnoticed += store.damaged(tmp_path / "run") == usual
        path.write_bytes(before)
    assert unnoticed > 0
    tell("strength: hash checks", 1, noticed=1)


FORGOTTEN_FILES = {
    "model.safetensors": "weights",
    "optimizer.safetensors": "optimizer",
    "average.safetensors": "average",
    "clip.safetensors": "clipping",
    "carried.safetensors": "carried",
    "buffers.safetensors": "loose",
    "best.safetensors": "best",
    "metrics.jsonl": "rows",
}
FORGOTTEN_VALUES = {
    "step": "step", "skipped": "skipped", "refused": "skipped", "history": "history", "plain": "plain",
    "recorder": "recorder", "scaler": "scaler", "overflows": "skipped", "microbatch": "microbatch",
}  # fmt: skip


@pytest.mark.parametrize("name", [*FORGOTTEN_FILES, *FORGOTTEN_VALUES])
def test_without_a_piece_of_restored_state_a_resumed_run_differs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "disk", Careless())
    known = truth(tmp_path / "truth")
    story = Story(tmp_path / "run")
    story.begin()
    first: dict[str, Any] = {}
    real = store.newest
    story.step()
    first.update(real(tmp_path / "run" / "checkpoints")[1])  # type: ignore[index]
    for _ in range(3):
        story.step()

    def stale(folder: Path) -> Any:
        """The newest checkpoint with one piece as it was after the first step."""
        found = real(folder)
        assert found is not None
        step, files, notes = found
        if name in FORGOTTEN_FILES:
            files[name] = first[name]
        else:
            values, old = json.loads(files["state.json"]), json.loads(first["state.json"])
            values[name] = old[name]
            files["state.json"] = json.dumps(values).encode()
        return step, files, notes

    again = Story(tmp_path / "run")
    again.saver.restore(again.state)
    assert again.held() == known[4]
    monkeypatch.setattr(store, "newest", stale)
    again = Story(tmp_path / "run")
    again.saver.restore(again.state)
    differ = {key for key, value in again.held().items() if value != known[4][key]}
    assert (FORGOTTEN_FILES | FORGOTTEN_VALUES)[name] in differ
    tell("strength: restored state", 1, noticed=1)


def test_every_piece_of_a_checkpoint_is_taken_away_in_its_turn(tmp_path: Path) -> None:
    story = Story(tmp_path / "run")
    story.begin()
    story.step()
    files = store.newest(tmp_path / "run" / "checkpoints")[1]  # type: ignore[index]
    assert files.keys() - {"state.json"} == FORGOTTEN_FILES.keys()
    about_itself = {"circumstances", "resumes", "optimizer"}  # the optimizer's tree names the tensors in its file
    assert json.loads(files["state.json"]).keys() - about_itself == FORGOTTEN_VALUES.keys()
