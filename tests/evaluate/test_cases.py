"""Files become cases, and a wrong row is named by its line."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.domain.dataset import Case
from slipway.domain.errors import DatasetEmpty, DatasetRowInvalid, FileBroken, FileMissing
from slipway.evaluate.cases import parse_cases, read_cases


def write(folder: Path, text: str, name: str = "cases.jsonl") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


ROWS = [
    pytest.param({"id": "a", "question": "Why?"}, Case(id="a", question="Why?"), id="a bare question"),
    pytest.param(
        {"id": 7, "question": " Why? ", "answer": "so"}, Case(id="7", question="Why?", expected="so"), id="trimmed"
    ),
    pytest.param(
        {"id": "a", "question": "Why?", "expected": ["so", "because"], "alternatives": "thus"},
        Case(id="a", question="Why?", expected="so", alternatives=("because", "thus")),
        id="several wordings",
    ),
    pytest.param(
        {"id": "a", "question": "Why?", "spans": [["d.md", 3, 9], {"document": "e.md", "start": 0, "end": 2}]},
        Case(id="a", question="Why?", spans=(("d.md", 3, 9), ("e.md", 0, 2)), documents=("d.md", "e.md")),
        id="spans name their documents",
    ),
    pytest.param(
        {
            "id": "a",
            "question": "Who?",
            "answerable": False,
            "tags": ["x"],
            "group": "people",
            "source": "mail",
            "n": 3,
        },
        Case(
            id="a",
            question="Who?",
            answerable=False,
            tags=("x",),
            group="people",
            metadata={"source": "mail", "n": "3"},
        ),
        id="other fields become metadata",
    ),
    pytest.param(
        {"id": "a", "question": "Why?", "expected": None, "documents": None}, Case(id="a", question="Why?"), id="nulls"
    ),
]


@pytest.mark.parametrize(("row", "case"), ROWS)
def test_a_json_line_is_a_case(tmp_path: Path, row: dict[str, object], case: Case) -> None:
    assert read_cases(write(tmp_path, json.dumps(row))) == (case,)


def test_a_case_without_id_is_named_after_its_question(tmp_path: Path) -> None:
    first, second = read_cases(write(tmp_path, '{"question": "Why?"}\n\n{"question": "How?"}\r\n'))
    turned = read_cases(write(tmp_path, '{"question": "How?"}\n{"question": "Why?"}'))
    assert [case.id for case in turned] == [second.id, first.id]


def test_a_table_is_read_by_its_head(tmp_path: Path) -> None:
    text = (
        "\ufeffid,question,expected,answerable,documents,spans,topic\r\n"
        'a,"What, and\nwhy?",so,yes,d.md; e.md,d.md:0:4;e.md:1:2,shop\r\n'
        "b,Who?,,no,,,\r\n"
    )
    assert read_cases(write(tmp_path, text, "cases.csv")) == (
        Case(
            id="a",
            question="What, and\nwhy?",
            expected="so",
            answerable=True,
            documents=("d.md", "e.md"),
            spans=(("d.md", 0, 4), ("e.md", 1, 2)),
            metadata={"topic": "shop"},
        ),
        Case(id="b", question="Who?", answerable=False),
    )


WRONG = [
    pytest.param('{"question": "a"}\n{"question"', 2, "not JSON", id="broken JSON"),
    pytest.param('{"question": "a"}\n\n["b"]', 3, "not a JSON object", id="a list"),
    pytest.param('{"id": "a"}', 1, "'question' is missing", id="no question"),
    pytest.param('{"question": "  "}', 1, "'question' is missing", id="an empty question"),
    pytest.param('{"question": "a", "expcted": "b"}', 1, "Did you mean 'expected'?", id="a misspelt field"),
    pytest.param('{"question": "a", "expected": "b", "answer": "c"}', 1, "mean the same", id="two answers"),
    pytest.param('{"question": "a", "expected": {"x": 1}}', 1, "'expected' is not a text", id="an object as answer"),
    pytest.param(
        '{"question": "a", "tags": "x", "documents": [1]}', 1, "'documents' is not", id="a number as document"
    ),
    pytest.param('{"question": "a", "answerable": "perhaps"}', 1, "not true or false", id="perhaps answerable"),
    pytest.param('{"question": "a", "answerable": false, "answer": "b"}', 1, "an answer is given", id="contradiction"),
    pytest.param('{"question": "a", "spans": [["d", 5, 5]]}', 1, "start before end", id="an empty span"),
    pytest.param('{"question": "a", "spans": [["d", "x", 5]]}', 1, "start before end", id="a span without numbers"),
    pytest.param('{"question": "a"}\n{"question": "a"}', 2, "stands on line 1 already", id="the same question twice"),
    pytest.param('{"id": "1", "question": "a"}\n{"id": 1, "question": "b"}', 2, "the id '1'", id="the same id twice"),
]


@pytest.mark.parametrize(("text", "line", "reason"), WRONG)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    with pytest.raises(DatasetRowInvalid) as caught:
        read_cases(write(tmp_path, text))
    assert caught.value.line == line
    assert reason in str(caught.value)
    assert "nothing was imported" in str(caught.value)


TABLES = [
    pytest.param("id,text\na,b\n", 1, "no column 'question'", id="no question column"),
    pytest.param("question,expected\nWhy?,so,more\n", 2, "more or fewer cells", id="one cell too many"),
    pytest.param("question,expected\nWhy?\n", 2, "more or fewer cells", id="one cell too few"),
    pytest.param('question\n"Why\n', 2, "not CSV", id="an open quote"),
]


@pytest.mark.parametrize(("text", "line", "reason"), TABLES)
def test_a_wrong_table_is_named_by_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    with pytest.raises(DatasetRowInvalid) as caught:
        read_cases(write(tmp_path, text, "cases.csv"))
    assert caught.value.line == line
    assert reason in str(caught.value)


def test_files_that_hold_no_cases_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_cases(tmp_path / "nowhere.jsonl")
    with pytest.raises(DatasetEmpty):
        read_cases(write(tmp_path, "\n\n"))
    (tmp_path / "latin.jsonl").write_bytes('{"question": "wär?"}'.encode("latin-1"))
    with pytest.raises(FileBroken, match="not UTF-8"):
        read_cases(tmp_path / "latin.jsonl")


ODD = st.sampled_from([None, 1, -1.5, True, "", "yes", [], ["a"], [1], [["d", 0, 1]], [["d", "x", None]], {}, {"a": 1}])
BITS = st.sampled_from([b"question", b",", b'"', b"\n", b"\r\n", b"spans", b"a", b"\xff", b"\x00"])
ROW = st.dictionaries(st.sampled_from(["id", "question", "expected", "answerable", "documents", "spans", "tags"]), ODD)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(ROW.map(json.dumps), max_size=3).map("\n".join).map(str.encode) | st.lists(BITS).map(b"".join),
    st.sampled_from(["a.jsonl", "a.csv"]),
)
@example(b'{"question": ' + b"[" * 5000, "a.jsonl")
@example(b'{"question": ' + b"9" * 5000 + b"}", "a.jsonl")
def test_any_file_gives_cases_or_says_what_is_wrong(content: bytes, name: str) -> None:
    with suppress(DatasetEmpty, DatasetRowInvalid, FileBroken):
        parse_cases(content, Path(name))
