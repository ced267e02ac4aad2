"""Delimited text: encodings, delimiters, ragged rows; and what is said of files that cannot be read."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodfit.data.delimited import parse
from goodfit.errors import DataError

TABLE = "name,city\nJosé,Zürich\nAnna,Łódź\n"


def rules(found) -> list[str]:
    return [finding.rule for finding in found.findings]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_encodings_are_told_apart(encoding):
    found = parse(TABLE.encode(encoding), "a.csv")
    assert found.frame["city"].tolist() == ["Zürich", "Łódź"]
    assert found.frame.columns.tolist() == ["name", "city"]
    assert not found.findings


def test_latin_letters_are_read_and_reported_with_their_line():
    found = parse("name,n\nAnna,1\nJosé,2\n".encode("latin-1"), "a.csv")
    assert found.frame["name"].tolist() == ["Anna", "José"]
    assert rules(found) == ["encoding"]
    assert found.findings[0].where == "a.csv:3"


def test_lines_of_two_encodings_are_each_read_in_their_own():
    raw = "name,n\nZoë,1\n".encode() + "José,2\n".encode("latin-1") + b"Ann,3\n"
    found = parse(raw, "a.csv")
    assert found.frame["name"].tolist() == ["Zoë", "José", "Ann"]
    assert rules(found) == ["mixed-encodings"]
    assert "line" in found.findings[0].message
    assert "3" in found.findings[0].message


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_delimiters_are_sniffed(delimiter, ending):
    raw = ending.join(delimiter.join(row) for row in (["a", "b", "c"], ["1", "x y", "3"], ["4", "5", ""])) + ending
    found = parse(raw.encode(), "a.csv")
    assert found.delimiter == delimiter
    assert found.frame.to_numpy().tolist() == [["1", "x y", "3"], ["4", "5", ""]]


def test_decimal_commas_do_not_pass_for_delimiters():
    found = parse(b"a;b\n1,5;2,25\n3,5;4,75\n", "a.csv")
    assert found.delimiter == ";"
    assert found.frame["b"].tolist() == ["2,25", "4,75"]


def test_one_column_of_sentences_stays_one_column():
    found = parse(b"text\nwell, well\nno\nyes, but, no\n", "a.csv")
    assert found.frame["text"].tolist() == ["well, well", "no", "yes, but, no"]


def test_quoted_fields_hold_delimiters_quotes_and_line_breaks():
    found = parse(b'a,b\n"x, ""y""","two\nlines"\nz,w\n', "a.csv")
    assert found.frame.iloc[0].tolist() == ['x, "y"', "two\nlines"]
    assert found.lines([0, 1]) == [2, 4]


cell = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)


@given(st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=12))
def test_what_the_csv_module_writes_is_read_back(rows):
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerows([("one", "two", "three"), *rows])
    assert [tuple(row) for row in parse(out.getvalue().encode(), "a.csv").frame.to_numpy()] == rows


def test_cells_are_never_evaluated():
    found = parse(b"a,b\n=1+1,@SUM(A1)\n=cmd|' /C calc'!A0,-2+3\n", "a.csv")
    assert found.frame["a"].tolist() == ["=1+1", "=cmd|' /C calc'!A0"]


def test_few_ragged_rows_are_left_out_and_named():
    lines = ["a,b"] + [f"{n},{n}" for n in range(300)]
    lines[17] = "1,2,3"
    found = parse("\n".join(lines).encode(), "a.csv")
    assert len(found.frame) == 299
    assert rules(found) == ["ragged-rows"]
    assert "a.csv:18 (3)" in found.findings[0].message
    assert found.lines([15, 16]) == [17, 19]


def test_many_ragged_rows_are_refused_with_file_and_line():
    with pytest.raises(DataError, match=r"the header has 2 fields, but other numbers of fields are in a.csv:3 \(3\)"):
        parse(b"a,b\n1,2\n1,2,3\n4,5\n", "a.csv")


def test_mixed_delimiters_are_suspected():
    with pytest.raises(DataError, match=r"a.csv:4 \(1\).*a semicolon seems to be their delimiter"):
        parse(b"a,b\n1,2\n3,4\n5;6\n7;8\n", "a.csv")


def test_a_quotation_mark_that_is_never_closed_is_suspected():
    with pytest.raises(DataError, match="quotation mark"):
        parse(b'a,b\n1,2\n"3,4\n5,6\n', "a.csv")


def test_repeated_and_blank_column_names_become_unique():
    found = parse(b"a,b,a,\n1,2,3,4\n5,6,7,8\n", "a.csv")
    assert found.frame.columns.tolist() == ["a", "b", "a (2)", "column 4"]
    assert rules(found) == ["duplicate-columns"]


def test_a_file_without_header_loses_no_row():
    found = parse(b"1,2.5\n3,4.5\n", "a.csv")
    assert found.frame.columns.tolist() == ["column 1", "column 2"]
    assert len(found.frame) == 2
    assert rules(found) == ["no-header"]
    assert found.lines([1]) == [2]


def test_rows_with_a_name_before_them_get_a_column_for_it():
    found = parse(b"a,b\nx,1,2\ny,3,4\n", "a.csv")
    assert found.frame.columns.tolist() == ["column 1", "a", "b"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"a.csv is empty \(0 bytes\)"),
        (b" \n\n", "nothing but white space"),
        (b"a,b\n", "a header and no rows"),
        (b"a,b", "a header and no rows"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10", "is no text"),
        (b"\xff\xfea\x00b\x00\x00", "UTF-16 text and breaks"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(raw, message):
    with pytest.raises(DataError, match=message) as caught:
        parse(raw, "a.csv")
    assert "\n" not in str(caught.value)
