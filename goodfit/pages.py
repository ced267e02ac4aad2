"""The pages behind ``goodfit explain`` and ``goodfit list``: docstrings, which are the documentation."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from goodfit import distributed
from goodfit.check import Rule
from goodfit.errors import GoodfitError, nearest
from goodfit.evaluation import METRICS
from goodfit.models.activations import ACTIVATIONS, softmax
from goodfit.models.external import PREFIXES
from goodfit.models.layers import Dropout, StochasticDepth
from goodfit.models.norms import NORMS
from goodfit.plot import dots
from goodfit.rates import recipe_drawing
from goodfit.recipe import MANY, ONE_OF, ORDER, PHASE_KEYS, SCALARS, SECTIONS, Recipe, RunSettings, keys
from goodfit.rules import RULES
from goodfit.rules.finished import RUN_RULES
from goodfit.rules.live import LIVE_RULES, REPLICA_RULES
from goodfit.technique import Duration
from goodfit.techniques import TABLE
from goodfit.techniques.phases import NUMBERS, Phase
from goodfit.techniques.schedule import curve

Page = Callable[[], str]
"""Writes the text of a page."""

LAYERS: dict[str, tuple[str, Any]] = {
    **{name: ("activation", make) for name, make in ACTIVATIONS.items()},
    "softmax": ("output", softmax),
    **{f"{name}_norm" if name != "none" else "no_norm": ("norm", make) for name, make in NORMS.items()},
    "dropout": ("layer", Dropout),
    "drop_path": ("layer", StochasticDepth),
}
"""What models are made of, by name: its kind, and what its docstring says."""

ALIASES = {
    "glorot_uniform": "xavier_uniform",
    "glorot_normal": "xavier_normal",
    "kaiming_uniform": "he_uniform",
    "kaiming_normal": "he_normal",
    "swish": "silu",
    "stochastic_depth": "drop_path",
}
"""Other words for the same thing."""


def explain(name: str, *, width: int = 100) -> str:
    """The page of a recipe key, technique, model, metric or rule; several pages where a name stands for several things.

    A recipe file is explained too: what it asks for, and its schedule drawn over the run.

    width: columns that paragraphs are wrapped to. Raises GoodfitError with the nearest name.
    """
    if name.strip().endswith(".toml"):
        return recipe_page(name.strip(), width=min(width, 80))
    pages: dict[str, list[Page]] = {}
    for title, page in _pages():
        pages.setdefault(title, []).append(page)
    wanted = ALIASES.get(_simple(name.strip()), name.strip())
    simple = _simple(wanted)
    # However a name is spelt, as people say it aloud; a prefix stands for the whole family: timm:resnet18.
    for found in (
        pages.get(wanted, []),
        [page for title, some in pages.items() if _simple(title) == simple for page in some],
        [
            page
            for title, some in pages.items()
            if _simple(title.rsplit(".", 1)[-1]) == simple
            if not title.startswith("phase.") or simple in PHASE_KEYS  # else all settings of optimizers come twice
            for page in some
        ],
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
    yield "run", [*SCALARS, "distributed"]
    yield "layers", list(LAYERS)
    yield "metrics", list(METRICS)
    yield "rules", list(dict.fromkeys(rule.name for rule in (*RULES, *LIVE_RULES, *REPLICA_RULES, *RUN_RULES)))


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
    yield "phase", partial(_class_page, Phase, "phase", "phase")
    for number in NUMBERS:
        yield f"phase.{number}.name", partial(_list_page, f"phase.{number}.name", "One of:", TABLE["optimizer"])
    for slot, classes in TABLE.items():
        if slot == "phase":
            continue
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
    for name, (kind, thing) in LAYERS.items():
        yield name, partial(_doc_page, f"{name} ({kind})", thing)
    things = {name: thing for name, (_, thing) in LAYERS.items()}
    yield "layers", partial(_list_page, "layers", "What models are made of:", things)
    for name, function in METRICS.items():
        yield name, partial(_doc_page, f"{name} (metric)", function)
    for rule in (*RULES, *LIVE_RULES, *REPLICA_RULES, *RUN_RULES):
        yield rule.name, partial(_doc_page, f"{rule.name} (rule)", rule)
    yield "metrics", partial(_list_page, "metrics", "What a model is judged by:", METRICS)
    groups = {
        "Before a training": RULES,
        "In any training (goodfit check)": LIVE_RULES,
        "Of several processes together": REPLICA_RULES,
        "After a training of goodfit's": RUN_RULES,
    }
    yield "rules", partial(_rules_page, groups)
    yield "run", partial(_class_page, RunSettings, "run", "run")
    yield "distributed", partial(_doc_page, "distributed", distributed)


def recipe_page(path: str, *, width: int = 80) -> str:
    """What a recipe file asks for, key by key, and its schedule drawn. Raises RecipeError where it is no recipe."""
    recipe = Recipe.read(path)
    asked = recipe.flat()
    side = max((len(key) for key in asked), default=0)
    known = keys()
    lines = []
    for key, value in asked.items():
        cls, one = known.get(key, (None, ""))
        technique = cls if key.endswith(".name") or not one else None
        if key.endswith(".name"):
            slot = "optimizer" if key.startswith("phase.") else key.split(".")[0]
            technique = TABLE[slot].get(str(value).split(":")[0])
        said = _doc(technique).split("\n")[0] if technique else _told(cls, one).partition(": ")[2] if cls else ""
        said = said.replace("``", "").split(";")[0].rstrip(".")
        text = f"  {key:<{side}}  {str(value).lower() if isinstance(value, bool) else value}"
        lines += textwrap.wrap(f"{text}  ({said})" if said else text, width, subsequent_indent=" " * (side + 4))
    rest = f"What it leaves open is chosen with the data: goodfit train SOURCE --recipe {path} --dry-run"
    lines += ["", *textwrap.wrap(rest, width)]
    return _titled(f"{path} (recipe)", "\n".join([*lines, "", recipe_drawing(recipe, width=width)]))


def _rules_page(groups: Mapping[str, Sequence[Rule]]) -> str:
    lines = []
    for head, rules in groups.items():
        lines += [f"{head}:", *(f"  {rule.name}: {_doc(rule).split(chr(10))[0]}" for rule in rules)]
    return _titled("rules", "\n".join(lines))


def _list_page(title: str, head: str, things: Mapping[str, Any]) -> str:
    return _titled(
        title, "\n".join([head, *(f"  {name}: {_doc(one).split(chr(10))[0]}" for name, one in things.items())])
    )


def _doc_page(title: str, thing: Any) -> str:
    return _titled(title, _doc(thing))


def _class_page(cls: type[Any], slot: str, name: str) -> str:
    path = "" if slot == "run" else f"{slot}.{name}." if slot in MANY else f"{slot}."
    lines = [_doc(cls), *(f"\n{_doc(base)}" for base in _shared(cls))]
    said = f"{name}:NAME" if slot == "model" and f"{name}:" in PREFIXES else name
    if slot in MANY:
        lines += ["", f"In a recipe: [{path[:-1]}]", f"On the command line: --set {path[:-1]}=true"]
    elif slot == "phase":
        path = "phase.2."
        lines += ["", 'In a recipe: [phase.2] after = "60%", name = "sgd", lr = 0.01']
        lines += ["On the command line: --set phase.2.after=60% --set phase.2.name=sgd --set phase.2.lr=0.01"]
    elif slot not in SECTIONS and slot != "run":
        lines += ["", f'In a recipe: [{slot}] name = "{said}"', f"On the command line: --set {slot}.name={said}"]
    if fields(cls):
        lines += ["", "Settings:", *(f"  {path}{_setting(cls, one.name)}" for one in fields(cls))]
    if slot == "schedule" and name != "plateau":
        lines += ["", "With its default settings, over a run of 100 epochs, from 0 to 1:", *_small_drawing(cls)]
    return _titled(f"{name} ({slot})" if name != slot else slot, "\n".join(lines))


def _small_drawing(cls: type[Any]) -> list[str]:
    drawn = dots(curve(cls(), 200, 2), width=32, height=4, low=0.0, high=1.0)
    return [f"{'':8}{line}" for line in drawn]


def _shared(cls: type[Any]) -> list[type[Any]]:
    """The techniques whose settings a class takes over, with a page of their own."""
    return [base for base in cls.__mro__[1:] if "slot" in vars(base) and base.__doc__]


def _key_page(key: str, cls: type[Any], name: str) -> str:
    """What a key takes; where several techniques have a setting of that name, what it is in each."""
    slot = "optimizer" if key.startswith("phase.") and name not in PHASE_KEYS else key.split(".")[0]
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
    lines = [line for one in (cls, *_shared(cls)) for line in _doc(one).split("\n")]
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
            return " ".join(["a duration ('5 epochs', '200 steps', '10%')", *(e for e in extras if isinstance(e, str))])
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
