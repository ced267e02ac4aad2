"""Training in several processes at once, on CPU cores or GPUs: each takes its share of every batch.

torchrun starts the processes; the rest of the command is the usual one::

    torchrun --nproc-per-node 2 -m goodfit train SOURCE --set batch_size=256

In a script, call ``goodfit.train`` and start the script with torchrun. ``batch_size`` stays the number of samples per
update of all processes together, so the run is that of one process with the same recipe, up to rounding.

How: every process reads the data and holds the whole model. The order of an epoch is a function of seed and epoch,
oversampling included, and each batch is cut into as many runs of neighbours as there are processes. Each runs forward
and backward on its share; the gradients of all are summed in one exchange a step (two with ``sam``) and divided by the
weight of the whole batch, so class weights, tokens that count and shares that differ by a sample are exact. Nothing is
exchanged between the pieces of ``accumulate``.
Formula: ``g = (sum_r sum_{i in r} v_i grad loss_i) / (sum_r sum_{i in r} v_i)`` over ranks r.
Augmentation: keyed by sample, so it is that of one process. Mixup and CutMix choose partners in the whole batch: every
process reads and mixes all of it and then takes its share.
Batch normalisation: statistics are those of the whole batch, forward and backward, in any module that calls
``torch.nn.functional.batch_norm``; ``numerics.sync_batchnorm = false`` leaves each process its own, which is faster.
With ``accumulate``, and with ``gradient.microbatch``, each process keeps its own too, since nothing is exchanged there.
Other layers that look across samples see one process's share; texts read as ``streams`` are refused.
Dropout: every process draws its own, by (seed, step, rank): a run with dropout repeats exactly with the same number of
processes, and is another run with another number.
Rank 0: alone checks, times, validates, prints and writes; the others wait. All must see the data and the run folder.
Ctrl-C and SIGTERM: whichever process hears of it, all stop after the same step, rank 0 saves, and the same command goes
on. torchrun grants 30 seconds for that, and ends with lines of its own. With another number of processes it goes on as
well, though not exactly.
Failures: a loss that is not finite in one process is skipped or stops the run in all. A process that fails ends all of
them, with its rank and step; the same command goes on from the last checkpoint. One that hangs in a step (on CPU) is
waited for 15 seconds, or 20 times the longest wait before; then it is named and killed. A hang outside of steps is not
noticed.
Devices: gloo connects CPU processes, NCCL those with one GPU each (``--device cuda``, no number). Tested with gloo on
CPU; the way over NCCL is the same code, and has not been tried on several GPUs.
Hurts: small models, whose exchange takes longer than their step. A DataLoader of your own is refused: its order cannot
be shared; give its dataset.
Often wrong: dividing by each process's own weight and averaging, which is exact only where all shares weigh the same;
multiplying ``batch_size`` by the number of processes without a new learning rate.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from goodfit.errors import GoodfitError
from goodfit.types import Batch, Inputs

T = TypeVar("T")
PATIENCE = timedelta(days=1)
"""How long the others wait for what rank 0 does alone: baselines of large data take their time."""
LAST_WORDS = 3.0
"""Seconds in which a failed process's own message is waited for."""
STALL = 15.0
"""Seconds without an answer in a training step after which a process counts as hung, or 20 times the longest wait so
far where that is more. The first exchange, before which models are compiled, and one while rank 0 saves have no such
limit."""


class Elsewhere(GoodfitError):
    """Another process ended the run and says why; this one only leaves. ``code`` is the exit status."""

    told: ClassVar[bool] = True

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


class Lost(GoodfitError):
    """Another process is gone, so nothing can be exchanged any more."""


