"""Which learning rate? A range test: the rate climbs from tiny to huge in a short training, and the loss says the rest.

Smith 2017 ("Cyclical Learning Rates for Training Neural Networks", section 3.3) raises the rate over a few epochs and
looks for where the loss begins to fall and where it gets ragged. Ours repeats the sweep with other batches and other
first weights, takes the median, and says "cannot tell" where batches move it as much as the rate does. Losses are
smoothed by exponential averages without bias (divided by the sum of their weights); the logarithm of the rate is
averaged with the same weights, so the smoothed curve does not lag behind the rates.

Suggested is the geometric mean of two rates: where the loss falls fastest, which is too small for a run (a sweep stays
at each rate for a step only, so what it shows there is mostly what the rates before have done), and where it is lowest,
which is at the edge.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from goodfit.errors import GoodfitError
from goodfit.probes.record import generators_kept

REPEATS, DECADES, PER_DECADE = 5, 7, 16
SMOOTHING = 0.85
"""Weight of the past in the exponential average: about 7 steps, half a decade of rates."""
RISES = 0.25
"""The loss has turned where it has given back this share of what it had gained."""
BELOW_TURN = 4.0
"""The rate suggested lies at least this factor below the turn: a real run stays at its rate for long."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What sweeps say about the rate.

    rates, median, low, high: the smoothed curve and the band of all repeats, up to where most repeats had diverged.
    steepest, lowest: the rates at which the median loss falls fastest and is smallest. turns: where it has risen again
    by a quarter of its fall; None where it never does. suggested, least, most: a rate for a run, and the range around
    it that should do; None where the sweep cannot tell. reason: why, in words.
    """

    rates: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    repeats: int
    steepest: float | None = None
    lowest: float | None = None
    turns: float | None = None
    suggested: float | None = None
    least: float | None = None
    most: float | None = None
    reason: str = ""


def sweep_rates(low: float, high: float, points: int) -> list[float]:
    """``points`` learning rates from ``low`` to ``high``, each the same factor above the one before.

    >>> [round(rate, 6) for rate in sweep_rates(1e-3, 1e-1, 3)]
    [0.001, 0.01, 0.1]
    """
    if not 0 < low < high < math.inf:
        raise GoodfitError(f"a sweep goes from a small rate to a larger one, not from {low:g} to {high:g}")
    return [low * (high / low) ** (k / (points - 1)) for k in range(points)]


def sweep(step: Callable[[float], float], rates: Sequence[float]) -> list[float]:
    """The loss before each step, and after the last; ends where it is not finite or far above the first losses.

    step: makes one update at a rate and returns the loss it was computed from. A loss is put down to the rate of the
    step *before* it, which made it, so the list is as long as the rates that were tried.
    """
    losses: list[float] = []
    mass, mean = 0.0, 0.0
    first, best = math.nan, math.inf
    for rate in (*rates, rates[-1]):
        loss = step(rate)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        mass = SMOOTHING * mass + (1 - SMOOTHING)
        smooth = mean / mass
        losses.append(loss)
        if len(losses) == 5 or (len(losses) < 5 and not math.isfinite(smooth)):
            first = smooth
        best = min(best, smooth)
        if not math.isfinite(loss) or (smooth > first + max(first - best, 0.5 * abs(first))):
            break
    return losses[1:] if len(losses) > 1 else [math.inf]


def read_sweeps(rates: Sequence[float], sweeps: Sequence[Sequence[float]]) -> Reading:
    """What repeated sweeps over ``rates`` say; a sweep that is shorter than the rates had diverged there."""
    curves = np.full((len(sweeps), len(rates)), np.inf)
    logs = np.log(np.asarray(rates, float))
    for row, losses in zip(curves, sweeps, strict=True):
        values = np.asarray([one if math.isfinite(one) else np.inf for one in losses], float)
        row[: len(values)] = smoothed(values)
    places = smoothed(logs)
    middle = np.median(curves, axis=0)
    alive = int(np.argmax(~np.isfinite(middle))) if not np.isfinite(middle).all() else len(rates)
    places, middle = places[:alive], middle[:alive]
    some = np.where(np.isfinite(curves[:, :alive]), curves[:, :alive], np.nan)
    shown: dict[str, Any] = {
        "rates": tuple(np.exp(places).tolist()),
        "median": tuple(middle.tolist()),
        "low": tuple(np.nanmin(some, axis=0).tolist()) if alive else (),
        "high": tuple(np.nanmax(some, axis=0).tolist()) if alive else (),
        "repeats": len(sweeps),
    }
    started = max(3, alive // 12)
    if alive < 2 * started:
        return Reading(**shown, reason=_at_once(rates[0]))
    noise = batch_noise(sweeps) / math.sqrt(len(sweeps))
    first, bottom = float(middle[:started].mean()), int(np.argmin(middle))
    fall = first - float(middle[bottom])
    if bottom < started:
        return Reading(**shown, reason=_at_once(rates[0]) if alive < len(rates) else _flat(fall, noise))
    if fall < max(5 * noise, 0.01 * abs(first)):
        return Reading(**shown, reason=_flat(fall, noise))
    slope = slopes(places, middle)
    # The first averages are of a few batches, and their ups and downs are steep; so it counts once a tenth is gained.
    begun = int(np.argmax(middle[started : bottom + 1] <= first - 0.1 * fall)) + started
    steepest = begun + int(np.argmin(slope[begun : bottom + 1]))
    after = np.flatnonzero(middle[bottom:] > middle[bottom] + RISES * fall)
    turn = bottom + int(after[0]) if len(after) else None
    if turn is None and alive < len(rates):
        turn = alive - 1
    found: dict[str, Any] = {"steepest": math.exp(places[steepest]), "lowest": math.exp(places[bottom])}
    fallen = np.flatnonzero(middle <= first - RISES * fall)
    least = math.exp(places[int(fallen[0])])
    if turn is None:
        reason = (
            f"The loss falls fastest at {found['steepest']:.2g} and has not risen again at {rates[-1]:.2g}, where the "
            "sweep ends: the upper end of the range was not seen (--high goes further)."
        )
        return Reading(**shown, **found, suggested=found["steepest"], least=least, reason=reason)
    turns = math.exp(places[turn])
    halfway = math.sqrt(found["steepest"] * found["lowest"])
    suggested = min(halfway, turns / BELOW_TURN)
    which = "halfway between the two, by factors" if suggested == halfway else f"{BELOW_TURN:.0f} times below that"
    reason = (
        f"The loss falls fastest at {found['steepest']:.2g}, is lowest at {found['lowest']:.2g} and has given back a "
        f"quarter of its fall at {turns:.2g}. Suggested is {which}."
    )
    return Reading(
        **shown, **found, turns=turns, suggested=suggested, least=min(least, suggested), most=turns / 2, reason=reason
    )


def batch_noise(sweeps: Sequence[Sequence[float]]) -> float:
    """How far a smoothed loss scatters because batches differ: from the differences of neighbouring raw losses.

    Formula: ``1.4826 median |d| / sqrt(2)`` for one loss, times ``sqrt((1 - w) / (1 + w))`` for its average.
    """
    steps = [np.abs(np.diff([one for one in losses if math.isfinite(one)])) for losses in sweeps if len(losses) > 1]
    known = np.concatenate(steps) if steps else np.zeros(1)
    single = 1.4826 * float(np.median(known)) / math.sqrt(2) if len(known) else 0.0
    return single * math.sqrt((1 - SMOOTHING) / (1 + SMOOTHING))


def smoothed(values: Array, *, weight: float = SMOOTHING) -> Array:
    """Exponential averages without bias, ``sum_j w^(k-j) v_j / sum_j w^(k-j)``; infinite from the first infinite on."""
    found = np.empty(len(values))
    mean = mass = 0.0
    for k, value in enumerate(values):
        mean, mass = weight * mean + (1 - weight) * value, weight * mass + (1 - weight)
        found[k] = mean / mass
    return found


def slopes(places: Array, losses: Array, *, reach: float = 0.5) -> Array:
    """The curve's slope at each place by least squares over the places within ``reach`` (natural logarithm)."""
    found = np.zeros(len(places))
    for k, place in enumerate(places):
        near = np.abs(places - place) <= max(reach, 1.5 * abs(places[min(k + 1, len(places) - 1)] - place))
        x = places[near] - places[near].mean()
        found[k] = float(x @ losses[near] / (x @ x)) if x @ x else 0.0
    return found


