"""How good is a text that was written? Each function here is one metric, and its docstring is the metric's page.

Weights as in `goodfit.evaluation.weighted`.
"""

from __future__ import annotations

import numpy as np

from goodfit.evaluation.weighted import Array, NotAvailable, Value, average, ratio, settle, total


def exact_match(right: Array, weights: Array | None = None) -> Value:
    """Share of the texts that are written exactly as they should be.

    Formula: mean of [written = target]. Range: 0 to 1, higher is better.
    Misleading: where several answers are right, or nearly right is good enough; a long text is wrong for one character.
    Source: Rajpurkar et al. 2016 use it for answers; a proportion, so small counts of errors get Wilson's interval.
    """
    return settle(average(right, weights), weights)


def character_error_rate(edits: Array, characters: Array, weights: Array | None = None) -> Value:
    """How many characters have to be changed, per character of the right text.

    Formula: sum of edit distances / sum of the targets' lengths; an edit inserts, deletes or replaces one character
    (Levenshtein 1966). Range: 0 to infinity, lower is better; an empty answer gives 1.
    Misleading: where meaning counts: "not" costs four edits, a synonym more. Long texts weigh more than short ones.
    Source: usual in speech and text recognition, as the word error rate.
    """
    if not np.isfinite(edits).all():
        raise NotAvailable("the texts are too long to compare character by character")
    return settle(ratio(total(edits, weights), total(characters, weights)), weights, "the targets hold no character")