class World:
    """The processes of a run, and what they say to each other outside of training steps.

    rank: which one this is, from 0. size: how many there are; with 1 nothing is ever exchanged.
    where: what this process is doing, for the message of a failure.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size, self.where = rank, size, "before the first step"
        self._longest, self._stalled = -1.0, 0.0  # seconds waited in an exchange; no exchange yet
        # Waiting for rank 0 may take long; a step of training may not.
        self._waiting: Any = dist.new_group(backend="gloo", timeout=PATIENCE) if size > 1 else None
        if size > 1:
            _store().set(f"goodfit/process/{rank}", json.dumps([socket.gethostname(), os.getpid()]))

    def on_first(self, work: Callable[[], T]) -> T:
        """What ``work``, done by rank 0 alone, returns (plain JSON values). Where it fails, all end; rank 0 tells."""
        if self.size == 1:
            return work()
        said, failure, value = b"", None, None
        if self.rank == 0:
            try:
                value = work()
                said = json.dumps({"value": value}).encode()
            except Exception as error:  # whatever it is, the others must hear of it; it is raised below
                failure = error
                said = json.dumps({"failed": str(error), "code": getattr(error, "code", 2)}).encode()
        heard = json.loads(self._say(said))
        if failure is not None:
            raise failure
        if "failed" in heard:
            raise Elsewhere(heard["failed"], int(heard["code"]))
        return value if self.rank == 0 else heard["value"]  # type: ignore[return-value]

    def everywhere(self, work: Callable[[], T]) -> T:
        """What ``work``, done by every process, returns here. Where it fails in any, all end, and the lowest tells."""
        if self.size == 1:
            return work()
        failure: Exception | None = None
        value: list[T] = []
        try:
            value.append(work())
        except Lost:
            raise
        except Exception as error:  # raised below, once the others know
            failure = error
        fine = torch.ones(self.size)
        fine[self.rank] = float(failure is None)
        self._exchange(lambda: dist.all_reduce(fine, op=dist.ReduceOp.MIN, group=self._waiting))
        if bool(fine.all()):
            return value[0]
        teller = int(fine.argmin())
        if failure is not None and teller == self.rank:
            raise failure
        raise Elsewhere(f"rank {teller} says why", getattr(failure, "code", 2)) from failure

    def same(self, value: str, complaint: str) -> None:
        """Raises GoodfitError in every process where one of them holds another value than rank 0."""
        first = self.on_first(lambda: value)

        def compare() -> None:
            if value != first:
                raise GoodfitError(f"rank {self.rank} {complaint}")

        self.everywhere(compare)

    def spread(self, model: nn.Module) -> None:
        """Give all processes the weights and buffers that rank 0 has."""
        if self.size > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                held = tensor.detach().contiguous()
                self._exchange(lambda held=held: dist.broadcast(held, 0))  # type: ignore[misc]
                with torch.no_grad():
                    tensor.copy_(held)

    def check_weights(self, model: nn.Module) -> None:
        """Raises GoodfitError where weights are no longer those of rank 0: something random was not keyed by it."""
        if self.size == 1:
            return
        own = float(torch.stack([p.detach().double().norm() for p in model.parameters()]).norm())
        first = self.on_first(lambda: own)

        def compare() -> None:
            if abs(own - first) > 1e-3 * abs(first):
                raise GoodfitError(
                    f"rank {self.rank} has other weights than rank 0 before this validation: a part of the "
                    "model or of its optimizer draws random numbers of its own"
                )

        self.everywhere(compare)

    def sum_(self, values: Tensor) -> None:
        """Sum a tensor over all processes, in place."""
        if self.size > 1 and values.is_cuda:
            self._exchange(lambda: dist.all_reduce(values))
        elif self.size > 1:
            self._exchange(lambda: self._wait_for(dist.all_reduce(values, async_op=True)))

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A stretch of work of rank 0 alone, within a training step, for which the others wait as long as it takes."""
        if self.size > 1:
            _store().set("goodfit/busy", "1")
        try:
            yield
        finally:
            if self.size > 1:
                _store().delete_key("goodfit/busy")

    def _wait_for(self, work: Any) -> None:
        """Wait for an exchange, though not for ever for a process that hangs."""
        began = time.monotonic()
        patience = PATIENCE.total_seconds() if self._longest < 0 else max(STALL, 20 * self._longest)
        try:
            work.wait(timedelta(seconds=patience))
        except RuntimeError:
            waited = time.monotonic() - began
            if waited < patience:
                raise
            if _store().check(["goodfit/busy"]):
                return self._wait_for(work)
            self._stalled = waited
            raise
        self._longest = max(self._longest, time.monotonic() - began)
        return None

    def device(self, wanted: str | torch.device) -> str | torch.device:
        """The device of this process: of several GPUs the one with its own number; any other as it is asked for."""
        if self.size == 1 or not str(wanted).startswith("cuda"):
            return wanted
        own, there = int(os.environ.get("LOCAL_RANK", self.rank)), torch.cuda.device_count()
        if str(wanted) != "cuda":
            raise GoodfitError(f"each process takes a GPU of its own; give --device cuda, not {wanted}")
        if own >= there:
            raise GoodfitError(
                f"rank {self.rank} has no GPU of its own: {there} are here; start --nproc-per-node {max(there, 1)}, or "
                "give --device cpu"
            )
        torch.cuda.set_device(own)
        return torch.device("cuda", own)

    def report(self, error: BaseException) -> None:
        """Leave a message for the others, who will find this process gone."""
        said = f"{type(error).__name__}: {error}" if not isinstance(error, GoodfitError) else str(error)
        first_line = said.strip().split("\n")[0][:300]
        _store().set("goodfit/failed", json.dumps([self.rank, self.where, first_line]))

    def obituary(self) -> GoodfitError:
        """Which process is gone, where it was and why, as far as can be known; for one process to tell."""
        if "TORCHELASTIC_RUN_ID" in os.environ and threading.current_thread() is threading.main_thread():
            # torchrun ends those that are left, at once; there is a sentence to be said first.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tail = "; all processes stop, and the same command goes on from the last checkpoint"
        try:
            store = _store()
            store.set(f"goodfit/alive/{self.rank}", "1")
            end = time.monotonic() + LAST_WORDS
            while time.monotonic() < end and not store.check(["goodfit/failed"]):
                time.sleep(0.05)
            told = json.loads(store.get("goodfit/failed")) if store.check(["goodfit/failed"]) else None
            alive = [r for r in range(self.size) if r == self.rank or store.check([f"goodfit/alive/{r}"])]
        except RuntimeError:  # the store went with its process
            told, alive = None, list(range(self.size))
        if told is not None:
            rank, where, why = told
            message = f"rank {rank} failed {where}: {why}{tail}"
            teller = self.rank == min(r for r in range(self.size) if r != rank)
            return GoodfitError(message) if teller else Elsewhere(message, 1)
        gone = ", ".join(str(r) for r in range(self.size) if r not in alive)
        who = f"rank {gone}" if gone else "another process"
        message = f"{who} ended without a word {self.where} (killed, or out of memory?){tail}"
        if self._stalled and gone:
            message = f"{who} has not answered for {self._stalled:.0f} s {self.where} (it hangs){tail}"
            self._end(r for r in range(self.size) if r not in alive)
        return GoodfitError(message) if self.rank == min(alive) else Elsewhere(message, 1)

    def _end(self, ranks: Iterable[int]) -> None:
        """Kill processes of this host that hang: asked to stop, they would not, and torchrun waits 30 seconds more."""
        with suppress(RuntimeError):  # the store is gone, and with it what is known of them
            for rank in ranks:
                host, pid = json.loads(_store().get(f"goodfit/process/{rank}"))
                if host == socket.gethostname():
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)

    def _say(self, said: bytes) -> bytes:
        size = torch.tensor(len(said))
        self._exchange(lambda: dist.broadcast(size, 0, group=self._waiting))
        words = torch.zeros(int(size), dtype=torch.uint8)
        if self.rank == 0:
            words.copy_(torch.frombuffer(bytearray(said), dtype=torch.uint8))
        self._exchange(lambda: dist.broadcast(words, 0, group=self._waiting))
        return bytes(words.tolist())

    def _exchange(self, work: Callable[[], object]) -> None:
        try:
            work()
        except RuntimeError as error:
            raise Lost(f"the exchange between processes failed: {str(error).splitlines()[0][:300]}") from error


