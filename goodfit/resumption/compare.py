"""Which piece of state was not put back: a resumed process's steps held against those of an uninterrupted one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goodfit.resumption.trials import Ran

Step = Mapping[str, Any]
INSIDE = ("frozen", "buffers", "optimizer", "schedule", "scaler", "average", "generators")
"""Parts of a step's record that hold several digests by name."""


@dataclass(frozen=True)
class Piece:
    """One piece of state that was not restored. name: what it is. text: how that shows."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def differing(one: Step, other: Step, ignored: Collection[str] = ()) -> list[str]:
    """Names of what two records of a step do not share: ``weights``, ``optimizer exp_avg``, ``generators torch``.

    >>> base = {"weights": "a", "lr": [0.1], "optimizer": {"step": "x"}}
    >>> differing(base, {"weights": "a", "lr": [0.2], "optimizer": {}})
    ['lr', 'optimizer step']
    """
    found = [name for name in ("weights", "lr", "batch", "targets", "losses") if one.get(name) != other.get(name)]
    for part in INSIDE:
        mine, theirs = one.get(part, {}), other.get(part, {})
        # What a process has not met yet, such as a network that is called later, is not a difference.
        names = {*mine, *theirs} if part == "optimizer" else {*mine} & {*theirs}
        found += [f"{part} {name}" for name in sorted(names) if mine.get(name) != theirs.get(name)]
    return [name for name in found if name not in ignored]


def uninteresting(one: Ran, other: Ran) -> set[str]:
    """What differs between two uninterrupted runs although they train alike, and generators that nobody uses."""
    free = {name for a, b in zip(one.steps, other.steps, strict=False) for name in differing(a, b)}
    drawn: dict[str, set[str]] = {}
    for step in one.steps:
        for name, state in step["generators"].items():
            drawn.setdefault(f"generators {name}", set()).add(state)
    return free | {name for name, states in drawn.items() if len(states) == 1}


def first_step(base: Sequence[Step], resumed: Sequence[Step], expected: int) -> int:
    """Which step of the uninterrupted run a resumed process began with; 0 where it started over.

    expected: the step of its last save. Weights and optimizer state name the step; where neither was restored, what
    else it had does.
    """
    begun = resumed[0]

    def alike(part: str) -> set[int]:
        return {k for k, step in enumerate(base) if step[part] == begun[part]}

    named = alike("weights") | (alike("optimizer") if begun["optimizer"] else set())
    later = {k for k in named if k > 0}
    if not later and 0 in named and not differing(base[0], begun):
        return 0
    if not later:
        later = {k for k in alike("batch") | alike("counts") if k > 0} & {expected}
        if not later and 0 in named:
            return 0
    return min(
        later or {min(expected, len(base) - 1)}, key=lambda k: (len(differing(base[k], begun)), abs(k - expected))
    )


def missing(base: Ran, resumed: Ran, begun: int, ignored: Collection[str], *, extra: int) -> list[Piece]:
    """The pieces that a process which began with the uninterrupted run's step ``begun`` did not restore.

    extra: steps that it made more than were left; 0 where it was not run to its end.
    """
    pairs = list(zip(base.steps[begun:], resumed.steps, strict=False))
    apart = [[n for n in differing(a, b, ignored) if not n.startswith("average")] for a, b in pairs]
    at = next((k for k, names in enumerate(apart) if names), None)
    found: list[Piece] = []
    if at is None:
        if extra:
            found = [Piece("epoch or step counter", f"it made {_steps(extra)} than were left")]
    else:
        known, got = pairs[at]
        repeated = _repeated(base.steps, resumed.steps[at:], begun + at)
        found = _named(apart[at], known, got, base.steps[0], begun + at, extra=extra, repeated=repeated)
    if not any(p.name == "model weights" for p in found):
        for k, (a, b) in enumerate(pairs):
            names = differing(a, b, ignored)
            if "weights" in names:
                break
            if any(name.startswith("average") for name in names):
                found.append(Piece("EMA", f"the average of weights is another at step {begun + k:,}"))
                break
    return found


def _repeated(base: Sequence[Step], resumed: Sequence[Step], at: int) -> int | None:
    """The earlier step whose batches, and those after it, a process goes through at step ``at``, if there is one."""
    part = "targets" if resumed[0]["targets"] else "batch"
    window = [step[part] for step in resumed[:4]]
    places = [k for k in range(at) if [step[part] for step in base[k : k + len(window)]] == window]
    return max(places, default=None)


def _named(
    names: list[str], known: Step, got: Step, first: Step, at: int, *, extra: int, repeated: int | None
) -> list[Piece]:
    parts = {name.split()[0] for name in names}
    inner = {part: [name.split(maxsplit=1)[1] for name in names if name.startswith(f"{part} ")] for part in INSIDE}
    found = []
    if "weights" in parts or inner["frozen"]:
        which = "" if "weights" in parts else " that the optimizer does not hold"
        found.append(Piece("model weights", f"those{which} are not the ones of step {at:,}"))
    elif inner["buffers"]:
        found.append(Piece("buffers", f"of {', '.join(inner['buffers'])}, such as running statistics, at step {at:,}"))
    if inner["optimizer"]:
        gone = [name for name in inner["optimizer"] if name not in got["optimizer"]]
        how = "is empty, it begins anew" if not got["optimizer"] else f"{'lacks' if gone else 'holds other values of'}"
        found.append(Piece("optimizer state", f"{how} ({', '.join(inner['optimizer'])}) at step {at:,}"))
    moved = "targets" in parts or ("batch" in parts and not got["targets"])
    lost = moved and extra > 0 and repeated is not None
    if inner["schedule"] or ("lr" in parts and not inner["optimizer"] and not lost):
        what = f"the learning rate is {_rates(got)} at step {at:,}, it was {_rates(known)}"
        if "lr" not in parts:
            what = f"it is at {got['counts']} where it was at {known['counts']}, at step {at:,}"
        found.append(Piece("lr schedule", what))
    if inner["scaler"]:
        found.append(Piece("loss scaler", f"its scale or its count is another at step {at:,}"))
    seeded = any(got["generators"][name] == first["generators"].get(name) for name in inner["generators"])
    if lost:
        found.append(Piece("epoch or step counter", f"at step {at:,} it repeats the batches from step {repeated:,}"))
    elif moved and (not inner["generators"] or (repeated is not None and not seeded)):
        again = f": those of step {repeated:,} again" if repeated is not None else ""
        found.append(Piece("data order", f"other batches than the uninterrupted run's from step {at:,} on{again}"))
    elif inner["generators"]:
        batches = ", so the batches are others" if "batch" in parts else ""
        which = ", ".join(inner["generators"])
        found.append(Piece(f"random generator ({which})", f"is in another state at step {at:,}{batches}"))
    if not found and extra:
        found.append(Piece("epoch or step counter", f"it made {_steps(extra)} than were left"))
    if not found:
        found.append(
            Piece(
                "something that is not seen",
                f"weights, optimizer, batch and generators of step {at:,} are right, its loss is not: a value of the "
                "program's own, such as the weight of a loss",
            )
        )
    return found


def of_saves(base: Ran, again: Ran, last: Ran) -> list[Piece]:
    """What the last files of a resumed run hold otherwise, where training itself went alike."""
    if not (base.saves and again.saves and last.saves):
        return []
    mine, twice, theirs = base.saves[-1][1], again.saves[-1][1], last.saves[-1][1]
    names = [key for key in mine if mine[key] == twice.get(key) and theirs.get(key) != mine[key]]
    averages = [key for key in names if any(word in key.lower() for word in ("ema", "averag", "swa", "shadow"))]
    found = [Piece("EMA", f"{key!r} in what is saved last is another") for key in averages]
    rest = [key for key in names if key not in averages]
    return found + [
        Piece("what it saves", f"{key!r} is another in the last file".replace("'' ", "it ")) for key in rest
    ]


def _rates(step: Step) -> str:
    return ", ".join(f"{rate:g}" if isinstance(rate, float | int) else str(rate) for rate in step["lr"][:3])


def _steps(extra: int) -> str:
    return f"{abs(extra):,} step{'' if abs(extra) == 1 else 's'} {'more' if extra > 0 else 'fewer'}"
