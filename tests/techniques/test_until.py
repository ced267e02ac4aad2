from __future__ import annotations

import pydantic
import pytest

from goodfit.errors import RecipeError
from goodfit.pages import explain
from goodfit.recipe import Recipe
from goodfit.techniques.batch import ALL, Flip, active
from goodfit.types import Moment


def last_step_on(until: str, *, total: int = 200, per_epoch: int = 20) -> int:
    flip = Flip(until=until)  # type: ignore[arg-type]
    on = [step for step in range(total) if active(flip, Moment(0, step // per_epoch, step, total, per_epoch))]
    assert on == list(range(len(on)))
    return len(on) - 1


@pytest.mark.parametrize(
    ("until", "last"),
    [
        ("80%", 159),
        ("3 epochs", 59),
        ("50 steps", 49),
        ("-5 epochs", 99),
        ("-1 epoch", 179),
        ("-30 steps", 169),
        ("-10%", 179),
        ("100%", 199),
        ("-100%", -1),
        ("-50 epochs", -1),
        ("-0.01%", 199),
    ],
)
def test_a_technique_ends_so_far_into_the_run_or_so_long_before_its_end(until: str, last: int) -> None:
    assert last_step_on(until) == last


@pytest.mark.parametrize("until", ["80%", "-5 epochs", "-1 epoch", "-30 steps"])
def test_ends_are_written_and_read_again_alike(until: str) -> None:
    assert str(Flip(until=until).until) == until  # type: ignore[arg-type]
    recipe = Recipe(batch={"flip": {"until": until}})
    assert Recipe.parse(recipe.to_toml()) == recipe


@pytest.mark.parametrize("until", ["-5", "--5 epochs", "-0 epochs", "-0%", "- epochs", "-120%", 5])
def test_what_is_no_end_is_refused(until: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        Flip(until=until)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"batch\.flip\.until"):
        Recipe(batch={"flip": {"until": until}})


def test_lengths_cannot_be_counted_back_from_the_end() -> None:
    with pytest.raises(RecipeError, match="no duration"):
        Recipe(schedule={"name": "cosine", "warmup": "-5 epochs"})


def test_every_batch_technique_has_an_end_that_may_be_counted_back() -> None:
    for one in ALL:
        assert "-5 epochs" in explain(f"batch.{one.name}.until"), one.name
