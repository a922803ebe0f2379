"""The same few signs over and over: whatever reads a text takes time by its length, not by its square."""

import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.guard.normalise import normalise
from slipway.text.csv_rows import csv_rows
from slipway.text.evidence import take_apart
from slipway.text.markdown import find_blocks, find_headings, front_matter, plain_text
from slipway.text.overlap import content_words
from slipway.text.personal_data import find_personal_data
from slipway.text.secrets import find_secrets
from slipway.text.sentences import split_sentences

READERS: dict[str, Callable[[str], object]] = {
    "sentences": split_sentences,
    "blocks": find_blocks,
    "headings": find_headings,
    "front matter": front_matter,
    "plain text": plain_text,
    "words": content_words,
    "question": take_apart,
    "table": lambda text: csv_rows("a.csv", text),
    "personal data": find_personal_data,
    "secrets": lambda text: find_secrets(text, unknown_tokens=True),
    "disguises": normalise,
}
LONG = 16_000
MOST_S = 2.0
"""For a text of `LONG` characters; most take a hundredth of that, and what is quadratic or worse takes longer."""
PIECES = st.text(st.sampled_from(" \t\n.!?\"'`~#*_-=|:;,()[]{}<>@+/\\%$019aAzé我\u200b"), max_size=3)


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=10, deadline=None)
@given(PIECES, PIECES.filter(bool), PIECES)
@example("", ".", "x")
@example("# a", " ", "x")
@example("# a", "#", " x")
@example("---", " ", "x")
@example("", " ---", "x")
@example(" " * LONG, "-", "x")
@example("", "1. ", "a_AA==")
def test_a_text_of_one_piece_is_read_in_time(reader: str, before: str, piece: str, after: str) -> None:
    began = time.process_time()
    READERS[reader](before + piece * (LONG // len(piece)) + after)
    assert time.process_time() - began < MOST_S
