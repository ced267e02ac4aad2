"""Curves in braille: every dot where the value is, no line too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodfit.plot import chart, dots, rate_charts

BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def lit(lines: list[str]) -> set[tuple[int, int]]:
    """The ``(column, row)`` of every dot, row 0 at the top."""
    return {
        (2 * x + dx, 4 * y + dy)
        for y, line in enumerate(lines)
        for x, sign in enumerate(line)
        for dy in range(4)
        for dx in range(2)
        if (ord(sign) - 0x2800) & BITS[dy][dx]
    }


def test_a_straight_line_is_straight() -> None:
    found = lit(dots([k / 15 for k in range(16)], width=8, height=4, low=0, high=1))
    assert {(k, 15 - k) for k in range(16)} <= found


def test_a_step_is_a_vertical_line() -> None:
    found = lit(dots([1.0] * 10 + [0.0] * 10, width=10, height=2, low=0, high=1))
    assert {row for column, row in found if column == 10} == {*range(1, 8)}
    assert {row for column, row in found if column < 10} == {0}


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.integers(1, 40), st.integers(1, 6), st.booleans())
def test_every_column_is_drawn_and_none_is_apart_from_the_next(
    values: list[float], width: int, height: int, at_zero: bool
) -> None:
    lines = dots(values, width=width, height=height, low=-5, high=5)
    assert [len(line) for line in lines] == [width] * height
    found = lit(lines)
    for column in range(2 * width):
        rows = sorted(row for x, row in found if x == column)
        assert rows
        assert rows == list(range(rows[0], rows[-1] + 1))
        after = [row for x, row in found if x == column + 1]
        assert not after or min(abs(a - b) for a in rows for b in after) <= 1
    text = chart(values, title="t", left="0", right="9", width=40, low=0.0 if at_zero else None)
    assert max(map(len, text.split("\n"))) <= 40


@pytest.mark.parametrize("momenta", [[], [0.9, 0.85, 0.95]])
def test_the_axes_say_what_they_measure_within_80_columns(momenta: list[float]) -> None:
    text = rate_charts([0.001, 0.002, 0.0], momenta, total=3000, steps_per_epoch=100)
    assert text.startswith("learning rate\n0.002 │")
    assert "3,000 steps = 30 epochs" in text
    assert ("momentum" in text) == bool(momenta)
    assert max(map(len, text.split("\n"))) <= 80
