"""The schedule of a recipe, drawn before any data is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from goodfit.errors import RecipeError
from goodfit.pages import explain
from goodfit.rates import recipe_drawing
from goodfit.recipe import Recipe

RECIPE = """
epochs = 20
[optimizer]
name = "adamw"
lr = 3e-3
[phase.2]
name = "sgd"
lr = 1e-3
after = "70%"
schedule = "restart"
[schedule]
name = "one_cycle"
"""


def test_a_recipe_file_is_explained_key_by_key_and_drawn(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE)
    page = explain("mine.toml")
    assert "optimizer.name    adamw  (Adam with weight decay" in page
    assert "phase.2.after     70%" in page
    assert "--dry-run" in page
    assert "learning rate\n0.003 │" in page
    assert "momentum\n0.95 │" in page
    assert "2,000 steps = 20 epochs" in page
    assert max(map(len, page.split("\n"))) <= 80


def test_what_is_assumed_is_said() -> None:
    drawn = recipe_drawing(Recipe.parse('[schedule]\nname = "cosine"'))
    assert drawn.startswith("what multiplies the learning rate\n")
    assert "Drawn for 100 epochs of 100 steps an epoch" in drawn
    steps = recipe_drawing(Recipe.parse('epochs = "700 steps"\n[schedule]\nname = "cosine"'))
    assert "Drawn for" not in steps
    assert "better" in recipe_drawing(Recipe.parse('epochs = 3\n[schedule]\nname = "plateau"'))


def test_without_a_schedule_there_is_nothing_to_draw() -> None:
    assert "names no schedule" in recipe_drawing(Recipe.parse("epochs = 3"))


def test_a_phase_that_never_comes_is_refused_here_too() -> None:
    text = RECIPE.replace("70%", "25 epochs")
    with pytest.raises(RecipeError, match="would never come"):
        recipe_drawing(Recipe.parse(text))


def test_a_file_that_is_not_there_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        explain(str(tmp_path / "none.toml"))
