"""What must hold for every input: parsers, splits, samplers, stores, names. ``make properties`` tries 50,000 each."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from goodfit import keyed, store
from goodfit.data import delimited, split
from goodfit.data.tokens import Tokens
from goodfit.data.words import Words
from goodfit.defaults import Choice
from goodfit.errors import GoodfitError, RunError
from goodfit.plan import Plan
from goodfit.program import Checked
from goodfit.recipe import Recipe, make, parse_set
from goodfit.report.checked import write_checked
from goodfit.technique import settings_of
from goodfit.techniques import TABLE
from goodfit.techniques.sampling import balanced, class_quotas, shuffled
from goodfit.types import Finding, Moment
from goodfit.visible import guarded, message, visible

MANY = int(os.environ.get("GOODFIT_EXAMPLES", "40"))
tried = settings(
    max_examples=MANY,
    deadline=None,
    database=None,
    derandomize=MANY < 1000,
    suppress_health_check=list(HealthCheck),
)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
NAME = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
SEED = st.integers(0, 2**63)


# Recipes

VALUES = st.fixed_dictionaries(
    {},
    optional={
        "data.target": TEXT,
        "data.time": TEXT,
        "data.ignore": st.lists(TEXT, max_size=3),
        "data.valid": st.floats(0, 0.4),
        "data.seed": st.integers(-(2**80), 2**80),
        "task.positive": TEXT,
        "optimizer.lr": st.floats(1e-300, 1e300),
        "epochs": st.one_of(st.integers(1, 10**9), st.just("2000 steps"), st.just("7.5 epochs")),
        "batch_size": st.one_of(st.integers(1, 10**9), st.just("full")),
        "seed": st.integers(-(2**80), 2**80),
        "ignore": st.lists(NAME, max_size=3),
        "loss.teacher": TEXT,
        "model.name": st.sampled_from(["mlp", "cnn", "timm:resnet18", "hf:a/b", "run:runs/1"]),
    },
)
CHOSEN = st.lists(
    st.sampled_from(
        [(slot, name) for slot in ("optimizer", "schedule", "average", "stopping") for name in TABLE[slot]]
    ),
    max_size=3,
    unique_by=lambda one: one[0],
)
BATCH = st.lists(st.sampled_from(sorted(TABLE["batch"])), max_size=4, unique=True)


@tried
@given(VALUES, CHOSEN, BATCH)
def test_a_recipe_written_as_toml_reads_back_equal(values: dict[str, Any], chosen: Any, batch: list[str]) -> None:
    try:
        recipe = Recipe().patched({**{f"{slot}.name": name for slot, name in chosen}, **values})
        recipe = recipe.patched({f"batch.{name}": True for name in batch})
    except GoodfitError:
        assume(False)
    again = Recipe.parse(recipe.to_toml())
    assert again == recipe
    assert again.to_toml() == recipe.to_toml()


@tried
@given(st.one_of(TEXT, st.text(max_size=200)))
@example("a.b.c = [[[1]]]")
@example("[model]\nname = 1e400")
def test_any_text_is_a_recipe_or_one_clear_refusal(text: str) -> None:
    for read in (Recipe.parse, lambda t: Recipe().patched(parse_set(t))):
        try:
            read(text)
        except GoodfitError as error:
            assert str(error)


@tried
@given(
    st.dictionaries(
        NAME,
        st.tuples(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT),
            TEXT,
            TEXT,
        ),
        max_size=5,
    ),
    st.dictionaries(NAME, st.lists(TEXT, max_size=3), max_size=3),
)
def test_a_plan_written_as_json_reads_back_equal(choices: Any, data: Any) -> None:
    plan = Plan({k: Choice(*c) for k, c in choices.items()}, data, {"cores": 2})
    assert Plan.from_json(json.loads(store.json_bytes(plan.to_json()))) == plan


# Tables

CELL = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)


@tried
@given(
    st.data(),
    st.integers(2, 5),
    st.integers(1, 30),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_table_comes_back_cell_by_cell(
    data: st.DataObject, width: int, rows: int, delimiter: str, encoding: str
) -> None:
    letters = st.text(st.characters(categories=("Ll", "Lu")), min_size=1, max_size=6)
    header = data.draw(st.lists(letters, min_size=width, max_size=width, unique=True))
    cells = data.draw(st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=rows, max_size=rows))
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([header, *cells])
    found = delimited.parse(out.getvalue().encode(encoding), "t.csv")
    assert list(found.frame.columns) == header
    assert found.frame.astype(str).to_numpy().tolist() == cells
    assert found.lines(range(rows)) == list(range(2, rows + 2))


@tried
@given(st.one_of(st.binary(max_size=300), TEXT.map(str.encode), st.text('a1,;"\n\t', max_size=80).map(str.encode)))
def test_any_bytes_are_a_table_or_one_clear_refusal(raw: bytes) -> None:
    try:
        found = delimited.parse(raw, "t.csv")
    except GoodfitError as error:
        assert str(error)
    else:
        assert len(found.frame)
        assert found.frame.columns.is_unique


@tried
@given(st.lists(st.sampled_from(["a", "b", "a (2)", "a (3)", "", " a", "column 2"]), min_size=1, max_size=30))
def test_column_names_become_unique_and_first_ones_stay(header: list[str]) -> None:
    names, _ = delimited.unique_names(header, "t")
    assert len(set(names)) == len(names) == len(header)
    assert names[0] == (header[0].strip() or "column 1")
    assert all(new.startswith(old.strip()) for new, old in zip(names, header, strict=True))


# Names

HOSTILE = st.text(
    st.one_of(st.characters(), st.sampled_from("<>&\"'`{}[]()=+-@\x00\x1b\x07\u202e\u2066\u2028\ud800\n\r\t")),
    max_size=30,
)


@tried
@given(HOSTILE)
def test_what_is_shown_holds_no_character_that_acts(text: str) -> None:
    shown = visible(text, keep="")
    assert visible(shown, keep="") == shown
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in "\u202e\u2066" for c in shown)
    harmless = "".join(c for c in text if c.isprintable() and c.isascii())
    assert all(c in shown for c in harmless)
    assert all(line.startswith("  ") for line in message(text).split("\n")[1:])


class Tags(HTMLParser):
    """The tags of a page, each with its attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[Any] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(name: str) -> Tags:
    finding = Finding("x", "error", name, name, {name: 1.5}, fix=name, why=name)
    with tempfile.TemporaryDirectory() as folder:
        write_checked(Path(folder) / "p.html", name, name, Checked((finding,), ((name, name),)))
        read = Tags()
        read.feed((Path(folder) / "p.html").read_text(encoding="utf-8"))
    return read


