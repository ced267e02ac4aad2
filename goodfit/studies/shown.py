"""What a study says in a terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from goodfit.screen import Screen, clock
from goodfit.studies.arms import words
from goodfit.studies.page import span
from goodfit.studies.search import Search
from goodfit.studies.verdicts import Ablation

_COLOURS = {"helps": "green", "hurts": "red", "no difference": "cyan", "failed": "red"}


def show(screen: Screen, made: Ablation) -> None:
    """The table of an ablation, its sentences and where its page is."""
    title = made.metric.replace("_", " ")
    table = Table(box=None, padding=(0, 1, 0, 1), header_style="dim")
    for column in ("arm", title, "interval", "pairs", "could see", "verdict"):
        left = column in ("arm", "verdict")
        table.add_column(column, justify="left" if left else "right", min_width=10 if left else None, overflow="fold")
    for one in made.findings:
        colour = _COLOURS.get(one.verdict, "yellow")
        table.add_row(
            escape(one.arm),
            "-" if one.difference is None else f"{one.difference:+.4f}",
            span(one),
            str(one.seeds),
            "-" if one.detectable is None else f"{one.detectable:.4f}",
            f"[{colour}]{one.verdict}[/]",
        )
    screen.console.print()
    screen.console.print(table)
    for one in made.findings:
        _say(screen, one.sentence, indent=2)
        for note in one.notes:
            _say(screen, note, indent=4, style="dim")
        if one.rows and one.verdict != "failed":
            unit = "rows right" if one.rows["hits"] else "loss"
            _say(
                screen,
                f"over the {one.rows['rows']:,.0f} rows that judged ({unit}): {one.rows['difference']:+.4f}, "
                f"{one.rows['low']:+.4f} to {one.rows['high']:+.4f}",
                indent=4,
                style="dim",
            )
    more = "more" if made.larger_is_better else "less"
    screen.line(f"  {more} {title} is better; below {made.matters:.3g} counts as no difference; {made.ended}")
    screen.console.print(f"\n  page   [link=file://{made.page and made.page.resolve()}]{escape(str(made.page))}[/link]")
    screen.line(f"  {clock(made.seconds)} in all; the test part stayed locked")


def show_search(screen: Screen, made: Search) -> None:
    """The best trials of a search, what matters, and whether the winner held up."""
    if made.confirmed is not None:
        show(screen, made.confirmed)
    if made.importance:
        shares = ", ".join(f"{key} {100 * value:.0f} %" for key, value in made.importance.items())
        _say(screen, f"what explains the differences: {shares}", indent=2)
    for one in made.warnings:
        screen.warn(f"  {one}")
    _say(screen, made.sentence, indent=2, style="bold")
    if made.recommended:
        screen.console.print(f"  [dim]next:[/] goodfit train SOURCE {escape(words(made.recommended))}", soft_wrap=True)
    screen.console.print(f"\n  page   [link=file://{made.page and made.page.resolve()}]{escape(str(made.page))}[/link]")


def _say(screen: Screen, text: str, *, indent: int, style: str = "") -> None:
    """A sentence, broken between words and set in; whole where no terminal shows it."""
    if screen.console.is_terminal:
        screen.console.print(Padding(Text(text, style), (0, 0, 0, indent)))
    else:
        screen.console.print(Text(" " * indent + text, style), soft_wrap=True)
