"""What a study may say: paired differences with intervals, looks that may be repeated, corrections, verdicts.

Everything here is a function of plain numbers. ``docs/studies.md`` explains it on a page, ``bench/studies`` checks it
by simulation: intervals, false alarms under peeking, power.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from goodfit import keyed

Array = NDArray[np.float64]
Method = Literal["t", "bca", "studentised", "always-valid"]

LEVEL = 0.95
POWER = 0.8
FIRST_LOOK, LAST_LOOK = 6, 50
"""An always-valid interval exists from six pairs on. With five, an arm that is usually a little better and seldom much
worse shows five gains in a row in one study of ten, and no statistic can tell it from one that helps."""
ADVERSE = 1.5
"""How many standard errors worse than measured the skewness is taken to be: in small samples the rare bad seed is
mostly the one not yet seen."""
BOUNDARY = (
    (0.5, 1.42),
    (0.2, 1.97),
    (0.1, 2.31),
    (0.05, 2.68),
    (0.025, 3.12),
    (0.0167, 3.44),
    (0.0125, 3.67),
    (0.01, 3.87),
    (0.005, 4.69),
    (0.0025, 5.93),
    (0.001, 8.34),
)
"""(error rate, bound): how often the corrected t, looked at after each pair from the 6th to the 50th, ever leaves the
bound where there is no effect. The greater of: normal differences, either side; skewed ones
(gamma of shape 4, lognormal with sigma 0.5), the side on which the rare value has not been seen yet. 200,000 studies
each: ``python -m bench.studies boundary``."""


@dataclass(frozen=True)
class Interval:
    """A mean difference and what it may be: ``low`` to ``high``, minus and plus infinity where there is no telling.

    sd: of the differences over seeds. level: how often such an interval holds the truth, at least.
    note: what a reader should know of it.
    """

    mean: float
    low: float
    high: float
    pairs: int
    sd: float
    level: float
    method: Method
    note: str = ""

    @property
    def reach(self) -> float:
        """The largest difference of either sign that it leaves possible."""
        return max(abs(self.low), abs(self.high))


def paired(
    differences: Sequence[float] | Array,
    *,
    level: float = LEVEL,
    method: Method = "t",
    resolution: float = 0.0,
    resamples: int = 4000,
) -> Interval:
    """The interval of a mean paired difference, one difference a seed.

    method: ``t`` (Student 1908; exact for normal differences), ``studentised`` (the bootstrap of the t statistic) or
        ``bca`` (bias-corrected and accelerated, Efron 1987; from 8 pairs on, below it is too narrow), both for a
        number of pairs that was fixed beforehand; ``always-valid``: see `always_valid`.
    resolution: the step in which the metric can move, such as 1 / rows for accuracy. The spread is taken to be at
        least that of rounding to it, so equal differences do not give an interval without width.
    """
    d = _checked(differences)
    if method == "always-valid":
        return always_valid(d, level=level, resolution=resolution)
    n, mean = len(d), float(d.mean())
    if n < 2:
        return Interval(mean, -math.inf, math.inf, n, math.nan, level, method, "one pair has no spread")
    sd, note = _spread(d, resolution)
    se = sd / math.sqrt(n)
    if se == 0:
        return Interval(mean, mean, mean, n, 0.0, level, method, "all pairs differ by the same number")
    if method == "bca" and n < 8:
        method, note = "t", "fewer than 8 pairs: t instead of BCa"
    if method == "t" or float(d.std()) == 0:
        half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * se
        return Interval(mean, mean - half, mean + half, n, sd, level, "t", note)
    draws = d[_resamples(n, resamples)]
    if method == "studentised":
        if n < 4:
            half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * se
            return Interval(mean, mean - half, mean + half, n, sd, level, "t", "fewer than 4 pairs: t, no bootstrap")
        spread = np.maximum(draws.std(1, ddof=1), 1e-12 + resolution / math.sqrt(12)) / math.sqrt(n)
        low, high = np.quantile((draws.mean(1) - mean) / spread, [0.5 + level / 2, 0.5 - level / 2])
        return Interval(mean, mean - low * se, mean - high * se, n, sd, level, method, note)
    low, high = _bca(d, draws.mean(1), level)
    return Interval(mean, low, high, n, sd, level, method, note)


def always_valid(differences: Sequence[float] | Array, *, level: float = LEVEL, resolution: float = 0.0) -> Interval:
    """The interval of a mean paired difference that stays right however often it was looked at, from 6 to 50 pairs.

    Formula: t corrected for skewness by Hall's (1992) cubic, ``h(t) = ((1 + a t)^3 - 1) / 3a + a / 2`` with
    ``a = skewness / 3 sqrt(n)``, once for each side with the skewness ``ADVERSE`` standard errors to that side; the
    mean's distance is cut where h reaches one bound for all looks (after Pocock 1977, for t instead of z).
    Ours differs from a mixture martingale (Robbins 1970; Lai 1976 for t) in being calibrated by simulation for 50
    looks and for skewed differences as well; the mixture holds for ever, is wider, and takes normality for granted.
    Between looks no choice is forbidden: stop, go on, or look again tomorrow.
    """
    d = _checked(differences)
    n, mean = len(d), float(d.mean())
    if n < FIRST_LOOK:
        sd = float(d.std(ddof=1)) if n > 1 else math.nan
        note = f"from {FIRST_LOOK} pairs on; there are {n}"
        return Interval(mean, -math.inf, math.inf, n, sd, level, "always-valid", note)
    sd, note = _spread(d, resolution)
    if sd == 0:
        return Interval(mean, mean, mean, n, 0.0, level, "always-valid", "all pairs differ by the same number")
    if n > LAST_LOOK:
        note = f"calibrated for {LAST_LOOK} looks, and this is one more"
    down, up = _cuts(bound(1 - level), skewness(d), n)
    se = sd / math.sqrt(n)
    return Interval(mean, mean - down * se, mean + up * se, n, sd, level, "always-valid", note)


def p_value(differences: Sequence[float] | Array, *, method: Method = "t", resolution: float = 0.0) -> float:
    """How small an error rate still calls the mean difference other than zero, two-sided.

    ``always-valid``: the smallest over all looks so far, in the order in which the pairs came; else of one t test.
    """
    d = _checked(differences)
    if method != "always-valid":
        sd, _ = _spread(d, resolution) if len(d) > 1 else (math.nan, "")
        if len(d) < 2 or (sd == 0 and d[0] == 0):
            return 1.0
        return 0.0 if sd == 0 else float(2 * stats.t.sf(abs(d.mean()) / (sd / math.sqrt(len(d))), len(d) - 1))
    least = 1.0
    for n in range(FIRST_LOOK, len(d) + 1):
        seen = d[:n]
        sd, _ = _spread(seen, resolution)
        if sd == 0:
            least = min(least, 0.0 if seen[0] else 1.0)
            continue
        least = min(least, error_rate(float(corrected(float(seen.mean()) / (sd / math.sqrt(n)), skewness(seen), n))))
    return least


def skewness(d: Array) -> float:
    """The sample skewness, corrected for small samples as ``G1 = g1 sqrt(n (n - 1)) / (n - 2)``; 0 without spread."""
    n, middle = len(d), d - d.mean()
    square = float((middle**2).mean())
    if n < 3 or square <= 0:
        return 0.0
    return float((middle**3).mean()) / (square * math.sqrt(square)) * math.sqrt(n * (n - 1)) / (n - 2)


def corrected(t: float | Array, skew: float | Array, n: int | Array) -> Array:
    """``|t|`` after Hall's cubic with adverse skewness; never more than ``|t|``. See `always_valid`."""
    a, size = _adverse(np.sign(t) * skew, n), np.abs(t)
    with np.errstate(divide="ignore", invalid="ignore"):
        cubic = ((1 + a * size) ** 3 - 1) / (3 * a) + a / 2
    return np.asarray(np.where(a < 0, np.minimum(size, np.maximum(cubic, 0.0)), size))