@tried
@given(HOSTILE)
@example("</style><script>alert(1)</script>")
@example('" onmouseover="alert(1)')
def test_a_name_adds_nothing_but_text_to_a_page(name: str) -> None:
    plain, found = page("x" + "y" * (name == "")), page(name or "xy")
    assert found.tags == plain.tags
    kept = visible(name)
    assert "".join(kept.split()) in "".join(found.text.split())


@tried
@given(st.lists(HOSTILE, min_size=1, max_size=4), st.lists(HOSTILE, min_size=1, max_size=3, unique=True))
def test_no_cell_of_a_written_csv_begins_as_a_formula(cells: list[str], names: list[str]) -> None:
    frame = pd.DataFrame({name: cells for name in names}, dtype=object)
    with tempfile.TemporaryDirectory() as folder:
        store.write_table(Path(folder) / "t.csv", frame)
        text = (Path(folder) / "t.csv").read_bytes().decode()
    for row in csv.reader(io.StringIO(text.replace("\0", ""), newline="")):
        assert not any(cell.lstrip()[:1] in ("=", "+", "-", "@") for cell in row if cell.strip())
    assert all(guarded(number) is number for number in (-1.5, -3, None))


# Splits and samplers

SHARES = st.sampled_from([0.0, 0.1, 0.15, 0.3, 0.45])


@tried
@given(st.lists(st.integers(0, 5), min_size=10, max_size=300), SHARES, SHARES, SEED)
def test_stratified_splits_are_complete_disjoint_and_fair(
    classes: list[int], valid: float, test: float, seed: int
) -> None:
    made = np.asarray(classes)
    try:
        parts = split.stratified(made, valid, test=test, seed=seed)
    except GoodfitError:
        sizes = np.bincount(made)
        assert (sizes == 1).any() or (sizes > 0).sum() == 1
        return
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(made)))
    assert all((np.diff(part) > 0).all() for part in parts)
    sizes = np.bincount(made)
    for part, share in ((parts.valid, valid), (parts.test, test)):
        counts = np.bincount(made[part], minlength=len(sizes))
        if share:
            assert (counts[sizes >= 3] >= 1).all()
            assert (np.abs(counts - sizes * share)[sizes >= 20] <= 2 + len(sizes)).all()
    again = split.stratified(made, valid, test=test, seed=seed)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))


