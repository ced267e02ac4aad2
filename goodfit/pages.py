"""The pages behind ``goodfit explain`` and ``goodfit list``: docstrings, which are the documentation."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from goodfit.errors import GoodfitError, nearest
from goodfit.evaluation import METRICS
from goodfit.models.external import PREFIXES
from goodfit.recipe import MANY, ONE_OF, ORDER, SCALARS, SECTIONS, RunSettings, keys
from goodfit.rules import RULES
from goodfit.technique import Duration
from goodfit.techniques import TABLE

Page = Callable[[], str]
"""Writes the text of a page."""


def explain(name: str, *, width: int = 100) -> str:
    """The page of a recipe key, technique, model, metric or rule; several pages where a name stands for several things.

    width: columns that paragraphs are wrapped to. Raises GoodfitError with the nearest name.
    """
    pages: dict[str, list[Page]] = {}
    for title, page in _pages():
        pages.setdefault(title, []).append(page)
    wanted = name.strip()
    simple = _simple(wanted)
    # However a name is spelt, as people say it aloud; a prefix stands for the whole family: timm:resnet18.
    for found in (
        pages.get(wanted, []),
        [page for title, some in pages.items() if _simple(title) == simple for page in some],
        [page for title, some in pages.items() if _simple(title.rsplit(".", 1)[-1]) == simple for page in some],
        pages.get(wanted.split(":")[0], []) if ":" in wanted else [],
    ):
        if found:
            return "\n\n".join(wrapped(page, width) for page in dict.fromkeys(page() for page in found))
    raise GoodfitError(f"nothing is called {name!r}{nearest(name, pages) or ';'} goodfit list shows every name")


def listing() -> Iterator[tuple[str, list[str]]]:
    """Every name that can be explained, by slot: ``("optimizer", ["adam", ...])``."""
    for slot in ORDER:
        if slot in SCALARS:
            continue
        if slot in SECTIONS:
            yield slot, [f"{slot}.{f.name}" for f in fields(SECTIONS[slot])]
        else:
            yield slot, list(TABLE[slot])
    yield "run", list(SCALARS)
    yield "metrics", list(METRICS)
    yield "rules", [rule.name for rule in RULES]


def wrapped(page: str, width: int) -> str:
    """A page with its paragraphs wrapped anew; what is indented or an example stays as it is.

    >>> print(wrapped("Formula: one\\nline that goes on.\\n\\n    x = 1", 24))
    Formula: one line that
        goes on.
    <BLANKLINE>
        x = 1
    """
    lines: list[str] = []
    for line in page.split("\n"):
        held = lines[-1] if lines else ""
        continues = bool(held) and not held.startswith((" ", ">>>", "=")) and not _begins(line)
        follows = bool(held) and _begins(held) and re.match(r" {4}\S", line) and not held.endswith("::")
        if line.strip() and (continues or follows) and not line.startswith((">>>", "=", "    " * 2)):
            lines[-1] = f"{held} {line.strip()}"
        else:
            lines.append(line)
    made: list[str] = []
    for line in lines:
        indent = "    " if _begins(line) else "      " if line.startswith("  ") else ""
        made += textwrap.wrap(
            line, max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(made)


def _begins(line: str) -> bool:
    """Whether a line of a docstring begins an item such as ``alpha: ...`` or ``Source: ...``, or is indented."""
    return bool(re.match(r"(- |[\w*`-]+(,? (and )?[\w*`-]+){0,3}: )", line)) or line.startswith((" ", ">>>", "="))


def _simple(name: str) -> str:
    return name.lower().replace("-", "_")


def _pages() -> Iterator[tuple[str, Page]]:
    """Every name with the function that writes its page."""
    for slot, classes in TABLE.items():
        if slot not in SECTIONS:
            yield slot, partial(_list_page, f"{slot} (slot)", "One of:" if slot in ONE_OF else "Any of:", classes)
        if slot in ONE_OF:
            yield f"{slot}.name", partial(_list_page, f"{slot}.name", "One of:", classes)
        for name, cls in classes.items():
            page = partial(_class_page, cls, slot, name)
            yield slot if slot in SECTIONS else name, page
            if slot not in SECTIONS:
                yield f"{slot}.{name}", page
    for slot in ("task", "data"):
        yield slot, partial(_class_page, SECTIONS[slot], slot, slot)
    for key, (cls, one) in keys().items():
        if one and one != "name":
            yield key, partial(_key_page, key, cls, one)
    for name, function in METRICS.items():
        yield name, partial(_doc_page, f"{name} (metric)", function)
    for rule in RULES:
        yield rule.name, partial(_doc_page, f"{rule.name} (rule)", rule)
    yield "metrics", partial(_list_page, "metrics", "What a model is judged by:", METRICS)
    yield "rules", partial(_list_page, "rules", "What pre-flight looks for:", {rule.name: rule for rule in RULES})
    yield "run", partial(_class_page, RunSettings, "run", "run")


def _list_page(title: str, head: str, things: Mapping[str, Any]) -> str:
    return _titled(
        title, "\n".join([head, *(f"  {name}: {_doc(one).split(chr(10))[0]}" for name, one in things.items())])
    )


def _doc_page(title: str, thing: Any) -> str:
    return _titled(title, _doc(thing))


def _class_page(cls: type[Any], slot: str, name: str) -> str:
    path = "" if slot == "run" else f"{slot}.{name}." if slot in MANY else f"{slot}."
    lines = [_doc(cls)]
    said = f"{name}:NAME" if slot == "model" and f"{name}:" in PREFIXES else name
    if slot in MANY:
        lines += ["", f"In a recipe: [{path[:-1]}]", f"On the command line: --set {path[:-1]}=true"]
    elif slot not in SECTIONS and slot != "run":
        lines += ["", f'In a recipe: [{slot}] name = "{said}"', f"On the command line: --set {slot}.name={said}"]
    if fields(cls):
        lines += ["", "Settings:", *(f"  {path}{_setting(cls, one.name)}" for one in fields(cls))]
    return _titled(f"{name} ({slot})" if name != slot else slot, "\n".join(lines))


def _key_page(key: str, cls: type[Any], name: str) -> str:
    """What a key takes; where several techniques have a setting of that name, what it is in each."""
    slot = key.split(".")[0]
    owners = [c for c in TABLE.get(slot, {}).values() if name in {f.name for f in fields(c)}]
    if slot not in ONE_OF or len(owners) < 2:
        return _titled(key, f"{_setting(cls, name)}\n\n{_doc(cls)}")
    kinds: dict[str, list[str]] = {}
    for owner in owners:
        kinds.setdefault(_setting(owner, name).removeprefix(f"{name}: "), []).append(owner.name)
    lines = [f"  {', '.join(names)}: {setting}" for setting, names in kinds.items()]
    meaning = dict.fromkeys(filter(None, (_told(owner, name) for owner in owners)))
    pages = f"The pages of these say more: goodfit explain {owners[0].name}"
    return _titled(key, "\n".join([*meaning, *([""] if meaning else []), "A setting of:", *lines, "", pages]))


def _told(cls: type[Any], name: str) -> str:
    """The line of a class's docstring that is about one of its settings."""
    lines = _doc(cls).split("\n")
    for number, line in enumerate(lines):
        if re.match(rf"([\w, ]+, )?{name}(, [\w, ]+)?: ", line):
            rest = [more.strip() for more in lines[number + 1 :]]
            after = next((k for k, more in enumerate(lines[number + 1 :]) if not more.startswith("  ")), len(rest))
            return " ".join([line, *rest[:after]])
    return ""


