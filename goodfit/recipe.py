"""The Recipe: everything that was asked of a run, as plain values.

A recipe is sparse. What it leaves out is chosen by `goodfit.plan.resolve`, with a reason for each value. Keys are
dotted, the
same in a file, on the command line, in a finding's fix and in a search space: ``optimizer.lr = 3e-4``.

Three shapes of slot::

    one of    [optimizer] name = "adamw", lr = 3e-4         one technique, chosen by name
    many      [batch.mixup] alpha = 0.2                     any number, each a table (true: defaults, false: off)
    phase     [phase.2] after = "60%", name = "sgd"         a later part of the run with an optimizer of its own
    section   [clip] norm = 1.0                             one fixed set of settings
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import AfterValidator

from goodfit.errors import RecipeError, nearest
from goodfit.technique import Chance, Count, Span, problems_with, settings_of, technique
from goodfit.techniques import TABLE as TECHNIQUES
from goodfit.techniques.phases import NUMBERS, Phase
from goodfit.techniques.views import View


def _prefixed(name: str) -> str:
    prefix, colon, rest = name.partition(":")
    if prefix not in ("timm", "torchvision", "hf", "run") or not colon or not rest:
        said = "write hf:NAME, timm:NAME, torchvision:NAME or run:FOLDER"
        raise ValueError(f"{name!r} names no pretrained model; {said}")
    return name


@technique("task")
class TaskSettings:
    """What is to be predicted: told from the target unless said here.

    kind: ``classification``, ``regression``, ``language``, ``sequence`` (from one text to another) or ``forecast``.
    positive: of two classes, the one whose probability is meant; the rarer one unless said.
    threshold: of two classes, the probability from which the second is called is tuned on validation for ``f1`` or
        ``balanced_accuracy``; ``auto``: for F1, where the rarer class has less than a fifth of the samples; ``none``:
        it stays at 0.5.
    """

    kind: Literal["auto", "classification", "regression", "language", "sequence", "forecast"] = "auto"
    positive: str | None = None
    threshold: Literal["auto", "f1", "balanced_accuracy", "none"] = "auto"


@technique("data")
class DataSettings:
    """Which columns, how they are split and how they are turned into tensors.

    target: the column to predict; the last one, or one called target, label, class or y, unless said.
    time, horizon, lookback: of a series: the column of time stamps, how many rows ahead, how many rows back.
    groups: a column whose values must not be torn apart by the split (patients, users, documents).
    ignore: columns to leave out.
    valid, test: shares of the rows (default 0.15 and 0.15; the default share for validation takes at most 5,000
        rows); parts that
        the source brings along are kept.
    test_source: a file or folder that is the test part; then nothing of SOURCE is set aside for testing.
    tokens: how text is cut; characters or byte-pair tokens for language modelling, and words too from one text to
        another; words, byte-pair tokens or grams (words in order, and behind them the set of n-grams of words and
        letters) for classification.
    vocabulary, length: number of different tokens kept, and tokens per sample (where a language model is truncated).
    like: the model whose inputs these are to be: its tokenizer (``hf:NAME``), its mean and deviation of pixels
        (``timm:NAME``, ``torchvision:NAME``, ``hf:NAME``), a run's own encoder (``run:runs/3``). The model asked for
        unless said; ``none`` for what the data itself tells.
    image_size: side in pixels; the common size of the images unless said.
    workers: loader processes for data that does not fit in memory; as many as cores unless said.
    memory: bytes of decoded data kept in memory before streaming, 4 GiB unless said.
    seed: of the split; the run's own seed unless said. Runs that are compared, or predict together, want the same one.
    """

    target: str | None = None
    time: str | None = None
    horizon: int = 0
    lookback: Count | None = None
    groups: str | None = None
    ignore: tuple[str, ...] = ()
    valid: Chance = 0.15
    test: Chance = 0.15
    test_source: str | None = None
    tokens: Literal["auto", "characters", "bpe", "words", "grams"] = "auto"
    vocabulary: Count | None = None
    length: Count | None = None
    like: Annotated[str, AfterValidator(_prefixed)] | None = None
    image_size: Count | None = None
    workers: int | None = None
    memory: int | None = None
    seed: int | None = None


ONE_OF = ("model", "init", "sampling", "loss", "gradient", "optimizer", "schedule", "average", "stopping", "transfer")
MANY = ("batch",)
SECTIONS: dict[str, type[Any]] = {
    "task": TaskSettings,
    "data": DataSettings,
    **{slot: next(iter(TECHNIQUES[slot].values())) for slot in ("penalty", "clip", "numerics")},
}


@technique("run")
class RunSettings:
    """The keys that stand at the top of a recipe.

    epochs: how long to train: ``10``, ``"10 epochs"`` or ``"2000 steps"``.
    batch_size: samples per optimizer update, or ``"full"``.
    tta: test-time augmentation of images: results, ``goodfit test`` and ``goodfit predict`` average the logits over
        ``flip`` (the image and its mirror image), ``shift`` (as it is, and moved by a pixel up-left and down-right) or
        ``flip_shift`` (both: six views, six times the cost); ``flip`` where training flips, ``none`` elsewhere.
        Validation while training has one view.
    seed: of everything random.
    nonfinite: what a loss that is not finite does: ``stop`` the run at the last good weights, or ``skip`` the update.
    ignore: names of pre-flight rules whose errors do not keep a run from training, such as ``["batch-leak"]`` for a
        model that means to compare the samples of a batch.
    """

    epochs: Span | Count | None = None
    batch_size: Count | Literal["full"] | None = None
    tta: View | None = None
    seed: int | None = None
    nonfinite: Literal["stop", "skip"] | None = None
    ignore: tuple[str, ...] | None = None


ORDER = [
    "task",
    "data",
    "model",
    "init",
    "sampling",
    "batch",
    "loss",
    "penalty",
    "gradient",
    "clip",
    "optimizer",
    "phase",
    "schedule",
    "average",
    "stopping",
    "numerics",
    "transfer",
    "epochs",
    "batch_size",
    "tta",
    "seed",
    "nonfinite",
    "ignore",
]
SCALARS = tuple(f.name for f in fields(RunSettings))
MOST_PROBLEMS = 100
"""Problems that are told at once: finding the nearest name for each of many thousands would take minutes."""
_DEEP = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')\s*+\.\s*+){50}""")
PHASE_KEYS = tuple(f.name for f in fields(Phase))
"""What a phase has beside its optimizer's name and settings."""


