"""From one text to another, end to end: train, resume, predict, test, report; and what language models write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from goodfit import job
from goodfit.cli import app
from goodfit.data import read
from goodfit.errors import ModelError, RunError
from goodfit.evaluate import write
from goodfit.interrupt import Interrupted
from goodfit.models import build
from goodfit.preflight import preflight
from goodfit.recipe import DataSettings, Recipe, TaskSettings
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.techniques.init import Auto

SMALL = {
    "model.width": 32,
    "model.depth": 1,
    "model.dropout": 0.0,
    "numerics.precision": "fp32",
    "numerics.compile": False,
}


NAMES = {"a": "red", "b": "blue", "c": "green", "d": "pink", "e": "gold", "f": "grey"}


def answer(text: str) -> str:
    return f"{NAMES[text[3]]} & <b>{NAMES[text[0]]}</b>"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """The names of a word's last and first letters: quickly learned."""
    random = np.random.default_rng(0)
    texts = sorted({"".join(random.choice(list(NAMES), 4)) for _ in range(700)})
    frame = pd.DataFrame({"text": texts, "reply": [answer(one) for one in texts]})
    frame.to_csv(tmp_path / "pairs.csv", index=False)
    return tmp_path / "pairs.csv"


def recipe(**changes: Any) -> Recipe:
    values = {**SMALL, "task.kind": "sequence", "epochs": 2}
    return Recipe().patched({**values, **{k.replace("__", "."): v for k, v in changes.items()}})


def train(source: Path, out: str, asked: Recipe) -> Run:
    return job.train(source, out=out, recipe=asked, screen=Screen(quiet=True))


@pytest.fixture
def no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pre-flight takes seconds; one test here is about it."""
    monkeypatch.setattr(job, "preflight", lambda *_, **__: [])


@pytest.mark.usefixtures("no_probes")
def test_a_model_learns_to_write_and_everything_works_from_its_folder(pairs: Path) -> None:
    run = train(pairs, "r", recipe(epochs=16, optimizer__lr=4e-3))
    assert run.results["headline"] == "exact_match"
    assert run.results["metrics"]["exact_match"]["value"] > 0.9
    assert run.metrics[-1]["valid_exact_match"] > 0.9
    names = [row["name"] for row in run.results["baselines"]]
    assert names == ["copy of the source", "most frequent target", "answer to the most similar source"]
    assert all("exact_match" in row["metrics"] for row in run.results["baselines"])
    assert not {"hardest", "temperature", "confusion"} & {k for k, v in run.results.items() if v}

    opened = Run("r")
    frame = pd.DataFrame({"text": ["abcd", "feed", "cafe"]})
    assert list(opened.predict(frame)["prediction"]) == list(opened.predict(["abcd", "feed", "cafe"])["prediction"])
    assert opened.generate("abcd") == opened.predict(frame)["prediction"][0]
    assert answer("feed") in opened.predict(frame)["prediction"].tolist()
    drawn = [opened.predict(frame, temperature=3.0, seed=seed)["prediction"].tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert opened.predict(frame[2:], temperature=3.0, top_k=1)["prediction"].tolist() == [opened.generate("cafe")]

    table = pd.read_parquet("r/predictions.parquet")
    right = (table["target"] == table["prediction"]).mean()
    assert right == pytest.approx(run.results["metrics"]["exact_match"]["value"])
    tested = opened.test()
    assert tested["openings"] == 1
    assert tested["metrics"]["exact_match"]["value"] > 0.8
    page = Path("r/report.html").read_text()
    assert "What it writes" in page
    assert "<b>red</b>" not in page
    assert "&lt;b&gt;" in page


@pytest.mark.usefixtures("no_probes")
def test_teacher_forced_hits_are_the_exact_matches_of_greedy_writing(pairs: Path) -> None:
    run = train(pairs, "r", recipe(epochs=5, optimizer__lr=4e-3))
    value = run.results["metrics"]["exact_match"]["value"]
    assert 0 < value < 1
    best = [row for row in run.metrics if row["best"]][-1]
    assert best["valid_exact_match"] == pytest.approx(value)


class StopAfter:
    """Takes the place of the signals: asks to stop after 9 steps."""

    def __init__(self) -> None:
        self.asked = 0

    def __enter__(self) -> StopAfter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def requested(self) -> int:
        self.asked += 1
        return 2 if self.asked >= 9 else 0


@pytest.mark.usefixtures("no_probes")
def test_an_interrupted_run_goes_on_to_the_very_same_bits(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe(model__dropout=0.2)
    whole = train(pairs, "whole", asked)
    with monkeypatch.context() as patch:
        patch.setattr(job, "Signals", StopAfter)
        with pytest.raises(Interrupted):
            train(pairs, "torn", asked)
    assert train(pairs, "torn", asked).results["digest"] == whole.results["digest"]


def test_pre_flight_checks_that_the_decoder_does_not_see_what_it_is_to_write(pairs: Path) -> None:
    data = read(pairs, DataSettings(), TaskSettings(kind="sequence"), seed=0)
    model: Any = build("transformer_encdec", {"width": 32, "depth": 1}, data.spec, data.task.outputs)
    Auto()(model, activation="gelu", seed=0)
    verdicts = {v.name: v for v in preflight(model, data, seed=0, device=torch.device("cpu"))}
    assert verdicts["causal-leak"].outcome == "ok"
    assert not [f for v in verdicts.values() for f in v.findings]

    class Peeping(torch.nn.Module):
        """Adds the next token to what the decoder sees."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            table = self.inner.target_table
            logits: torch.Tensor = self.inner(inputs)
            return logits + table(inputs["target"].roll(-1, 1)) @ table.weight.T

    [found] = [v for v in preflight(Peeping(), data, seed=0, device=torch.device("cpu")) if v.name == "causal-leak"]
    assert [f.severity for f in found.findings] == ["error"]


