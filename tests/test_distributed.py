"""Several processes train as one does: two of them over gloo, checked against a run in this process, in float64."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from goodfit import job, keyed, store
from goodfit.distributed import Elsewhere, World, joined, share
from goodfit.errors import GoodfitError
from goodfit.loop import fit
from goodfit.models.synchronised import batch_norm, synchronised
from goodfit.pages import explain
from goodfit.recipe import Recipe
from goodfit.run import Run
from goodfit.screen import Screen
from goodfit.techniques.batch import ALL as BATCH
from goodfit.types import Batch, Moment
from tests.techniques.test_batch import MIXING

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without torch.distributed")

CPU = torch.device("cpu")
PLAIN = {
    "optimizer.name": "sgd", "optimizer.lr": 0.05, "schedule.name": "constant", "average.name": "none",
    "loss.name": "cross_entropy", "loss.label_smoothing": 0.1, "stopping.name": "none", "batch_size": 17, "epochs": 3,
    "numerics.precision": "fp32", "numerics.compile": False, "numerics.memory_format": "contiguous",
}  # fmt: skip
DENSE = {"model.name": "mlp", "model.norm": "none", "model.dropout": 0.0}


# What a process does. Everything below is called by name in two processes at once, and by itself in this one.


class Net(nn.Module):
    """Convolutions and a head in float64, so that the order of sums shows in the 15th digit only."""

    def __init__(self, norm: str = "none", unused: bool = False, activated: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Conv2d(1, 4, 3, padding=1, bias=False)]
        if norm == "batch":
            layers += [ActivatedNorm(4) if activated else nn.BatchNorm2d(4)]
        layers += [nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 5)]
        layers += [nn.BatchNorm1d(5), nn.Tanh()] if norm == "batch" else []
        self.layers = nn.Sequential(*layers, nn.Linear(5, 3)).double()
        self.unused = nn.Linear(3, 3).double() if unused else None

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.as_tensor(self.layers(inputs.double() / 64))


class ActivatedNorm(nn.BatchNorm2d):
    """A batch norm with a forward of its own, as timm's have."""

    def forward(self, input: Tensor) -> Tensor:
        given = (self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps)
        return F.silu(F.batch_norm(input, *given))  # type: ignore[arg-type]


class Words(nn.Module):
    """A language model in float64 that sees only the last token."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(64, 64).double()

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.as_tensor(self.table(tokens % 64))


class Sometimes(nn.Module):
    """A part of it learns only where the batch asks for it: its gradient is missing in some processes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.always, self.some, self.never = (nn.Linear(4, 3).double() for _ in range(3))

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs.double()
        result = self.always(x)
        rare = x[:, 0] > 1.5
        return torch.as_tensor(result + self.some(x) * rare[:, None] if rare.any() else result)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": Net,
    "norm": lambda: Net("batch"),
    "activated": lambda: Net("batch", activated=True),
    "unused": lambda: Net(unused=True),
    "words": Words,
    "sometimes": Sometimes,
}


