"""The questions about Slipway's own documentation stand on what the documentation says."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from slipway.lifecycle.material import FEWEST_QUESTIONS, GENERATED, lay_out, own_documentation

ROWS = [
    json.loads(line)
    for line in files("slipway.lifecycle").joinpath("questions.jsonl").read_text(encoding="utf-8").splitlines()
    if line.strip()
]
ANSWERED = [row for row in ROWS if row.get("answerable", True)]


def plain(text: str) -> str:
    """One space between words, lower case, without the marks of Markdown."""
    return re.sub(r"\s+", " ", re.sub(r"[`*_]", "", text)).strip().lower()


def chapter(name: str) -> str:
    path = own_documentation() / name
    assert path.is_file(), f"there is no docs/{name}"
    return plain(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", ANSWERED, ids=[row["id"] for row in ANSWERED])
def test_the_expected_answer_stands_in_its_chapter(row: dict[str, object]) -> None:
    documents, expected = row["documents"], str(row["expected"])
    assert isinstance(documents, list)
    assert expected
    assert documents
    assert not set(documents) & set(GENERATED), "generated chapters are not part of the demo"
    assert any(plain(expected) in chapter(name) for name in documents)


def test_ids_and_questions_are_given_once() -> None:
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    assert len({plain(row["question"]) for row in ROWS}) == len(ROWS)


def test_some_questions_have_no_answer() -> None:
    silent = [row for row in ROWS if row.get("answerable") is False]
    assert silent
    assert all("expected" not in row for row in silent)


def test_the_chapter_that_the_demo_holds_back_has_questions(tmp_path: Path) -> None:
    material = lay_out(tmp_path, [])
    assert len(material.gap_questions) >= FEWEST_QUESTIONS
    assert material.held_back.is_file()
    assert not (tmp_path / "documents" / material.held_back_id).exists()