@dataclass(frozen=True, init=False)
class Recipe:
    """Everything that was asked of a run.

    >>> recipe = Recipe(epochs=3, optimizer={"name": "adamw", "lr": 3e-4})
    >>> recipe.patched({"optimizer.lr": 1e-3}).flat()["optimizer.lr"]
    0.001

    Keyword arguments are the slots: a technique instance, a mapping of settings, or for ``batch`` a list of techniques.
    Raises RecipeError naming every problem at once.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    def __init__(self, values: Mapping[str, Any] | None = None, **slots: Any) -> None:
        tree: dict[str, Any] = {}
        for slot, value in {**(values or {}), **slots}.items():
            tree[slot] = _plain(slot, value)
        problems = list(islice(_problems(tree), MOST_PROBLEMS))
        if problems:
            raise RecipeError(problems)
        object.__setattr__(self, "values", {k: tree[k] for k in ORDER if k in tree})

    @staticmethod
    def parse(text: str, *, name: str = "recipe") -> Recipe:
        """Read TOML text."""
        deep = f"{name} is nested deeper than any recipe; write [slot] and its settings below"
        if _DEEP.search(text):  # which takes the parser of Python minutes
            raise RecipeError([deep])
        try:
            return Recipe(tomllib.loads(text))
        except RecursionError:
            raise RecipeError([deep]) from None
        except (ValueError, OverflowError) as error:  # numbers of thousands of digits raise a plain ValueError
            raise RecipeError([f"{name} is not TOML: {error}"]) from None

    @staticmethod
    def read(path: str | Path) -> Recipe:
        """Read a TOML file of at most a megabyte."""
        path = Path(path)
        try:
            if path.exists() and not path.is_file():
                raise RecipeError([f"{path} is no file; give a TOML text file"])
            if path.stat().st_size > 1_000_000:
                raise RecipeError([f"{path} is larger than a megabyte; that is no recipe"])
            return Recipe.parse(path.read_text(encoding="utf-8"), name=str(path))
        except OSError as error:
            raise RecipeError([f"{path} cannot be read: {error.strerror or error}"]) from None
        except UnicodeDecodeError:
            raise RecipeError([f"{path} is not UTF-8 text; a recipe is a TOML text file"]) from None

    def patched(self, changes: Mapping[str, Any]) -> Recipe:
        """The same recipe with some dotted keys set anew; choosing another name drops the old one's settings."""
        tree = json.loads(json.dumps(self.values))
        for dotted, value in changes.items():
            *path, last = dotted.split(".")
            if last == "name" and path and path[0] in ONE_OF and tree.get(path[0], {}).get("name") not in (None, value):
                tree[path[0]] = {k: v for k, v in tree[path[0]].items() if f"{path[0]}.{k}" in changes}
            elif last == "name" and path[:1] == ["phase"] and len(path) == 2:
                settings = tree.get("phase", {}).get(path[1])
                if isinstance(settings, dict) and settings.get("name", value) != value:
                    keep = (*PHASE_KEYS, *(k for k in settings if f"{'.'.join(path)}.{k}" in changes))
                    tree["phase"][path[1]] = {k: v for k, v in settings.items() if k in keep}
            node = tree
            for part in path:
                if not isinstance(node.get(part), dict):
                    node[part] = {}
                node = node[part]
            node[last] = value
        return Recipe(tree)

    def flat(self) -> dict[str, Any]:
        """Dotted key -> value, in the order of a training step."""
        return dict(_flatten(self.values))

    def to_toml(self) -> str:
        """The recipe as TOML; reading it again gives an equal recipe."""
        lines: list[str] = []
        _write(lines, dict(self.values), ())
        return "\n".join(lines).strip() + "\n"

    def __hash__(self) -> int:
        return hash(self.to_toml())