def bound(alpha: float) -> float:
    """The bound that the corrected t ever leaves with this probability where there is no effect."""
    logs, bounds = [math.log(a) for a, _ in BOUNDARY][::-1], [b for _, b in BOUNDARY][::-1]
    return float(np.interp(math.log(max(alpha, BOUNDARY[-1][0])), logs, bounds))


def error_rate(value: float) -> float:
    """The probability of which `bound` is this value; 1 below the table, its last entry above it."""
    if value < BOUNDARY[0][1]:
        return 1.0
    return float(math.exp(np.interp(value, [b for _, b in BOUNDARY], [math.log(a) for a, _ in BOUNDARY])))


def holm(p: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """``name -> (adjusted p, level)`` over several comparisons (Holm 1979).

    level: the confidence at which this one is read, ``1 - 0.05 / (how many had no smaller p)``.
    """
    order = sorted(p, key=lambda name: p[name])
    found: dict[str, tuple[float, float]] = {}
    worst, level = 0.0, 1 - (1 - LEVEL) / max(len(order), 1)
    for k, name in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - k) * p[name]))
        # Holm stops at the first that is not called: all behind it are read as strictly as that one.
        level = 1 - (1 - LEVEL) / (len(order) - k) if k == 0 or found[order[k - 1]][0] <= 1 - LEVEL else level
        found[name] = (worst, level)
    return found