def _at_once(rate: float) -> str:
    return (
        f"Cannot tell: the loss rises from the first rate ({rate:.2g}) on. Begin lower (--low), and look at the "
        "inputs: are they standardised?"
    )


def _flat(fall: float, noise: float) -> str:
    return (
        f"Cannot tell: over all rates the loss falls by {max(fall, 0):.3g}, and batches alone move its median by "
        f"{noise:.3g}. Larger batches or more repeats show less; a model that learns at no rate wants goodfit check."
    )


def lr_range(
    model: nn.Module,
    loader: Iterable[Any],
    loss: Callable[[Any, Any], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    low: float | None = None,
    high: float | None = None,
    points: int = DECADES * PER_DECADE,
    repeats: int = 3,
) -> Reading:
    """The range test for a loop of your own: model, optimizer, loader and random generators are left as they were.

    loader: gives ``(inputs, targets)``, again from the start whenever it ends. loss: called with the outputs and the
    targets. optimizer: each of its groups keeps its share of the rate. low, high: from a ten-thousandth of the
    optimizer's rate to a thousand times of it, unless said.
    Repeats differ in their batches as far as the loader shuffles. Raises GoodfitError where the loader is empty.

    >>> torch.manual_seed(0) and None
    >>> net, x = nn.Linear(4, 1), torch.randn(64, 4)
    >>> batches = [(x[k : k + 16], x[k : k + 16].sum(1, keepdim=True)) for k in range(0, 64, 16)]
    >>> found = lr_range(net, batches, nn.functional.mse_loss, torch.optim.SGD(net.parameters(), lr=0.01))
    >>> 0.01 < found.suggested < 1
    True
    """
    base = float(optimizer.param_groups[0]["lr"])
    if not base > 0 and (low is None or high is None):
        raise GoodfitError("the optimizer's learning rate is 0; say low and high")
    rates = sweep_rates(base * 1e-4 if low is None else low, base * 1e3 if high is None else high, points)
    device = next(model.parameters()).device
    found = []
    kept = {id(one): (one, one.get_state()) for one in _generators(loader)}
    with generators_kept():
        try:
            batches = _endless(loader)
            for repeat in range(repeats):
                torch.manual_seed(repeat)
                # One copy of both: the copied optimizer must hold the copied parameters.
                twin, own = copy.deepcopy((model, optimizer))
                twin.train()
                shares = [float(group["lr"]) / base if base else 1.0 for group in own.param_groups]

                def step(rate: float, *, twin: Any = twin, own: Any = own, shares: list[float] = shares) -> float:
                    inputs, targets = (_to(one, device) for one in next(batches))
                    for group, share in zip(own.param_groups, shares, strict=True):
                        group["lr"] = rate * share
                    own.zero_grad()
                    value = loss(twin(inputs), targets)
                    if math.isfinite(number := float(value.detach())):
                        value.backward()  # type: ignore[no-untyped-call]
                        own.step()
                    return number

                found.append(sweep(step, rates))
        finally:
            for one, state in kept.values():
                one.set_state(state)
    return read_sweeps(rates, found)


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise GoodfitError("the loader gives no batch; give one that can be read again from the start")


def _generators(loader: Any) -> list[torch.Generator]:
    owners = (
        loader,
        getattr(loader, "sampler", None),
        getattr(getattr(loader, "batch_sampler", None), "sampler", None),
    )
    return [g for g in (getattr(one, "generator", None) for one in owners) if isinstance(g, torch.Generator)]


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _to(one, device) for key, one in value.items()}
    return value
