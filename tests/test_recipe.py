"""Recipes: every problem at once with the nearest right name, and what is written reads back equal."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodfit.errors import RecipeError
from goodfit.recipe import Recipe, keys, parse_set
from goodfit.technique import Duration
from goodfit.techniques.batch import Mixup
from goodfit.techniques.optimizer import Adamw


def test_five_mistakes_are_reported_at_once_with_the_nearest_names() -> None:
    text = """
    epochs = "5 eopchs"
    [optimiser]
    lr = 1e-3
    [model]
    name = "resnett"
    [batch.mixup]
    alpha = -1
    [loss]
    name = "cross_entropy"
    label_smothing = 0.1
    """
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(text)
    assert len(caught.value.problems) == 5
    message = str(caught.value)
    for part in ("'optimizer.lr'", "'resnet'", "label_smoothing", "must be greater than 0", "'5 epochs'"):
        assert part in message


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("lr", 1e-3, "did you mean 'optimizer.lr'"),
        ("batch_size", 0, "greater than or equal to 1"),
        ("batch_size", "half", "half"),
        ("optimizer.lr", "fast", "number"),
        ("optimizer.lr", True, "true or false"),
        ("batch.flipp", True, "did you mean 'flip'"),
        ("seed", 1.5, "1.5"),
        ("clip.norm", -1, "greater than 0"),
        ("loss.label_smoothing", 1.0, "less than 1"),
        ("optimizer", 3, "is a table"),
    ],
)
def test_a_wrong_value_is_refused_with_its_range_or_the_nearest_name(key: str, value: object, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        Recipe().patched({key: value})


def test_techniques_and_plain_values_say_the_same() -> None:
    made = Recipe(optimizer=Adamw(lr=3e-4), batch=[Mixup(alpha=0.3)])
    assert made.flat()["optimizer.name"] == "adamw"
    assert made.flat()["optimizer.lr"] == 3e-4
    assert made.flat()["batch.mixup.alpha"] == 0.3


def test_another_name_drops_the_old_ones_settings() -> None:
    recipe = Recipe(optimizer={"name": "adamw", "lr": 1e-3, "beta1": 0.8}).patched({"optimizer.name": "sgd"})
    assert recipe.flat() == {"optimizer.name": "sgd"}


def test_none_switches_an_optional_setting_off() -> None:
    assert Recipe().patched(parse_set("clip.norm=none")).flat() == {"clip.norm": "none"}


@pytest.mark.parametrize("text", ["optimizer.lr", "=3", " = 1"])
def test_a_set_without_key_or_value_says_how_to_write_it(text: str) -> None:
    with pytest.raises(RecipeError, match="key=value"):
        parse_set(text)


def test_files_that_are_no_recipe_get_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.read(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not UTF-8"):
        Recipe.read(tmp_path / "binary.toml")
    (tmp_path / "broken.toml").write_text("epochs = = 3")
    with pytest.raises(RecipeError, match="not TOML"):
        Recipe.read(tmp_path / "broken.toml")


VALUES = {
    "epochs": st.integers(1, 500) | st.sampled_from(["5 epochs", "2000 steps"]),
    "seed": st.integers(0, 2**40),
    "batch_size": st.integers(1, 10_000) | st.just("full"),
    "optimizer.lr": st.floats(1e-9, 10),
    "optimizer.name": st.sampled_from(["adamw", "sgd"]),
    "batch.mixup.alpha": st.floats(0.01, 5),
    "batch.flip": st.booleans(),
    "schedule.warmup": st.sampled_from(["10%", "3 epochs", "1 step"]),
    "data.target": st.text(max_size=12),
    "data.ignore": st.lists(st.text(max_size=6), max_size=3),
    "loss.label_smoothing": st.floats(0, 0.99),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
@settings(max_examples=150, deadline=None)
def test_what_is_written_reads_back_equal(changes: dict[str, object]) -> None:
    recipe = Recipe().patched(changes)
    again = Recipe.parse(recipe.to_toml())
    assert again == recipe
    assert again.flat() == recipe.flat()
    assert Recipe().patched(recipe.flat()) == recipe


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_recipe_or_a_recipe_error(text: str) -> None:
    with contextlib.suppress(RecipeError):
        Recipe.parse(text)


@pytest.mark.parametrize(
    ("text", "total", "per_epoch", "steps"),
    [
        ("5 epochs", 0, 40, 200),
        ("2000 steps", 7, 3, 2000),
        ("10%", 500, 50, 50),
        ("0.5 epochs", 0, 41, 20),
        ("1 step", 9, 9, 1),
    ],
)
def test_durations_become_steps(text: str, total: int, per_epoch: int, steps: int) -> None:
    made = Duration.parse(text)
    assert isinstance(made, Duration)
    assert made.steps(total, per_epoch) == steps


@pytest.mark.parametrize("text", ["5", "5 minutes", "101%", "1.5 steps", "-1 epochs", "epochs", ""])
def test_a_duration_without_its_unit_or_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unit|share|whole"):
        Duration.parse(text)


def test_every_key_has_a_class_that_owns_it() -> None:
    known = keys()
    assert {"optimizer.lr", "batch.mixup.alpha", "epochs", "data.target", "clip.norm", "model.width"} <= set(known)