class Asked(Protocol):
    """Something that knows whether it was asked to stop: a signal's number, or 0."""

    @property
    def requested(self) -> int:
        """The number."""


@dataclass
class Shares:
    """What several processes do in a training step: each takes its share of the batch, all sum their gradients.

    whole: batches come whole and are cut after they were augmented, because samples are mixed.
    usual: about what a batch weighs, the same number everywhere; losses are divided by it until the true weight of all
        shares is known, which travels with the gradients.
    signals: what this process was asked; ``requested`` after a step: what any process was asked, 0 for nothing.
    culprit: after a step: the rank whose loss is not finite, where it is one.
    """

    world: World
    whole: bool
    usual: float
    signals: Asked
    requested: int = 0
    samples: int = 0
    culprit: int | None = None

    def positions(self, order: Sequence[Tensor]) -> Sequence[Tensor]:
        """What this process reads of each batch."""
        return order if self.whole else [one.tensor_split(self.world.size)[self.world.rank] for one in order]

    def begin(
        self,
        batch: Batch,
        parameters: Sequence[Tensor],
        loss: Any,
        *,
        beside: list[tuple[Tensor, Tensor | float]],
    ) -> tuple[Batch, float, Callable[[Tensor], Tensor]]:
        """This process's share, what its loss sum is divided by, and what sums gradients and loss of all shares.

        beside: a second loss, sums and weights of pieces, that is only looked at; those of all take its place.
        """
        if self.whole:
            batch = share(batch, self.world.rank, self.world.size)
        weight = loss.weigh(batch.targets, batch.weight)
        seen: list[tuple[Tensor, Tensor | float]] = []  # one for each pass: sam makes two

        def reduce(value: Tensor) -> Tensor:
            fresh = [pair for pair in beside if not any(pair is one for one in seen)]
            second = [sum(one for one, _ in fresh), sum(some for _, some in fresh)]
            bad = 1 - value.detach().isfinite().float()
            known = [value, weight, *second, len(batch.index), self.signals.requested, bad, bad * self.world.rank]
            mean, first, other = self._reduce(parameters, known)
            seen.extend([(first, other)] if fresh else [])
            beside[:] = seen
            return mean

        return batch, self.usual, reduce

    @torch.no_grad()
    def _reduce(self, parameters: Sequence[Tensor], known: Sequence[Tensor | float]) -> tuple[Tensor, Tensor, Tensor]:
        """One exchange: the gradients, and behind them what else the processes must know of each other.

        known: loss, weight, the second loss's sum and weight, number of samples, signal, whether the loss is not
        finite, that times the rank. Returns the loss and the second loss's sums of all.
        """
        kind = torch.float64 if any(p.dtype == torch.float64 for p in parameters) else torch.float32
        device = parameters[0].device
        there = [float(p.grad is not None) for p in parameters]
        numbers = torch.stack([torch.as_tensor(one, dtype=kind, device=device) for one in known])
        rest = torch.cat([numbers, torch.tensor(there, dtype=kind).to(device)])
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(g.reshape(-1).to(kind) for g in grads), rest])
        self.world.sum_(flat)
        # The step's one look at the device: that the loss is finite must be known anyway.
        summed = flat[-len(rest) :].clone()
        _, total, _, _, samples, requested, bad, whose, *there = summed.tolist()
        self.requested, self.samples = int(requested), int(samples)
        self.culprit = int(whose) if bad == 1 else None
        flat *= self.usual / total if total else torch.nan
        parts = torch.split(flat[: -len(rest)], [g.numel() for g in grads])
        torch._foreach_copy_(grads, [values.view(g.shape) for values, g in zip(parts, grads, strict=True)])
        for parameter, grad, some in zip(parameters, grads, there, strict=True):
            parameter.grad = grad if some else None
        return flat[-len(rest)].clone(), summed[2], summed[3]


