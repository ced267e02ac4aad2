"""Schedules from their formulas: the factor at step t of a run of T steps with W steps of warm-up."""

from __future__ import annotations

import math


def progress(t: int, total: int, warmup: int) -> float:
    """(t - W) / (T - 1 - W), 0 during warm-up."""
    return 0.0 if t < warmup else (t - warmup) / (total - 1 - warmup)


def warm(t: int, warmup: int) -> float:
    """(t + 1) / W while t < W."""
    return (t + 1) / warmup if t < warmup else 1.0


def cosine(t: int, total: int, *, warmup: int, floor: float) -> float:
    """floor + (1 - floor) (1 + cos(pi u)) / 2, times the warm-up."""
    u = progress(t, total, warmup)
    return warm(t, warmup) * (floor + (1 - floor) * (1 + math.cos(math.pi * u)) / 2)


def one_cycle(
    t: int, total: int, *, up: float, start: float, end: float, low: float, high: float
) -> tuple[float, float]:
    """Rate and momentum: half cosines from (start, high) to (1, low) over the first part, then to (end, high)."""
    turn = up * total - 1
    if t <= turn:
        s = t / turn
        return start + (1 - start) * (1 - math.cos(math.pi * s)) / 2, high + (low - high) * (
            1 - math.cos(math.pi * s)
        ) / 2
    s = (t - turn) / (total - 1 - turn)
    return 1 + (end - 1) * (1 - math.cos(math.pi * s)) / 2, low + (high - low) * (1 - math.cos(math.pi * s)) / 2


def staircase(t: int, *, every: int, gamma: float) -> float:
    """gamma^floor(t / every)."""
    return float(gamma ** math.floor(t / every))


def decay_by_k(t: int, *, k: float) -> float:
    """e^(-k t)."""
    return math.exp(-k * t)


def stepped_after_each_epoch(epoch: int, epochs: int, *, warmup: int, lr: float, floor: float) -> float:
    """A scheduler that is stepped once an epoch, after it: epoch 0 trains at the full rate, the floor is never met."""
    if epoch == 0:
        return lr
    done = epoch - 1
    if done < warmup:
        return lr * (done + 1) / warmup
    return floor + (lr - floor) * (1 + math.cos(math.pi * (done - warmup) / (epochs - warmup))) / 2


def polynomial(t: int, total: int, *, warmup: int, floor: float, power: float) -> float:
    """floor + (1 - floor) (1 - u)^power, times the warm-up."""
    return warm(t, warmup) * (floor + (1 - floor) * (1 - progress(t, total, warmup)) ** power)


def trapezoid(t: int, total: int, *, warmup: int, decay: int, floor: float) -> float:
    """Up over W steps, flat, and down to the floor over the last D steps."""
    left = total - 1 - t
    return warm(t, warmup) * (1.0 if left >= decay else floor + (1 - floor) * left / decay)


def triangle(t: int, total: int, *, start: float, peak: float, floor: float) -> float:
    """Straight lines through (0, start), (peak, 1), (1, floor)."""
    s = t / (total - 1)
    return start + (1 - start) * s / peak if s < peak else 1 + (floor - 1) * (s - peak) / (1 - peak)


def log_cosine(t: int, total: int, *, waves: int) -> float:
    """(1 - cos(2 pi log2(1 + (2^k - 1) s))) / 2."""
    return (1 - math.cos(2 * math.pi * math.log2(1 + (2**waves - 1) * (t + 1) / total))) / 2
