"""Names and texts from data as they may be shown: control characters are made visible, so that none of them acts.

A column called ``ESC ]0;...`` would set the terminal's title, one with a right-to-left override would read as another
name, and a line break inside a name could forge a line of ours.
"""

from __future__ import annotations

import re
import unicodedata

_KEPT = "\n\t"
_ACTING = ("Cc", "Cs", "Zl", "Zp")
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that turn the direction of writing, or isolate a part of it (Unicode 16, UAX 9)."""


LONGEST = 1000
"""Characters of a message's line that are shown: a cell or a name may hold megabytes."""


def visible(text: str, *, keep: str = _KEPT) -> str:
    r"""A text whose control characters, lone surrogates and marks of direction stand as escapes (``\x1b``).

    keep: control characters that stay as they are: line breaks and tabs unless said.

    >>> visible("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_code(one) if one not in keep and _acts(one) else one for one in text)


def message(text: str) -> str:
    """A message of ours that quotes data: line breaks that are not ours are made visible, and long lines are cut.

    Ours are followed by two spaces: the list of a recipe's problems, a command to type.

    >>> message("class 'a" + chr(10) + "b'")
    "class 'a\\\\nb'"
    """
    lines = [visible(one, keep="\t").replace("\\x0a", "\\n") for one in re.split(r"\n(?=  )", text)]
    return "\n".join(one if len(one) <= LONGEST else f"{one[: LONGEST - 200]} ... {one[-150:]}" for one in lines)


def guarded(cell: object) -> object:
    """A cell of a CSV file that no spreadsheet takes for a formula: a text that begins like one gets a quote in front.

    Formulas begin with ``=``, ``+``, ``-``, ``@`` (also in full width), with or without white space before them (OWASP,
    CSV Injection); tabs and returns in front are swallowed by some programs.

    >>> guarded("=1+1"), guarded("fine"), guarded(-1.5)
    ("'=1+1", 'fine', -1.5)
    """
    if not isinstance(cell, str):
        return cell
    plain = cell.lstrip()
    begins = plain[:1] in tuple("=+-@＝＋－＠")
    return "'" + cell if begins or cell[:1] in ("\t", "\r", "\n") else cell


def _acts(one: str) -> bool:
    return unicodedata.category(one) in _ACTING or one in _TURNING


def _code(one: str) -> str:
    number = ord(one)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