def detectable(sd: float, pairs: int, *, method: Method = "t", level: float = LEVEL, power: float = POWER) -> float:
    """The smallest true difference that so many pairs of this spread call with this probability.

    Of one t test by the noncentral t distribution. Of ``always-valid``, where a study is looked at after every pair
    and called at whichever look is clear, by trying: of ``TRIED`` normal studies this share is called. Infinite where
    nothing can be called yet.
    """
    if pairs < 2 or not math.isfinite(sd) or (method == "always-valid" and pairs < FIRST_LOOK):
        return math.inf
    if method == "always-valid":
        return sd * _always_detectable(min(pairs, LAST_LOOK), round(level, 6), power)
    cut = float(stats.t.ppf(0.5 + level / 2, pairs - 1))
    return (
        sd
        / math.sqrt(pairs)
        * _smallest(lambda shift: float(stats.nct.sf(cut, pairs - 1, shift)) > power, 4 * cut + 20)
    )


TRIED = 2000


@lru_cache(maxsize=256)
def _always_detectable(pairs: int, level: float, power: float) -> float:
    """In standard deviations. Studies differ by their effect only, so the share called grows with it smoothly."""
    rng = np.random.Generator(np.random.Philox(keyed.key(0, "power", pairs) & (2**64 - 1)))
    d = rng.standard_normal((TRIED, pairs))
    n = np.arange(FIRST_LOOK, pairs + 1, dtype=np.float64)
    first, second, third = (np.cumsum(d**k, 1)[:, FIRST_LOOK - 1 :] / n for k in (1, 2, 3))
    square = second - first**2
    skew = (third - 3 * first * second + 2 * first**3) / square**1.5 * np.sqrt(n * (n - 1)) / (n - 2)
    error, cut = np.sqrt(square / (n - 1)), bound(1 - level)

    def called(effect: float) -> bool:
        return bool((corrected((first + effect) / error, skew, n) > cut).any(1).mean() > power)

    return _smallest(called, 20.0)


def _smallest(found: Callable[[float], bool], high: float) -> float:
    """The smallest value, by halving, from which on it is found."""
    low = 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


Word = Literal["helps", "hurts", "no difference", "inconclusive"]


def verdict(interval: Interval, p: float, *, matters: float, larger_is_better: bool) -> Word:
    """One of four words: what the interval and the adjusted p of a comparison allow to say.

    matters: the smallest difference that one would act on. ``no difference`` means: none as large as that.
    """
    if p <= 1 - LEVEL + 1e-12 and interval.mean != 0:
        return "helps" if (interval.mean > 0) == larger_is_better else "hurts"
    if interval.low <= 0 <= interval.high and interval.reach <= matters:
        return "no difference"
    return "inconclusive"


@dataclass(frozen=True)
class RowView:
    """Two arms compared over the rows that judged them: would other rows of the same kind say the same?

    gained, lost: per seed, the rows that only the arm, and only the default, had right. low, high: 95 % interval of the
    difference over rows. p: exact McNemar of one seed, a t test over rows of several.
    """

    difference: float
    low: float
    high: float
    p: float
    rows: int
    gained: float
    lost: float


