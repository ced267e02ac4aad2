"""A part's inputs as one matrix, the way classical models want them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from torch import Tensor
from torch.nn import functional

from goodfit import keyed
from goodfit.evaluation.weighted import Array
from goodfit.types import Inputs, InputSpec, Part

_WIDEST_TEXT = 200_000
_WIDEST_TREES = 256
_WIDEST_IMAGE, _SIDE = 1024, 16
_AT_ONCE = 512


@dataclass(frozen=True)
class Gathered:
    """Some samples of a part: inputs with large images averaged down, targets, and texts where the part has them."""

    inputs: Inputs
    targets: Array
    texts: tuple[str, ...] | None


def chosen(samples: int, limit: int, seed: int) -> tuple[Tensor, str]:
    """Positions of at most ``limit`` samples, drawn by the seed, in order; and the note that says so."""
    if samples <= limit:
        return torch.arange(samples), ""
    drawn = keyed.permutation(keyed.key(seed, "baseline"), samples)[:limit].sort().values
    return drawn, f"fitted on {limit:,} of {samples:,} samples"


def gathered(part: Part, positions: Tensor) -> Gathered:
    """The samples at these positions. Images of more than 1,024 numbers are averaged to at most 16 x 16 pixels.

    Targets come with the inputs, batch by batch: in a user's own shuffled loader no other order is the right one.
    """
    inputs: list[Inputs] = []
    targets: list[Tensor] = []
    for batch in part.batches(torch.split(positions, _AT_ONCE)):
        inputs.append(
            {k: _shrunk(v.cpu()) if k == "image" else v.cpu() for k, v in batch.inputs.items()}
            if isinstance(batch.inputs, dict)
            else _shrunk(batch.inputs.cpu())
        )
        targets.append(batch.targets.cpu())
    texts = getattr(part, "texts", None)
    kept = None if texts is None else tuple(texts[int(k)] for k in positions)
    first = inputs[0]
    if isinstance(first, dict):
        whole: Inputs = {k: torch.cat([one[k] for one in inputs if isinstance(one, dict)]) for k in first}
    else:
        whole = torch.cat([one for one in inputs if isinstance(one, Tensor)])
    return Gathered(whole, torch.cat(targets).numpy(), kept)


def linear_matrices(train: Gathered, other: Gathered, spec: InputSpec) -> tuple[Any, Any]:
    """Matrices for linear models of the two parts, scaled by what the first one shows.

    Numbers standardised; categories one-hot; texts as TF-IDF of words and word pairs, from the texts themselves where
    the part has them, from token numbers else; pixels less their mean, all in one unit.
    """
    if isinstance(train.inputs, Tensor) and isinstance(other.inputs, Tensor):
        if spec.kind == "text":
            return _of_texts(train, other) or _tfidf(train.inputs, other.inputs, spec)
        return _standard(_flat(train.inputs), _flat(other.inputs), scale=spec.kind != "image")
    assert isinstance(train.inputs, dict)
    assert isinstance(other.inputs, dict)
    first, second = train.inputs, other.inputs
    made: list[tuple[Any, Any]] = []
    for name in ("numeric", "image"):
        if name in first and first[name].numel():
            made.append(_standard(_flat(first[name]), _flat(second[name]), scale=name == "numeric"))
    if "category" in first and first["category"].numel():
        made.append((_one_hot(first["category"], spec), _one_hot(second["category"], spec)))
    if "tokens" in first and first["tokens"].numel():
        made.append(_of_texts(train, other) or _tfidf(first["tokens"], second["tokens"], spec))
    train_blocks, other_blocks = ([sparse.csr_array(pair[k]) for pair in made] for k in (0, 1))
    return sparse.hstack(train_blocks).tocsr(), sparse.hstack(other_blocks).tocsr()


def tree_matrices(train: Gathered, other: Gathered, spec: InputSpec) -> tuple[Array, Array, list[bool]] | None:
    """Matrices for decision trees and which columns are categories; None where there are no columns (text, images).

    Arrays count as columns up to 256 numbers a sample.
    """
    if isinstance(train.inputs, dict) and isinstance(other.inputs, dict):
        first, second = (_columns(one) for one in (train.inputs, other.inputs))
        if not first.shape[1]:
            return None
        # The trees take at most 255 codes as a category; longer columns are left as ordered numbers.
        kinds = [cardinality <= 255 for cardinality in spec.cardinalities]
        return first, second, [False] * (first.shape[1] - len(kinds)) + kinds
    assert isinstance(train.inputs, Tensor)
    assert isinstance(other.inputs, Tensor)
    if spec.kind in ("text", "image") or train.inputs[0].numel() > _WIDEST_TREES:
        return None
    return _flat(train.inputs), _flat(other.inputs), [False] * train.inputs[0].numel()


def _columns(inputs: dict[str, Tensor]) -> Array:
    rows = len(next(iter(inputs.values())))
    return np.hstack([np.zeros((rows, 0)), *(_flat(inputs[k]) for k in ("numeric", "category") if k in inputs)])


def _shrunk(images: Tensor) -> Tensor:
    if images.ndim != 4 or images[0].numel() <= _WIDEST_IMAGE:
        return images
    return functional.adaptive_avg_pool2d(images.float(), (min(_SIDE, images.shape[2]), min(_SIDE, images.shape[3])))


def _flat(values: Tensor) -> Array:
    return np.asarray(np.nan_to_num(values.reshape(len(values), -1).double().numpy()))


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
    for column, cardinality in zip(codes.numpy().T, spec.cardinalities, strict=True):
        shape = (len(column), cardinality)
        made.append(sparse.csr_array((np.ones(len(column)), (np.arange(len(column)), column)), shape=shape))
    return sparse.hstack(made).tocsr()


def _of_texts(train: Gathered, other: Gathered) -> tuple[Any, Any] | None:
    """TF-IDF of the texts' own words and pairs of neighbours; None where the parts hold no texts, or no word."""
    if train.texts is None or other.texts is None:
        return None
    vectors = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=_WIDEST_TEXT, token_pattern=r"(?u)\b\w+\b"
    )
    try:
        return vectors.fit_transform(train.texts), vectors.transform(other.texts)
    except ValueError:  # nothing but marks and blanks: token numbers tell more
        return None


