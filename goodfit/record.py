"""What a run keeps on its way: one line of metrics for each validation, and checkpoints to go on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goodfit import store
from goodfit.distributed import World
from goodfit.errors import RunError
from goodfit.loop import State
from goodfit.types import Moment

SAVE_EVERY = 15.0
"""Seconds between checkpoints, at validations: what a crash can cost."""


class Recorder:
    """Writes one line of metrics for each validation; keeps the running mean of the training loss on the device."""

    def __init__(self, path: Path, *, more: Callable[[], Mapping[str, float]] = dict) -> None:
        self.path = path
        self.more = more
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
        store.append_line(self.path, line)
        self._loss, self._count, self._samples, self._last = None, 0, 0, time.monotonic()

    def seconds(self) -> float:
        """Seconds of training so far, earlier sessions included."""
        return self.before + time.monotonic() - self._start

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to write the same next line."""
        return {
            "loss": None if self._loss is None else float(self._loss),
            "count": self._count,
            "samples": self._samples,
            "lines": len(store.read_lines(self.path)),
            "seconds": self.seconds(),
        }

    def restore(self, values: Mapping[str, Any]) -> None:
        """Take up where ``state`` was written."""
        self._loss = None if values["loss"] is None else torch.tensor(values["loss"], dtype=torch.float64)
        self._count, self._samples = int(values["count"]), int(values["samples"])
        self.before = float(values["seconds"])
        store.cut_lines(self.path, int(values["lines"]))


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
        self._saved = time.monotonic()
        self._step = -1

    def save(self, state: State, best: bool, *, now: bool = False) -> None:
        """After a validation: remember the best weights, and write a checkpoint if the last one is old enough."""
        if best:  # in every process: going over to other weights and back rounds
            with state.predicting():
                self.best = {k: v.detach().clone() for k, v in state.model.state_dict().items()}
        if now or time.monotonic() - self._saved > SAVE_EVERY:
            self.write(state)

    def flush(self, state: State) -> None:
        """Write the last step boundary when something went wrong; that must not hide what went wrong."""
        if state.step != self._step and state.step > 0:
            self.write(state)

    def write(self, state: State) -> bool:
        """One checkpoint folder; False where it could not be written, which is said and does not cost the run.

        Of several processes only rank 0 writes: the others hold the same.
        """
        if self.world.rank:
            return False
        tensors, tree = store.pack_tree(state.optimizer.state_dict())
        files = {
            "model.safetensors": store.pack_tensors(state.model.state_dict()),
            "optimizer.safetensors": store.pack_tensors(tensors),
        }
        if self.best is not None:
            files["best.safetensors"] = store.pack_tensors(self.best)
        extra: dict[str, Any] = {}
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
                "plain": [float(one) for one in state.plain],
                "optimizer": tree,
                "recorder": self.recorder.state(),
                "processes": self.world.size,
                **extra,
            }
        )
        self._saved = time.monotonic()
        try:
            store.write_folder(self.folder / f"{state.step:06d}", files)
        except RunError as error:
            # What was saved before is still there, and the next try may find room.
            self.say(f"  checkpoint {state.step} was not saved: {error}")
            return False
        store.prune(self.folder, keep=2)
        self._step = state.step
        return True

    def restore(self, state: State) -> str:
        """Bring a state back to the newest whole checkpoint; returns a note for the screen."""
        found = store.newest(self.folder)
        if found is None:
            if self.world.rank == 0:
                store.cut_lines(self.recorder.path, 0)
            return " (no checkpoint was written yet)"
        step, files, notes = found
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
        state.plain = list(values.get("plain", [0.0, 0.0]))
        state.losses = [row["loss"] for row in state.history]
        if self.world.rank == 0:
            self.recorder.restore(values["recorder"])
        self._step = step
        before = int(values.get("processes", 1))
        if before != self.world.size:
            why = f"the processes were {before} and are {self.world.size} now"
            notes = [*notes, f"resume: not exact, because {why}"]
        return "".join(f"; {note}" for note in notes)

    def load_best(self, state: State) -> None:
        """Put the best weights into the model."""
        if self.best is not None:
            state.model.load_state_dict(self.best)
