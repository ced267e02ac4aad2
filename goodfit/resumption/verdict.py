"""The test itself: two uninterrupted runs, one that is killed three times and started again, and what came of it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from goodfit.errors import GoodfitError
from goodfit.resumption.compare import Piece, differing, first_step, missing, of_saves, uninteresting
from goodfit.resumption.trials import PLACE, Ran, Trial, copies

PLACES = (0.4, 0.6, 0.8)
"""Shares of a run after which it is killed."""
APART = "not deterministic in the first place: two uninterrupted runs "


@dataclass(frozen=True)
class Resumption:
    """What became of a program that was killed and started again.

    outcome: ``exact``, ``not exact``, ``not deterministic``, ``did not resume``, ``fails on resume``.
    kills, steps: how often it was killed, and steps of the uninterrupted run. began: the steps that the resumed
    processes began with. text: the verdict's line, without ``resume: ``. said: a failed program's own words.
    """

    outcome: str
    text: str
    kills: int = 0
    steps: int = 0
    began: tuple[int, ...] = ()
    pieces: tuple[Piece, ...] = ()
    said: str = ""

    def to_json(self) -> str:
        """Everything as JSON."""
        return json.dumps(asdict(self), indent=1)


def check_resume(
    words: Sequence[str],
    *,
    again: str | None = None,
    folder: Path = Path(),
    steps: int | None = None,
    shared: Sequence[Path] = (),
    without: Sequence[Path] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Resumption:
    """Do the test of exact resumption with ``python WORDS``, in copies of a folder.

    words: the program and its arguments, as Python is given them. again: those of the command that goes on, where it
    is another. folder: what is copied, and where the command runs. steps: look at so many steps of the program only.
    shared, without: what of the folder is linked, or left out. say: told what is done now.
    Raises GoodfitError where the program does not train, fails by itself, or writes outside of the copy.
    """
    onward = _onward(again) if again is not None else list(words)
    with copies(folder.resolve(), shared=shared, without=without) as fresh:
        say("running it without interruption, twice")
        base = _whole(fresh(), words, steps)
        other = _whole(fresh(), words, steps)
        if (wrong := _apart(base, other)) is not None:
            return wrong
        total = len(base.steps)
        ignored, trial = uninteresting(base, other), fresh()
        targets = _targets(total, base.saved_at)
        begun, began, kills, ran, reached, command = 0, list[int](), 0, None, list[tuple[Ran, int]](), list(words)
        for number, target in enumerate([*targets, None]):
            here = begun + _last(reached[-1][0]) if reached else 0
            local = None if target is None else max(1, target - here)
            if local is not None:
                say(f"killing it at step {target:,}")
            else:
                say("going on to its end")
            stop = None if steps is None else max(1, steps - here)
            ran = trial.run(command, kill=local, after=number % 2 == 1, stop=stop if local is None else None)
            killed = ran.code == -9 and local is not None
            if not killed and ran.code:
                return _failed(ran, kills, total, began)
            if number:
                if not ran.steps:
                    if not killed and here >= total:
                        break
                    text = "did not go on: started again, it ended without a step"
                    return Resumption("did not resume", text, kills, total, tuple(began))
                begun = first_step(base.steps, ran.steps, here)
                began.append(begun)
            reached.append((ran, begun))
            kills += killed
            if not killed:
                break
            command = onward
        assert ran is not None
        return _judged(base, other, reached, ignored, kills=kills, began=began, whole=steps is None)


def _judged(
    base: Ran, other: Ran, reached: Sequence[tuple[Ran, int]], ignored: set[str], *, kills: int, began: list[int],
    whole: bool,
) -> Resumption:  # fmt: skip
    total = len(base.steps)
    last, start = reached[-1]
    told = (kills, total, tuple(began))
    if began and not any(began) and not _progress(reached[1][0], base):
        saved = "" if base.saved_at else "; nothing is saved"
        return Resumption("did not resume", f"did not resume: started over from step 0{saved}", *told)
    extra = len(last.steps) - (total - start) if whole else 0
    found: dict[str, Piece] = {}
    for number, (ran, begun) in enumerate(reached[1:], 1):
        mine = extra if number == len(reached) - 1 or begun < total - len(last.steps) else 0
        for piece in missing(base, ran, begun, ignored, extra=mine or extra):
            found.setdefault(piece.name, piece)
        if found:
            break
    same = all(
        not {"weights", "losses"} & set(differing(a, b))
        for ran, begun in reached
        for a, b in zip(base.steps[begun:], ran.steps, strict=False)
    )
    same = same and extra == 0 and (not base.final or base.final == last.final)
    if same:
        # Generators and counts that were not put back, and did no harm, are no fault.
        found = {name: piece for name, piece in found.items() if name in ("EMA", "buffers")}
        if whole and not found:
            for piece in of_saves(base, other, last):
                found.setdefault(piece.name, piece)
    if same and not found:
        kinds = f"{kills} kill{'' if kills == 1 else 's'}, {total:,} steps, weights bit-equal"
        return Resumption("exact", f"exact ({kinds})", *told)
    pieces = tuple(found.values()) or (Piece("something that is not seen", "the final weights differ"),)
    return Resumption("not exact", "not exact, not restored: " + "; ".join(map(str, pieces)), *told, pieces)


def _progress(ran: Ran, base: Ran) -> bool:
    """Whether a process that has the first step's weights has anything else of later steps."""
    return bool({"optimizer", "batch", "counts"} & {p for p in ("optimizer", "batch", "counts")
                                                      if ran.steps[0][p] != base.steps[0][p]})  # fmt: skip


