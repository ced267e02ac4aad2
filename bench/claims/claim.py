"""A claim, what was measured for it, and what the measurement says: seen, not seen, opposite or inconclusive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from goodfit.studies import statistics

if TYPE_CHECKING:
    from bench.claims.place import Place

Says = Literal["more", "less", "equal"]
Word = Literal["seen", "not seen", "opposite", "inconclusive"]


@dataclass(frozen=True)
class Finding:
    """One comparison of a claim: pairs of numbers, and what the claim says of their differences.

    what: a sentence's subject, such as "mixup against none, CIFAR-10". metric: the unit of the numbers.
    arm, against: one number a pair; ``against`` may be one constant repeated (a threshold that the claim names).
    says: whether the claim says that ``arm`` is more than, less than or equal to ``against``.
    matters: the smallest difference that one would act on; ``equal`` means within it.
    resolution: the step in which the metric can move. control: it is no part of the claim and does not decide it.
    """

    what: str
    metric: str
    arm: Sequence[float]
    against: Sequence[float]
    says: Says
    matters: float
    resolution: float = 0.0
    control: bool = False

    @property
    def differences(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """``arm - against``, one a pair."""
        return np.asarray(self.arm, float) - np.asarray(self.against, float)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One headline claim and how it is measured.

    words: what is claimed, in our own sentence. origin: the row of the inventory and the text it stands in.
    data, how: what it is measured on, and the arms. measure: makes the findings; ``pairs`` of them when run whole.
    minutes: what a whole run takes on one quiet core, about. note: what a reader must know to judge the numbers.
    """

    name: str
    title: str
    words: str
    origin: str
    data: str
    how: str
    measure: Callable[[Place], list[Finding]]
    pairs: int = 8
    minutes: float = 1.5
    needs: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Told:
    """A finding in figures: the mean difference, its interval, and the smallest difference that was to be seen."""

    finding: Finding
    interval: statistics.Interval
    p: float
    detectable: float
    word: Word


@dataclass(frozen=True)
class Measured:
    """A claim's raw numbers as they are kept in ``results.json``."""

    claim: str
    findings: Sequence[Finding]
    seconds: float
    others: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)


def judge(findings: Sequence[Finding]) -> list[Told]:
    """Each finding with its interval, read at the level that Holm's correction over all of them asks for."""
    p = {
        str(k): statistics.p_value(one.differences, resolution=one.resolution) if len(one.arm) > 1 else 1.0
        for k, one in enumerate(findings)
    }
    told: dict[int, Told] = {}
    for key, (adjusted, level) in statistics.holm(p).items():
        one = findings[int(key)]
        interval = statistics.paired(one.differences, level=level, resolution=one.resolution)
        least = statistics.detectable(interval.sd, interval.pairs, level=level)
        told[int(key)] = Told(one, interval, adjusted, least, _word(one, interval, adjusted))
    return [told[k] for k in range(len(findings))]


def _word(one: Finding, interval: statistics.Interval, p: float) -> Word:
    if one.says == "equal":
        if interval.reach <= one.matters:
            return "seen"
        # Apart for certain, and by more than would matter.
        apart = interval.low > one.matters or interval.high < -one.matters
        return "opposite" if apart else "inconclusive"
    if p <= 1 - statistics.LEVEL and interval.mean != 0:
        return "seen" if (interval.mean > 0) == (one.says == "more") else "opposite"
    # The claimed side ends below what would matter: whatever there is, it is not the effect that was claimed.
    claimed = interval.high if one.says == "more" else -interval.low
    return "not seen" if claimed <= one.matters else "inconclusive"


def overall(told: Sequence[Told]) -> str:
    """The claim in a few words: its findings' word where all agree, else what was seen how often."""
    words = [one.word for one in told if not one.finding.control]
    order = [word for word in ("seen", "opposite", "not seen", "inconclusive") if word in words]
    return order[0] if len(order) == 1 else ", ".join(f"{words.count(word)} {word}" for word in order)