def parse_set(text: str) -> dict[str, Any]:
    """One ``--set key=value``: the value is TOML where it can be read as that, else text.

    >>> parse_set("optimizer.lr=3e-4"), parse_set("epochs=5 epochs"), parse_set("batch.flip=false")
    ({'optimizer.lr': 0.0003}, {'epochs': '5 epochs'}, {'batch.flip': False})
    """
    dotted, equals, value = text.partition("=")
    if not equals or not dotted.strip():
        raise RecipeError([f"--set {text!r}: write it as key=value, such as --set optimizer.lr=3e-4"])
    try:
        return {dotted.strip(): tomllib.loads(f"v = {value.strip()}")["v"]}
    except (ValueError, RecursionError):
        return {dotted.strip(): value.strip()}


def keys() -> dict[str, tuple[type[Any], str]]:
    """Every dotted key a recipe may hold -> the class and field it sets (the first of them where several share it)."""
    known: dict[str, tuple[type[Any], str]] = {}
    for slot in ORDER:
        if slot in SCALARS:
            known[slot] = (RunSettings, slot)
        elif slot in SECTIONS:
            for one in fields(SECTIONS[slot]):
                known[f"{slot}.{one.name}"] = (SECTIONS[slot], one.name)
        elif slot == "phase":
            for prefix in (f"phase.{number}" for number in NUMBERS):
                known |= {f"{prefix}.{one.name}": (Phase, one.name) for one in fields(Phase)}
                known[f"{prefix}.name"] = (Phase, "name")
                for cls in TECHNIQUES["optimizer"].values():
                    for one in fields(cls):
                        known.setdefault(f"{prefix}.{one.name}", (cls, one.name))
        else:
            if slot in ONE_OF:
                known[f"{slot}.name"] = (next(iter(TECHNIQUES[slot].values())), "name")
            for name, cls in TECHNIQUES[slot].items():
                prefix = f"{slot}.{name}" if slot in MANY else slot
                if slot in MANY:
                    known.setdefault(prefix, (cls, ""))
                for one in fields(cls):
                    known.setdefault(f"{prefix}.{one.name}", (cls, one.name))
    return known


def make(slot: str, name: str, settings: Mapping[str, Any]) -> Any:
    """The technique ``name`` of a slot with these plain settings; ``"none"`` stands for None."""
    cls = SECTIONS[slot] if slot in SECTIONS else RunSettings if slot == "run" else _named(slot, name)
    return cls(**{key: _none(cls, key, value) for key, value in settings.items()})


def _named(slot: str, name: str) -> type[Any]:
    plain = name.split(":", 1)[0] if slot == "model" else name
    return TECHNIQUES[slot][plain]


def _plain(slot: str, value: Any) -> Any:
    """A slot's value as plain TOML types."""
    if slot in MANY and isinstance(value, Sequence) and not isinstance(value, str):
        return {one.name: settings_of(one) for one in value}
    if is_dataclass(value) and not isinstance(value, type):
        values = settings_of(value)
        return {"name": value.name, **values} if slot in ONE_OF else values  # type: ignore[attr-defined]
    if slot in ONE_OF and isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping):
        return {str(k): settings_of(v) if is_dataclass(v) and not isinstance(v, type) else v for k, v in value.items()}
    return value if isinstance(value, bool | int | float | str | list) else str(value)


def _problems(tree: Mapping[str, Any]) -> Iterator[str]:
    known = keys()
    for slot, value in tree.items():
        if slot not in ORDER:
            inner = list(_flatten({slot: value}))[:1]
            dotted = inner[0][0] if inner else slot
            yield f"unknown key '{dotted}'{_nearest_key(dotted, known)}"
        elif slot in SCALARS:
            yield from _value_problem(RunSettings, slot, slot, value)
        elif not isinstance(value, Mapping):
            yield f"'{slot}' is a table, not {value!r}; write [{slot}] and its settings below it"
        elif slot in SECTIONS:
            yield from _table_problems(SECTIONS[slot], slot, value, known)
        elif slot == "phase":
            for number, settings in value.items():
                yield from _phase_problems(number, settings, known)
        elif slot in MANY:
            for name, settings in value.items():
                if name not in TECHNIQUES[slot]:
                    yield f"unknown technique '{slot}.{name}'{nearest(name, TECHNIQUES[slot])}"
                elif isinstance(settings, Mapping):
                    yield from _table_problems(TECHNIQUES[slot][name], f"{slot}.{name}", settings, known)
                elif not isinstance(settings, bool):
                    yield f"'{slot}.{name}' is a table of settings, true or false, not {settings!r}"
        else:
            yield from _one_of_problems(slot, value, known)


