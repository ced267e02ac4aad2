"""A page that answers one question: the answer in words, a picture, the figures, and what to type next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from goodfit import store
from goodfit.report.template import template


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the page shows.

    question, verdict: the heading and the sentence below it. sentences: why, one paragraph each. pictures: (data URI,
    what it shows). tables: (title, header, rows). commands: (what to type, what it does). note: how it was measured.
    """

    question: str
    verdict: str
    sentences: Sequence[str] = ()
    pictures: Sequence[tuple[str, str]] = ()
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = ()
    commands: Sequence[tuple[str, str]] = ()
    note: str = ""


def write_answer(path: Path, answer: Answer) -> Path:
    """Write the page, self-contained, every name escaped. Raises RunError where it cannot be written."""
    store.write_file(path, template("answer.html").render(a=answer).encode("utf-8", "replace"))
    return path
