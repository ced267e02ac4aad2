"""The plain words of a report: how good, how sure, better than what, and what the curves say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SHARES = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "macro_f1")


def amount(metric: Mapping[str, Any], which: str = "value") -> str:
    """One of a metric's numbers as people write it."""
    value = metric.get(which)
    if value is None:
        return "n/a"
    unit = metric.get("unit")
    if metric.get("title") in {"accuracy", "balanced accuracy", "precision", "recall", "F1", "macro F1", "exact match"}:
        return f"{100 * value:.2f} %"
    return f"{value:.4g}" + (f" {unit}" if unit and unit != "target" else "")


def verdict(results: Mapping[str, Any], plan: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A few sentences that somebody with one minute should read."""
    metric = results["metrics"][results["headline"]]
    what = plan["data"]["task"]["target"] or plan["data"]["name"]
    sentences = [
        f"On {results['samples']:,} validation samples of {plan['data']['name']} the model reaches "
        f"{metric['title']} {amount(metric)} "
        f"for {what}"
        + (
            f" (95 % interval {amount(metric, 'low')} to {amount(metric, 'high')}; it covers which samples were "
            f"drawn, not another seed)."
            if metric["low"] is not None
            else "."
        )
    ]
    best = _best_baseline(results)
    if best:
        name, value = best
        better = metric["value"] > value if metric["better"] == "higher" else metric["value"] < value
        inside = metric["low"] is not None and metric["low"] <= value <= metric["high"]
        shown = amount({**metric, "value": value})
        if better and not inside:
            sentences.append(f"That is better than every baseline; the strongest, {name}, gets {shown}.")
        elif inside:
            sentences.append(
                f"The strongest baseline, {name}, gets {shown}, which lies inside the interval: the two cannot be "
                f"told apart on this part alone."
            )
        else:
            sentences.append(
                f"The strongest baseline, {name}, does better with {shown}: use that, or change the recipe."
            )
    heat = results.get("temperature")
    if heat and heat["value"] != 1.0:
        bold = "overconfident" if heat["value"] > 1 else "timid"
        sentences.append(f"Its probabilities were {bold} and have been calibrated (temperature {heat['value']:.3f}).")
    if results.get("skipped"):
        sentences.append(f"{results['skipped']:,} steps were skipped because their loss was not finite.")
    sentences += training_words(results)
    if (results.get("clipping") or {}).get("warning"):
        sentences.append(f"{results['clipping']['warning']}.")
    sentences.append(
        "The best weights were picked on these same samples, so the figure is a little optimistic; the locked "
        "test part says how much."
        if any(row.get("best") for row in rows)
        else "The last weights were kept, not the best on these samples; the locked test part is the judge."
    )
    return sentences


def training_words(results: Mapping[str, Any]) -> list[str]:
    """What training did beside learning: what stopping cost, how often it clipped, overflowed, ran out of memory."""
    sentences = []
    stopped = results.get("stopping")
    if stopped and stopped["after_best"]:
        share = 100 * stopped["after_best"] / max(results["steps"], 1)
        sentences.append(
            f"The best weights are those of step {stopped['best_step']:,}; the {stopped['after_best']:,} steps after "
            f"them ({share:.0f} % of the run) gave nothing better."
        )
    if stopped and stopped["not_run"] > 0:
        sentences.append(
            f"Stopping early left {100 * stopped['not_run']:.0f} % of the planned {stopped['planned']:,} steps unrun."
        )
    clipping = results.get("clipping")
    if clipping:
        units = f", {100 * clipping['units']:.0f} % of the units in a step" if "units" in clipping else ""
        sentences.append(f"The gradient was clipped in {100 * clipping['share']:.0f} % of the steps{units}.")
    if results.get("overflows") is not None:
        many = results["overflows"]
        sentences.append(
            f"{many:,} step{'' if many == 1 else 's'} of {results['steps']:,} overflowed in fp16 and "
            f"{'was' if many == 1 else 'were'} left out; a few at the start are usual while the loss scale is found."
        )
    if results.get("sparsity") is not None:
        sentences.append(f"{100 * results['sparsity']:.1f} % of the weights are exactly zero (L1 penalty).")
    if results.get("microbatch"):
        sentences.append(
            f"Memory ran out, so batches went through {results['microbatch']:,} samples at a time, for the same result."
        )
    return sentences


def curve_words(rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> str:
    """What the learning curves show, in one or two sentences."""
    losses = [
        (r["train_loss"], r["valid_loss"])
        for r in rows
        if r.get("train_loss") is not None and r.get("valid_loss") is not None
    ]
    if len(losses) < 4:
        return "Too few validations to read a curve."
    valid = [v for _, v in losses]
    lowest = min(range(len(valid)), key=valid.__getitem__)
    best = max((i for i, r in enumerate(rows) if r.get("best")), default=None)
    text = "The last weights were kept."
    if best is not None:
        text = f"The best weights come from validation {best + 1} of {len(rows)}."
    tail = valid[-max(2, len(valid) // 5) :]
    if lowest < len(valid) * 0.7 and valid[-1] > valid[lowest] * 1.25:
        return text + (
            f" The validation loss rises after its lowest point ({valid[lowest]:.3f} to {valid[-1]:.3f}) while "
            f"the training loss falls: "
            "the model memorises. More data, augmentation or regularisation may help; each is an experiment."
        )
    if tail[0] - tail[-1] > 0.02 * abs(tail[0]):
        return text + " The validation loss was still falling at the end: more epochs may help."
    return text + " The validation loss has levelled off."


def difference_words(results: Mapping[str, Any]) -> str:
    """How training and validation loss may be compared."""
    return (
        "The training loss is measured while training (with augmentation and dropout where those are on, over "
        "changing weights; plain, without label smoothing and class weights, where the line says so); "
        "the validation loss is plain and measured afterwards. They are not on equal terms: compare their "
        "shapes, not their heights."
    )


def _best_baseline(results: Mapping[str, Any]) -> tuple[str, float] | None:
    name = results["headline"]
    sign = 1 if results["metrics"][name]["better"] == "higher" else -1
    rows = [(r["name"], r["metrics"].get(name)) for r in results.get("baselines") or []]
    known = [(n, float(v)) for n, v in rows if v is not None]
    return max(known, key=lambda row: sign * row[1]) if known else None