def mcnemar(default: Array, arm: Array) -> RowView:
    """Pairing over rows: the second view of a study.

    default, arm: ``(seeds, rows)``, 1 where a row was right (or each row's loss). With one seed and hits this is
    McNemar's test (1947), exact: of ``b + c`` rows on which they differ, b is binomial with 1/2. With several seeds the
    rows' mean differences over the seeds are what varies: ``t = mean / (sd / sqrt(rows))``. It holds for these trained
    nets and other rows, where the interval over seeds holds for these rows and other nets.
    """
    change = np.asarray(arm, float) - np.asarray(default, float)
    seeds, rows = change.shape
    mean = change.mean(0)
    gained, lost = float((change > 0).sum()) / seeds, float((change < 0).sum()) / seeds
    se = float(mean.std(ddof=1)) / math.sqrt(rows) if rows > 1 else math.inf
    half = float(stats.t.ppf(0.5 + LEVEL / 2, max(rows - 1, 1))) * se
    middle = float(mean.mean())
    hits = bool(np.isin(change, (-1, 0, 1)).all())
    if seeds == 1 and hits:
        p = float(stats.binomtest(round(gained), round(gained + lost)).pvalue) if gained + lost else 1.0
    else:
        p = float(2 * stats.t.sf(abs(middle) / se, rows - 1)) if se > 0 else float(middle == 0)
    return RowView(middle, middle - half, middle + half, p, rows, gained, lost)


def pairing_gain(default: Sequence[float], arm: Sequence[float]) -> float:
    """How many times more runs an unpaired study needs: ``(var a + var b) / var(b - a)`` over seeds."""
    a, b = np.asarray(default, float), np.asarray(arm, float)
    rest = float((b - a).var(ddof=1))
    return float(a.var(ddof=1) + b.var(ddof=1)) / rest if rest > 0 else math.inf


def _checked(differences: Sequence[float] | Array) -> Array:
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or len(d) == 0 or not np.isfinite(d).all():
        raise ValueError("differences are a row of at least one finite number")
    return d


def _spread(d: Array, resolution: float) -> tuple[float, str]:
    """The standard deviation, at least that of rounding to the metric's step; and whether that was needed."""
    sd, least = float(d.std(ddof=1)), resolution / math.sqrt(12)
    # Equal numbers have a spread of rounding in float64, which is none.
    sd = 0.0 if sd <= 1e-12 * float(np.abs(d).max()) else sd
    return (least, f"no spread beyond the metric's step of {resolution:.3g}") if sd < least else (sd, "")


def _adverse(skew: float | Array, n: int | Array) -> Array:
    """``a`` of Hall's cubic: the skewness, so many standard errors to the bad side and not above 0, over 3 sqrt(n)."""
    error = np.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    return np.asarray(np.minimum(skew - ADVERSE * error, 0.0) / (3 * np.sqrt(n)))


def _cuts(reach: float, skew: float, n: int) -> tuple[float, float]:
    """How many standard errors the interval goes down and up: where the corrected t reaches the bound."""

    def cut(a: float) -> float:
        return max(reach, (float(np.cbrt(1 + 3 * a * (reach - a / 2))) - 1) / a) if a else reach

    return cut(float(_adverse(skew, n))), cut(float(_adverse(-skew, n)))


def _resamples(n: int, count: int) -> NDArray[np.int64]:
    """``(count, n)`` keyed positions, so that the same differences give the same interval."""
    places = torch.arange(count)
    return keyed.integers(keyed.key(0, "bootstrap", n), places, 0, n, n).numpy()


def _bca(d: Array, means: Array, level: float) -> tuple[float, float]:
    n, mean = len(d), float(d.mean())
    below = float(((means < mean).sum() + 0.5 * (means == mean).sum()) / len(means))
    bias = float(stats.norm.ppf(min(max(below, 1e-3), 1 - 1e-3)))
    left_out = (d.sum() - d) / (n - 1)
    away = left_out.mean() - left_out
    speed = float((away**3).sum() / (6 * ((away**2).sum()) ** 1.5))
    ends = []
    for share in (0.5 - level / 2, 0.5 + level / 2):
        z = bias + float(stats.norm.ppf(share))
        ends.append(float(np.quantile(means, stats.norm.cdf(bias + z / (1 - speed * z)))))
    return ends[0], ends[1]
