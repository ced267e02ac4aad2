"""The main job on texts and tables that are augmented: the same bits twice, after a stop, and with a kept cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from goodfit import job, store
from goodfit.errors import RecipeError
from goodfit.interrupt import Interrupted
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen
from tests.reference.wordnet import Set, write_wordnet
from tests.test_job import StopAfter

GOOD, BAD = ("good", "fine", "lovely"), ("bad", "poor", "dull")


def reviews(count: int = 160) -> pd.DataFrame:
    words = [(GOOD if k % 2 else BAD)[k // 2 % 3] for k in range(count)]
    texts = [f"number {k} of the year was a {word} film with an actor" for k, word in enumerate(words)]
    return pd.DataFrame({"text": texts, "opinion": ["up" if k % 2 else "down" for k in range(count)]})


def train(source: object, out: str, changes: dict[str, object]) -> Run:
    recipe = Recipe().patched({"numerics.precision": "fp32", "epochs": 2, "batch_size": 16, **changes})
    return job.train(source, target="opinion", out=out, recipe=recipe, screen=Screen(quiet=True))


@pytest.fixture
def synonyms(tmp_path: Path) -> dict[str, object]:
    folder = write_wordnet(tmp_path / "wordnet", [Set("adj", GOOD, 2), Set("adj", BAD, 2)])
    return {
        "model.name": "mlp",
        "model.width": 8,
        "batch.synonyms.wordnet": str(folder),
        "batch.word_drop.p": 0.2,
        "batch.embedding_mixup.alpha": 0.5,
    }


def test_a_run_on_rewritten_texts_is_the_same_twice_and_after_a_stop(
    synonyms: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(reviews(), "whole", synonyms)
    (kept,) = (tmp_path / "cache" / "goodfit" / "variants").glob("synonyms-*.jsonl")
    before = kept.read_bytes()
    StopAfter.steps = 5
    with monkeypatch.context() as patched:
        patched.setattr(job, "Signals", StopAfter)
        with pytest.raises(Interrupted):
            train(reviews(), "torn", synonyms)
    assert kept.read_bytes() == before
    shutil.rmtree(kept.parent)  # made anew, the variants are the same
    resumed = train(reviews(), "torn", synonyms)
    assert resumed.results["digest"] == whole.results["digest"]
    assert kept.read_bytes() == before
    shown = store.read_json(whole.folder / "examples.json")
    assert len(shown) > 5
    assert all(one["text"].startswith("number ") for one in shown.values())
    assert whole.test()["samples"] > 10


def test_a_technique_that_is_listed_and_off_changes_nothing(synonyms: dict[str, object]) -> None:
    plain = {key: value for key, value in synonyms.items() if not key.startswith("batch.")}
    off = {f"batch.{name}": False for name in ("synonyms", "word_drop", "word_swap", "embedding_mixup", "noise")}
    runs = [train(reviews(), name, changes) for name, changes in (("a", plain), ("b", {**plain, **off}))]
    assert runs[0].results["digest"] == runs[1].results["digest"]


def test_tables_with_noise_and_mixed_embeddings_train_in_pieces_too() -> None:
    frame = pd.DataFrame({"size": [k % 13 + 0.5 for k in range(200)], "kind": [f"k{k % 5}" for k in range(200)]})
    frame["opinion"] = ["up" if k % 13 > 5 else "down" for k in range(200)]
    asked = {"batch.noise.std": 0.2, "batch.embedding_mixup": True, "model.width": 8, "model.dropout": 0.0}
    whole = train(frame, "whole", asked)
    cut = train(frame, "cut", {**asked, "gradient.name": "accumulate", "gradient.microbatch": 5})
    for one in (whole, cut):
        assert one.results["metrics"]["accuracy"]["value"] > 0.5
    losses = [[row["valid_loss"] for row in store.read_lines(one.folder / "metrics.jsonl")] for one in (whole, cut)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch.word_swap": True}, r"set data.tokens = 'words'$"),
        ({"batch.window_slice": True}, r"works on tensor and series, and this is text"),
        ({"batch.token_noise": True}, r"works on language, and this is text"),
        ({"batch.embedding_mixup": True, "batch.synonyms.p": 1.5}, r"less than 1"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(changes: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        train(reviews(), "never", changes)
    assert "\n" not in str(caught.value)
    assert not Path("never").exists()