def images(count: int = 75, *, rare: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Small pictures of three classes, one of them rare."""
    random = np.random.default_rng(0)
    targets = random.choice(3, count, p=[0.6, 0.28, 0.12] if rare else None)
    targets[:30] = np.arange(30) % 3
    pixels = random.integers(0, 120, (count, 1, 6, 6)) + 45 * targets[:, None, None, None]
    return pixels.astype(np.uint8), targets


def rows(count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Four columns, three classes."""
    random = np.random.default_rng(1)
    targets = np.arange(count) % 3
    return (random.normal(size=(count, 4)) + targets[:, None]).astype(np.float32), targets


def text() -> str:
    Path("text.txt").write_text("".join(f"line {n * n} of some words, {n % 7}\n" for n in range(90)))
    return "text.txt"


def table() -> pd.DataFrame:
    x, y = rows()
    columns = {"a": x[:, 0], "b": x[:, 1], "colour": np.where(x[:, 2] > 0, "red", "blue")}
    return pd.DataFrame({**columns, "kind": np.array(["x", "y", "z"])[y]})


SOURCES: dict[str, Callable[[], Any]] = {"images": images, "rows": rows, "text": text, "table": table}


class Watch:
    """Keeps what the loop shows."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.samples: list[int] = []

    def step(self, moment: Moment, loss: Tensor, lr: float, samples: int) -> None:
        self.losses.append(float(loss))
        self.samples.append(samples)

    def evaluated(self, moment: Moment, row: Any, best: bool) -> None:
        self.row = dict(row)


def trained(world: World, source: str, changes: dict[str, Any], model: str | None = None) -> dict[str, Any]:
    """Train without pre-flight and report."""
    own = MODELS[model]() if model else None
    recipe = Recipe().patched({**PLAIN, **changes})
    data = job.read_data(SOURCES[source](), recipe, Screen.silent())
    plan = job.plan_for(recipe, data, CPU, own)
    signals: Any = type("Quiet", (), {"requested": 0})()
    work = job.Job(Path("unused"), data, plan, recipe, Screen.silent(), CPU, own, signals, "", world)
    made = work.make_model()
    world.spread(made)
    state, slots = work.assemble(made)
    if world.size > 1:
        state.shares = work.shares(slots)
    watch = Watch()
    shown, metric = job.metrics_for(data)
    with synchronised(made, world) if work.synchronises else job.nullcontext():
        fit(
            state, slots, data, plan, watchers=[watch], measure=work.measurer(shown, metric), save=lambda *_: None,
            metric=metric.name, larger_is_better=metric.larger_is_better,
        )  # fmt: skip
    return {
        "losses": watch.losses,
        "samples": watch.samples,
        "row": watch.row,
        "weights": {name: value.numpy() for name, value in made.state_dict().items()},
        "read": len(state.shares.positions([torch.arange(17)])[0]) if state.shares else 17,
    }


def normalised(world: World, sizes: Sequence[int], shape: Sequence[int], affine: bool) -> dict[str, Any]:
    """Batch norm of this process's rows of a batch: outputs, slopes, running statistics."""
    torch.manual_seed(0)
    whole = torch.randn(sum(sizes), 3, *shape, dtype=torch.float64) * 2 + 5
    slope = torch.randn_like(whole)
    norm = nn.BatchNorm2d(3, affine=affine).double() if shape else nn.BatchNorm1d(3, affine=affine).double()
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias)
    part = slice(sum(sizes[: world.rank]), sum(sizes[: world.rank + 1])) if world.size > 1 else slice(None)
    mine = whole[part].clone().requires_grad_()
    with synchronised(norm, world) as count:
        outputs = norm(mine)
        (outputs * slope[part]).sum().backward()
        running = [norm.running_mean, norm.running_var]
        evaluated = norm.eval()(mine[: 1 + world.rank])  # as many as each likes: nothing is exchanged
        norm.running_mean = norm.running_var = None
        if world.rank == 0:  # without running statistics it takes those of the batch, by itself
            norm(torch.cat([mine, mine]))
    assert count == (world.size > 1)
    assert "forward" not in vars(norm)
    grads = [] if norm.weight is None else [norm.weight.grad, norm.bias.grad]
    found = [outputs.detach(), mine.grad, *running, evaluated.detach(), *grads]
    return {"found": [one.numpy() for one in found], "tracked": int(norm.num_batches_tracked)}  # type: ignore[union-attr]


class Stop:
    """Takes the place of the signals: asks one process to stop after so many steps."""

    rank, steps = 0, 0

    def __init__(self) -> None:
        self.asked = 0

    def __enter__(self) -> Stop:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def requested(self) -> int:
        self.asked += 1
        return signal.SIGINT if Stop.steps and dist.get_rank() == Stop.rank and self.asked >= Stop.steps else 0


class Dropping(nn.Module):
    """Dropout, and a sum of what was kept, so that every process's mask shows."""

    kept: ClassVar[list[float]] = []

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            mask = F.dropout(torch.ones(64), 0.5)
            Dropping.kept.append(float((mask * torch.arange(64)).sum()))
            return torch.as_tensor(self.head(inputs * mask[: len(inputs), None].clamp(max=1)))
        return torch.as_tensor(self.head(inputs))


class Falling(nn.Module):
    """Fails, dies or gives no number in one process at one step."""

    rank, step, how = 1, 3, "raise"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(4, 3)
        self.steps = 0

    def forward(self, inputs: Tensor) -> Tensor:
        logits = torch.as_tensor(self.head(inputs))
        if not self.training or not in_training():
            return logits
        self.steps += 1
        if dist.get_rank() == Falling.rank and self.steps == Falling.step:
            if Falling.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if Falling.how == "raise":
                raise RuntimeError("a wire came loose")
            return logits * torch.nan
        return logits


