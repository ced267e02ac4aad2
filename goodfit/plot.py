"""Curves in a terminal: dots of braille, eight to a character, with axes that say what they measure."""

from __future__ import annotations

from collections.abc import Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
EMPTY = "\u2800"


def dots(values: Sequence[float], *, width: int, height: int, low: float, high: float) -> list[str]:
    """A curve as ``height`` lines of ``width`` braille characters, from the first value at the left to the last.

    Where several values fall into one column of dots, the column reaches from the smallest to the largest; neighbours
    are joined, so that a step is a vertical line. Blank places hold an empty braille character, never a space.

    >>> dots([0, 1], width=2, height=1, low=0, high=1)
    ['⣀⠏']
    """
    columns, rows = 2 * width, 4 * height
    cells = [[0] * width for _ in range(height)]
    before: int | None = None
    for column in range(columns):
        first = column * len(values) // columns
        last = max(first + 1, (column + 1) * len(values) // columns)
        inside = [_row(value, rows, low, high) for value in values[first:last]]
        reach = inside if before is None else [*inside, before + (inside[0] > before) - (inside[0] < before)]
        for row in range(min(reach), max(reach) + 1):
            cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
        before = inside[-1]
    return ["".join(chr(0x2800 + cell) for cell in line) for line in cells]


def rate_charts(
    rates: Sequence[float],
    momenta: Sequence[float],
    *,
    total: int,
    steps_per_epoch: int,
    width: int = 80,
    name: str = "",
) -> str:
    """What the schedule does over a run: the learning rate and, where it is cycled, the momentum below it."""
    epochs = total / steps_per_epoch
    right = f"{total:,} steps" + (f" = {epochs:g} epochs" if steps_per_epoch > 1 else "")
    made = [chart(rates, title=name or "learning rate", left="step 0", right=right, width=width)]
    if momenta:
        made.append(chart(momenta, title="momentum", left="step 0", right=right, width=width, height=4, low=None))
    return "\n".join(made)


def chart(
    values: Sequence[float],
    *,
    title: str,
    left: str,
    right: str,
    width: int = 80,
    height: int = 8,
    low: float | None = 0.0,
) -> str:
    """A curve with a title, its range at the side and what lies at both ends below.

    width: columns in all; no line is longer. low: the bottom of the picture, None for the smallest value.
    """
    low = min(values) if low is None else low
    high = max([*values, low])
    high = high if high > low else low + 1.0
    labels = [f"{high:.3g}", *[""] * (height - 2), f"{low:.3g}"]
    side = max(len(label) for label in labels)
    body = dots(values, width=max(width - side - 2, 8), height=height, low=low, high=high)
    lines = [f"{label:>{side}} │{row}" for label, row in zip(labels, body, strict=True)]
    room = len(body[0]) - len(left) - len(right)
    return "\n".join(
        [title, *lines, f"{'':{side}} └{'─' * len(body[0])}", f"{'':{side}}  {left}{'':{max(room, 1)}}{right}"]
    )


def band_chart(
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    title: str,
    left: str,
    right: str,
    marks: Sequence[tuple[float, str]] = (),
    width: int = 80,
    height: int = 10,
    bottom: float | None = None,
    top: float | None = None,
) -> str:
    """A curve within its band, whose edges are single dots, with marks below the axis.

    marks: ``(share of the width, one character)``. bottom, top: what the picture shows of the values; all of the curve
    and of its band unless said, and what lies outside stays at the edge.
    """
    bottom = min(low) if bottom is None else bottom
    top = max(high) if top is None else top
    top = top if top > bottom else bottom + 1.0
    labels = [f"{top:.3g}", *[""] * (height - 2), f"{bottom:.3g}"]
    side = max(len(label) for label in labels)
    room = max(width - side - 2, 8)
    curve = dots(values, width=room, height=height, low=bottom, high=top)
    edges = [_scattered(edge, room, height, bottom, top) for edge in (low, high)]
    merged = [
        "".join(chr(0x2800 | ord(a) | ord(b) | ord(c)) for a, b, c in zip(*lines, strict=True))
        for lines in zip(curve, *edges, strict=True)
    ]
    below = [" "] * room
    for share, mark in marks:
        below[min(max(int(share * room), 0), room - 1)] = mark
    body = [f"{label:>{side}} │{row}" for label, row in zip(labels, merged, strict=True)]
    gap = max(room - len(left) - len(right), 1)
    lines = [title, *body, f"{'':{side}} └{'─' * room}"]
    if marks:
        lines.append(f"{'':{side}}  {''.join(below)}".rstrip())
    return "\n".join([*lines, f"{'':{side}}  {left}{'':{gap}}{right}"])


def _scattered(values: Sequence[float], width: int, height: int, low: float, high: float) -> list[str]:
    """Every second column's value as one dot."""
    cells = [[0] * width for _ in range(height)]
    for column in range(0, 2 * width, 2):
        row = _row(values[column * len(values) // (2 * width)], 4 * height, low, high)
        cells[row // 4][column // 2] |= _DOTS[row % 4][0]
    return ["".join(chr(0x2800 + cell) for cell in line) for line in cells]


def _row(value: float, rows: int, low: float, high: float) -> int:
    """The row of dots that a value falls on, 0 at the top."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return min(int((1 - share) * (rows - 1) + 0.5), rows - 1)