def _tfidf(first: Tensor, second: Tensor, spec: InputSpec) -> tuple[Any, Any]:
    """TF-IDF of token numbers and of pairs of neighbours that occur twice in the first part. 0 is padding."""
    # Behind a text's words in order there may stand its n-grams, which have no neighbours.
    a, b = (one[:, : spec.length or None].numpy() for one in (first, second))
    vocabulary = max(spec.vocabulary, int(a.max(initial=0)) + 1, int(b.max(initial=0)) + 1)
    known, times = np.unique(_pairs(a, vocabulary)[1], return_counts=True)
    known = known[times >= 2]
    weigh = TfidfTransformer(sublinear_tf=True)
    return weigh.fit_transform(_bag(a, vocabulary, known)), weigh.transform(_bag(b, vocabulary, known))


def _pairs(ids: Array, vocabulary: int) -> tuple[Array, Array]:
    rows, places = np.nonzero((ids[:, :-1] != 0) & (ids[:, 1:] != 0))
    return rows, ids[rows, places] * vocabulary + ids[rows, places + 1]


def _bag(ids: Array, vocabulary: int, known: Array) -> Any:
    rows, places = np.nonzero(ids)
    pair_rows, pairs = _pairs(ids, vocabulary)
    place = np.searchsorted(known, pairs)
    there = np.append(known, -1)[place] == pairs
    row = np.concatenate((rows, pair_rows[there]))
    column = np.concatenate((ids[rows, places], vocabulary + place[there]))
    return sparse.csr_array((np.ones(len(row)), (row, column)), shape=(len(ids), vocabulary + len(known)))