def in_training() -> bool:
    """Whether the loop is what calls: pre-flight has rank 0 alone run the model."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "fit":
            return True
    return False


def whole_job(
    world: World | None, folder: str, *, out: str = "run", stop: tuple[int, int] = (0, 0), own: str = "",
    fall: tuple[int, int, str] = (0, 0, ""), source: str = "rows", **changes: Any,
) -> dict[str, Any]:  # fmt: skip
    """The main job, as a user calls it but for pre-flight and baselines; returns how it ended."""
    os.chdir(folder)
    Stop.rank, Stop.steps = stop
    Falling.rank, Falling.step, Falling.how = fall
    Dropping.kept = []
    given_up = {"Signals": Stop, "preflight": lambda *_, **__: [], "baselines": lambda *_, **__: []}
    before = {name: getattr(job, name) for name in given_up}
    for name, other in given_up.items():
        setattr(job, name, other)
    recipe = Recipe().patched({**PLAIN, **changes})
    model = {"dropping": Dropping, "falling": Falling}[own]() if own else None
    given: Any = SOURCES[source]() if source in SOURCES else source
    if source == "loader":
        x, y = rows()
        data = TensorDataset(torch.tensor(x), torch.tensor(y))
        given = DataLoader(data, batch_size=8), DataLoader(data, batch_size=8)
    if source == "other":
        x, y = rows()
        given = x + dist.get_rank(), y
    if own == "":
        recipe = recipe.patched({**DENSE, **changes})
    shown = io.StringIO()
    ended: dict[str, Any]
    try:
        screen = Screen(Console(file=shown, width=200))
        run = job.train(given, out=out, recipe=recipe, model=model, screen=screen)
        ended = {"run": str(run.folder), "kept": Dropping.kept, "digest": run.results["digest"]}
    except (GoodfitError, RuntimeError) as error:
        told = not isinstance(error, Elsewhere)
        ended = {"error": str(error), "told": told, "code": getattr(error, "code", 2), "kind": type(error).__name__}
    finally:
        for name, own_thing in before.items():
            setattr(job, name, own_thing)
    return {**ended, "shown": shown.getvalue()}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {"trained": trained, "normalised": normalised, "job": whole_job}


def serve(rank: int, meeting: str, pipe: Any) -> None:
    """What each of the two processes runs: task after task, until there is none."""
    os.environ["XDG_CACHE_HOME"] = str(Path(meeting).parent / "cache")
    os.chdir(Path(meeting).parent)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    world = World(rank, 2)
    while (task := pipe.recv()) is not None:
        name, arguments, named = task
        try:
            pipe.send((True, TASKS[name](world, *arguments, **named)))
        except Exception as error:
            pipe.send((False, f"{type(error).__name__}: {error}"))


class Pair:
    """Two processes that work on the same task."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        # Torch is loaded once, in the server that both are forked from.
        context.set_forkserver_preload(["tests.test_distributed", "torch._dynamo"])
        ends = [context.Pipe() for _ in range(2)]
        self.pipes = [mine for mine, _ in ends]
        self.processes = [
            context.Process(target=serve, args=(rank, str(folder / "meeting"), theirs), daemon=True)
            for rank, (_, theirs) in enumerate(ends)
        ]
        for process, (_, theirs) in zip(self.processes, ends, strict=True):
            process.start()
            theirs.close()

    def start(self, name: str, *arguments: Any, **named: Any) -> None:
        for pipe in self.pipes:
            pipe.send((name, arguments, named))

    def hear(self, rank: int) -> dict[str, Any]:
        assert self.pipes[rank].poll(120), f"rank {rank} says nothing"
        fine, result = self.pipes[rank].recv()
        assert fine, f"rank {rank}: {result}"
        return dict(result)

    def __call__(self, name: str, *arguments: Any, **named: Any) -> list[dict[str, Any]]:
        self.start(name, *arguments, **named)
        return [self.hear(rank) for rank in range(2)]

    def end(self) -> None:
        for process in self.processes:
            process.kill()


@contextmanager
def paired(folder: Path) -> Iterator[Pair]:
    pair = Pair(folder)
    try:
        yield pair
    finally:
        pair.end()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with paired(tmp_path_factory.mktemp("pair")) as made:
        yield made


CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "class weights, unequal shares, momentum, clipping": (
        "images",
        {"loss.class_weight": "inverse", "optimizer.momentum": 0.9, "clip.norm": 0.5, "penalty.l2": 0.01},
        "plain",
    ),
    "mixup of crops": ("images", {"batch.crop": True, "batch.flip": True, "batch.mixup.alpha": 1.0}, "plain"),
    "mixup by sample, then cutmix": (
        "images",
        {"batch.mixup.alpha": 1.0, "batch.mixup.per": "sample", "batch.cutmix.p": 1.0},
        "plain",
    ),
    "augmentation that is keyed by sample": (
        "images",
        {"batch.crop": True, "batch.erasing.p": 0.5, "batch.colour_jitter": True},
        "plain",
    ),
    "pieces": ("images", {"gradient.name": "accumulate", "gradient.microbatch": 4}, "plain"),
    "sam": ("images", {"gradient.name": "sam", "gradient.rho": 0.5}, "plain"),
    "sam in pieces": ("images", {"gradient.name": "sam", "gradient.rho": 0.5, "gradient.microbatch": 3}, "plain"),
    "batch norm": ("images", {"loss.class_weight": "inverse"}, "norm"),
    "batch norm under sam": ("images", {"gradient.name": "sam", "gradient.rho": 0.2}, "norm"),
    "batch norm with an activation of its own, averaged": ("images", {"average.name": "ema"}, "activated"),
    "balanced sampling": ("images", {"sampling.name": "balanced"}, "plain"),
    "a part that never learns": ("images", {"optimizer.weight_decay": 0.1}, "unused"),
    "a part that learns in one process": (
        "rows",  # without momentum: PyTorch's fused one fails where a gradient comes late
        {"optimizer.momentum": 0.0, "optimizer.weight_decay": 0.1, "batch_size": 5},
        "sometimes",
    ),
    "tokens, of which some are ignored": (
        "text",
        {"batch_size": 5, "data.tokens": "characters", "data.length": 24, "optimizer.lr": 1.0},
        "words",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_does(case: str, pair: Pair) -> None:
    source, changes, model = CASES[case]
    alone = trained(World(), source, changes, model)
    both = pair("trained", source, changes, model)
    assert len(alone["losses"]) > 10
    assert [one["read"] for one in both] == ([17, 17] if "mix" in case else [9, 8])
    for one in both:
        np.testing.assert_allclose(one["losses"], alone["losses"], rtol=2e-6)  # a float32 weight divides in one process
        assert one["samples"] == alone["samples"]
        assert one["row"] == pytest.approx(alone["row"], rel=1e-6)
        for name, value in alone["weights"].items():
            np.testing.assert_allclose(one["weights"][name], value, rtol=1e-6, atol=1e-8, err_msg=name)
    for name, value in both[0]["weights"].items():
        np.testing.assert_array_equal(both[1]["weights"][name], value, err_msg=name)


OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "batch norm": ("images", {"model.name": "resnet", "model.depth": 8, "model.width": 4}),
    "mixup behind the embedding": ("table", {**DENSE, "batch.embedding_mixup.alpha": 1.0}),
}


@pytest.mark.parametrize("case", OURS)
def test_a_float32_model_of_ours_trains_as_in_one_process(case: str, pair: Pair) -> None:
    source, changes = OURS[case]
    changes = {**changes, "optimizer.lr": 0.02, "epochs": 1}
    alone, (one, _) = trained(World(), source, changes), pair("trained", source, changes)
    np.testing.assert_allclose(one["losses"], alone["losses"], rtol=2e-5)
    for name, value in alone["weights"].items():
        np.testing.assert_allclose(one["weights"][name], value, rtol=1e-3, atol=2e-5, err_msg=name)


def test_batch_norm_of_each_process_alone_differs(pair: Pair) -> None:
    changes = {"numerics.sync_batchnorm": False}
    alone, (one, other) = trained(World(), "images", {}, "norm"), pair("trained", "images", changes, "norm")
    assert np.abs(np.subtract(one["losses"], alone["losses"])).max() > 1e-3
    assert one["losses"] == other["losses"]
    assert not np.array_equal(one["weights"]["layers.1.running_mean"], other["weights"]["layers.1.running_mean"])


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "bare"])
@pytest.mark.parametrize(("sizes", "shape"), [((5, 4), (3, 2)), ((1, 6), ()), ((1, 1), ())], ids=str)
def test_shared_batch_norm_is_that_of_the_whole_batch(
    sizes: tuple[int, int], shape: tuple[int, ...], affine: bool, pair: Pair
) -> None:
    expected = normalised(World(), sizes, shape, affine)["found"]
    one, other = (found["found"] for found in pair("normalised", sizes, shape, affine))
    for place, name in enumerate(["outputs", "slopes"]):
        joint = np.concatenate([one[place], other[place]])
        np.testing.assert_allclose(joint, expected[place], rtol=1e-9, atol=1e-10, err_msg=name)
    for place, name in ((2, "running mean"), (3, "running variance")):
        np.testing.assert_allclose(one[place], expected[place], rtol=1e-12, err_msg=name)
        np.testing.assert_array_equal(one[place], other[place])
    for place in range(5, len(expected)):  # each has its share of the sum
        np.testing.assert_allclose(one[place] + other[place], expected[place], rtol=1e-9, atol=1e-10)


