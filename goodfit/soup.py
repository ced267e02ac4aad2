"""A greedy soup: the weights of several runs averaged into one run, as far as that makes it better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from goodfit import keyed, store
from goodfit.data.data import Data
from goodfit.errors import ModelError, RunError
from goodfit.evaluate import assess, metrics_for, predictions_table
from goodfit.report import write_report
from goodfit.run import Run, next_folder
from goodfit.techniques.average import greedy_soup, refresh_norms

NORM_SAMPLES = 2048


def soup(runs: Sequence[str | Path | Run], *, out: str | Path | None = None, source: Any = None) -> Run:
    """Average the weights of runs greedily on their validation part, and write the result as a run of its own.

    runs: folders or opened runs of one architecture on the same data and split, that began from the same weights (one
    pretrained model, or one seed with other settings). out: the new run's folder. source: where the data lies now.

    The best run comes first; each other one stays in if the metric by which runs pick their best weights does not
    fall. Batch norms get fresh statistics. Source: Wortsman et al. (2022); see ``greedy_soup``, which is the same for
    any weights. Raises RunError for runs that cannot be averaged.
    """
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    _fit_together(opened)
    data = opened[0].data or opened[0].read_again(source)
    states = [{name: t.clone() for name, t in run.model().state_dict().items()} for run in opened]
    first, metric = opened[0], metrics_for(data)[1]
    model = first.model()

    def load(weights: Mapping[str, Tensor]) -> None:
        model.load_state_dict(dict(weights))
        if not any(weights is one for one in states):
            refresh_norms(model, _forwards(model, data))

    def score(weights: Mapping[str, Tensor]) -> float:
        load(weights)
        return float(metric.function(first.logits(data.valid), data.valid.targets))

    made = greedy_soup(states, score, larger_is_better=metric.larger_is_better)
    best = opened[made.taken[0]]
    folder = Path(out) if out is not None else next_folder(Path("runs"), f"{_stem(best.folder)}-soup")
    if folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty; choose another --out")
    told = {
        "metric": metric.name,
        "taken": [str(opened[k].folder) for k in made.taken],
        "left_out": [str(run.folder) for k, run in enumerate(opened) if k not in made.taken],
        "alone": {str(run.folder): value for run, value in zip(opened, made.alone, strict=True)},
        "together": made.score,
    }
    load(made.weights if len(made.taken) > 1 else states[made.taken[0]])
    _write(folder, best, opened, data, told, outputs=first.logits(data.valid), model=model)
    return Run(folder, model=model if str(best.plan["model.name"]).startswith("custom:") else None, data=data)


def _fit_together(runs: Sequence[Run]) -> None:
    if len(runs) < 2:
        raise RunError("a soup is made of two runs or more")
    first = runs[0]
    if first.task.tokens:
        raise ModelError(f"a soup is of runs that predict classes or values; {first.folder} writes text")
    for run in runs:
        if run.status != "finished":
            raise RunError(f"{run.folder} has not finished; train it to the end first")
        for what, one, other in (
            ("data", first.plan.data["fingerprint"], run.plan.data["fingerprint"]),
            ("split (data.seed)", _split(first), _split(run)),
            ("architecture", first.architecture, run.architecture),
            ("task", first.task, run.task),
            ("inputs", first.encoder.to_json(), run.encoder.to_json()),
        ):
            if one != other:
                raise RunError(f"{run.folder} and {first.folder} cannot be averaged: their {what} differs")


def _split(run: Run) -> Any:
    own = run.plan.choices.get("data.seed")
    return run.plan["seed"] if own is None or own.value is None else own.value


def _stem(folder: Path) -> str:
    name, _, number = folder.name.rpartition("-")
    return name if number.isdigit() and name else folder.name


def _forwards(model: nn.Module, data: Data) -> Iterator[Tensor]:
    order = keyed.permutation(keyed.key(0, "norms"), len(data.train))[:NORM_SAMPLES]
    for batch in data.train.batches(order.tensor_split(-(-len(order) // 256))):
        yield model(data.prepare(batch.inputs))


def _write(
    folder: Path, best: Run, runs: Sequence[Run], data: Data, told: Mapping[str, Any], *, outputs: Any, model: nn.Module
) -> None:
    """The run folder: what is known from the best ingredient, with the soup's own weights and results."""
    store.probe(folder)
    for name in ("recipe.toml", "data.json", "findings.json", "preflight.json", "plan.json"):
        if (best.folder / name).exists():
            store.write_file(folder / name, (best.folder / name).read_bytes())
    weights = {name: t.detach().clone() for name, t in model.state_dict().items()}
    files = {"model.safetensors": store.pack_tensors(weights)}
    if (best.folder / "model" / "architecture.json").exists():
        files["architecture.json"] = (best.folder / "model" / "architecture.json").read_bytes()
    store.write_folder(folder / "model", files)
    tuned = best.plan.choices.get("task.threshold")
    results = assess(data, outputs, data.valid, **({} if tuned is None else {"tune_for": tuned.value}))
    kept = {k: v for k, v in best.results.items() if k in ("baselines", "skipped")}
    taken = [run for run in runs if str(run.folder) in told["taken"]]
    results |= {
        **kept,
        "part": "valid",
        "ended": f"a soup of {len(told['taken'])} of {len(runs)} runs",
        "steps": sum(int(run.results["steps"]) for run in taken),
        "seconds": sum(float(run.results["seconds"]) for run in taken),
        "digest": store.weights_digest(weights),
        "parameters": sum(p.numel() for p in model.parameters()),
        "soup": dict(told),
    }
    store.write_json(folder / "results.json", results)
    store.write_table(folder / "predictions.parquet", predictions_table(data, outputs, data.valid, results))
    write_report(folder)
    store.list_files(folder)
    store.write_sealed(folder / "status.json", {"status": "finished"})
