"""Optimizers, phases, schedules, memory and numerics in whole runs: what is asked happens, is shown and resumes."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from goodfit import job, store
from goodfit.errors import GoodfitError, RecipeError
from goodfit.interrupt import Interrupted
from goodfit.loop import set_rates
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen
from tests.test_job import StopAfter

BASE: dict[str, object] = {
    "epochs": 4,
    "batch_size": 21,
    "numerics.precision": "fp32",
    "optimizer.name": "adam",
    "schedule.name": "cosine",
    "clip.norm": "none",
    "stopping.name": "none",
}
PHASES: dict[str, object] = {"phase.2.after": "50%", "phase.2.name": "sgd", "phase.2.lr": 0.05}


class Net(nn.Module):
    """A small module of the user's own."""

    def __init__(self, room: int = 10_000) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
        self.head, self.room = nn.Linear(8, 3), room

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        made = self.body(inputs)
        if self.training and len(inputs) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return torch.as_tensor(self.head(made))


def arrays() -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 4)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > 0).astype(int) + (x[:, 2] > 0.5)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither baselines nor pre-flight nor the report: where that matters it is asked for."""
    monkeypatch.setattr(job, "write_report", lambda folder: folder / "report.html")
    monkeypatch.setattr(job, "baselines", lambda *_, **__: [])
    monkeypatch.setattr(job, "preflight", lambda *_, **__: [])


def train(out: str, changes: dict[str, object] | None = None, *, model: nn.Module | None = None, **more: Any) -> Run:
    recipe = Recipe().patched({**BASE, **(changes or {})})
    return job.train(arrays(), out=out, recipe=recipe, model=model or Net(), screen=Screen(quiet=True), **more)


def lines(folder: str) -> list[dict[str, object]]:
    rows = store.read_lines(Path(folder) / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in ("seconds", "samples_per_second")} for row in rows]


RESUMING: dict[str, dict[str, object]] = {
    "phases": PHASES,
    "phases that restart": {**PHASES, "phase.2.schedule": "restart", "schedule.warmup": "20%"},
    "plateau": {"schedule.name": "plateau", "schedule.patience": 0, "schedule.threshold": 0.5},
    "one cycle": {"schedule.name": "one_cycle", "optimizer.name": "nadamw"},
    "memory": {"gradient.name": "accumulate"},
    "clipping": {"clip.adaptive": 0.1, "clip.norm": 1.0},
    "schedule_free": {"optimizer.name": "schedule_free", "schedule.name": "constant", "schedule.warmup": "3 steps"},
    "lamb then muon": {"optimizer.name": "lamb", "phase.2.after": "50%", "phase.2.name": "muon"},
}
NEEDS = {"schedule_free": "schedulefree", "lamb then muon": "timm"}


@pytest.mark.parametrize("what", list(RESUMING))
def test_it_goes_on_to_the_very_same_bits(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what in NEEDS:
        pytest.importorskip(NEEDS[what], reason="the optimizer is that package's")
    room = 6 if what == "memory" else 10_000
    whole = train("whole", RESUMING[what], model=Net(room))
    for number, steps in enumerate((7, 8, 9) if what == "phases" else (9,)):  # the second phase begins at step 8
        StopAfter.steps = steps
        with monkeypatch.context() as patch:
            patch.setattr(job, "Signals", StopAfter)
            with pytest.raises(Interrupted):
                train(f"torn{number}", RESUMING[what], model=Net(room))
        resumed = train(f"torn{number}", RESUMING[what], model=Net(room))
        assert resumed.results["digest"] == whole.results["digest"]
        assert lines(f"torn{number}") == lines("whole")
        assert resumed.results.get("microbatch") == (6 if what == "memory" else None)


def test_the_phases_of_a_run_have_their_own_rates_on_one_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float]] = []

    def noted(optimizer: Any, schedule: Any, moment: Any, losses: Any) -> float:
        lr = set_rates(optimizer, schedule, moment, losses)
        seen.append((type(optimizer.parts[optimizer.number]).__name__, lr))
        return lr

    monkeypatch.setattr("goodfit.loop.set_rates", noted)
    run = train("r", {**PHASES, "numerics.compile": False})
    total, _ = run.plan.steps(84)
    during = seen[-total:]
    factors = [(1 + math.cos(math.pi * t / (total - 1))) / 2 for t in range(total)]
    half = total // 2
    assert [name for name, _ in during] == ["Adam"] * half + ["SGD"] * (total - half)
    expected = [(1e-3 if t < half else 0.05) * factors[t] for t in range(total)]
    assert [lr for _, lr in during] == pytest.approx(expected, abs=1e-15)
    assert run.plan.choices["phase.2.after"].reason == f"asked for; step {half} of {total}"
    assert train("again", dict(run.plan.recipe().flat())).results["digest"] == run.results["digest"]


def test_a_phase_of_the_same_optimizer_keeps_the_settings_that_are_not_named() -> None:
    plan = job.dry_run(
        arrays(),
        recipe=Recipe().patched({**BASE, "optimizer.beta2": 0.95, "phase.2.after": "50%", "phase.2.lr": 1e-4}),
        screen=Screen(quiet=True),
    )
    assert (plan["phase.2.name"], plan["phase.2.lr"], plan["phase.2.beta2"]) == ("adam", 1e-4, 0.95)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phase.2.after": "100%"}, "would never come"),
        ({**PHASES, "phase.3.after": "25%"}, "not after phase.2"),
        ({**PHASES, "phase.2.schedule": "restart", "schedule.name": "plateau"}, "does not fit 'plateau'"),
        ({"phase.2.name": "sdg"}, "did you mean 'sgd'"),
        ({"phase.2.lrr": 0.1}, "did you mean 'phase.2.lr'"),
        ({"phase.9.lr": 0.1}, "later phases are called 2, 3, 4"),
        ({"phase.2": 3}, "is a table"),
        ({"phase.2.after": "half"}, "write it with its unit"),
        ({**PHASES, "phase.2.beta1": 0.5}, "belongs to"),
        ({"optimizer.name": "schedule_free", "average.name": "ema"}, "exclude each other"),
        ({"numerics.precision": "fp16"}, "does not train on a CPU"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(changes: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        job.dry_run(arrays(), recipe=Recipe().patched({**BASE, **changes}), screen=Screen(quiet=True))


def test_the_dry_run_prints_the_scaled_rate_the_decay_and_the_schedule() -> None:
    out = io.StringIO()
    asked = {
        "optimizer.name": "adamw", "optimizer.lr": 0.01, "optimizer.weight_decay": 0.1, "optimizer.base_batch": 84,
        "optimizer.lr_scaling": "sqrt", "schedule.warmup": "25%", "batch_size": 21,
    }  # fmt: skip
    job.dry_run(
        arrays(),
        recipe=Recipe().patched({**BASE, **asked}),
        screen=Screen(Console(file=out, width=160, highlight=False)),
    )
    text = out.getvalue()
    assert "lr 0.01 for batch 84, times sqrt(21/84) = 0.005" in text
    assert "lr x weight_decay = 0.0005 a step at the full rate, a half-life of 1,386 steps" in text
    assert "asked for; 4 steps" in text
    assert "learning rate\n0.00" in text


def test_memory_that_runs_out_is_said_and_the_run_is_that_of_the_size_that_fits() -> None:
    out = io.StringIO()
    recipe = Recipe().patched({**BASE, "gradient.name": "accumulate"})
    run = job.train(arrays(), out="r", recipe=recipe, model=Net(room=8), screen=Screen(Console(file=out, width=120)))
    assert run.results["microbatch"] == 6
    assert "memory ran out; from here on 6 samples at a time" in out.getvalue()
    assert "Memory ran out, so batches went through 6 samples at a time" in run.report().read_text()
    fixed = train("fixed", {"gradient.name": "accumulate", "gradient.microbatch": 6})
    assert fixed.results["digest"] == run.results["digest"]
    assert "microbatch" not in fixed.results


def test_memory_that_runs_out_without_pieces_gets_one_line_with_the_way_out() -> None:
    with pytest.raises(GoodfitError, match=r"gradient\.name=accumulate"):
        train("r", model=Net(room=8))


def test_clipping_is_logged_shown_and_warned_of() -> None:
    out = io.StringIO()
    recipe = Recipe().patched({**BASE, "clip.norm": 1e-3})
    run = job.train(arrays(), out="r", recipe=recipe, model=Net(), screen=Screen(Console(file=out, width=200)))
    assert run.results["clipping"]["share"] == 1.0
    assert run.results["clipping"]["steps"] == run.results["steps"]
    assert [row["clipped"] for row in run.metrics] == [1.0] * len(run.metrics)
    for text in (out.getvalue(), run.report().read_text()):
        assert "clip.norm = 0.001 bounded the gradient in 100 % of the steps" in text
    calm = train("calm", {"clip.norm": 1e6})
    assert (calm.results["clipping"]["clipped"], calm.results["clipping"]["warning"]) == (0, "")
    assert "clipping" not in train("free").results


def test_a_deterministic_run_brings_a_certificate_and_lets_no_stopwatch_decide() -> None:
    changes: dict[str, object] = {"numerics.deterministic": True, "numerics.precision": "auto", "numerics.threads": 1}
    run = train("r", changes)
    made = store.read_json(run.folder / "determinism.json")
    assert (made["operations"], made["repeated"], made["threads"]) == ([], True, 1)
    assert any("your own module" in line for line in made["not_deterministic"])
    assert run.plan.choices["numerics.precision"].source == "numerics.deterministic"
    assert run.plan["numerics.precision"] == "fp32"
    assert "may differ" in run.report().read_text()
    assert not torch.are_deterministic_algorithms_enabled()
    assert not (train("plain").folder / "determinism.json").exists()


class Scattered(Net):
    """Writes into one place several times, in no fixed order."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        made = super().forward(inputs)
        with torch.no_grad():
            torch.zeros(4).put_(torch.tensor([1, 1]), torch.ones(2))
        return made


