"""The pages behind ``goodfit explain`` and ``goodfit list``: docstrings, which are the documentation."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from goodfit.errors import GoodfitError, nearest
from goodfit.evaluation import METRICS
from goodfit.recipe import MANY, ORDER, SCALARS, SECTIONS, keys
from goodfit.rules import RULES
from goodfit.technique import Duration
from goodfit.techniques import TABLE


def explain(name: str) -> str:
    """The page of a recipe key, technique, model, metric or rule. Raises GoodfitError with the nearest name."""
    pages = dict(_pages())
    wanted = name.strip()
    if wanted in pages:
        return pages[wanted]
    simple = wanted.lower().replace("-", "_")
    # A bare technique name, however it is spelt, as people say it aloud.
    found = [k for k in pages if k.lower().replace("-", "_") == simple or k.rsplit(".", 1)[-1] == simple]
    if found:
        return "\n\n".join(pages[k] for k in found[:3])
    raise GoodfitError(f"nothing is called {name!r}{nearest(name, pages)} goodfit list shows every name")


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


def _pages() -> Iterator[tuple[str, str]]:
    for slot, classes in TABLE.items():
        for name, cls in classes.items():
            title = name if slot not in SECTIONS else slot
            yield title, _class_page(cls, slot, name)
            yield f"{slot}.{name}", _class_page(cls, slot, name)
    for slot in ("task", "data"):
        yield slot, _class_page(SECTIONS[slot], slot, slot)
    for key, (cls, one) in keys().items():
        if one and one != "name":
            yield key, f"{key}\n{'=' * len(key)}\n{_setting(cls, one)}\n\n{_doc(cls)}"
        elif one == "name":
            slot = key.split(".")[0]
            lines = [f"  {n}: {_doc(c).splitlines()[0]}" for n, c in TABLE[slot].items()]
            yield key, f"{key}\n{'=' * len(key)}\nOne of:\n" + "\n".join(lines)
    for name, function in METRICS.items():
        yield name, f"{name} (metric)\n{'=' * (len(name) + 9)}\n{_doc(function)}"
    for rule in RULES:
        yield rule.name, f"{rule.name} (rule)\n{'=' * (len(rule.name) + 7)}\n{_doc(rule)}"


def _class_page(cls: type[Any], slot: str, name: str) -> str:
    path = slot if slot in SECTIONS else f"{slot}.{name}" if slot in MANY else slot
    title = f"{name} ({slot})" if name != slot else slot
    lines = [title, "=" * len(title), _doc(cls), ""]
    if slot not in SECTIONS and slot not in MANY:
        lines += [f'In a recipe: [{slot}] name = "{name}"    On the command line: --set {slot}.name={name}']
    elif slot in MANY:
        lines += [f"In a recipe: [{path}]    On the command line: --set {path}=true"]
    if fields(cls):
        lines += ["", "Settings:"]
        lines += [f"  {path}.{_setting(cls, one.name)}" for one in fields(cls)]
    return "\n".join(lines)


def _setting(cls: type[Any], name: str) -> str:
    (one,) = (f for f in fields(cls) if f.name == name)
    hint = get_type_hints(cls, include_extras=True)[name]
    default = "required" if one.default is MISSING else "none" if one.default is None else str(one.default)
    return f"{name}: {_words(hint)}; default {default}"


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
        return " | ".join(map(str, arguments))
    if arguments and get_origin(hint) is not tuple:
        return " or ".join(_words(a) for a in arguments)
    if hint is type(None):
        return "none"
    return getattr(hint, "__name__", str(hint)) if not arguments else str(hint).replace("typing.", "")


def _limit(extra: Any) -> str:
    for sign, attribute in ((">", "gt"), (">=", "ge"), ("<", "lt"), ("<=", "le")):
        if getattr(extra, attribute, None) is not None:
            return f"{sign} {getattr(extra, attribute)}"
    return ""


def _doc(thing: Any) -> str:
    return inspect.cleandoc(getattr(thing, "__doc__", None) or "No page yet.")