def share(batch: Batch, rank: int, size: int) -> Batch:
    """One of ``size`` runs of neighbours of a batch, as even as can be."""
    first, *_ = positions = torch.arange(len(batch.index)).tensor_split(size)[rank]
    part = slice(int(first), int(first) + len(positions))
    inputs: Inputs = (
        {name: value[part] for name, value in batch.inputs.items()}
        if isinstance(batch.inputs, dict)
        else batch.inputs[part]
    )
    weight = None if batch.weight is None else batch.weight[part]
    return Batch(inputs, batch.targets[part], weight, batch.index[part])


def rank_here() -> int:
    """This process's rank as torchrun tells it, 0 without it; nothing is joined for that."""
    return int(os.environ.get("RANK", "0"))


@contextmanager
def joined() -> Iterator[World]:
    """The processes that torchrun started, or this one alone; a group that the caller has made is used as it is.

    Raises GoodfitError where they cannot find each other, and inside for a process that is gone.
    """
    made = dist.is_available() and dist.is_initialized()
    if not made and not ("RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1):
        yield World()
        return
    if not made:
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        except (ValueError, RuntimeError) as error:
            raise GoodfitError(
                f"RANK and WORLD_SIZE ask for several processes, which do not find each other "
                f"({str(error).splitlines()[0][:200]}); start them with torchrun"
            ) from error
    world = World(dist.get_rank(), dist.get_world_size())
    try:
        yield world
    except Lost as error:
        raise world.obituary() from error
    except Elsewhere:
        raise
    except BaseException as error:
        world.report(error)
        raise
    finally:
        if not made:
            dist.destroy_process_group()


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()
