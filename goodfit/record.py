"""What a run keeps on its way: one line of metrics for each validation, and checkpoints to go on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goodfit import store
from goodfit.distributed import World
from goodfit.errors import RunError
from goodfit.loop import State
from goodfit.types import Moment

SAVE_EVERY = 15.0
"""Seconds between checkpoints, at any step: what a crash can cost."""
SHARE = 0.05
"""The most of a run's time that writing checkpoints may take: where one is slow to write, they are further apart."""


class Recorder:
    """Writes one line of metrics for each validation; keeps the running mean of the training loss on the device."""

    def __init__(
        self,
        path: Path,
        *,
        more: Callable[[], Mapping[str, float]] = dict,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.path = path
        self.more = more
        self.say = say
        self.written = b""
        self._behind = False
        self.before = 0.0
        self._start = time.monotonic()
        self._loss: Tensor | None = None
        self._count = 0
        self._samples = 0
        self._lr = 0.0
        self._last = time.monotonic()

    def step(self, moment: Moment, loss: Tensor, lr: float, samples: int) -> None:
        """Adds a step to the mean; no read from the device."""
        self._loss = loss.double() if self._loss is None else self._loss + loss
        self._count += 1
        self._samples += samples
        self._lr = lr

    def evaluated(self, moment: Moment, row: Mapping[str, float], best: bool) -> None:
        """Writes the line and starts a new mean."""
        now = time.monotonic()
        line = {
            "step": moment.step + 1,
            "epoch": (moment.step + 1) / moment.steps_per_epoch,
            "train_loss": float(self._loss) / self._count if self._loss is not None else None,
            **{k if k.startswith("train_") else f"valid_{k}": v for k, v in row.items()},
            "lr": self._lr,
            **self.more(),
            "seconds": round(self.seconds(), 3),
            "samples_per_second": round(self._samples / max(now - self._last, 1e-9), 1),
            "best": best,
        }
        self._put(store.line_of(line))
        self._loss, self._count, self._samples, self._last = None, 0, 0, time.monotonic()

    def _put(self, line: bytes) -> None:
        """Append a line; where that fails the run goes on, and all lines are written with the next one."""
        self.written += line
        try:
            if self._behind:
                store.write_file(self.path, self.written)
            else:
                store.append_bytes(self.path, line)
            self._behind = False
        except RunError as error:
            self._behind = True
            self.say(f"  metrics were not written, and will be at the next validation: {error}")

    def complete(self) -> None:
        """Have every line in the file, and on the disk, where appended ones need not be. Raises RunError."""
        store.write_file(self.path, self.written)
        self._behind = False

    def seconds(self) -> float:
        """Seconds of training so far, earlier sessions included."""
        return self.before + time.monotonic() - self._start

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to write the same next line."""
        return {
            "loss": None if self._loss is None else float(self._loss),
            "count": self._count,
            "samples": self._samples,
            "lr": self._lr,
            "seconds": self.seconds(),
        }

    def restore(self, values: Mapping[str, Any], written: bytes) -> None:
        """Take up where ``state`` was written. written: the lines of that time, which take the file's place."""
        self._loss = None if values["loss"] is None else torch.tensor(values["loss"], dtype=torch.float64)
        self._count, self._samples = int(values["count"]), int(values["samples"])
        self._lr = float(values["lr"])
        self.before = float(values["seconds"])
        self.written = written
        self.complete()


class Saver:
    """Keeps the best weights in memory and writes checkpoints that hold everything a resumed run needs."""

    def __init__(
        self, folder: Path, recorder: Recorder, say: Callable[[str], None], *, world: World | None = None
    ) -> None:
        self.folder = folder / "checkpoints"
        self.say = say
        self.recorder = recorder
        self.world = world or World()
        self.best: dict[str, Tensor] | None = None
        self.resumes: list[dict[str, Any]] = []
        self._saved = time.monotonic()
        self._took = 0.0
        self._holds: tuple[int, int] | None = None

    def save(self, state: State, best: bool) -> None:
        """After a step: remember the best weights, and write a checkpoint if the last one is old enough."""
        if best:  # in every process: going over to other weights and back rounds
            with state.predicting():
                self.best = {k: v.detach().clone() for k, v in state.model.state_dict().items()}
        if time.monotonic() - self._saved > max(SAVE_EVERY, self._took / SHARE):
            self.write(state)

    def flush(self, state: State) -> None:
        """Write the last step boundary when something went wrong; that must not hide what went wrong."""
        try:
            if state.undo_step() and state.step > 0:
                self.write(state)
        except Exception as error:  # whatever it is, the first failure is what must be heard
            self.say(f"  checkpoint {state.step} was not saved: {error}")

    def write(self, state: State) -> bool:
        """One checkpoint folder; False where it could not be written, which is said and does not cost the run.

        Of several processes only rank 0 writes: the others hold the same.
        """
        if self.world.rank:
            return False
        if self._holds == (state.step, len(state.history)):
            return True
        began = time.monotonic()
        tensors, tree = store.pack_tree(state.optimizer.state_dict())
        files = {
            "model.safetensors": store.pack_tensors(state.model.state_dict()),
            "optimizer.safetensors": store.pack_tensors(tensors),
        }
        if self.best is not None:
            files["best.safetensors"] = store.pack_tensors(self.best)
        extra: dict[str, Any] = {}
        if loose := loose_buffers(state.model):
            files["buffers.safetensors"] = store.pack_tensors(loose)
        files["average.safetensors"] = store.pack_tensors(state.averager.state_dict())
        files["clip.safetensors"] = store.pack_tensors(state.clipping)
        if state.scaler is not None:
            extra |= {"scaler": state.scaler.state_dict(), "overflows": state.overflows}
        if state.memory is not None:
            extra["microbatch"] = state.memory.samples
        if state.carried is not None and state.carried.states is not None:
            files["carried.safetensors"] = store.pack_tensors({"states": state.carried.states})
        files["state.json"] = store.json_bytes(
            {
                "step": state.step,
                "skipped": state.skipped,
                "history": state.history,
                "refused": state.refused,
                "plain": [float(one) for one in state.plain],
                "optimizer": tree,
                "recorder": self.recorder.state(),
                "circumstances": circumstances(state.device, self.world.size),
                "resumes": self.resumes,
                **extra,
            }
        )
        files["metrics.jsonl"] = self.recorder.written
        try:
            with self.world.busy():
                store.write_folder(self.folder / f"{state.step:06d}", files)
        except RunError as error:
            # What was saved before is still there, and the next try may find room.
            self.say(f"  checkpoint {state.step} was not saved: {error}")
            return False
        finally:
            self._saved = time.monotonic()
            self._took = self._saved - began
        store.prune(self.folder, keep=2)
        self._holds = state.step, len(state.history)
        return True

    def restore(self, state: State, *, loose: Sequence[str] = ()) -> list[str]:
        """Bring a state back to the newest whole checkpoint; returns lines for the screen, the last of which says
        whether what follows is exactly what would have followed.

        loose: what of this run nobody can put back, such as the order of a DataLoader of the user's own.
        """
        found, notes = self._found()
        if found is None:
            if self.world.rank == 0:
                store.write_file(self.recorder.path, b"")
            return [*notes, "no checkpoint was written yet: it begins anew", *self._exactly(0, [])]
        step, files = found
        try:
            why = self._load(state, step, files)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # whole, but not as this version writes them
            raise RunError(
                f"{self.folder / f'{step:06d}'} was written by another version ({error!r}); choose another --out"
            ) from error
        return [*notes, *self._exactly(step, [*why, *loose])]

    def _load(self, state: State, step: int, files: Mapping[str, bytes]) -> list[str]:
        """Put a checkpoint's files into the state; returns what has changed around it since."""
        values = store.read_json_bytes(files["state.json"])
        state.model.load_state_dict(store.unpack_tensors(files["model.safetensors"]))
        tree = store.unpack_tree(store.unpack_tensors(files["optimizer.safetensors"]), values["optimizer"])
        state.optimizer.load_state_dict(tree)
        for parameter, kept in state.optimizer.state.items():
            for name, value in kept.items():
                # Fused optimizers walk memory in the parameter's order: a state laid out otherwise would be paired
                # wrongly.
                if (
                    isinstance(value, Tensor)
                    and value.shape == parameter.shape
                    and value.stride() != parameter.stride()
                ):
                    kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.averager.load_state_dict(store.unpack_tensors(files["average.safetensors"]))
        for name, tensor in store.unpack_tensors(files["clip.safetensors"]).items():
            state.clipping[name].copy_(tensor)
        if state.scaler is not None:
            state.scaler.load_state_dict(values["scaler"])
            state.overflows = int(values["overflows"])
        if state.memory is not None:
            state.memory.samples = values["microbatch"]
        if state.carried is not None and "carried.safetensors" in files:
            state.carried.states = store.unpack_tensors(files["carried.safetensors"])["states"].to(state.device)
        if "best.safetensors" in files:
            self.best = store.unpack_tensors(files["best.safetensors"])
        state.step, state.skipped = int(values["step"]), int(values["skipped"])
        state.history = list(values["history"])
        state.plain = list(values["plain"])
        state.refused = [int(one) for one in values["refused"]]
        state.losses = [row["loss"] for row in state.history]
        if self.world.rank == 0:
            self.recorder.restore(values["recorder"], files["metrics.jsonl"])
        held = loose_buffers(state.model)
        if "buffers.safetensors" in files:
            for name, tensor in store.unpack_tensors(files["buffers.safetensors"]).items():
                held[name].copy_(tensor)
        self._holds = step, len(state.history)
        self.resumes = list(values["resumes"])
        return changed(values["circumstances"], circumstances(state.device, self.world.size))

    def _found(self) -> tuple[tuple[int, dict[str, bytes]] | None, list[str]]:
        """The newest whole checkpoint. Rank 0 chooses and sets damaged ones aside; the others read what it chose."""
        if self.world.size == 1:
            found = store.newest(self.folder)
            return (None, []) if found is None else (found[:2], found[2])

        def choose() -> list[Any]:
            one = store.newest(self.folder)
            return [-1, []] if one is None else [one[0], one[2]]

        step, notes = self.world.on_first(choose)
        return (None if step < 0 else (step, store.read_folder(self.folder / f"{step:06d}"))), list(notes)

    def _exactly(self, step: int, why: Sequence[str]) -> list[str]:
        self.resumes = [*self.resumes, {"step": step, "exact": not why, "because": list(why)}]
        return [f"resume: not exact, because {'; '.join(why)}" if why else "resume: exact"]

    def load_best(self, state: State) -> None:
        """Put the best weights into the model."""
        if self.best is not None:
            state.model.load_state_dict(self.best)


def loose_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Buffers that a module keeps out of its state dict (``persistent=False``), which may change in training."""
    known = model.state_dict()
    return {name: buffer for name, buffer in model.named_buffers() if name not in known}


def circumstances(device: torch.device, processes: int) -> dict[str, Any]:
    """What decides in which order sums are taken, and so about their last digits."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        "processes": processes,
        "threads": torch.get_num_threads(),
        "device": f"{device.type} {gpu}".strip(),
        "instructions of the processor": torch.backends.cpu.get_cpu_capability(),
        "version of PyTorch": torch.__version__,
    }


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is otherwise than it was, a half-sentence each.

    >>> changed({"threads": 2, "device": "cpu"}, {"threads": 1, "device": "cpu"})
    ['the threads were 2 and are 1 now']
    """
    differ = [name for name in now if before.get(name) != now[name]]
    return [
        f"the {name} were {before.get(name)} and are {now[name]} now"
        if name.endswith("s") or name.startswith("instr")
        else f"the {name} was {before.get(name)} and is {now[name]} now"
        for name in differ
    ]
