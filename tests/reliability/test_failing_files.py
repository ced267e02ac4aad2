"""File operations that fail, once and for ever: the run goes on, what was saved stays, and the message says why."""

from __future__ import annotations

import errno
import itertools
import os
import random
from pathlib import Path

import pytest

from bench.torture import count, tell
from bench.torture.disks import Refusing
from bench.torture.story import LOSSES, Story, truth
from goodfit import store
from goodfit.errors import RunError

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)
METHODS = ("write", "sync", "rename", "make_folder", "append", "remove", "remove_folder")


def test_one_error_costs_nothing_and_lasting_ones_cost_no_more_than_what_they_are_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = truth(tmp_path / "truth")
    kinds = list(itertools.product(METHODS, ERRORS, (False, True)))
    chance = random.Random(7)
    chance.shuffle(kinds)
    tries = refused = 0
    while tries < count("failing file operations"):
        method, number, ever = kinds[tries % len(kinds)]
        folder = tmp_path / f"run{tries}"
        disk = Refusing([method], number, first=chance.randrange(12), ever=ever)
        story = Story(folder)
        story.begin()
        assert story.step()
        with monkeypatch.context() as patch:
            patch.setattr(store, "disk", disk)
            saved = [story.step() for _ in range(4)]
            try:
                story.step()
                story.finish()
                finished = True
            except RunError as error:  # the end of a run cannot be left out
                finished = False
                assert str(folder) in str(error)
                assert os.strerror(number) in str(error)
                assert ever
        tries += 1
        refused += disk.refused
        told = " ".join(story.said)
        if not ever:
            assert all(saved), (method, told)
            assert finished, (method, told)
        if not all(saved):
            assert str(folder) in told, method
            assert os.strerror(number) in told, method
        # The process dies; with a disk that works the next one goes on from what was saved last, and ends well.
        if finished and ever is False:
            assert store.damaged(folder) == [], (method, number)
            assert story.held() == known[-1]
            continue
        last = 1 + max((k for k, one in enumerate(saved, 1) if one), default=0)
        again = Story(folder)
        step = again.resume()
        assert step >= last, (method, number, ever, told)
        assert again.held() == known[step]
        while again.state.step < len(LOSSES):
            assert again.step()
        again.finish()
        assert store.damaged(folder) == []
        assert again.held() == known[-1]
    assert refused > tries // 2
    tell("failing file operations", tries, refused=refused)


def test_a_disk_without_room_is_known_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(tmp_path / "run")
    story.begin()
    assert story.step()
    disk = Refusing(["free"], errno.ENOSPC, first=0, ever=True)
    with monkeypatch.context() as patch:
        patch.setattr(store, "disk", disk)
        assert not story.step()
    assert "MiB needed" in story.said[-1]
    assert str(tmp_path / "run") in story.said[-1]
    assert store.steps_in(tmp_path / "run" / "checkpoints") == [1]
    assert story.step()


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused_at_second_zero(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o500)
    with pytest.raises(RunError, match="Permission denied"):
        store.probe(tmp_path / "mine" / "run", keep=False)


def test_a_probe_leaves_nothing_behind_that_was_not_there(tmp_path: Path) -> None:
    store.probe(tmp_path / "a" / "b", keep=False)
    assert list(tmp_path.iterdir()) == []
    store.probe(tmp_path / "a" / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert list((tmp_path / "a" / "b").iterdir()) == []
