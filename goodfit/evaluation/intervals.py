"""Confidence intervals: how much would this number move with other samples from the same source?

The bootstrap (Efron 1979) answers it for any metric: draw as many samples with replacement, compute the metric again,
a thousand times, and take the middle 95 %. Here a resample is a column of weights (how often each sample was drawn),
so a metric is computed for hundreds of resamples with one matrix product. Percentile interval, its tails widened for
small samples as Hesterberg 2015 ("What teachers should know about the bootstrap", section 5.3) derives from Student's
t. Above 2,000 samples each one's count is drawn from a Poisson distribution of mean 1 (Hanley and MacGibbon 2006),
which is the same up to the total and much faster.

Where samples follow one another in time, whole blocks of neighbours are drawn (circular blocks: Politis and Romano
1992), because neighbours err alike. A proportion with fewer than ten hits or misses gets Wilson's interval (1927;
Brown, Cai and DasGupta 2001): the bootstrap of a perfect score would claim certainty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from goodfit import keyed
from goodfit.evaluation.weighted import Array, NotAvailable

RESAMPLES = 1000
FEW = 10
_BLOCK_CELLS = 2_000_000  # weights held at a time: 8 MB of float32 stay near the cache
_EXACT = 2_000


@dataclass(frozen=True)
class Interval:
    """low, high: the bounds, None where there are none. method: how they were found. note: why there are none."""

    low: float | None
    high: float | None
    method: str
    note: str = ""


def bootstrap(
    metrics: Mapping[str, Callable[[Array], Array]],
    samples: int,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    block: int = 1,
) -> dict[str, Array]:
    """Each metric in each resample: name -> ``(resamples,)`` (or ``(k, resamples)`` from a function that gives k
    values), NaN where a resample leaves it undefined.

    metrics: functions of weights ``(samples, columns)``. A metric that is not available at all is left out.
    block: how many neighbours are drawn together, for samples in order of time.
    """
    found: dict[str, list[Array]] = {name: [] for name in metrics}
    for weights in resampled(samples, resamples, seed=seed, block=block):
        for name in list(found):
            try:
                found[name].append(metrics[name](weights))
            except NotAvailable:
                del found[name]
    return {name: np.concatenate(parts, axis=-1) for name, parts in found.items()}


def resampled(samples: int, resamples: int, *, seed: int, block: int = 1) -> Iterator[Array]:
    """Weights of resamples, a few hundred at a time: ``(samples, columns)`` float32, a function of the seed alone."""
    at_once = max(1, min(resamples, _BLOCK_CELLS // max(samples, 1)))
    for start in range(0, resamples, at_once):
        wanted = min(at_once, resamples - start)
        place = keyed.key(seed, "bootstrap", samples, block, start)
        yield _counts(samples, wanted, np.random.Generator(np.random.Philox(place & (2**64 - 1))), block)


def interval(
    value: float, draws: Array | None, samples: int, *, confidence: float = 0.95, basic: bool = False
) -> Interval:
    """The interval around ``value`` from its resamples, or the reason why there is none.

    basic: mirror the resamples at the value (Davison and Hinkley 1997, 5.2), for a metric the bootstrap is known to
    push one way; the value itself stays inside, and nothing falls below 0.
    """
    if draws is None or not len(draws):
        return Interval(None, None, "", "not computed")
    if samples < FEW:
        return Interval(None, None, "", f"{samples} samples are too few for an interval")
    usable = draws[np.isfinite(draws)]
    if len(usable) < 0.9 * len(draws):
        return Interval(None, None, "", "too few samples of a class: many resamples leave it undefined")
    if np.ptp(usable) <= 1e-12 * max(1.0, abs(value)):
        return Interval(None, None, "", "every resample gives the same value")
    tail = float(stats.norm.cdf(math.sqrt(samples / (samples - 1)) * stats.t.ppf((1 - confidence) / 2, samples - 1)))
    low, high = (float(q) for q in np.quantile(usable, [tail, 1 - tail]))
    if basic:
        low, high = max(0.0, min(value, 2 * value - high)), max(value, 2 * value - low)
    return Interval(low, high, "bootstrap, basic" if basic else "bootstrap")


def wilson(hits: float, samples: float, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion; right even where all or none hit.

    Formula: (p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).
    """
    if samples <= 0:
        return Interval(None, None, "", "there are no samples")
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    p, shrink = hits / samples, 1 + z * z / samples
    middle = (p + z * z / (2 * samples)) / shrink
    reach = z * math.sqrt(p * (1 - p) / samples + (z / (2 * samples)) ** 2) / shrink
    # At the ends the formula meets 0 and 1 exactly; rounding must not miss them.
    low = 0.0 if hits <= 0 else middle - reach
    high = 1.0 if hits >= samples else middle + reach
    return Interval(low, high, "Wilson")


