"""How well is a text written from another one? Exact matches, edit distance, and how well each token was foreseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from goodfit.errors import DataError
from goodfit.evaluation.entries import WORK, Metric, entries_of, entry
from goodfit.evaluation.intervals import RESAMPLES, bootstrap, proportion
from goodfit.evaluation.language import window_sums
from goodfit.evaluation.metrics import METRICS, SEQUENCE, headline
from goodfit.evaluation.predictions import refuse_non_finite
from goodfit.evaluation.weighted import Array, NotAvailable
from goodfit.evaluation.written import character_error_rate
from goodfit.types import Task

_CELLS = 3e9
"""Cells of edit distance tables that are affordable: some ten seconds."""
_AT_ONCE = 4_000_000
_MOST_NEIGHBOURS = 20_000


def sequence_results(
    task: Task,
    nats: Tensor,
    *,
    written: Sequence[str],
    part: Any,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    shown: int = 16,
) -> dict[str, Any]:
    """What `results` says of other tasks, for written texts: metrics with intervals, and texts to look at.

    nats: ``(samples, length)`` of the true tokens, as `goodfit.loop.foresee` gives. written: what the model wrote by
    itself, one text a sample. part: holds ``sources``, ``answers``, ``targets`` and ``index``. shown: how many samples
    are listed, evenly spread in ``written`` and of the wrong ones the worst in ``missed``.
    """
    if len(part) == 0:
        raise DataError("there are no samples to evaluate on; give this part some rows")
    refuse_non_finite(nats, "losses")
    answers, sources, index = part.answers, part.sources, part.index.tolist()
    right = np.asarray([one == other for one, other in zip(written, answers, strict=True)])
    edits, characters = edit_distances(written, answers), np.asarray([len(one) for one in answers])
    losses, tokens = window_sums(nats, part.targets)
    given = {"exact_match": (right,), "character_error_rate": (edits, characters)}
    metrics: dict[str, Metric] = {name: partial(METRICS[name], *given.get(name, (losses, tokens))) for name in SEQUENCE}
    affordable = max(100, min(resamples, int(WORK / len(right))))
    draws = bootstrap(metrics, len(right), seed=seed, resamples=affordable)
    entries = entries_of(metrics, draws, len(right), confidence)
    hits = float(right.sum())
    entries["exact_match"] = entry(
        "exact_match", hits / len(right), proportion(hits, len(right), draws["exact_match"], confidence=confidence)
    )

    def row(k: int) -> dict[str, Any]:
        loss = float(losses[k] / max(tokens[k], 1))
        return {
            "index": index[k],
            "source": sources[k],
            "target": answers[k],
            "written": written[k],
            "right": bool(right[k]),
            "loss": loss,
        }

    some = np.unique(np.linspace(0, len(right) - 1, min(len(right), shown)).astype(int))
    wrong = np.flatnonzero(~right)
    worst = wrong[np.argsort(-losses[wrong] / np.maximum(tokens[wrong], 1), kind="stable")[:shown]]
    return {
        "task": task.kind,
        "target": task.target,
        "headline": headline(task),
        "samples": len(right),
        "confidence": confidence,
        "metrics": entries,
        "written": [row(int(k)) for k in some],
        "missed": [row(int(k)) for k in worst],
        "tokens": int(tokens.sum()),
    }


def sequence_points(written: Sequence[str], part: Any) -> dict[str, float | None]:
    """The metrics of texts as bare numbers, None where not available: what the baselines' rows hold."""
    right = np.asarray([one == other for one, other in zip(written, part.answers, strict=True)])
    edits = edit_distances(written, part.answers)
    try:
        rate = float(character_error_rate(edits, np.asarray([len(one) for one in part.answers])))
    except NotAvailable:
        return {"exact_match": float(right.mean()), "character_error_rate": None}
    return {"exact_match": float(right.mean()), "character_error_rate": rate}


def simple_writers(train: Any, other: Any) -> Iterator[tuple[str, Callable[[], tuple[list[str], str]]]]:
    """What needs no network: copying, always the same, and the answer to the most similar source of the train part.

    Similar means the cosine of TF-IDF vectors of one to three characters within words.
    """

    def nearest() -> tuple[list[str], str]:
        step = -(-len(train) // _MOST_NEIGHBOURS)
        known, answers = train.sources[::step], train.answers[::step]
        vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True)
        first, second = vectors.fit_transform(known), vectors.transform(other.sources)
        found: list[str] = []
        for start in range(0, second.shape[0], 256):
            found += [answers[k] for k in (second[start : start + 256] @ first.T).toarray().argmax(1)]
        return found, "" if step == 1 else f"among {len(known):,} of {len(train):,} samples"

    yield "copy of the source", lambda: (list(other.sources), "")
    yield "most frequent target", lambda: ([Counter(train.answers).most_common(1)[0][0]] * len(other), "")
    yield "answer to the most similar source", nearest


def edit_distances(first: Sequence[str], second: Sequence[str]) -> Array:
    """Levenshtein's distance of each pair, ``(pairs,)`` float64; NaN in all where the texts are too long for it.

    The table of all pairs is filled row by row at once. Within a row, ``d[j] = min(c[j], d[j - 1] + 1)`` is a running
    minimum of ``c[j] - j``.
    """
    found = np.zeros(len(first))
    unequal = [k for k, (one, other) in enumerate(zip(first, second, strict=True)) if one != other]
    unequal.sort(key=lambda k: len(first[k]))
    if sum(len(first[k]) * len(second[k]) for k in unequal) > _CELLS:
        return np.full(len(first), np.nan)
    while unequal:
        width = max(len(second[k]) for k in unequal[-64:]) + 1
        size = max(1, min(len(unequal), _AT_ONCE // max(width, 1)))
        chosen, unequal = unequal[-size:], unequal[:-size]
        found[chosen] = _distances([first[k] for k in chosen], [second[k] for k in chosen])
    return found


def _distances(first: Sequence[str], second: Sequence[str]) -> Array:
    rows, columns = _codes(first), _codes(second)
    lengths, ends = np.asarray([len(one) for one in first]), np.asarray([len(one) for one in second])
    places = np.arange(columns.shape[1] + 1)
    row = np.tile(places, (len(first), 1))
    found: Array = row[np.arange(len(first)), ends].astype(np.float64)
    for k in range(rows.shape[1]):
        changed = row[:, :-1] + (columns != rows[:, k : k + 1])
        best = np.concatenate([np.full((len(first), 1), k + 1), np.minimum(changed, row[:, 1:] + 1)], 1)
        row = np.minimum.accumulate(best - places, 1) + places
        done = lengths == k + 1
        found[done] = row[done, ends[done]]
    return found


def _codes(texts: Sequence[str]) -> Array:
    """``(texts, longest)`` int64 code points, -1 behind the end."""
    made = np.full((len(texts), max(map(len, texts), default=0)), -1, np.int64)
    for k, text in enumerate(texts):
        made[k, : len(text)] = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
    return made
