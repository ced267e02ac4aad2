"""Written texts: edit distance against the textbook's table, metrics by hand, simple writers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goodfit.data.pairs import PairEncoder, Pairs
from goodfit.data.tokens import Tokens
from goodfit.errors import DataError
from goodfit.evaluation import METRICS, sequence_results
from goodfit.evaluation.sequence import edit_distances, sequence_points, simple_writers
from goodfit.evaluation.training import rows_right, selection_metric, training_metric
from goodfit.evaluation.weighted import NotAvailable
from goodfit.types import Task

TASK = Task("sequence", "reply", 8)


def levenshtein(one: str, other: str) -> int:
    """The recurrence of the textbook, cell by cell."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(before + (a != b), row[j] + 1, row[j - 1] + 1)
    return row[-1]


@given(st.lists(st.tuples(st.text("abc\u20ac", max_size=9), st.text("abc\u20ac", max_size=9)), max_size=8))
def test_edit_distances_are_the_textbook_s(pairs: list[tuple[str, str]]) -> None:
    found = edit_distances([a for a, _ in pairs], [b for _, b in pairs])
    assert found.tolist() == [levenshtein(a, b) for a, b in pairs]


def test_texts_too_long_to_compare_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goodfit.evaluation.sequence._CELLS", 100)
    assert np.isnan(edit_distances(["a" * 20, "b"], ["b" * 20, "b"])).all()
    with pytest.raises(NotAvailable, match="too long"):
        METRICS["character_error_rate"](np.full(2, np.nan), np.ones(2))


def pairs(sources: list[str], answers: list[str]) -> Pairs:
    encoder = PairEncoder("text", "reply", Tokens.fit(sources, tokens="characters"), Tokens.fit(answers))
    return encoder.pairs(sources, answers, np.arange(len(sources)))


def test_results_hold_what_was_written_and_where_it_went_wrong() -> None:
    part = pairs([f"s{n}" for n in range(40)], [f"answer {n}" for n in range(40)])
    written = [f"answer {n}" if n % 4 else f"answe {n}" for n in range(40)]
    nats = torch.where(part.targets == -100, 0.0, 0.5)
    nats[8] *= 4
    found = sequence_results(TASK, nats, written=written, part=part)
    metrics = found["metrics"]
    assert found["headline"] == "exact_match"
    assert metrics["exact_match"]["value"] == 0.75
    assert metrics["exact_match"]["low"] < 0.75 < metrics["exact_match"]["high"]
    assert metrics["character_error_rate"]["value"] == pytest.approx(10 / sum(map(len, part.answers)))
    tokens = int((part.targets != -100).sum())
    assert found["tokens"] == tokens
    expected = (0.5 * tokens + 1.5 * int((part.targets[8] != -100).sum())) / tokens
    assert metrics["nats_per_token"]["value"] == pytest.approx(expected)
    assert metrics["perplexity"]["value"] == pytest.approx(np.exp(expected))
    assert found["missed"][0]["index"] == 8
    assert {row["written"] for row in found["missed"]} == set(written[::4])
    assert len(found["written"]) == 16
    assert sequence_points(written, part)["exact_match"] == 0.75


def test_an_empty_part_is_refused() -> None:
    part = pairs(["a"], ["b"])
    empty = Pairs(part.source[:0], part.answer[:0], part.index[:0], (), ())
    with pytest.raises(DataError, match="no samples"):
        sequence_results(TASK, torch.zeros(0, 2), written=[], part=empty)


def test_simple_writers_copy_repeat_and_look_up() -> None:
    train = pairs(["red cat", "blue dog", "green cow"], ["un", "deux", "un"])
    other = pairs(["blue dogs", "greener"], ["deux", "un"])
    found = {name: make()[0] for name, make in simple_writers(train, other)}
    assert found["copy of the source"] == ["blue dogs", "greener"]
    assert found["most frequent target"] == ["un", "un"]
    assert found["answer to the most similar source"] == ["deux", "un"]


def test_rows_are_right_where_all_their_tokens_are_and_ties_go_to_the_smaller_loss() -> None:
    targets = torch.tensor([[1, 2, -100], [1, 2, 3]])
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 2, 7], [1, 2, 4]]), 8).float() * 9
    shown, chosen = training_metric(TASK), selection_metric(TASK)
    assert shown.name == "exact_match"
    assert float(shown.function(logits, targets)) == 0.5
    assert 0.5 < float(chosen.function(logits, targets)) < 1
    sure = logits * torch.tensor([1.0, 0.5])[:, None, None]
    assert float(chosen.function(sure, targets)) > float(chosen.function(logits, targets))
    sums = rows_right(torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[True, True, False]]), targets[:1])
    assert sums.tolist() == [1, 1, 3, 2]