@pytest.mark.usefixtures("no_probes")
def test_the_command_line_trains_predicts_and_generates(pairs: Path) -> None:
    def call(*words: str) -> str:
        result = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    sets = [x for k, v in {**SMALL, "task.kind": "sequence", "epochs": 1}.items() for x in ("--set", f"{k}={v}")]
    shown = call("train", str(pairs), "--target", "reply", "--dry-run", *sets)
    assert "transformer_encdec" in shown
    assert "'reply' is written (as asked)" in " ".join(shown.split())
    call("train", str(pairs), "--target", "reply", "--out", "r", *sets)
    pairs.with_name("new.csv").write_text("text\nabcd\nfeed\n")
    call("predict", "r", str(pairs.with_name("new.csv")), "--out", "found.csv")
    assert len(pd.read_csv("found.csv")) == 2
    assert call("generate", "r", "--prompt", "abcd").strip() == str(pd.read_csv("found.csv")["prediction"][0]).strip()
    assert "exact match" in call("test", "r")


@pytest.mark.usefixtures("no_probes")
@pytest.mark.parametrize("tokens", ["characters", "bpe"])
def test_a_language_run_writes_on_and_shows_it(tokens: str, tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("to be or not to be <i>that</i> is the question. " * 150)
    settings = {"data.tokens": tokens, "data.length": 16, "model.buckets": 512, "epochs": "4 steps", **SMALL}
    run = train(path, "r", Recipe().patched(settings))
    sample = run.results["sample"]
    assert 100 < len(sample["text"]) < 900
    page = Path("r/report.html").read_text()
    assert "What it writes" in page
    assert "<i>" not in page
    assert run.results["metrics"]["bits_per_character"]["value"] is not None
    opened = Run("r")
    one = opened.generate("to be", length=30, temperature=0)
    assert one == opened.generate("to be", length=30, temperature=5.0, top_k=1)
    assert one == opened.generate("to be", length=30, temperature=5.0, top_p=1e-9)
    drawn = [opened.generate("to be", length=40, temperature=2.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    printed = CliRunner().invoke(app, ["generate", "r", "--prompt", "to be", "--length", "30", "--temperature", "0"])
    assert printed.output == one + "\n"
    with pytest.raises(ModelError, match="top_p 2 is out of range"):
        opened.generate("to be", top_p=2)


@pytest.mark.usefixtures("no_probes")
def test_other_runs_write_no_texts() -> None:
    frame = pd.DataFrame({"a": np.sin(np.arange(60.0)), "y": np.arange(60) % 2})
    run = job.train(frame, out="r", recipe=Recipe(epochs=1), screen=Screen(quiet=True))
    with pytest.raises(RunError, match="only language and sequence runs write texts"):
        run.generate("x")


def test_a_batch_writes_what_each_of_its_sources_would_alone(pairs: Path) -> None:
    data: Any = read(pairs, DataSettings(), TaskSettings(kind="sequence"), seed=0)
    model = build("transformer_encdec", {"width": 16, "depth": 1}, data.spec, data.task.outputs)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    part = data.encoder.encode(["abcd", "a", "fe", "abcabcabc"])
    cpu = torch.device("cpu")
    together = write(model, part, data.encoder, device=cpu, temperature=1.0, seed=4)
    apart = write(model, part, data.encoder, device=cpu, temperature=1.0, seed=4, batch_size=1)
    assert together == apart
    assert len(set(together)) > 1