@tried
@given(st.lists(st.integers(0, 12), min_size=10, max_size=300), SHARES, SHARES, SEED)
def test_no_group_is_torn_apart(groups: list[int], valid: float, test: float, seed: int) -> None:
    made = np.asarray(groups)
    try:
        parts = split.grouped(made, valid, test=test, seed=seed)
    except GoodfitError:
        assert len(set(groups)) < 3
        return
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(made)))
    owners = [set(made[part].tolist()) for part in parts]
    assert sum(map(len, owners)) == len(set(groups))
    assert [bool(one) for one in owners] == [True, valid > 0, test > 0]


@tried
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=60, unique=True), SEED, st.integers(0, 1000), st.data())
def test_an_order_is_a_permutation_and_losing_a_sample_moves_no_other(
    index: list[int], seed: int, epoch: int, data: st.DataObject
) -> None:
    numbers = torch.tensor(index)
    order = numbers[shuffled(numbers, seed=seed, epoch=epoch)].tolist()
    assert sorted(order) == sorted(index)
    gone = data.draw(st.sampled_from(index))
    rest = torch.tensor([n for n in index if n != gone])
    if len(rest):
        assert rest[shuffled(rest, seed=seed, epoch=epoch)].tolist() == [n for n in order if n != gone]


@tried
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=200), st.sampled_from([0.0, 0.5, 1.0]), SEED, st.integers(0, 99)
)
def test_a_balanced_epoch_keeps_its_length_and_is_fair_within_a_class(
    targets: list[int], power: float, seed: int, epoch: int
) -> None:
    classes = torch.tensor(targets)
    order = balanced(classes, torch.arange(len(classes)), seed=seed, epoch=epoch, power=power)
    assert len(order) == len(classes)
    shown = torch.bincount(order, minlength=len(classes))
    quotas = class_quotas(torch.bincount(classes), power=power)
    for kind in classes.unique().tolist():
        own = shown[classes == kind]
        assert int(own.sum()) == int(quotas[kind])
        assert int(own.max() - own.min()) <= 1
    if power == 0:
        assert bool((shown == 1).all())


@tried
@given(SEED, NAME, st.lists(st.integers(0, 2**40), min_size=1, max_size=40), st.integers(1, 5), st.data())
def test_a_draw_depends_on_its_place_and_not_on_its_batch(
    seed: int, name: str, index: list[int], draws: int, data: st.DataObject
) -> None:
    place, numbers = keyed.key(seed, name), torch.tensor(index)
    cut = data.draw(st.integers(0, len(index)))
    for draw in (keyed.bits, keyed.uniform, keyed.normal):
        whole = draw(place, numbers, draws)
        parts = torch.cat([draw(place, numbers[:cut], draws), draw(place, numbers[cut:], draws)])
        assert torch.equal(whole, parts)
        assert torch.equal(whole.flip(0), draw(place, numbers.flip(0), draws))
        assert torch.equal(whole[:, :1], draw(place, numbers, 1))


# Stores

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool,
]  # fmt: skip
TENSOR = st.builds(
    lambda dtype, shape, raw: (
        torch.tensor((raw * 400)[: max(1, math.prod(shape)) * dtype.itemsize], dtype=torch.uint8)
        .view(torch.uint8)[: math.prod(shape) * dtype.itemsize]
        .clone()
        .view(dtype)
        .reshape(shape)
        if dtype != torch.bool
        else torch.tensor((raw * 400)[: math.prod(shape)], dtype=torch.uint8).bool().reshape(shape)
    ),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), max_size=3),
    st.lists(st.integers(0, 255), min_size=8, max_size=8),
)
LEAF = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, TENSOR)
TREE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.integers(), TEXT), inner, max_size=4),
    ),
    max_leaves=12,
)