def test_batch_norm_in_half_precision_keeps_its_dtype_and_computes_in_float32() -> None:
    inputs = torch.randn(64, 3, 4) * 3 + 100
    mean, var = torch.zeros(3), torch.ones(3)
    found = batch_norm(inputs.bfloat16(), mean, var, None, None, True, 0.1, 1e-5, processes=World())
    exact = F.batch_norm(inputs.bfloat16().float(), None, None, None, None, True)
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).abs().max() < 0.02
    np.testing.assert_allclose(mean, 0.1 * inputs.bfloat16().float().mean((0, 2)), rtol=1e-5)


def test_techniques_that_mix_samples_say_so() -> None:
    # That the others change a sample alike in any batch is tested there.
    assert {one.name for one in BATCH if getattr(one, "mixes", False)} == {*MIXING, "embedding_mixup"}


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_shares_of_a_batch_are_the_batch(size: int) -> None:
    inputs = {"a": torch.randn(7, 2), "b": torch.arange(7)}
    batch = Batch(inputs, torch.arange(7), torch.rand(7), torch.arange(7) * 3)
    parts = [share(batch, rank, size) for rank in range(size)]
    assert torch.equal(torch.cat([one.index for one in parts]), batch.index)
    assert torch.equal(torch.cat([one.inputs["a"] for one in parts]), inputs["a"])  # type: ignore[index]
    assert torch.equal(torch.cat([one.weight for one in parts]), batch.weight)  # type: ignore[arg-type]
    assert {len(one.index) for one in parts} <= {7 // size, 7 // size + 1}
    # What is read by position is what is cut from a whole batch.
    assert [one.tolist() for one in torch.arange(7).tensor_split(size)] == [(one.index // 3).tolist() for one in parts]


def test_a_single_process_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined() as world:
        assert (world.rank, world.size) == (0, 1)
        assert world.on_first(lambda: "said") == world.everywhere(lambda: "said") == "said"
        assert world.device("cuda:1") == "cuda:1"
    assert not dist.is_initialized()


def test_processes_that_cannot_find_each_other_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(GoodfitError, match="start them with torchrun"), joined():
        pass


def test_each_process_draws_its_own_dropout_and_the_run_repeats_bit_by_bit(pair: Pair, tmp_path: Path) -> None:
    first, again = (pair("job", str(tmp_path), out=out, own="dropping") for out in ("a", "b"))
    steps = 3 * 4
    one, other = (found["kept"][-steps:] for found in first)
    assert len(set(one + other)) == 2 * steps
    assert [found["kept"][-steps:] for found in again] == [one, other]
    assert first[0]["digest"] == again[0]["digest"] == first[1]["digest"]
    place = keyed.key(Run(tmp_path / "a").plan["seed"], "step", 0, 1) & 0x7FFFFFFFFFFFFFFF
    torch.manual_seed(place)
    assert float((F.dropout(torch.ones(64), 0.5) * torch.arange(64)).sum()) == other[0]


def lines(folder: Path) -> list[dict[str, Any]]:
    kept = store.read_lines(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in ("seconds", "samples_per_second")} for row in kept]


def test_a_stop_asked_of_one_process_stops_both_and_the_run_goes_on_to_the_same_bits(
    pair: Pair, tmp_path: Path
) -> None:
    whole = pair("job", str(tmp_path), out="whole")
    assert "into whole, in 2 processes" in whole[0]["shown"]
    assert whole[1]["shown"] == ""
    torn = pair("job", str(tmp_path), out="torn", stop=(1, 6))
    assert [one["kind"] for one in torn] == ["Interrupted", "Elsewhere"]
    assert [one["code"] for one in torn] == [128 + signal.SIGTERM, 128 + signal.SIGINT]
    assert "stopped at step 6, saved in torn" in torn[0]["error"]
    assert Run(tmp_path / "torn").status == "interrupted"
    resumed = pair("job", str(tmp_path), out="torn")
    assert "Resuming torn at step 6\n" in resumed[0]["shown"]
    assert resumed[0]["digest"] == resumed[1]["digest"] == whole[0]["digest"]
    assert lines(tmp_path / "torn") == lines(tmp_path / "whole")
    assert Run(tmp_path / "torn").plan.environment["processes"] == 2


def test_going_on_with_another_number_of_processes_is_named_as_not_exact(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair("job", str(tmp_path), stop=(0, 6))
    run = job.train(rows(), out=tmp_path / "run", recipe=Recipe().patched({**PLAIN, **DENSE}))
    assert "resume: not exact, because the processes were 2 and are 1 now" in " ".join(capsys.readouterr().out.split())
    assert run.status == "finished"


def test_a_loss_that_is_no_number_in_one_process_stops_or_is_skipped_in_both(pair: Pair, tmp_path: Path) -> None:
    stopped = pair("job", str(tmp_path), out="a", own="falling", fall=(1, 4, "nan"))
    assert [one["kind"] for one in stopped] == ["NonFinite", "Elsewhere"]
    assert "the loss became nan at step 3" in stopped[0]["error"]
    skipped = pair("job", str(tmp_path), out="b", own="falling", fall=(1, 4, "nan"), nonfinite="skip")
    assert skipped[0]["digest"] == skipped[1]["digest"]
    assert Run(tmp_path / "b", model=Falling()).results["skipped"] == 1


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"source": "loader"}, "the order of a DataLoader cannot be shared by several processes; give its dataset"),
        ({"batch_size": 1}, "a batch of 1 has nothing for some of 2 processes; raise 'batch_size'"),
        ({"source": "other"}, "rank 1 reads other data than rank 0"),
        ({"source": "nowhere.csv"}, "nowhere.csv"),
    ],
    ids=["loader", "tiny batch", "other data", "no file"],
)
def test_a_mistake_is_told_once_and_ends_both(named: dict[str, Any], message: str, pair: Pair, tmp_path: Path) -> None:
    found = pair("job", str(tmp_path), **named)
    assert [one["told"] for one in found].count(True) == 1
    (told,) = (one for one in found if one["told"])
    assert message in told["error"]
    assert list(tmp_path.glob("run*")) == []


