"""A flipped bit or a cut file anywhere in a run folder is noticed before use; good copies are used where they are."""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.torture import count, little, tell
from bench.torture.story import Story, truth
from goodfit import store
from goodfit.errors import RunError
from goodfit.run import Run
from tests.reliability.conftest import Whole


def flip(content: bytes, chance: random.Random) -> bytes:
    """The same with one bit the other way round."""
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def cut(content: bytes, chance: random.Random) -> bytes:
    """The beginning of it."""
    return content[: chance.randrange(len(content))]


def uses(folder: Path) -> dict[str, Callable[[], Any]]:
    """Every way in which what lies in a finished run folder is used again."""
    return {
        "plan": lambda: Run(folder).plan.to_json(),
        "status": lambda: Run(folder).status,
        "openings": lambda: Run(folder).openings,
        "results": lambda: Run(folder).results,
        "metrics": lambda: Run(folder).metrics,
        "weights": lambda: store.weights_digest(Run(folder).model().state_dict()),
        "recipe": lambda: Run(folder).recipe.flat(),
        "findings": lambda: store.read_json(folder / "findings.json"),
        "checkpoint": lambda: found[1] if (found := Run(folder)._newest()) else None,
    }


HARMS = {"bit flips": flip, "truncations": cut}


@pytest.mark.parametrize("harm", HARMS)
def test_damage_in_a_finished_run_is_noticed_and_never_used(whole: Whole, tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole.folder, folder)
    store.write_sealed(folder / "test.json", {"openings": 3})
    right = {name: use() for name, use in uses(folder).items()}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    assert store.damaged(folder) == []
    chance = random.Random(8)
    tries = count(harm) * 3 // 4
    fell_back = refused = 0
    for number in range(tries):
        path = files[number % len(files)]
        before = path.read_bytes()
        path.write_bytes(HARMS[harm](before, chance))
        where = f"{path.relative_to(folder)}, try {number}"
        assert store.damaged(folder) != [], where
        # What reads this file, and one of all others in turn, so that every use meets every damage.
        for name, use in list(uses(folder).items()) if number < 2 * len(files) else list(uses(folder).items())[:5]:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                try:
                    got = use()
                except RunError as error:
                    refused += 1
                    assert str(folder) in str(error), where
                    continue
            fell_back += bool(heard)
            prefix = name == "metrics" and heard and got == right[name][: len(got)]
            gone = name == "checkpoint" and got is None
            assert got == right[name] or prefix or gone, (name, where)
        path.write_bytes(before)
    assert store.damaged(folder) == []
    assert fell_back > 0
    tell(harm, tries, where="a finished run", fell_back=fell_back, refused=refused)


@pytest.mark.parametrize("harm", HARMS)
def test_damage_in_an_interrupted_run_costs_one_checkpoint_at_most(tmp_path: Path, harm: str) -> None:
    known = truth(tmp_path / "truth")
    story = Story(tmp_path / "run")
    story.begin()
    for _ in range(4):
        assert story.step()
    chance = random.Random(9)
    files = sorted(p.relative_to(tmp_path / "run") for p in (tmp_path / "run").rglob("*") if p.is_file())
    tries = count(harm) // 4
    back = 0
    for number in range(tries):
        name = files[number % len(files)]
        folder = tmp_path / "copy"
        shutil.copytree(tmp_path / "run", folder)
        (folder / name).write_bytes(HARMS[harm]((folder / name).read_bytes(), chance))
        assert store.damaged(folder) != [], name
        again = Story(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", store.DamageWarning)
            assert store.read_json(folder / "plan.json") == {"seed": 0}
            assert store.read_sealed(folder / "status.json") == {"status": "running"}
        notes = again.saver.restore(again.state)
        step = again.state.step
        damaged = "000004" in str(name)
        assert step == (3 if damaged else 4), name
        assert any("damaged and set aside as 000004.damaged" in note for note in notes) == damaged, name
        assert again.held() == known[step], name
        back += damaged
        shutil.rmtree(folder)
    tell(harm, tries, where="an interrupted run", fell_back=back)


def test_the_same_command_mends_a_finished_run_that_was_damaged(whole: Whole, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole.folder, folder)
    path = folder / "results.json"
    path.write_bytes(flip(path.read_bytes(), random.Random(1)))
    with pytest.raises(RunError, match=r"results\.json is damaged"):
        _ = Run(folder).results
    little.train(folder)
    assert store.damaged(folder) == []
    assert little.outcome(folder) == whole.outcome