def bits(value: Any) -> Any:
    """A tree whose tensors and floats are compared bit by bit."""
    if isinstance(value, torch.Tensor):
        return (
            "tensor",
            value.dtype,
            tuple(value.shape),
            value.reshape(-1).view(torch.uint8).tolist() if value.numel() else [],
        )
    if isinstance(value, dict):
        return ("dict", [(k, bits(v)) for k, v in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, [bits(v) for v in value])
    return ("float", repr(value)) if isinstance(value, float) else (type(value).__name__, value)


@tried
@given(TREE)
def test_a_checkpoints_tree_comes_back_bit_by_bit(tree: Any) -> None:
    tensors, rest = store.pack_tree(tree)
    read = store.unpack_tensors(store.pack_tensors(tensors))
    again = store.unpack_tree(read, json.loads(store.json_bytes(rest)))
    assert bits(again) == bits(tree)


ROW = st.dictionaries(
    NAME.filter(lambda name: name != "crc"), st.one_of(st.none(), st.integers(), st.floats(), TEXT), max_size=4
)


@tried
@given(st.lists(ROW, min_size=1, max_size=8), st.data())
def test_what_is_read_of_torn_or_changed_lines_is_a_prefix_of_what_was_written(
    rows: list[Any], data: st.DataObject
) -> None:
    lines = [store.line_of(row) for row in rows]
    whole = b"".join(lines)
    expected = store.parse_lines(whole)
    assert len(expected) == len(rows)
    cut = data.draw(st.integers(0, len(whole)))
    ends = np.cumsum([len(line) for line in lines])
    assert store.parse_lines(whole[:cut]) == expected[: int((ends <= cut).sum())]
    at, flip = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    changed = whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
    assert store.parse_lines(changed) == expected[: int((ends <= at).sum())]


@tried
@given(st.dictionaries(NAME, st.binary(max_size=40), min_size=1, max_size=4), st.data())
def test_a_folder_with_one_bit_changed_is_never_read(files: dict[str, bytes], data: st.DataObject) -> None:
    assume(len({name.casefold() for name in files}) == len(files))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c"
        store.write_folder(path, files)
        assert store.read_folder(path) == files
        name = data.draw(st.sampled_from(sorted([n for n in files if files[n]] + [store.MANIFEST])))
        content = bytearray((path / name).read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        (path / name).write_bytes(bytes(content))
        with pytest.raises(RunError):
            store.read_folder(path)


@tried
@given(st.binary(max_size=200))
def test_any_bytes_are_tensors_or_one_clear_refusal(raw: bytes) -> None:
    try:
        store.unpack_tensors(raw)
    except RunError as error:
        assert str(error)


# Schedules


@tried
@given(st.sampled_from(sorted(TABLE["schedule"])), st.integers(1, 60), st.integers(1, 20), st.data())
def test_a_schedule_that_starts_anew_in_the_middle_goes_on_as_it_would_have(
    name: str, total: int, per_epoch: int, data: st.DataObject
) -> None:
    schedule = TABLE["schedule"][name]()
    history = data.draw(st.lists(st.floats(0, 10), max_size=8))
    moments = [Moment(0, t // per_epoch, t, total, per_epoch, 0) for t in range(total)]
    seen = [history[: t // per_epoch] for t in range(total)]
    straight = [(schedule.factor(m, h), schedule.momentum(m)) for m, h in zip(moments, seen, strict=True)]
    start = data.draw(st.integers(0, total - 1))
    again = make("schedule", name, json.loads(json.dumps(settings_of(schedule))))
    resumed = [(again.factor(m, h), again.momentum(m)) for m, h in zip(moments[start:], seen[start:], strict=True)]
    assert resumed == straight[start:]
    assert all(math.isfinite(factor) and factor >= 0 for factor, _ in straight)


# Texts

BPE = Tokens.fit(["one two three", "zwei drei", "été à Noël"] * 3, tokens="bpe", vocabulary=300, length=512)


@tried
@given(st.lists(TEXT, min_size=1, max_size=4), st.sampled_from(["characters", "words"]))
def test_a_text_comes_back_from_its_tokens(texts: list[str], kind: str) -> None:
    tokens = Tokens.fit(texts, tokens=kind, length=64)
    assert tokens.texts(tokens.encode(texts)) == texts
    again = Tokens.from_json(json.loads(store.json_bytes(tokens.to_json())))
    assert torch.equal(again.encode(texts), tokens.encode(texts))


@tried
@given(TEXT)
def test_any_text_comes_back_from_byte_pairs(text: str) -> None:
    assert BPE.texts(BPE.encode([text])) == [text]


@tried
@given(st.lists(HOSTILE, min_size=1, max_size=5), st.lists(HOSTILE, min_size=1, max_size=5))
def test_words_of_new_texts_never_leave_the_vocabulary(known: list[str], new: list[str]) -> None:
    words = Words.fit(known, tokens="words", length=16)
    found = words.encode(new)
    assert found.shape == (len(new), 16)
    assert found.min() >= 0
    assert found.max() < words.size