def test_an_operation_that_cannot_be_made_deterministic_is_named() -> None:
    run = train("r", {"numerics.deterministic": True}, model=Scattered())
    made = store.read_json(run.folder / "determinism.json")
    assert not made["certified"]
    assert made["operations"] == ["put_"]
    assert "put_: PyTorch has no deterministic algorithm" in run.report().read_text()


class Line(nn.Module):
    """One linear layer that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.head(inputs))


@pytest.mark.parametrize(("size", "steps"), [("full", 3), (1, 252), (40, 9)])
def test_batch_and_single_sample_descent_are_a_batch_size(
    size: object, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, object] = {
        "batch_size": size, "optimizer.name": "sgd", "optimizer.momentum": 0.0, "optimizer.lr": 0.1, "epochs": 3,
        "schedule.name": "constant", "optimizer.weight_decay": 0.0, "loss.label_smoothing": 0.0,
    }  # fmt: skip
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    whole = job.train_step

    def noted(state: Any, slots: Any, batch: Any, moment: Any) -> torch.Tensor:
        seen.append((batch.inputs, batch.targets))
        return whole(state, slots, batch, moment)

    monkeypatch.setattr("goodfit.loop.train_step", noted)
    finals: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(
        job.Saver,
        "load_best",
        lambda saver, state: finals.append({k: v.clone() for k, v in state.model.state_dict().items()}),
    )
    run = train("r", changes, model=Line())
    assert run.results["steps"] == steps == len(seen)
    by_hand = Line()
    for inputs, targets in seen:
        by_hand.zero_grad()
        nn.functional.cross_entropy(by_hand(run.encoder.prepare(inputs)), targets).backward()
        with torch.no_grad():
            for parameter in by_hand.parameters():
                parameter -= 0.1 * parameter.grad
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(finals[-1][name], value, rtol=1e-4, atol=1e-6)


def test_the_weights_of_a_schedule_free_run_are_those_that_were_validated() -> None:
    pytest.importorskip("schedulefree", reason="the rule is that package's")
    changes: dict[str, object] = {"optimizer.name": "schedule_free", "optimizer.lr": 0.1, "schedule.name": "constant"}
    run = train("r", changes, model=Line())
    assert run.data is not None
    loss = nn.functional.cross_entropy(run.logits(run.data.valid), run.data.valid.targets)
    best = [row for row in run.metrics if row["best"]][-1]
    assert float(loss) == pytest.approx(best["valid_loss"], rel=1e-5)
