"""Conditions on metadata: how they are read, what meets them, and searches and releases that keep to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slipway.domain.errors import InputError, WhereInvalid
from slipway.retrieve.batch import search_questions
from slipway.retrieve.documents import load_documents
from slipway.retrieve.index import build_index
from slipway.retrieve.query import search_index
from slipway.retrieve.where import facts_of, join_where, meets, read_where
from slipway.text.csv_rows import csv_rows
from slipway.workspace import open_workspace

FACTS = facts_of(
    "hr/leave/rules.md",
    {"format": "markdown", "tags": "[holiday, 'sick leave']", "date": "2026-03-01", "pages": "12", "file_hash": "x"},
)
MET = [
    pytest.param("folder = hr", True, id="a folder holds what lies below it"),
    pytest.param('folder = "hr/leave"', True, id="the folder itself"),
    pytest.param("folder = leave", False, id="no part of a path"),
    pytest.param("type = md", True, id="the suffix"),
    pytest.param("type=markdown", True, id="the format, without spaces"),
    pytest.param("TYPE = MD", True, id="case does not count"),
    pytest.param("tags = 'sick leave'", True, id="one of a list"),
    pytest.param("tags != holiday", False, id="one of a list is not it"),
    pytest.param("date >= 2026-01-01 and date < 2026-04-01", True, id="dates"),
    pytest.param("pages > 9", True, id="numbers are no text"),
    pytest.param("pages = 12.0", True, id="equal numbers"),
    pytest.param("type in (pdf, md)", True, id="one of several"),
    pytest.param("not type in (pdf, md)", False, id="none of several"),
    pytest.param("id ~ rules", True, id="contains"),
    pytest.param("id !~ rules", False, id="does not contain"),
    pytest.param("author = Ann", False, id="a field that is not there"),
    pytest.param("author != Ann", True, id="a field that is not there is not it"),
    pytest.param("type = pdf or type = md and pages = 1", False, id="and binds more than or"),
    pytest.param("(type = pdf or type = md) and pages = 12", True, id="brackets"),
    pytest.param("file_hash = x", False, id="our own notes are no facts"),
]


@pytest.mark.parametrize(("text", "met"), MET)
def test_a_document_meets_a_condition(text: str, met: bool) -> None:
    assert meets(read_where(text), FACTS) is met


WRONG = [
    pytest.param("", "name of a field is missing", id="nothing"),
    pytest.param("type", "needs a sign", id="no sign"),
    pytest.param("type =", "a value is missing", id="no value"),
    pytest.param("type = pdf folder = hr", "character 12 .*write 'and' or 'or'", id="no word between"),
    pytest.param("(type = pdf", "bracket is not closed", id="an open bracket"),
    pytest.param('type = "pdf', "quote is not closed", id="an open quote"),
    pytest.param("type in pdf", "in brackets", id="in without brackets"),
    pytest.param("and = 1", "name of a field is missing", id="a keyword as a field"),
    pytest.param("not " * 50 + "a = 1", "at most 40 deep", id="too deep"),
    pytest.param("a = " + "x" * 4000, "at most 4000 characters", id="too long"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_condition_that_cannot_be_understood_names_its_place(text: str, message: str) -> None:
    with pytest.raises(WhereInvalid, match=message) as wrong:
        read_where(text)
    assert "\n" not in str(wrong.value)


def test_several_conditions_are_met_together() -> None:
    assert join_where(None, None) is None
    both = join_where(read_where("type = md"), None, read_where("pages = 1"))
    assert both is not None
    assert not meets(both, FACTS)


TABLE = 'name,Price,note\nLamp,12,"two\nlines"\n\nBulb,4.90,cheap\n'


def test_rows_of_a_table_know_their_place_and_columns() -> None:
    rows = csv_rows("a.csv", TABLE)
    assert [row.values for row in rows] == [
        {"name": ("Lamp",), "price": ("12",), "note": ("two\nlines",)},
        {"name": ("Bulb",), "price": ("4.90",), "note": ("cheap",)},
    ]
    assert [TABLE[row.start : row.end].strip() for row in rows] == ['Lamp,12,"two\nlines"', "Bulb,4.90,cheap"]
    assert csv_rows("a.tsv", "a\tb,c\n1\t2\n")[0].values == {"a": ("1",), "b,c": ("2",)}
    assert csv_rows("a.csv", "a;b\n1;2\n")[0].values == {"a": ("1",), "b": ("2",)}
    assert csv_rows("a.csv", "") == []
    assert csv_rows("a.csv", "a,b\n" + "x" * 200_000 + ",1\n") == [], "a cell that csv refuses ends the table"


@pytest.fixture
def files(application: Path) -> Path:
    documents = application / "documents"
    for path in documents.iterdir():
        path.unlink()
    (documents / "hr").mkdir()
    (documents / "hr" / "leave.md").write_text("---\ndate: 2026-03-01\nauthor: Ann\n---\n# Leave\n\nParental leave.")
    (documents / "old.md").write_text("---\ndate: 2020-03-01\n---\n# Old leave\n\nParental leave, the old rule.")
    (documents / "plain.txt").write_text("Parental leave in plain words.")
    rows = "".join(f"Lamp {place},{place},for parental leave and {'many ' * 30} other days\n" for place in range(30))
    (documents / "prices.csv").write_text(f"name,price,note\n{rows}")
    return application


FOUND = [
    pytest.param("folder = hr", {"hr/leave.md"}, id="folder"),
    pytest.param("type = txt", {"plain.txt"}, id="type"),
    pytest.param("date < 2026-01-01", {"old.md"}, id="front matter"),
    pytest.param("not type = csv", {"hr/leave.md", "old.md", "plain.txt"}, id="not"),
    pytest.param("price = 7", {"prices.csv"}, id="a column"),
    pytest.param("type = pdf", set(), id="none"),
]


@pytest.mark.parametrize(("text", "documents"), FOUND)
def test_a_search_keeps_to_what_meets_the_condition(files: Path, text: str, documents: set[str]) -> None:
    with open_workspace(files) as workspace:
        index = build_index(workspace)
        everything = replace(index.search, cut=0.0, limit=100)
        where = read_where(text)
        found = search_index(workspace, index, "parental leave", where=where, settings=everything)
        assert {passage.document for passage in found} == documents
        many = search_questions(workspace, index, [("1", "parental leave")], where=where, settings=everything)
        assert list(many[0].passages) == found


def test_of_a_table_only_chunks_that_hold_such_a_row_are_found(files: Path) -> None:
    with open_workspace(files) as workspace:
        index = build_index(workspace)
        everything = replace(index.search, cut=0.0, limit=100)
        found = search_index(workspace, index, "lamp", where=read_where("price = 7"), settings=everything)
        assert len(found) == 1
        assert "Lamp 7,7," in found[0].text


def test_a_field_that_no_document_has_is_told_with_a_near_one(files: Path) -> None:
    with open_workspace(files) as workspace:
        index = build_index(workspace)
        with pytest.raises(InputError, match=r"No document has the field 'autor'. Did you mean 'author'\?"):
            search_index(workspace, index, "leave", where=read_where("autor = Ann"))


def set_where(folder: Path, where: str) -> None:
    path = folder / "slipway.toml"
    lines = path.read_text(encoding="utf-8").replace("[retrieve]\n", f"[retrieve]\nwhere = '{where}'\n")
    path.write_text(lines, encoding="utf-8")


def test_an_index_can_keep_all_its_searches_to_a_condition(files: Path) -> None:
    with open_workspace(files) as workspace:
        first = build_index(workspace)
    set_where(files, 'folder = "hr"')
    with open_workspace(files) as workspace:
        index = build_index(workspace)
        assert (index.version, index.search.where) == (first.version + 1, 'folder = "hr"')
        assert {passage.document for passage in search_index(workspace, index, "parental leave")} == {"hr/leave.md"}
        assert search_index(workspace, index, "parental leave", where=read_where("type = txt")) == []


@pytest.mark.parametrize(("where", "message"), [("folder", "needs a sign"), ("foldr = hr", "Did you mean 'folder'")])
def test_a_wrong_condition_in_the_settings_builds_nothing(files: Path, where: str, message: str) -> None:
    set_where(files, where)
    with open_workspace(files) as workspace:
        with pytest.raises(InputError, match=message):
            build_index(workspace)
        assert workspace.indexes.versions() == []


def test_metadata_of_a_loaded_file_can_be_asked_for(files: Path) -> None:
    loaded = load_documents([files / "documents"]).documents
    assert {one.id: facts_of(one.id, one.metadata)["type"] for one in loaded} == {
        "hr/leave.md": ("md", "markdown"),
        "old.md": ("md", "markdown"),
        "plain.txt": ("txt", "text"),
        "prices.csv": ("csv",),
    }
