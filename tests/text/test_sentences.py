"""Sentences: where they end, and that they slice back exactly."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.text.sentences import split_sentences

CASES = [
    pytest.param("One. Two! Three?", ["One.", "Two!", "Three?"], id="plain sentences"),
    pytest.param("Dr. Smith met Mr. Jones.", ["Dr. Smith met Mr. Jones."], id="titles end nothing"),
    pytest.param("It costs 4.90 euros. Cheap.", ["It costs 4.90 euros.", "Cheap."], id="a decimal point"),
    pytest.param("See e.g. Figure 3. It shows", ["See e.g. Figure 3.", "It shows"], id="abbreviation, then a number"),
    pytest.param("J. R. Tolkien wrote it.", ["J. R. Tolkien wrote it."], id="initials"),
    pytest.param("We met Acme Inc. They paid.", ["We met Acme Inc.", "They paid."], id="a company may end one"),
    pytest.param(
        'He said "Stop." Then he left.', ['He said "Stop."', "Then he left."], id="quotation marks belong to it"
    ),
    pytest.param("Wrapped\nover lines. Next.", ["Wrapped\nover lines.", "Next."], id="a line break ends nothing"),
    pytest.param("No point\n\nNext block", ["No point", "Next block"], id="a blank line ends one"),
    pytest.param("これは文です。次です。", ["これは文です。", "次です。"], id="Japanese full stops"),
    pytest.param("Wait... what? yes", ["Wait... what? yes"], id="lower case goes on"),
    pytest.param("1. First step. 2. Second step.", ["1. First step.", "2. Second step."], id="numbered on one line"),
    pytest.param("", [], id="nothing"),
    pytest.param(" \n\n ", [], id="only space"),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_where_sentences_end(text: str, expected: list[str]) -> None:
    assert [text[span.start : span.end] for span in split_sentences(text)] == expected


@given(st.text(alphabet=st.sampled_from("aB .!?\n\"'1。-*"), max_size=80))
def test_spans_are_in_order_do_not_overlap_and_lose_no_sign(text: str) -> None:
    spans = split_sentences(text)
    assert all(before.end <= after.start for before, after in pairwise(spans))
    assert "".join(text[span.start : span.end] for span in spans).replace(" ", "").replace("\n", "") == text.replace(
        " ", ""
    ).replace("\n", "")