def proportion(hits: float, samples: float, draws: Array | None, *, confidence: float = 0.95) -> Interval:
    """The bootstrap interval of a share, or Wilson's where fewer than ten hit or miss."""
    if draws is None or min(hits, samples - hits) < FEW:
        return wilson(hits, samples, confidence=confidence)
    return interval(hits / samples, draws, int(samples), confidence=confidence)


def block_length(errors: Array, *, at_least: int = 1) -> int:
    """How many neighbours in time to draw together, from how long the errors stay alike.

    errors: ``(samples,)`` in order of time. Formula: (2 G^2 / D)^(1/3) n^(1/3) with the flat-top kernel of Politis
    and White 2004, as corrected by Patton, Politis and White 2009 for circular blocks. Never above a quarter of the
    samples.
    """
    n = len(errors)
    ceiling = max(1, n // 4)
    centred = errors - errors.mean() if n else errors
    if n < 16 or not np.any(centred):
        return min(at_least, ceiling)
    run = max(5, math.ceil(math.log10(n)))
    reach = min(n - 1, math.ceil(math.sqrt(n)) + run)
    covariance = np.array([centred[: n - k] @ centred[k:] for k in range(reach + 1)]) / n
    small = np.abs(covariance[1:] / covariance[0]) < 2 * math.sqrt(math.log10(n) / n)
    runs = [k for k in range(len(small) - run + 1) if small[k : k + run].all()]
    last = runs[0] if runs else (int(np.flatnonzero(~small).max()) + 1 if (~small).any() else 0)
    lags = np.arange(-min(2 * max(last, 1), reach), min(2 * max(last, 1), reach) + 1)
    kernel = np.clip(2 * (1 - np.abs(lags) / (2 * max(last, 1))), 0, 1)
    weighted = kernel * covariance[np.abs(lags)]
    spread, slope = float(weighted.sum()), float((weighted * np.abs(lags)).sum())
    if spread <= 0:
        return min(at_least, ceiling)
    length = (2 * slope**2 / (4 / 3 * spread**2)) ** (1 / 3) * n ** (1 / 3)
    return int(min(ceiling, max(at_least, 1, math.ceil(length))))


def _counts(samples: int, wanted: int, rng: np.random.Generator, block: int) -> Array:
    """How often each sample is drawn: ``(samples, wanted)`` float32."""
    blocks = -(-samples // block)
    starts: Array
    if blocks <= _EXACT:
        drawn = rng.integers(0, samples, (wanted, blocks), dtype=np.int64) * wanted + np.arange(wanted)[:, None]
        starts = np.bincount(drawn.ravel(), minlength=samples * wanted).reshape(samples, wanted).astype(np.float32)
    else:
        steps = np.arange(24)
        table = np.repeat(
            steps, np.diff(np.round(stats.poisson.cdf(np.append(-1, steps), 1 / block) * 65536)).astype(int)
        )
        table = np.pad(table, (0, 65536 - len(table)), mode="edge").astype(np.float32)
        starts = table[rng.integers(0, 65536, (samples, wanted), dtype=np.uint16)]
    if block == 1:
        return starts
    # A block covers its start and the samples after it, round the end: a moving sum over the starts.
    ahead = np.cumsum(np.concatenate((starts[samples - block + 1 :], starts)), axis=0)
    return np.asarray(
        ahead[block - 1 :] - np.concatenate((np.zeros((1, wanted), np.float32), ahead[: samples - 1])), np.float32
    )
