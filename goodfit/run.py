"""A Run is a folder. Everything after training works from the folder.

::

    runs/adult-3/
      recipe.toml      as asked                plan.json       every value with its reason; versions, fingerprints
      data.json        how inputs are made     metrics.jsonl   one line a validation, append-only
      checkpoints/     to resume from          model/          the best weights
      findings.json    what checks said        results.json    what evaluation said
      determinism.json what repeats exactly    (with numerics.deterministic)
      predictions.parquet, report.html         test.json       results on the test part, how often it was opened
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn

from goodfit import store
from goodfit.data import encoder_from_json, read
from goodfit.data.language import LanguageEncoder
from goodfit.data.pairs import PairEncoder
from goodfit.errors import ModelError, RunError
from goodfit.evaluate import assess, continued, token_outputs, write
from goodfit.evaluation import point, probabilities
from goodfit.lock import held
from goodfit.loop import predict
from goodfit.models import build
from goodfit.models.external import PREFIXES
from goodfit.plan import Plan
from goodfit.recipe import Recipe
from goodfit.report import write_report
from goodfit.techniques.views import View
from goodfit.trust import check_folder, strange
from goodfit.types import InputSpec, Part, Task

if TYPE_CHECKING:
    from goodfit.data.data import Data

_DEEP = ("layers", "depth", "blocks", "members")


class Run:
    """A run folder, opened. Nothing in it is ever executed or unpickled.

    model: needed where the run trained a module of your own: an instance of it, whose weights are then replaced.
    Raises RunError where the folder is no run or is damaged.
    """

    def __init__(self, folder: str | Path, *, model: nn.Module | None = None, data: Data | None = None) -> None:
        self.folder = Path(folder)
        if not (self.folder / "plan.json").is_file():
            raise RunError(f"{self.folder} is no run folder: it holds no plan.json; see what lies in runs/")
        check_folder(self.folder)
        with strange(self.folder, "plan or encoder"):
            self.plan = Plan.from_json(store.read_json(self.folder / "plan.json"))
            self.task = Task(**{**self.plan.data["task"], "classes": tuple(self.plan.data["task"]["classes"])})
            self.spec = spec_from(self.plan.data["spec"])
            self._data_json = store.read_json(self.folder / "data.json")
            self.encoder = encoder_from_json(self._data_json["encoder"])
        self._model = model
        self._loaded: nn.Module | None = None
        self.data = data

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def recipe(self) -> Recipe:
        """What was asked for."""
        path = self.folder / "recipe.toml"
        try:
            return Recipe.parse(store.read_file(path).decode(), name=str(path))
        except UnicodeDecodeError as error:
            raise RunError(f"{path} is damaged: it is not UTF-8 text") from error

    @property
    def status(self) -> str:
        """``finished``, ``running`` while a process is at it, else ``interrupted``: the same command goes on."""
        path = self.folder / "status.json"
        if path.exists() and (told := str(store.read_sealed(path).get("status"))) != "running":
            return told
        return "running" if held(self.folder) else "interrupted"

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One row for each validation: step, epoch, train loss, validation metrics, rate, seconds."""
        path = self.folder / "metrics.jsonl"
        try:
            return store.parse_lines(store.read_file(path)) if path.exists() else []
        except RunError as error:
            found = self._newest()
            if found is not None and store.listed(path) == store.sha256(found[1].get("metrics.jsonl", b"")):
                warnings.warn(f"{error}; the checkpoint's copy was used", store.DamageWarning, stacklevel=2)
                return store.parse_lines(found[1]["metrics.jsonl"])
            rows = store.read_lines(path)
            said = f"{error}; the first {len(rows)} rows are whole and were used"
            warnings.warn(said, store.DamageWarning, stacklevel=2)
            return rows

    @property
    def results(self) -> dict[str, Any]:
        """What evaluation said; empty before the run is finished."""
        path = self.folder / "results.json"
        with strange(self.folder, "results"):
            return dict(store.read_json(path)) if path.exists() else {}

    @property
    def source(self) -> str:
        """The path or name the data was read from; empty for objects given from Python."""
        return str(self._data_json.get("source", ""))

    def model(self) -> nn.Module:
        """The model with the best weights, in eval mode, on the CPU. Raises RunError when the weights are damaged."""
        if self._loaded is None:
            name = str(self.plan["model.name"])
            if name.startswith("custom:"):
                if self._model is None:
                    raise ModelError(
                        f"this run trained your own module {name[7:]}; open it with Run({str(self.folder)!r}, "
                        f"model={name[7:]}())"
                    )
                made = self._model
            else:
                made = None
            with strange(self.folder, "model"):
                weights = store.unpack_tensors(self._weights()["model.safetensors"])
                if made is None:
                    described = self.architecture
                    if not str(described["name"]).startswith(PREFIXES):
                        described_as(described, self.spec, self.task.outputs, weights)
                    made = build(**described, spec=self.spec, outputs=self.task.outputs)
            try:
                made.load_state_dict(weights)
            except (RuntimeError, KeyError) as error:
                raise RunError(f"{self.folder / 'model'} does not fit the model {name}: {error}") from error
            self._loaded = made.cpu().eval()
        return self._loaded

    def _weights(self) -> dict[str, bytes]:
        """The files of the model; the best weights of the checkpoint where these are damaged and those the same."""
        try:
            return store.read_folder(self.folder / "model")
        except RunError as error:
            found = self._newest()
            best = b"" if found is None else found[1].get("best.safetensors", b"")
            if not best or store.weights_digest(store.unpack_tensors(best)) != self.results.get("digest"):
                raise
            said = f"{error}; the checkpoint's copy was used, and the same command that trained writes it anew"
            warnings.warn(said, store.DamageWarning, stacklevel=3)
            return {"model.safetensors": best}

    def _newest(self) -> tuple[int, dict[str, bytes]] | None:
        """The newest checkpoint that is whole; nothing is set aside, as a run that is read is never changed."""
        for step in store.steps_in(self.folder / "checkpoints"):
            with contextlib.suppress(RunError):
                return step, store.read_folder(self.folder / "checkpoints" / f"{step:06d}")
        return None

    @property
    def architecture(self) -> dict[str, Any]:
        """What ``build`` needs to make the model's layers: ``name``, ``settings`` and ``config``.

        A model that came from elsewhere is described in the folder itself, so nothing else is needed to open it.
        """
        path = self.folder / "model" / "architecture.json"
        if path.exists():
            return dict(store.read_json(path))
        settings = {k[6:]: c.value for k, c in self.plan.choices.items() if k.startswith("model.")}
        return {"name": settings.pop("name"), "settings": settings, "config": None}

    def logits(self, part: Part) -> Tensor:
        """The model's raw outputs for a part, float32."""
        return predict(
            self.model(),
            part,
            self.encoder.prepare,
            precision="bf16" if self.plan["numerics.precision"] == "bf16" else "fp32",
            device=torch.device("cpu"),
            views=self.views,
        )

    def outputs(self, part: Part) -> Any:
        """What evaluation wants of a part: logits; each position's nats for language, with the texts for sequences."""
        if self.task.tokens:
            streams = self.plan["sampling.name"] == "streams"
            cpu = torch.device("cpu")
            return token_outputs(self.model(), part, self.encoder, precision="fp32", device=cpu, carry=streams)
        return self.logits(part)

    @property
    def views(self) -> View:
        """The views of an image that predictions are averaged over (``tta``)."""
        asked = self.plan.choices.get("tta")
        views: View = "none" if asked is None else asked.value
        return views

    def predict(
        self, new: Any, *, temperature: float | None = None, top_k: int = 0, top_p: float = 1.0, seed: int = 0
    ) -> pd.DataFrame:
        """Predictions for new data in the form the run was trained on (a path, a DataFrame, arrays, a list of files).

        Returns one row a sample: ``prediction``, and for classes a column ``p(class)`` each with calibrated
            probabilities.
        Sequences: the text written for each row, of the likeliest tokens, or drawn where a ``temperature`` above 0 is
            given; ``top_k``, ``top_p`` and ``seed`` as in `generate`, by which a language model goes on with the text.
        """
        draw: dict[str, Any] = {"top_k": top_k, "top_p": top_p, "seed": seed}
        if self.task.kind == "language":
            return pd.DataFrame({"prediction": [self.generate(str(new), temperature=temperature, **draw)]})
        with strange(self.folder, "encoder"):
            part = self.encoder.encode(new)
        if isinstance(self.encoder, PairEncoder):
            model, cpu = self.model(), torch.device("cpu")
            texts = write(model, part, self.encoder, device=cpu, temperature=temperature or 0.0, **draw)
            return pd.DataFrame({"prediction": texts})
        with strange(self.folder, "model or results"):
            return self._predictions(self.logits(part))

    def _predictions(self, logits: Tensor) -> pd.DataFrame:
        if self.task.kind == "classification":
            results = self.results
            p = probabilities(
                logits, self.task, temperature=float((results.get("temperature") or {}).get("value") or 1.0)
            )
            best = p.argmax(1)
            threshold = (results.get("threshold") or {}).get("value")
            if threshold is not None and self.task.binary:
                best = (p[:, 1] >= float(threshold)).long()
            frame = pd.DataFrame({"prediction": [self.task.classes[int(i)] for i in best]})
            for k, name in enumerate(self.task.classes):
                frame[f"p({name})"] = p[:, k].numpy()
            return frame
        values = point(logits, mean=float(self.plan.data["target_mean"]), std=float(self.plan.data["target_std"]))
        if values.ndim == 1:
            return pd.DataFrame({"prediction": values.numpy()})
        names = [f"prediction+{k + 1}" for k in range(values.shape[1])]
        return pd.DataFrame(values.numpy(), columns=pd.Index(names))

    def generate(
        self,
        prompt: str = "",
        *,
        length: int = 300,
        temperature: float | None = None,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> str:
        """Text that goes on from ``prompt`` by ``length`` tokens; of a sequence run, the text written for ``prompt``.

        temperature: 0 takes the likeliest token each time; 0.8 unless said, and 0 for a sequence run. top_k, top_p:
        draw among the k likeliest tokens, and among the likeliest that sum to ``top_p``. The same seed gives the same
        text. Raises RunError for other tasks.
        """
        if isinstance(self.encoder, PairEncoder):
            made = self.predict([prompt], temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
            return str(made["prediction"][0])
        if not isinstance(self.encoder, LanguageEncoder):
            raise RunError(f"{self.folder} is a {self.task.kind}; only language and sequence runs write texts")
        return continued(
            self.model(),
            self.encoder,
            prompt,
            length=length,
            temperature=0.8 if temperature is None else temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            streams=self.plan["sampling.name"] == "streams",
        )

    def evaluate(self) -> dict[str, Any]:
        """The results on the validation part, as the report shows them. The test part stays closed."""
        return self.results

    def test(self, source: Any = None) -> dict[str, Any]:
        """Open the locked test part and evaluate on it. Counted: each opening makes later choices less honest.

        source: where the data lies now, if not where it was read.
        """
        data = self.data or self.read_again(source)
        count = self.openings + 1
        # The opening is written down before the result is known: a look that crashed was still a look.
        store.write_sealed(self.folder / "test.json", {"openings": count})
        results = assess(data, self.outputs(data.test), data.test, found_on_validation=self.results)
        results["openings"] = count
        store.write_sealed(self.folder / "test.json", results)
        return results

    @property
    def openings(self) -> int:
        """How often the test part was opened."""
        path = self.folder / "test.json"
        with strange(self.folder, "test part"):
            return int(store.read_sealed(path).get("openings", 0)) if path.exists() else 0

    def read_again(self, source: Any = None) -> Data:
        """The data this run was trained on, read and split as it was. Raises RunError where it has changed."""
        origin = source or self.source
        if not origin:
            raise RunError(
                f"{self.folder} was trained on objects given from Python; call run.test() on the run that train() "
                f"returned"
            )
        settings = self.plan.one("data")
        if settings.like is not None:  # this run's encoder is that model's, and lies in its own folder
            settings = replace(settings, like=f"run:{self.folder}")
        own = self.plan["seed"] if settings.seed is None else settings.seed
        data = read(origin, settings, self.plan.one("task"), seed=int(own))
        if data.fingerprint != self.plan.data["fingerprint"]:
            raise RunError(
                f"{origin} is not the data this run was trained on any more (its fingerprint differs), so its "
                f"test part is unknown; "
                "give the original data, or train again"
            )
        return data

    def report(self) -> Path:
        """Write ``report.html`` anew and return its path."""
        with strange(self.folder, "results"):
            return write_report(self.folder)


def described_as(described: Mapping[str, Any], spec: InputSpec, outputs: int, weights: Mapping[str, Tensor]) -> None:
    """Refuse a description of a model that is much larger than its weights, before any memory is taken for it.

    Raises RunError. What cannot be made without memory is judged by its layers alone.
    """
    deep = [v for k, v in (described.get("settings") or {}).items() if k in _DEEP and isinstance(v, int)]
    if any(number > max(len(weights), 8) for number in deep):
        raise RunError(f"the model is described with {max(deep):,} layers, and there are {len(weights)} weights")
    try:
        with torch.device("meta"):
            made = build(**described, spec=spec, outputs=outputs).state_dict()
    except (RuntimeError, NotImplementedError, AssertionError):
        return
    wanted, found = (sum(v.numel() for v in one.values()) for one in (made, weights))
    if wanted > 2 * found + 1_000_000:
        raise RunError(f"the model is described with {wanted:,} numbers, and its weights hold {found:,}")


def spec_from(values: Mapping[str, Any]) -> InputSpec:
    """An InputSpec from JSON, lists made tuples again."""

    def tupled(value: Any) -> Any:
        return tuple(map(tupled, value)) if isinstance(value, list) else value

    return InputSpec(**{k: tupled(v) for k, v in values.items()})


def next_folder(root: Path, name: str) -> Path:
    """``root/name-1``, or the next number that is free."""
    taken = [int(p.name.rsplit("-", 1)[1]) for p in root.glob(f"{name}-*") if p.name.rsplit("-", 1)[1].isdigit()]
    return root / f"{name}-{max(taken, default=0) + 1}"


def latest_folder(root: Path, name: str) -> Path | None:
    """The newest run of this name, or None."""
    newest = next_folder(root, name)
    number = int(newest.name.rsplit("-", 1)[1]) - 1
    return root / f"{name}-{number}" if number else None
