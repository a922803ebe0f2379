"""Bringing an application up repeats only what changed, and leaves the store as it was when the input is wrong."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.domain.errors import SlipwayError
from slipway.domain.index import Index
from slipway.lifecycle.up import Brought, bring_up
from slipway.release.channels import load_channel
from slipway.release.parts import list_releases
from slipway.workspace import open_workspace


@pytest.fixture
def application(application: Path) -> Path:
    """The tiny application with one suite, so that bringing it up is quick."""
    append(application, '\n[evaluate]\nsuites = ["quality"]\n')
    return application


async def up(application: Path) -> Brought:
    with open_workspace(application) as workspace:
        return await bring_up(workspace)


def append(application: Path, text: str) -> None:
    with (application / "slipway.toml").open("a", encoding="utf-8") as file:
        file.write(text)


def kept(application: Path) -> dict[str, list[object]]:
    """Every record of the store and what comes from what; traces are facts and may be added."""
    with sqlite3.connect(application / ".slipway" / "store.db") as store:
        return {
            table: sorted(map(repr, store.execute(f"select * from {table}").fetchall()))
            for table in ("record", "record_part", "record_link", "derived", "job")
        }


async def test_an_application_is_brought_up(application: Path) -> None:
    brought = await up(application)
    assert [step.name for step in brought.steps] == [
        "prompt",
        "retrieve",
        "questions",
        "release",
        "evaluate quality",
        "review",
        "promote",
    ]
    assert brought.live
    assert brought.gate.open
    with open_workspace(application) as workspace:
        assert [share.release for share in load_channel(workspace, "lamps").shares] == [brought.release.id]


async def test_a_second_call_changes_nothing(application: Path) -> None:
    first = await up(application)
    before = kept(application)
    second = await up(application)
    assert [step.name for step in second.steps if step.changed] == []
    assert second.release == first.release
    assert kept(application) == before


async def test_an_edited_document_is_the_next_index_and_release(application: Path) -> None:
    first = await up(application)
    with (application / "documents" / "returns.md").open("a", encoding="utf-8") as file:
        file.write("\n## Gifts\n\nGifts can be exchanged within 60 days.\n")
    second = await up(application)
    changed = {step.name for step in second.steps if step.changed}
    assert changed == {"retrieve", "release", "evaluate quality", "promote"}
    assert (first.release.label, second.release.label) == ("lamps@1", "lamps@2")
    assert str(second.release.index) == "documents@2"
    assert second.release.prompt == first.release.prompt


async def test_a_new_question_asks_the_suites_again_but_cuts_no_release(application: Path) -> None:
    first = await up(application)
    with (application / "questions.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"question": "Who pays for returns inside the European Union?", "expected": "We pay"}\n')
    second = await up(application)
    assert {step.name for step in second.steps if step.changed} == {"questions", "evaluate quality"}
    assert second.release == first.release


async def test_without_a_file_of_questions_some_are_made_once(application: Path) -> None:
    settings = application / "slipway.toml"
    settings.write_text(
        settings.read_text(encoding="utf-8").replace('questions = "questions.jsonl"', ""), encoding="utf-8"
    )
    first = await up(application)
    assert "made from the documents" in next(step.summary for step in first.steps if step.name == "questions")
    second = await up(application)
    assert [step.name for step in second.steps if step.changed] == []


async def test_a_closed_gate_keeps_the_release_from_users(application: Path) -> None:
    append(application, '\n[[evaluate.gate]]\nsuite = "quality"\nmeasure = "quality"\nat_least = 1.1\n')
    brought = await up(application)
    assert not brought.live
    assert "slipway release gate lamps@1" in brought.steps[-1].summary
    with open_workspace(application) as workspace, pytest.raises(SlipwayError):
        load_channel(workspace, "lamps")


async def test_a_broken_pdf_is_named_and_the_rest_is_indexed(application: Path) -> None:
    (application / "documents" / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing of use")
    brought = await up(application)
    told = next(step.summary for step in brought.steps if step.name == "retrieve")
    assert "3 documents, 1 unreadable (broken.pdf)" in told
    assert [Path(item.source).name for item in brought.unreadable] == ["broken.pdf"]
    assert brought.unreadable[0].reason
    with open_workspace(application) as workspace:
        index = workspace.store.records.latest(Index, "documents")
    assert index is not None
    assert sorted(entry.id for entry in index.documents) == ["returns.md", "shipping.md", "warranty.md"]


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(application: Path) -> None:
        settings = application / "slipway.toml"
        text = settings.read_text(encoding="utf-8")
        assert old in text
        settings.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def empty(application: Path) -> None:
    for path in (application / "documents").iterdir():
        path.unlink()


def nothing_readable(application: Path) -> None:
    empty(application)
    (application / "documents" / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing of use")


def dead_upstream(application: Path) -> None:
    append(
        application,
        '\n[release]\nengine = "far"\nmodel = "m"\n\n[engines.far]\nkind = "openai"\n'
        'base_url = "http://127.0.0.1:9/v1"\n',
    )


def broken_questions(application: Path) -> None:
    (application / "questions.jsonl").write_text('{"question": "Why?"}\n{"question": \n', encoding="utf-8")


WRONG = [
    pytest.param(edit('["documents"]', '["nowhere"]'), "nowhere", 2, id="a folder of documents that is not there"),
    pytest.param(edit('"questions.jsonl"', '"asked.jsonl"'), "asked.jsonl", 2, id="questions that are not there"),
    pytest.param(broken_questions, "2", 2, id="a broken line of questions"),
    pytest.param(empty, "documents", 2, id="an empty folder"),
    pytest.param(nothing_readable, "broken.pdf", 2, id="nothing that can be read"),
    pytest.param(edit("requests_per_day", "request_per_day"), "request_per_day", 2, id="a key that does not exist"),
    pytest.param(edit("[retrieve]", "[retrieve"), "slipway.toml", 2, id="a file that is no TOML"),
    pytest.param(
        lambda folder: append(folder, '\n[release]\nengine = "extractiv"\n'), "extractive", 2, id="an unknown engine"
    ),
    pytest.param(
        lambda folder: append(folder, '\n[guard]\nbefore = [{ rail = "secret" }]\n'), "secrets", 2, id="an unknown rail"
    ),
    pytest.param(dead_upstream, "127.0.0.1:9", 1, id="a dead upstream"),
]


@pytest.mark.parametrize(("spoil", "named", "code"), WRONG)
async def test_wrong_input_is_one_clear_line_and_leaves_the_store_as_it_was(
    application: Path, spoil: Callable[[Path], None], named: str, code: int
) -> None:
    await up(application)
    before = kept(application)
    prompt = application / "prompts" / "answer.md"
    prompt.write_text(prompt.read_text(encoding="utf-8") + "\nBe kind.\n", encoding="utf-8")
    spoil(application)
    with pytest.raises(SlipwayError) as wrong:
        await up(application)
    assert named in str(wrong.value)
    assert "\n" not in str(wrong.value)
    assert wrong.value.exit_code == code
    after = kept(application)
    if code == 2:
        assert after == before
    else:
        with open_workspace(application) as workspace:
            assert [release.label for release in list_releases(workspace)] == ["lamps@1"]


async def test_an_upstream_that_dies_on_the_way_keeps_what_was_finished(application: Path) -> None:
    append(
        application,
        '\n[release]\nengine = "parrot"\nmodel = "m"\n\n[engines.parrot]\nkind = "echo"\nfails = "unreachable"\n',
    )
    with pytest.raises(SlipwayError):
        await up(application)
    edit('fails = "unreachable"', 'reply = "30 days [1]"')(application)
    brought = await up(application)
    assert brought.release.label == "lamps@1"
    assert [step.name for step in (await up(application)).steps if step.changed] == []
