"""`slipway retrieve` from the outside: JSON on standard output, one clear line for what goes wrong."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.domain.errors import FileBroken, FileMissing, InputError, NotAnApplication, NotFound, NothingToIndex
from slipway.domain.ids import TraceId, new_span_id
from slipway.release.parts import cut_release
from slipway.release.pipeline import answer
from slipway.workspace import open_workspace

runner = CliRunner()


def run(folder: Path, *command: str) -> str:
    done = runner.invoke(app, ["retrieve", *command, "--dir", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def read(folder: Path, *command: str) -> Any:
    return json.loads(run(folder, *command, "--json"))


@pytest.fixture
def built(application: Path) -> Path:
    run(application, "build")
    return application


def test_an_index_is_built_listed_and_shown(application: Path) -> None:
    made = read(application, "build")
    assert (made["index"], made["documents"], made["chunks"], made["embedder"]) == ("documents@1", 3, 3, "")
    assert read(application, "build")["index"] == "documents@1"
    assert [row["index"] for row in read(application, "list")] == ["documents@1"]
    shown = read(application, "show", "documents@1")
    assert [entry["id"] for entry in shown["index"]["documents"]] == ["returns.md", "shipping.md", "warranty.md"]
    text = run(application, "show")
    assert "lexical only (no embedder)" in text
    assert "alpha does not count: there are no vectors" in text


def test_other_documents_make_an_index_of_their_own(application: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("Bread is baked slowly.")
    (other / "b.pdf").write_bytes(b"%PDF broken")
    (other / "c.txt").write_text("Bread is baked slowly.")
    made = read(application, "build", "bakery", "--documents", str(other))
    assert (made["index"], made["documents"]) == ("bakery@1", 1)
    assert [(Path(one["source"]).name, one["reason"]) for one in made["unreadable"]] == [
        ("b.pdf", "it is no valid PDF")
    ]
    assert [Path(one["source"]).name for one in made["duplicates"]] == ["c.txt"]
    assert "not read:" in run(application, "build", "bakery", "--documents", str(other))


def test_a_search_prints_passages_that_slice_back(built: Path) -> None:
    found = read(built, "search", "documents", "What does express shipping cost?")
    assert found["answerable"] > 0.4
    for passage in found["passages"]:
        text = (built / "documents" / passage["document"]).read_text(encoding="utf-8")
        assert text[passage["start"] : passage["end"]] == passage["text"]
    assert "shipping.md [" in run(built, "search", "documents", "What does express shipping cost?")
    assert "probably not covered" in run(built, "search", "documents", "How do I bake bread?")


def test_a_file_of_questions_is_searched_by_id(built: Path, tmp_path: Path) -> None:
    queries = tmp_path / "q.jsonl"
    queries.write_text('{"id": "a", "query": "return a parcel"}\n{"id": "b", "question": "bake bread"}\n')
    found = read(built, "search", "documents", "--queries", str(queries), "--limit", "50", "--cut", "0")
    assert [(one["id"], bool(one["passages"])) for one in found] == [("a", True), ("b", False)]
    assert found[0]["passages"][0]["document"] == "returns.md"
    assert found[0]["answerable"] > found[1]["answerable"]


def test_a_search_can_keep_to_one_document(built: Path) -> None:
    found = read(built, "search", "documents", "shipping of a lamp", "--in", "warranty.md")
    assert {passage["document"] for passage in found["passages"]} == {"warranty.md"}


def test_a_search_can_keep_to_a_condition(built: Path) -> None:
    search = ["search", "documents", "shipping of a lamp", "--cut", "0"]
    kept = read(built, *search, "--where", "type=md", "--where", "id ~ warranty or id = shipping.md")
    assert {passage["document"] for passage in kept["passages"]} == {"warranty.md", "shipping.md"}
    assert read(built, *search, "--where", "type=pdf")["passages"] == []


def test_the_text_of_a_document_can_be_printed(built: Path) -> None:
    text = (built / "documents" / "returns.md").read_text(encoding="utf-8")
    assert run(built, "show", "documents", "--document", "returns.md") == text + "\n"
    assert read(built, "show", "documents", "--document", "returns.md")["text"] == text


def test_a_change_shows_as_outdated(built: Path) -> None:
    (built / "documents" / "new.md").write_text("# New\n\nSolar lamps.")
    assert read(built, "show")["changed"] == ["new.md"]
    assert "outdated: 1 documents changed since (new.md). Rebuild it: slipway retrieve build" in run(built, "show")


def test_settings_are_compared(built: Path, tmp_path: Path) -> None:
    compared = read(built, "compare", "--size", "30", "--size", "200", "--cut", "0.5")
    assert [row["size"] for row in compared["rows"]] == [30, 200]
    assert "Best: recursive, size 200" in run(built, "compare", "--size", "200")
    cases = tmp_path / "cases.jsonl"
    cases.write_text('{"question": "How long can I return it?", "documents": ["returns.md"]}\n')
    labelled = read(built, "compare", "--cases", str(cases), "--size", "200")
    assert (labelled["questions"], labelled["made"]) == (1, False)


def test_gaps_are_found_in_a_file_of_questions(built: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.txt"
    questions.write_text("How do I bake bread?\nHow do I bake bread?\nHow long can I return a parcel?\n")
    found = read(built, "gaps", "--questions", str(questions))
    assert [(gap["volume"], gap["questions"]) for gap in found["gaps"]] == [(2, ["How do I bake bread?"])]
    assert "asked 2 times" in run(built, "gaps", "--questions", str(questions))
    assert run(built, "gaps") == "Every question is covered by the documents.\n"


def ask(folder: Path, question: str) -> str:
    with open_workspace(folder) as workspace:
        return asyncio.run(answer(cut_release(workspace), question, workspace=workspace)).trace


def test_an_answer_is_traced_to_its_passages(built: Path) -> None:
    trace = ask(built, "What does express shipping cost?")
    found = read(built, "explain", trace)
    (sentence,) = found["sentences"]
    assert (sentence["support"], found["unsupported"]) == ("words", 0.0)
    passage = found["passages"][sentence["passage"]]
    assert (passage["document"], passage["sentences"], passage["share"]) == ("shipping.md", 1, 1.0)
    text = (built / "documents" / "shipping.md").read_text(encoding="utf-8")
    assert "12 euros" in text[sentence["evidence_start"] : sentence["evidence_end"]]
    shown = run(built, "explain", trace)
    assert "shipping.md [" in shown
    assert "Without support: 0 of 1 sentences" in shown


def test_a_sentence_that_no_passage_supports_is_marked(built: Path) -> None:
    trace = ask(built, "What does express shipping cost?")
    with open_workspace(built) as workspace:
        old = workspace.store.traces.get(TraceId(trace))
        ids = {span.span: new_span_id() for span in old.spans}
        said = {"answer": "Express shipping costs 12 euros. It is free for 99 members."}
        spans = [
            replace(
                span,
                trace=TraceId("7" * 32),
                span=ids[span.span],
                parent=ids.get(span.parent) if span.parent else None,
                content=span.content | said if span is old.root else span.content,
            )
            for span in old.spans
        ]
        workspace.store.traces.add(spans)
    shown = run(built, "explain", "7" * 32)
    assert "! It is free for 99 members." in shown
    assert "no passage supports it; not there: 99" in shown
    assert [one["support"] for one in read(built, "explain", "7" * 32)["sentences"]] == ["words", "none"]


def test_an_answer_that_abstained_has_nothing_behind_it(built: Path) -> None:
    done = runner.invoke(app, ["retrieve", "explain", ask(built, "How do I bake bread?"), "--dir", str(built)])
    assert isinstance(done.exception, InputError)
    assert "the documents do not hold it" in str(done.exception)


def test_a_version_is_removed(built: Path) -> None:
    assert read(built, "remove", "documents@1") == {"removed": "documents@1"}
    assert read(built, "list") == []
    assert list((built / ".slipway" / "indexes").iterdir()) == []


WRONG = [
    pytest.param(["show", "nothing"], NotFound, "There is no index 'nothing'", id="unknown index"),
    pytest.param(["explain", "1" * 32], NotFound, "There is no trace", id="unknown trace"),
    pytest.param(["search", "documents"], InputError, "Give one question", id="no question"),
    pytest.param(["search", "documents", "x", "--queries", "y"], InputError, "or a file", id="question and file"),
    pytest.param(["search", "documents", "--queries", "nowhere"], FileMissing, "no file", id="missing file"),
    pytest.param(["search", "documents", "x", "--in", "a.md"], None, "", id="an unknown document finds nothing"),
    pytest.param(["search", "documents", "x", "--where", "folder"], InputError, "needs a sign", id="half a condition"),
    pytest.param(["search", "documents", "x", "--where", "foldr=a"], InputError, "'folder'", id="an unknown field"),
    pytest.param(["build", "--documents", "nowhere"], FileMissing, "no file or folder 'nowhere'", id="missing folder"),
    pytest.param(["build", "--documents", "slipway.png"], NothingToIndex, "type .png are not read", id="no text in it"),
    pytest.param(["gaps", "--since", "soon"], InputError, "no span of time", id="no span of time"),
    pytest.param(["gaps", "--questions", "broken.jsonl"], FileBroken, "line 1", id="broken questions"),
    pytest.param(["remove", "documents"], InputError, "documents@1", id="no version"),
]


@pytest.mark.parametrize(("command", "error", "message"), WRONG)
def test_what_goes_wrong_is_told_in_one_line(
    built: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], error: type[Exception] | None, message: str
) -> None:
    (built / "slipway.png").write_bytes(b"\x89PNG")
    (built / "broken.jsonl").write_text('{"question": ')
    monkeypatch.chdir(built)
    done = runner.invoke(app, ["retrieve", *command])
    if error is None:
        assert done.exit_code == 0
        return
    assert isinstance(done.exception, error)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)


def test_a_folder_without_an_application_is_told(tmp_path: Path) -> None:
    done = runner.invoke(app, ["retrieve", "list", "--dir", str(tmp_path)])
    assert isinstance(done.exception, NotAnApplication)


def test_a_setting_without_clear_evidence_is_applied_only_by_force(built: Path) -> None:
    settings = built / "slipway.toml"
    before = settings.read_text(encoding="utf-8")
    assert "not changed" in run(built, "compare", "--size", "40", "--apply")
    assert settings.read_text(encoding="utf-8") == before
    assert "slipway.toml is set to it" in run(built, "compare", "--size", "40", "--apply", "--force")
    assert "size = 40" in settings.read_text(encoding="utf-8")