def test_a_process_that_fails_ends_the_other_with_its_rank_and_step_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with paired(tmp_path / "x") as lost:
        lost.start("job", str(tmp_path), own="falling", fall=(1, 9, "raise"), epochs=4)
        failed = lost.hear(1)
        assert failed["error"] == "a wire came loose"
        began = time.monotonic()
        lost.processes[1].kill()  # what an exception that nobody catches does
        told = lost.hear(0)
    assert told["error"].startswith("rank 1 failed at step 8: RuntimeError: a wire came loose; all processes stop")
    assert told["told"]
    assert time.monotonic() - began < 30
    assert Run(tmp_path / "run", model=Falling()).status == "interrupted"


def test_a_process_that_is_killed_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with paired(tmp_path / "x") as lost:
        lost.start("job", str(tmp_path), own="falling", fall=(1, 5, "kill"))
        lost.processes[1].join(120)
        began = time.monotonic()
        told = lost.hear(0)
    assert told["error"].startswith("rank 1 ended without a word at step 4 (killed, or out of memory?)")
    assert told["told"]
    assert time.monotonic() - began < 30


def test_torchrun_trains_from_the_command_line(tmp_path: Path) -> None:
    x, y = rows(60)
    table = ["a,b,c,d,kind", *(",".join([*map(str, row), "xyz"[int(kind)]]) for row, kind in zip(x, y, strict=True))]
    (tmp_path / "small.csv").write_text("\n".join(table) + "\n")
    changes = {**PLAIN, **DENSE, "epochs": 1}
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "goodfit", "train", "small.csv", "--out", "run", *sets,
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("on validation") == 1
    run = Run(tmp_path / "run")
    assert run.status == "finished"
    assert run.plan.environment["processes"] == 2


def test_the_page_says_how_to_start_it() -> None:
    page = explain("distributed")
    assert "torchrun --nproc-per-node 2 -m goodfit train SOURCE" in page
    assert "not been tried on several GPUs" in " ".join(page.split())
