"""The benchmark's programs: a fault is found with its rule at its line within its steps, twins and look-alikes are not.

Here run the programs of the rules that have no tests of their own, all look-alikes that are quick, and what a source
must look like.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path

import pytest
import torch

from bench.check.main import GRAVE, at_line
from bench.check.programs import Source, read, sources
from goodfit.types import Finding
from goodfit.watching import Watch

RULES = {
    "accumulation-not-divided", "batch-leak", "causal-leak", "constant-labels", "dead-layers", "dropout-lost",
    "equal-units", "evaluation-inputs-differ", "growing-graph", "image-layout", "incomplete-accumulation-window",
    "initial-loss", "label-shift", "linear-after-linear", "loss-at-chance", "padding-in-loss", "plateau-mode",
    "random-evaluation-data", "small-norm-batch", "target-in-inputs", "tied-weights-apart",
    "unequal-micro-batches", "unnormalised-inputs", "uphill-steps", "vanishing-gradient", "worse-than-guessing",
    "zero-grad-in-accumulation", "batch-axis-lost", "epsilon-lost", "forward-called-directly",
    "spectral-norm-unsettled", "averaged-without-statistics", "labels-change", "weights-decay-away", "overfitting",
}  # fmt: skip
PAIRS = [one for one in sources() if RULES & set(one.rules)]
ALIKE = (
    "c_sam", "c_pgd", "c_gan", "c_wgan_gp", "c_lbfgs", "c_forward_forward", "c_token_autoencoder", "c_gcn", "c_lora",
    "c_zero_gamma_resnet", "c_adversarial_domain", "c_moco", "c_lstm_lm", "c_time_series", "c_accumulation_sum",
    "c_accumulation", "c_plateau", "c_augmented",
)  # fmt: skip


def findings(source: Source, faulty: bool, folder: Path) -> list[Finding]:
    path = folder / "train.py"
    path.write_text(source.resolved(faulty), encoding="utf-8")
    arguments, state = sys.argv, torch.random.get_rng_state()
    sys.argv = [str(path)]
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()), Watch() as watch:
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = arguments
        os.chdir(before)
        torch.random.set_rng_state(state)
    assert not watch.hooks.failed, watch.hooks.failed
    return [one for one in watch.findings if one.severity in GRAVE]


def test_every_new_rule_has_a_program() -> None:
    assert {rule for one in PAIRS for rule in one.rules} >= RULES


@pytest.mark.filterwarnings("ignore")  # PyTorch warns of some faults itself
@pytest.mark.parametrize("source", PAIRS, ids=lambda one: one.name)
def test_a_fault_is_found_and_its_twin_is_not(source: Source, tmp_path: Path) -> None:
    found = [one for one in findings(source, True, tmp_path) if one.rule in source.rules]
    assert any(at_line(source, one.where, one.message) for one in found), found
    assert all(one.fix and one.message for one in found)
    assert findings(source, False, tmp_path) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALIKE)
def test_look_alikes_are_left_alone(name: str, tmp_path: Path) -> None:
    assert findings(sources(name)[0], False, tmp_path) == []


def test_a_source_becomes_two_scripts_with_the_same_lines(tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    path.write_text("# rows 1, 2 | rule a b\nx = 1  # fault\nx = 2  # well\nprint(x)  # here\n")
    one = read(path)
    assert (one.rows, one.rules, one.lines, one.control) == ((1, 2), ("a", "b"), (4,), False)
    assert one.resolved(True) == "\nx = 1\n\nprint(x)\n"
    assert one.resolved(False) == "\n\nx = 2\nprint(x)\n"
    for broken in ("print(1)\n", "# rows 1 | rule a\nprint(1)\n"):
        path.write_text(broken)
        with pytest.raises(ValueError, match=r"one\.py"):
            read(path)
