"""Texts that are looked for: long ones inside others, short ones only as a whole."""

from typing import Any

import pytest

from slipway.privacy.documents import without_documents
from slipway.privacy.words import Texts, without

CUTS = [
    pytest.param(["where is my parcel"], "She asked where is my parcel today", "She asked [erased] today", id="inside"),
    pytest.param(["where is my parcel"], "where is my parcel", "[erased]", id="the whole text"),
    pytest.param(["where is my parcel"], " where is my parcel\n", "[erased]", id="with space around"),
    pytest.param(["where is my parcel"], "where is my", "where is my", id="only a part"),
    pytest.param(["a lamp"], "a lamp", "[erased]", id="a short text as a whole"),
    pytest.param(["a lamp"], "this is a lamp", "this is a lamp", id="a short text inside another"),
    pytest.param(["where is my parcel", "where is my"], "where is my parcel", "[erased]", id="the longest one"),
    pytest.param(["parcel one two", "parcel one three"], "parcel one three!", "[erased]!", id="the same beginning"),
    pytest.param(["aaaaaaaaaaaaaaa"], "a" * 33, "[erased][erased]aaa", id="again and again"),
    pytest.param(["", "  "], "anything at all", "anything at all", id="nothing to look for"),
    pytest.param(["Größe des Pakets"], "die Größe des Pakets?", "die [erased]?", id="umlauts"),
]


@pytest.mark.parametrize(("texts", "text", "after"), CUTS)
def test_cutting(texts: list[str], text: str, after: str) -> None:
    assert Texts(texts).cut(text) == after


QUESTION = "where is my parcel"
VALUES: list[Any] = [
    pytest.param({"a": QUESTION, "b": 1}, {"a": "[erased]", "b": 1}, 1, id="a field"),
    pytest.param([QUESTION, "other"], ["other"], 1, id="a member of a list goes"),
    pytest.param([{"q": QUESTION, "a": "x"}, {"q": "y"}], [{"q": "y"}], 1, id="a member that holds it goes whole"),
    pytest.param({"a": {"b": [[QUESTION]]}}, {"a": {"b": []}}, 1, id="deep inside"),
    pytest.param({"a": None, "b": [1, 2.5, True]}, {"a": None, "b": [1, 2.5, True]}, 0, id="nothing in it"),
]


@pytest.mark.parametrize(("value", "after", "taken"), VALUES)
def test_values_without_texts(value: Any, after: Any, taken: int) -> None:
    assert without(value, Texts([QUESTION])) == (after, taken)


def test_passages_leave_prompts_and_answers_behind_as_far_as_they_can() -> None:
    passage = "Anna's lamp was repaired in May."
    content = {
        "question": "Who?",
        "passages": [{"document": "anna.md", "text": passage}, {"document": "b.md", "text": "Else."}],
        "messages": [{"role": "user", "text": f"Answer from: {passage} Else. Question: Who?"}],
        "answer": "Anna.",
    }
    after = without_documents(content, frozenset({"anna.md"}), Texts([passage]))
    assert after == {
        "question": "Who?",
        "passages": [{"document": "b.md", "text": "Else."}],
        "messages": [{"role": "user", "text": "Answer from: [erased] Else. Question: Who?"}],
        "answer": "[erased]",
    }