def _last(ran: Ran) -> int:
    """Steps that a process had made when it saved last; 0 where it saved nothing."""
    return max((step for step in ran.saved_at if step <= len(ran.steps)), default=0)


def _targets(total: int, saved: Sequence[int]) -> list[int]:
    """After which steps to kill: spread, between two saves where there are some, and always after the first."""
    found: list[int] = []
    for share in PLACES:
        wanted = max(1, round(share * total))
        before = [step for step in saved if 0 < step <= wanted] or [step for step in saved if step > 0][:1]
        after = [step for step in saved if before and step > before[-1]]
        if before:
            gap = (after[0] if after else total) - before[-1]
            wanted = max(wanted if wanted > before[-1] and gap > 2 else 0, before[-1] + max(1, gap // 2))
        if wanted < total and (not found or wanted > found[-1]):
            found.append(wanted)
    return found or [max(1, total - 1)]


def _whole(trial: Trial, words: Sequence[str], steps: int | None) -> Ran:
    ran = trial.run(words, stop=steps)
    if ran.code:
        raise GoodfitError(f"the program fails without any interruption, with exit code {ran.code}:\n{_end(ran.said)}")
    if len(ran.steps) < 2:
        raise GoodfitError(
            f"the program made {len(ran.steps)} optimizer steps; two are needed at least. Where its folder holds a "
            f"finished run, leave that out with --without PATH; where it writes to a fixed place, give it {PLACE} there"
        )
    return ran


def _apart(base: Ran, other: Ran) -> Resumption | None:
    """The verdict where two uninterrupted runs are not the same."""
    for number, (one, two) in enumerate(zip(base.steps, other.steps, strict=False)):
        names = differing(one, two)
        if {"weights", "losses", "batch"} & set(names):
            if number == 0 and any(step["weights"] == two["weights"] for step in base.steps[1:]):
                break
            order = [n for n in ("weights", "batch", "losses") if n in names]
            what = {"weights": "weights", "batch": "batches", "losses": "losses"}[order[0]]
            text = f"{APART}differ, in their {what} from step {number:,} on"
            return Resumption("not deterministic", text, 0, len(base.steps))
    else:
        if len(base.steps) == len(other.steps) and base.final == other.final:
            return None
        if len(base.steps) == len(other.steps):
            text = f"{APART}end with other weights"
            return Resumption("not deterministic", text, 0, len(base.steps))
    raise GoodfitError(
        "the second run went on from what the first one left, so it writes outside of its folder; "
        f"write {PLACE} where the command names that place: each trial gets its own"
    )


def _failed(ran: Ran, kills: int, total: int, began: Sequence[int]) -> Resumption:
    lines = [line for line in ran.said.strip().splitlines() if line.strip()]
    why = lines[-1] if lines else f"exit code {ran.code}"
    if not kills:
        raise GoodfitError(f"the program fails without any interruption:\n{_end(ran.said)}")
    return Resumption("fails on resume", f"fails on resume: {why}", kills, total, tuple(began), said=_end(ran.said))


def _end(said: str) -> str:
    """The traceback at the end of what a program printed, or its last lines."""
    start = said.rfind("Traceback (most recent call last)")
    return said[start:].rstrip() if start >= 0 else "\n".join(said.rstrip().splitlines()[-10:])


def _onward(command: str) -> list[str]:
    words = shlex.split(command)
    if words and os.path.basename(words[0]).startswith("python"):
        words = words[1:]
    if not words:
        raise GoodfitError("--command-resume: give the program and its arguments, such as 'train.py --resume last.pt'")
    return words