def _phase_problems(number: str, settings: Any, known: Mapping[str, Any]) -> Iterator[str]:
    if number not in NUMBERS:
        yield f"unknown key 'phase.{number}'; later phases are called {', '.join(NUMBERS)}, the first is [optimizer]"
    elif not isinstance(settings, Mapping):
        yield f"'phase.{number}' is a table, not {settings!r}; write [phase.{number}] and its settings below it"
    else:
        own = {k: v for k, v in settings.items() if k in PHASE_KEYS}
        yield from _table_problems(Phase, f"phase.{number}", own, known)
        rest = {k: v for k, v in settings.items() if k not in PHASE_KEYS}
        yield from _one_of_problems("optimizer", rest, known, path=f"phase.{number}")


def _one_of_problems(slot: str, value: Mapping[str, Any], known: Mapping[str, Any], path: str = "") -> Iterator[str]:
    path = path or slot
    name = value.get("name")
    settings = {k: v for k, v in value.items() if k != "name"}
    if name is not None:
        plain = name.split(":", 1)[0] if isinstance(name, str) and slot == "model" else name
        if not isinstance(plain, str) or plain not in TECHNIQUES[slot]:
            yield f"unknown {slot} {name!r}{nearest(str(name), TECHNIQUES[slot])}"
            return
        yield from _table_problems(TECHNIQUES[slot][plain], path, settings, known)
        return
    for key, one in settings.items():
        owners = [cls for cls in TECHNIQUES[slot].values() if key in {f.name for f in fields(cls)}]
        if not owners:
            yield f"unknown key '{path}.{key}'{_nearest_key(f'{path}.{key}', known)}"
            continue
        found = [list(_value_problem(cls, key, f"{path}.{key}", one)) for cls in owners]
        if all(found):
            yield found[0][0]


def _table_problems(cls: type[Any], path: str, table: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    names = {f.name for f in fields(cls)}
    for key, value in table.items():
        if key in names:
            yield from _value_problem(cls, key, f"{path}.{key}", value)
        else:
            owner = known.get(f"{path}.{key}")
            if owner:
                yield f"'{path}.{key}' belongs to {owner[0].name}, not to {cls.name}"
            elif not names:
                yield f"unknown key '{path}.{key}'; {cls.name} has no settings"
            else:
                yield f"unknown key '{path}.{key}'{nearest(f'{path}.{key}', [f'{path}.{n}' for n in names])}"


def _value_problem(cls: type[Any], key: str, dotted: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool) and not _takes_bool(cls, key):
        yield f"'{dotted}': {value!r} is true or false, where a value is wanted"
        return
    problem = problems_with(cls, key, _none(cls, key, value))
    if problem:
        yield f"'{dotted}': {problem}"


def _none(cls: type[Any], key: str, value: Any) -> Any:
    choices = (hint := get_type_hints(cls)[key], *get_args(hint))
    if value == "none" and type(None) in choices:
        return None
    if isinstance(value, str) and tuple[str, ...] in choices:
        return tuple(one.strip() for one in value.split(","))
    return tuple(value) if isinstance(value, list) else value


def _takes_bool(cls: type[Any], key: str) -> bool:
    hint = get_type_hints(cls)[key]
    return (
        hint is bool or bool in get_args(hint) or any(bool in map(type, get_args(a)) for a in (hint, *get_args(hint)))
    )


def _nearest_key(dotted: str, known: Mapping[str, Any]) -> str:
    tail = [k for k in known if k.endswith("." + dotted)]
    return f"; did you mean '{tail[0]}'?" if tail else nearest(dotted, known)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", True if isinstance(value, Mapping) else value


def _write(lines: list[str], tree: Mapping[str, Any], path: tuple[str, ...]) -> None:
    scalars = {k: v for k, v in tree.items() if not isinstance(v, Mapping)}
    if path and (scalars or not tree):
        lines += ["", f"[{'.'.join(path)}]"]
    # Top-level scalars must stand before the first table.
    lines += [f"{key} = {_toml(value)}" for key, value in scalars.items()]
    for key, value in tree.items():
        if isinstance(value, Mapping):
            _write(lines, value, (*path, key))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return repr(value)
