"""The generated documents know every technique and rule, and the inventory names only what exists."""

from __future__ import annotations

from pathlib import Path

import pytest

import goodfit
from bench.inventory import ROWS
from bench.pages import page, rules
from goodfit.pages import explain

DOCS = Path(goodfit.__file__).parents[1] / "docs"


def test_the_rules_document_is_what_the_rules_say() -> None:
    assert (DOCS / "rules.md").read_text(encoding="utf-8") == rules(), "run python -m bench.pages"


def test_the_techniques_document_is_what_the_classes_say() -> None:
    assert (DOCS / "techniques.md").read_text(encoding="utf-8") == page(), "run python -m bench.pages"


def test_the_inventory_has_every_row_once() -> None:
    assert [row.number for row in ROWS] == list(range(1, 112))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_what_the_inventory_names_can_be_explained(row) -> None:  # type: ignore[no-untyped-def]
    assert row.keys or row.note
    for key in row.keys:
        assert explain(key)
