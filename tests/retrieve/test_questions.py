"""Made questions: grammatical, marked, with the place of their answer; question files with their errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.domain.document import Document
from slipway.domain.errors import FileBroken, FileMissing
from slipway.domain.ids import hash_text
from slipway.retrieve.documents import load_documents
from slipway.retrieve.questions import MADE, ask_about, make_questions, read_questions

HEADINGS = [
    pytest.param("How long can I return it?", "How long can I return it?", id="a question stays"),
    pytest.param("Rotate the master key", "How do I rotate the master key?", id="an order"),
    pytest.param("How to rotate keys", "How do I rotate keys?", id="how to"),
    pytest.param("2.1 Search settings", "What should I know about search settings?", id="a thing, its number goes"),
    pytest.param("OTLP export", "What should I know about OTLP export?", id="an abbreviation keeps its capitals"),
    pytest.param("Warranty", "What should I know about warranty of Lamps?", id="one word is told from which document"),
    pytest.param("What is kept", "What do the documents say about what is kept?", id="half a question"),
    pytest.param("---", "", id="no word"),
    pytest.param("The", "", id="says nothing"),
]


@pytest.mark.parametrize(("heading", "question"), HEADINGS)
def test_a_heading_becomes_a_question(heading: str, question: str) -> None:
    assert ask_about(heading, "Lamps") == question


def page(text: str, name: str = "a.md") -> Document:
    return Document(
        id=name, title="Lamps", text=text, source=name, content_hash=hash_text(text), metadata={"format": "markdown"}
    )


DEFINITIONS = [
    pytest.param("A release is a model with everything that belongs to it.", "What is a release?", id="a thing"),
    pytest.param("The gate is a function of evidence and policy alone.", "What is the gate?", id="the thing"),
    pytest.param("Traces are requests, from the first check to the last.", "What are Traces?", id="many things"),
    pytest.param("It is a thing that nobody can name from here.", None, id="it says nothing"),
    pytest.param("Setting it is easy enough for everybody here.", None, id="no noun"),
]


@pytest.mark.parametrize(("text", "question"), DEFINITIONS)
def test_a_defining_sentence_becomes_a_question(text: str, question: str | None) -> None:
    made = [case.question for case in make_questions([page(text)]) if case.answerable]
    assert made == ([question] if question else [])


def test_made_cases_are_marked_and_their_answers_slice_back(application: Path) -> None:
    documents = {document.id: document for document in load_documents([application / "documents"]).documents}
    cases = make_questions(list(documents.values()))
    assert all(case.tags == (MADE,) for case in cases)
    answerable = [case for case in cases if case.answerable]
    assert len(answerable) >= 5
    for case in answerable:
        [(id, start, end)] = case.spans
        assert documents[id].text[start:end] == case.expected
        assert case.documents == (id,)
    assert len({case.id for case in cases}) == len(cases)


def test_some_have_no_answer_in_the_documents(application: Path) -> None:
    cases = make_questions(load_documents([application / "documents"]).documents)
    without = [case for case in cases if case.answerable is False]
    assert 1 <= len(without) <= len(cases) / 4
    assert all(not case.expected and not case.spans for case in without)


def test_a_question_that_the_documents_do_answer_is_not_called_unanswerable() -> None:
    text = "The capital of Mongolia is Ulaanbaatar, and the ceiling of the Sistine Chapel was painted by Michelangelo."
    asked = {case.question for case in make_questions([page(text)]) if case.answerable is False}
    assert not asked & {"What is the capital of Mongolia?", "Who painted the ceiling of the Sistine Chapel?"}


def test_the_limit_is_kept_and_documents_take_turns() -> None:
    pages = [
        page("\n\n".join(f"## Lamp {name} {n}\n\nIt shines for {n} years." for n in range(30)), name) for name in "ab"
    ]
    cases = make_questions(pages, limit=20)
    assert len(cases) <= 20
    groups = [case.group for case in cases if case.answerable]
    assert abs(groups.count("a") - groups.count("b")) <= 1


def test_the_same_documents_give_the_same_questions(application: Path) -> None:
    documents = load_documents([application / "documents"]).documents
    assert make_questions(documents) == make_questions(documents[::-1])


def test_no_documents_give_no_answerable_question() -> None:
    assert [case for case in make_questions([]) if case.answerable] == []


def test_questions_are_read_as_text_or_json(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('Plain?\n\n{"id": 7, "query": "From query?"}\n{"question": " Trimmed? "}\n', encoding="utf-8")
    assert read_questions(path) == [("1", "Plain?"), ("7", "From query?"), ("4", "Trimmed?")]


BROKEN = [
    pytest.param(b'{"question": ', r"line 1 is not JSON", id="broken JSON"),
    pytest.param(b'{"text": "x"}', r"line 1 has no `question`", id="no question"),
    pytest.param(b"\n\n", r"holds no question", id="nothing"),
    pytest.param(b"\xff\xfe\xfa", r"not UTF-8", id="no text"),
]


@pytest.mark.parametrize(("content", "reason"), BROKEN)
def test_a_broken_file_names_its_line(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "q.jsonl").write_bytes(content)
    with pytest.raises(FileBroken, match=reason):
        read_questions(tmp_path / "q.jsonl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="one question a line"):
        read_questions(tmp_path / "nowhere.jsonl")