def _titled(title: str, text: str) -> str:
    return f"{title}\n{'=' * len(title)}\n{text}"


def _setting(cls: type[Any], name: str) -> str:
    (one,) = (f for f in fields(cls) if f.name == name)
    hint = get_type_hints(cls, include_extras=True)[name]
    default = "required" if one.default is MISSING else "none" if one.default in (None, ()) else str(one.default)
    return f"{name}: {_words(hint)}; default {default.lower() if isinstance(one.default, bool) else default}"


def _words(hint: Any) -> str:
    """A type hint in words, its range included."""
    if get_origin(hint) is Annotated:
        base, *extras = get_args(hint)
        if base is Duration:
            return "a duration ('5 epochs', '200 steps', '10%')"
        limits = [_limit(m) for extra in extras for m in getattr(extra, "metadata", [extra])]
        return " ".join([_words(base), *filter(None, limits)])
    arguments = get_args(hint)
    if str(get_origin(hint)) == "typing.Literal":
        return " | ".join(str(one).lower() if isinstance(one, bool) else str(one) for one in arguments)
    if get_origin(hint) is tuple:
        return "a list of " + " and ".join(dict.fromkeys(_words(a) for a in arguments if a is not ...))
    if arguments:
        return " or ".join(_words(a) for a in arguments)
    names = {type(None): "none", int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(hint) or str(getattr(hint, "__name__", hint))


def _limit(extra: Any) -> str:
    for sign, attribute in (("above", "gt"), ("from", "ge"), ("below", "lt"), ("to", "le")):
        if getattr(extra, attribute, None) is not None:
            return f"{sign} {getattr(extra, attribute)}"
    return ""


def _doc(thing: Any) -> str:
    return inspect.cleandoc(getattr(thing, "__doc__", None) or "No page yet.")
