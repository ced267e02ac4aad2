"""Callbacks for other frameworks: each watches a real training of its framework, where that is installed."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import goodfit
from goodfit.errors import GoodfitError, MissingExtra
from goodfit.integrations import notebook
from goodfit.integrations.training import Watching

G = torch.Generator().manual_seed(1)
X, Y = torch.randn(48, 6, generator=G), torch.randint(0, 3, (48,), generator=G)
RULE = "softmax-before-cross-entropy"
FAULTS = {"double-softmax", RULE}


def net(faulty: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), *([nn.Softmax(1)] if faulty else []))


def wrong(watch: Any) -> bool:
    """Whether the fault, and nothing else, was found."""
    rules = {one.rule for one in watch.findings if one.severity == "error"}
    assert rules <= FAULTS
    return bool(rules)


def trained(model: nn.Module, steps: int = 6) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def test_what_all_share_prints_what_it_finds_and_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    shared = Watching()
    assert (shared.findings, shared.not_checked, shared.steps) == ([], [], 0)
    original = F.cross_entropy
    shared.begin_watch(net(True))
    assert F.cross_entropy is not original
    trained(net(True))
    copies = copy.deepcopy(shared), pickle.loads(pickle.dumps(shared))
    shared.end_watch()
    shared.end_watch()
    assert F.cross_entropy is original
    assert wrong(shared)
    assert shared.steps == 6
    assert capsys.readouterr().out.count("error double-softmax: ") == 1
    assert all(one.findings == [] for one in copies)
    shared.begin_watch()
    trained(net(False))
    shared.end_watch()
    assert not wrong(shared)


def test_a_rule_may_be_ignored_and_findings_said_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[Any] = []
    shared = Watching(ignore=["double-softmax"], say=heard.append)
    shared.begin_watch()
    trained(net(True))
    shared.end_watch()
    assert "double-softmax" not in {one.rule for one in [*heard, *shared.findings]}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("faulty", [True, False])
def test_lightning(faulty: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = net(faulty)

        def training_step(self, batch: Any, number: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    watch = goodfit.integrations.lightning.Watch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[watch],
        )  # fmt: skip
        trainer.fit(Module(), DataLoader(TensorDataset(X, Y), 12, shuffle=True))
    assert wrong(watch) is faulty
    assert watch.steps == 8


@pytest.mark.parametrize("faulty", [True, False])
def test_transformers(faulty: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="Transformers is not installed")
    callback = importlib.import_module("transformers.trainer_callback")
    watch = goodfit.integrations.transformers.Watch()
    model, arguments = (
        net(faulty),
        transformers.TrainingArguments(output_dir="out", use_cpu=True, report_to=[])
        if (importlib.util.find_spec("accelerate"))
        else SimpleNamespace(),
    )
    handler = callback.CallbackHandler([watch], model, None, None, None)
    state, control = transformers.TrainerState(), transformers.TrainerControl()
    handler.on_train_begin(arguments, state, control)
    trained(model)
    handler.on_train_end(arguments, state, control)
    assert wrong(watch) is faulty
    assert watch.steps == 6


@pytest.mark.parametrize("faulty", [True, False])
def test_skorch(faulty: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skorch = pytest.importorskip("skorch", reason="skorch is not installed")
    classifier = skorch.NeuralNet(
        net(faulty), criterion=nn.CrossEntropyLoss, max_epochs=2, batch_size=12, train_split=None, verbose=0, lr=0.1,
        callbacks=[watch := goodfit.integrations.skorch.Watch()],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier.fit(X.numpy(), Y.numpy())
    assert wrong(watch) is faulty
    assert watch.steps == 8


def test_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras = pytest.importorskip("keras", reason="Keras is not installed")
        if keras.backend.backend() != "torch":
            pytest.skip("Keras was imported with another backend")
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        watch = goodfit.integrations.keras.Watch()
        model.fit(X.numpy(), Y.numpy(), batch_size=12, epochs=2, verbose=0, callbacks=[watch])
    assert not wrong(watch)


@pytest.mark.parametrize("name", ["lightning", "keras", "skorch"])
def test_a_framework_that_is_not_there_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.split(".")[0] in (name, "pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, module)
    for module in (name, "pytorch_lightning", "lightning.pytorch", "skorch.callbacks"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ours = importlib.import_module(f"goodfit.integrations.{name}")
    vars(ours).pop("Watch", None)
    with pytest.raises(MissingExtra, match=rf"pip install 'goodfit\[{name}\]'"):
        _ = ours.Watch
    with pytest.raises(AttributeError):
        _ = ours.Nothing
    assert issubclass(MissingExtra, GoodfitError)


class Shell:
    """As much of IPython as the magic needs."""

    def __init__(self) -> None:
        self.magic: Any = None

    def register_magic_function(self, function: Any, magic_kind: str, magic_name: str) -> None:
        assert (magic_kind, magic_name) == ("cell", "goodfit")
        self.magic = function

    def run_cell(self, cell: str) -> None:
        exec(compile(cell, "<ipython-input-1>", "exec"), {"train": trained, "net": net})


def test_the_magic_of_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell()
    goodfit.load_ipython_extension(shell)
    assert goodfit.load_ipython_extension is notebook.load_ipython_extension
    shell.magic("", "train(net(True))")
    assert "error double-softmax: " in capsys.readouterr().out
    shell.magic("double-softmax", "train(net(True))")
    assert "double-softmax" not in capsys.readouterr().out
    shell.magic("", "train(net(False))")
    assert "nothing wrong was found in 6 steps" in capsys.readouterr().out
    shell.magic("", "1 + 1")
    assert "saw no optimizer step" in capsys.readouterr().out


def test_the_magic_in_ipython_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shells = pytest.importorskip("IPython.core.interactiveshell", reason="IPython is not installed")
        shell = shells.InteractiveShell()
        shell.run_line_magic("load_ext", "goodfit")
        shell.user_ns |= {"train": trained, "net": net}
        shell.run_cell("%%goodfit\ntrain(net(True))")
    assert "error double-softmax: " in capsys.readouterr().out
