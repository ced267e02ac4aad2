"""A run as the disk sees it, in milliseconds: its beginning, steps with checkpoints and metrics, and its end.

The weights of step k are all k, and those of the best step are known, so what comes back after a crash can be judged to
the last bit without training anything.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goodfit import store
from goodfit.errors import RunError
from goodfit.loop import State
from goodfit.models.carried import Carried
from goodfit.record import Recorder, Saver
from goodfit.techniques.average import Ema
from goodfit.techniques.memory import Memory
from goodfit.types import Moment

LOSSES = (5.0, 3.0, 4.0, 2.0, 6.0, 1.0)
"""Validation losses after steps 1, 2, ...: the best are those of steps 1, 2, 4 and 6."""
BEGUN = {"recipe.toml": b"epochs = 1\n", "findings.json": b"[]\n", "plan.json": b'{"seed": 0}\n'}


class Story:
    """One process at a run. say: what it tells the user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.model.register_buffer("loose", torch.zeros(2), persistent=False)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        averager = Ema(decay=0.5).build(self.model)
        self.state = State(self.model, optimizer, lambda one: one, averager=averager, clipping={"seen": torch.zeros(1)})
        self.state.scaler = torch.amp.GradScaler("cpu")
        self.state.memory = Memory(self.model)
        self.state.carried = Carried(2)
        self.recorder = Recorder(folder / "metrics.jsonl", say=self.said.append)
        self.recorder.seconds = lambda: 0.0  # type: ignore[method-assign]
        self.saver = Saver(folder, self.recorder, self.said.append)

    def begin(self) -> None:
        """What a run writes before its first step."""
        store.probe(self.folder)
        store.write_twice(self.folder, BEGUN)
        self.status("running")

    def status(self, word: str) -> None:
        """Write the run's status."""
        store.write_sealed(self.folder / "status.json", {"status": word})

    @torch.no_grad()
    def step(self) -> bool:
        """One step with its validation and checkpoint; returns whether that was saved."""
        number = self.state.step = self.state.step + 1
        for tensor in (*self.model.parameters(), *self.model.buffers(), *self.state.clipping.values()):
            tensor.fill_(number)
        for parameter in self.model.parameters():
            self.state.optimizer.state[parameter] = {
                "step": torch.tensor(float(number)),
                **{name: torch.full_like(parameter, number) for name in ("exp_avg", "exp_avg_sq")},
            }
        assert self.state.scaler is not None
        self.state.scaler.load_state_dict({**self.state.scaler.state_dict(), "scale": 2.0**number})
        assert self.state.memory is not None
        assert self.state.carried is not None
        self.state.memory.samples = self.state.overflows = self.state.skipped = number
        self.state.refused, self.state.plain = [number], [float(number), 1.0]
        self.state.carried.states = torch.full((2, 2), float(number))
        moment = Moment(0, 0, number - 1, len(LOSSES))
        self.state.averager.update(self.model, moment)
        self.recorder.step(moment, torch.tensor(float(number)), 0.1, 1)
        loss = LOSSES[number - 1]
        self.state.history.append({"step": float(number), "loss": loss})
        self.state.losses.append(loss)
        best = loss == min(LOSSES[:number])
        self.recorder.evaluated(moment, {"loss": loss}, best)
        self.recorder.step(moment, torch.tensor(float(number)), number / 10, 1)  # the next mean has begun
        if best:
            self.saver.best = {k: v.clone() for k, v in self.model.state_dict().items()}
        return self.saver.write(self.state)

    def finish(self) -> None:
        """What a run writes after its last step."""
        self.recorder.complete()
        assert self.saver.best is not None
        store.write_folder(self.folder / "model", {"model.safetensors": store.pack_tensors(self.saver.best)})
        store.write_json(self.folder / "results.json", {"best": min(LOSSES[: self.state.step])})
        store.prune(self.folder / "checkpoints", keep=1)
        store.list_files(self.folder)
        self.status("finished")

    def resume(self) -> int:
        """Go on from what the folder holds; returns the step."""
        store.sweep(self.folder)
        store.sweep(self.folder / "checkpoints")
        self.saver.restore(self.state)
        self.status("running")
        store.unlist(self.folder)
        return self.state.step

    def held(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as plain values."""
        rows = [{k: v for k, v in row.items() if k not in ("samples_per_second",)} for row in self.recorder_rows()]
        best = self.saver.best or {}
        return {
            "weights": {k: v.tolist() for k, v in self.model.state_dict().items()},
            "loose": self.model.get_buffer("loose").tolist(),
            "optimizer": _plain(self.state.optimizer.state_dict()),
            "average": _plain(self.state.averager.state_dict()),
            "clipping": _plain(self.state.clipping),
            "history": list(self.state.history),
            "losses": list(self.state.losses),
            "recorder": self.recorder.state(),
            "rows": rows,
            "best": {k: v.tolist() for k, v in best.items()},
            "skipped": (self.state.skipped, list(self.state.refused), self.state.overflows),
            "step": self.state.step,
            "plain": list(self.state.plain),
            "scaler": self.state.scaler.state_dict() if self.state.scaler else None,
            "microbatch": self.state.memory.samples if self.state.memory else None,
            "carried": _plain(self.state.carried.states) if self.state.carried else None,
        }

    def recorder_rows(self) -> list[dict[str, Any]]:
        """The metrics in memory, which must be those in the file too."""
        rows = store.parse_lines(self.recorder.written)
        return rows if rows == store.read_lines(self.recorder.path) else [{"file": "differs"}]


def truth(folder: Path) -> list[dict[str, Any]]:
    """What is held after each step of a story that nothing disturbs; the first entry is before any."""
    story = Story(folder)
    story.begin()
    (folder / "metrics.jsonl").touch()
    found = [story.held()]
    for _ in LOSSES:
        story.step()
        found.append(story.held())
    return found


def wrong(folder: Path, *, begun: bool, saved: int, tried: int, finished: bool, known: list[dict[str, Any]]) -> str:
    """What is wrong with a folder that a crash left, or nothing.

    begun, saved, finished: what must have outlived it. tried: the step whose saving had begun. known: the truth.
    """
    status = folder / "status.json"
    if not (folder / "plan.json").exists():
        return "the run is gone" if begun else ""
    try:
        plan = store.read_json(folder / "plan.json")
        if plan != {"seed": 0}:
            return f"another plan: {plan}"
        told = _word(status)
        if told == "finished" and not store.damaged(folder):
            best = store.unpack_tensors(store.read_folder(folder / "model")["model.safetensors"])
            right = {k: v.tolist() for k, v in best.items()} == known[len(LOSSES)]["best"]
            return "" if right and store.read_json(folder / "results.json") == {"best": 1.0} else "a wrong best"
        if finished:
            return f"it was finished and says {told}: {store.damaged(folder)}"
        story = Story(folder)
        step = story.resume()
        if not saved <= step <= tried:
            return f"it goes on at step {step}, where {saved} was saved: {story.said}"
        if story.held() != known[step]:
            differ = [k for k, v in story.held().items() if v != known[step][k]]
            return f"it goes on at step {step} with other {', '.join(differ)}"
        while story.state.step < len(LOSSES):
            if not story.step():
                return f"it cannot be saved again: {story.said}"
        story.finish()
        if problems := store.damaged(folder):
            return f"resumed and finished, it is damaged: {problems}"
        return "" if story.held() == known[-1] else "resumed to the end, it differs"
    except RunError as error:
        return f"refused: {error}"


def _word(path: Path) -> str:
    try:
        return str(store.read_sealed(path)["status"])
    except RunError:
        return "damaged"


def tell(folder: Path, mark: Callable[[object], None]) -> None:
    """The whole story, with a mark after each thing that must outlive a crash from then on."""
    story = Story(folder)
    story.begin()
    mark("begun")
    for number in range(1, len(LOSSES) + 1):
        mark(("trying", number))
        if story.step():
            mark(("saved", number))
    story.finish()
    mark("finished")


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
