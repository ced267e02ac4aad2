"""Pages: one for everything that has a name, wrapped to the screen, and the nearest name for a wrong one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodfit.errors import GoodfitError
from goodfit.pages import explain, listing, wrapped
from goodfit.recipe import keys

NAMES = sorted({name for _, names in listing() for name in names} | set(keys()) | {slot for slot, _ in listing()})


def test_everything_that_is_listed_and_every_recipe_key_has_a_page() -> None:
    without = []
    for name in NAMES:
        page = explain(name)
        if "No page yet" in page or len(page.split()) < 8:
            without.append(name)
    assert without == []


def test_every_slot_and_group_is_listed_once() -> None:
    slots = [slot for slot, _ in listing()]
    assert len(set(slots)) == len(slots)
    assert {"model", "batch", "optimizer", "metrics", "rules", "data"} <= set(slots)
    for slot, names in listing():
        assert len(set(names)) == len(names), slot


@pytest.mark.parametrize("width", [40, 80, 100])
def test_pages_are_wrapped_to_the_width_and_lose_no_word(width: int) -> None:
    for name in NAMES:
        page, wide = explain(name, width=width), explain(name, width=10_000)
        assert page.split() == wide.split(), name
        long = [line for line in page.split("\n") if len(line) > width and " " in line.strip()]
        assert [line for line in long if len(max(line.split(), key=len)) < width - 8] == [], name


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("mixupp", "mixup"), ("optimizer.lrr", "optimizer.lr"), ("acuracy", "accuracy"), ("batch-leek", "batch-leak")],
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(GoodfitError, match=f"did you mean '{right}'"):
        explain(wrong)


def test_a_name_like_no_other_is_answered_with_where_to_look() -> None:
    with pytest.raises(GoodfitError, match="nothing is called 'qqqqqqqqq'; goodfit list shows every name"):
        explain("qqqqqqqqq")


@pytest.mark.parametrize("spelt", ["label_smoothing", "label-smoothing", "Label_Smoothing", "loss.label_smoothing"])
def test_a_setting_is_found_however_it_is_spelt(spelt: str) -> None:
    assert explain(spelt).startswith("loss.label_smoothing")


def test_a_name_that_stands_for_several_things_gives_all_their_pages() -> None:
    page = explain("linear")
    assert "linear (model)" in page
    assert "linear (schedule)" in page
    assert page.count("=====") >= 2
    assert explain("schedule.linear") in page


def test_a_key_that_several_techniques_share_shows_what_it_is_in_each() -> None:
    page = explain("optimizer.lr")
    assert "sgd: a number from 0; default 0.1" in page
    assert "adamw" in page


def test_a_pretrained_model_is_explained_by_its_prefix() -> None:
    assert explain("timm:resnet18") == explain("timm")
    assert '"timm:NAME"' in explain("timm")


def test_ranges_and_kinds_are_said_in_words() -> None:
    assert "batch.mixup.alpha: a number above 0 to 100; default 0.2" in explain("mixup")
    assert "a duration ('5 epochs', '200 steps', '10%')" in explain("schedule.warmup", width=200)
    assert "optimizer.nesterov: true or false; default true" in explain("sgd").lower()


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_any_text_gets_a_page_or_a_plain_refusal(text: str) -> None:
    with contextlib.suppress(GoodfitError):
        assert explain(text)


@given(st.lists(st.sampled_from(["word", "alpha: one", "", "    x = 1", ">>> f(1)", "- item", "end."]), max_size=12))
def test_wrapping_keeps_words_blank_lines_and_examples(lines: list[str]) -> None:
    page = "\n".join(lines)
    made = wrapped(page, 30)
    assert made.split() == page.split()
    assert made.count(">>> f(1)") == page.count(">>> f(1)")
    assert len([p for p in made.split("\n\n") if p.strip()]) == len([p for p in page.split("\n\n") if p.strip()])
