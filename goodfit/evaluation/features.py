"""A part's inputs as one matrix, the way classical models want them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from torch import Tensor

from goodfit import keyed
from goodfit.evaluation.weighted import Array
from goodfit.types import InputSpec, Part

WIDEST_TEXT = 200_000


def chosen(samples: int, limit: int, seed: int) -> tuple[Tensor, str]:
    """Positions of at most ``limit`` samples, drawn by the seed, in order; and the note that says so."""
    if samples <= limit:
        return torch.arange(samples), ""
    drawn = keyed.permutation(keyed.key(seed, "baseline"), samples)[:limit].sort().values
    return drawn, f"fitted on {limit:,} of {samples:,} samples"


def linear_matrices(train: Part, positions: Tensor, other: Part, spec: InputSpec) -> tuple[Any, Any]:
    """Matrices for linear models, of the train samples at ``positions`` and of the whole other part.

    Numbers standardised on the train samples; categories one-hot; texts as TF-IDF of words and word pairs where the
    part has ``texts``, of token ids else; pixels in [0, 1] less their mean.
    """
    texts, others = getattr(train, "texts", None), getattr(other, "texts", None)
    everything = torch.arange(len(other))
    if spec.kind == "text" and texts is not None and others is not None:
        vectors = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, max_features=WIDEST_TEXT, token_pattern=r"(?u)\b\w+\b"
        )
        # A vocabulary that is empty (no words at all) must not stop the other baselines.
        return vectors.fit_transform([texts[int(k)] for k in positions] or [""]), vectors.transform(others)
    first, second = train.take(positions).inputs, other.take(everything).inputs
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if spec.kind == "text":
            return _tfidf(first, second, spec.vocabulary)
        return _standard(_flat(first), _flat(second), scale=spec.kind != "image")
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    made: list[tuple[Any, Any]] = []
    if "numeric" in first and first["numeric"].shape[1]:
        a, b = _standard(_flat(first["numeric"]), _flat(second["numeric"]), scale=True)
        made.append((sparse.csr_array(a), sparse.csr_array(b)))
    if "category" in first and first["category"].shape[1]:
        made.append((_one_hot(first["category"], spec), _one_hot(second["category"], spec)))
    if "tokens" in first:
        made.append(_tfidf(first["tokens"], second["tokens"], spec.vocabulary))
    if not made:
        return _standard(_flat(first["image"]), _flat(second["image"]), scale=False)
    return sparse.hstack([a for a, _ in made]).tocsr(), sparse.hstack([b for _, b in made]).tocsr()


def tree_matrices(
    train: Part, positions: Tensor, other: Part, spec: InputSpec
) -> tuple[Array, Array, list[bool]] | None:
    """Matrices for decision trees and which columns are categories; None where the inputs have no columns (text,
    images).

    Small inputs of any shape count as columns: up to 256 numbers a sample.
    """
    first, second = train.take(positions).inputs, other.take(torch.arange(len(other))).inputs
    if isinstance(first, dict) and isinstance(second, dict):
        numeric = [_flat(one["numeric"]) if "numeric" in one else np.zeros((n, 0)) for one, n in _sized(first, second)]
        codes = [_flat(one["category"]) if "category" in one else np.zeros((n, 0)) for one, n in _sized(first, second)]
        if not numeric[0].shape[1] + codes[0].shape[1]:
            return None
        # The trees take at most 255 codes as a category; longer columns are left as ordered numbers.
        kinds = [False] * numeric[0].shape[1] + [cardinality <= 255 for cardinality in spec.cardinalities]
        return np.hstack([numeric[0], codes[0]]), np.hstack([numeric[1], codes[1]]), kinds
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    if spec.kind in ("text", "language") or first[0].numel() > 256:
        return None
    return _flat(first), _flat(second), [False] * first[0].numel()


def _sized(*inputs: dict[str, Tensor]) -> list[tuple[dict[str, Tensor], int]]:
    return [(one, len(next(iter(one.values())))) for one in inputs]


def _flat(values: Tensor) -> Array:
    kept = torch.float32 if values.dtype == torch.uint8 else torch.float64
    return np.asarray(np.nan_to_num(values.cpu().reshape(len(values), -1).to(kept).numpy()))


def _standard(first: Array, second: Array, *, scale: bool) -> tuple[Array, Array]:
    level = first.mean(0)
    spread: Array
    if scale:
        spread = first.std(0)
        spread[spread < 1e-9] = 1.0
    else:
        # Pixels keep their common scale: a border pixel that hardly varies is no important one.
        spread = np.asarray(first.std() or 1.0)
    return (first - level) / spread, (second - level) / spread


def _one_hot(codes: Tensor, spec: InputSpec) -> Any:
    made = []
    for column, cardinality in zip(codes.cpu().numpy().T, spec.cardinalities, strict=True):
        shape = (len(column), cardinality)
        made.append(sparse.csr_array((np.ones(len(column)), (np.arange(len(column)), column)), shape=shape))
    return sparse.hstack(made).tocsr()


def _tfidf(first: Tensor, second: Tensor, vocabulary: int) -> tuple[Any, Any]:
    weigh = TfidfTransformer(sublinear_tf=True)
    return weigh.fit_transform(_bag(first, vocabulary)), weigh.transform(_bag(second, vocabulary))


def _bag(tokens: Tensor, vocabulary: int) -> Any:
    ids = tokens.cpu().numpy()
    rows, places = np.nonzero(ids)
    shape = (len(ids), max(vocabulary, 1))
    return sparse.csr_array((np.ones(len(rows)), (rows, ids[rows, places])), shape=shape)
