"""A draft waits for a person and goes where it belongs once; a gap closes when its questions are answered."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.domain.errors import Conflict, FileMissing
from slipway.domain.feedback import Draft, Finding, Route
from slipway.domain.ids import SubjectId, hash_text
from slipway.domain.release import Release
from slipway.learn.closing import close_answered
from slipway.learn.inbox import list_drafts, list_findings, load_finding, save_findings
from slipway.learn.routes import WRITE_HERE, accept_document, apply_draft, draft, draft_file
from slipway.learn.triage import triage
from slipway.release.parts import cut_release
from slipway.retrieve.index import build_index
from slipway.workspace import Workspace
from tests.learn.conftest import Ask

DOG = "What is the name of the managing director's dog?"
COLOUR = "Which colours does the lamp shade come in?"


def found(workspace: Workspace, route: Route, *questions: str, **facts: str) -> Finding:
    finding = Finding(
        id=hash_text(f"{route} {questions} {facts}")[:26],
        kind="gap" if route == "knowledge" else "feedback",
        title="Not in the documents: colours",
        detail="",
        route=route,
        questions=questions,
        subject=SubjectId("anna"),
        created_at=workspace.now(),
        facts=facts,
    )
    return save_findings(workspace, [finding])[0]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_gap_is_drafted_as_a_document_to_write(workspace: Workspace) -> None:
    finding = found(workspace, "knowledge", COLOUR, DOG, topic="lamp colours", nearest="warranty.md")
    made = draft(workspace, finding)
    assert made.path == "documents/lamp-colours.md"
    text = draft_file(workspace, made).read_text(encoding="utf-8")
    assert text.startswith("# Lamp colours\n")
    assert text.count(WRITE_HERE) == 2
    assert f"## {COLOUR}" in text
    assert "warranty.md" in text
    assert load_finding(workspace, finding.id).state == "drafted"
    assert list_drafts(workspace, finding) == [made]


def test_a_draft_that_nobody_has_written_is_not_applied(workspace: Workspace) -> None:
    made = draft(workspace, found(workspace, "knowledge", COLOUR, topic="lamp colours"))
    with pytest.raises(Conflict, match="still says"):
        apply_draft(workspace, made)
    assert not (workspace.folder / made.path).exists()
    file = draft_file(workspace, made)
    file.write_text(file.read_text(encoding="utf-8").replace(WRITE_HERE, "Red and green."), encoding="utf-8")
    path = apply_draft(workspace, made)
    assert path == workspace.folder / "documents" / "lamp-colours.md"
    assert "Red and green." in path.read_text(encoding="utf-8")
    (saved,) = list_drafts(workspace, load_finding(workspace, made.finding))
    assert saved.applied
    assert "Red and green." in saved.text


def test_a_draft_never_goes_over_a_document_that_is_there(workspace: Workspace) -> None:
    before = (workspace.folder / "documents" / "returns.md").read_text(encoding="utf-8")
    made = draft(workspace, found(workspace, "knowledge", COLOUR, topic="returns"))
    with pytest.raises(Conflict, match="is there already"):
        apply_draft(workspace, made, text="# Returns\n\nAnother text.\n")
    assert (workspace.folder / "documents" / "returns.md").read_text(encoding="utf-8") == before


def test_what_a_person_wrote_in_a_draft_survives_drafting_again(workspace: Workspace) -> None:
    finding = found(workspace, "knowledge", COLOUR, topic="lamp colours")
    file = draft_file(workspace, draft(workspace, finding))
    file.write_text("# Colours\n\nRed.\n", encoding="utf-8")
    draft(workspace, replace(finding, questions=(COLOUR, DOG)))
    assert file.read_text(encoding="utf-8") == "# Colours\n\nRed.\n"


def test_a_draft_that_nobody_touched_follows_its_finding(workspace: Workspace) -> None:
    finding = found(workspace, "knowledge", COLOUR, topic="lamp colours")
    file = draft_file(workspace, draft(workspace, finding))
    made = draft(workspace, replace(finding, questions=(COLOUR, DOG)))
    assert file == draft_file(workspace, made)
    assert DOG in file.read_text(encoding="utf-8")
    assert len(list_drafts(workspace, finding)) == 1


@pytest.mark.parametrize(
    ("route", "path", "row"),
    [
        pytest.param("dataset", "questions.jsonl", {"question": COLOUR, "tags": ["finding"]}, id="a test case"),
        pytest.param("training", "training/pairs.jsonl", {"question": COLOUR, "answer": "Red."}, id="a training pair"),
    ],
)
def test_lines_are_added_once_behind_what_is_there(
    workspace: Workspace, route: Route, path: str, row: dict[str, object]
) -> None:
    file = workspace.folder / path
    before = lines(file) if file.exists() else []
    made = draft(workspace, found(workspace, route, COLOUR, correction="Red."))
    assert draft(workspace, load_finding(workspace, made.finding)).text == made.text, "the same finding, the same draft"
    assert apply_draft(workspace, made) == file
    after = lines(file)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1
    assert row.items() <= after[-1].items() if route == "training" else after[-1]["question"] == COLOUR
    with pytest.raises(Conflict, match="already"):
        apply_draft(workspace, made)
    assert draft(workspace, load_finding(workspace, made.finding)).applied, "drafting again does not undo it"
    assert lines(file) == after


def test_added_cases_can_be_read_as_questions(workspace: Workspace) -> None:
    from slipway.evaluate.cases import read_cases

    apply_draft(workspace, draft(workspace, found(workspace, "dataset", COLOUR, DOG)))
    cases = read_cases(workspace.folder / "questions.jsonl")
    assert [case.question for case in cases[-2:]] == [COLOUR, DOG]
    assert len({case.id for case in cases}) == len(cases)


def test_a_prompt_edit_adds_the_missing_instruction(workspace: Workspace) -> None:
    from slipway.prompt.library import load_prompt, sync_prompts

    file = workspace.folder / "prompts" / "answer.md"
    file.write_text(
        "---\nvariables: [question, passages]\n---\n\n# system\n\nAnswer from the passages.\n\n# user\n\n"
        "{{ passages }}\n\n{{ question }}\n",
        encoding="utf-8",
    )
    sync_prompts(workspace)
    made = draft(workspace, found(workspace, "prompt", COLOUR))
    assert made.path == "prompts/answer.md"
    apply_draft(workspace, made)
    sync_prompts(workspace)
    prompt = load_prompt(workspace, "answer")
    assert prompt.version == 2
    assert "Answer from the passages." in prompt.system
    assert "The documents do not answer this question." in prompt.system


def test_a_guard_finding_is_for_a_person(workspace: Workspace) -> None:
    made = draft(workspace, found(workspace, "guard", "How do I kill a process?"))
    assert "How do I kill a process?" in draft_file(workspace, made).read_text(encoding="utf-8")
    with pytest.raises(Conflict, match="slipway up"):
        apply_draft(workspace, made)


def test_a_draft_whose_file_is_gone_says_how_to_make_it_again(workspace: Workspace) -> None:
    made = draft(workspace, found(workspace, "knowledge", COLOUR))
    draft_file(workspace, made).unlink()
    with pytest.raises(FileMissing, match="slipway learn route"):
        apply_draft(workspace, made)
    assert draft(workspace, load_finding(workspace, made.finding)).text == made.text
    assert draft_file(workspace, made).exists()


def test_a_document_written_elsewhere_answers_a_gap(workspace: Workspace, tmp_path: Path) -> None:
    made = draft(workspace, found(workspace, "knowledge", COLOUR, topic="lamp colours"))
    document = tmp_path / "colours.md"
    document.write_bytes(b"# Colours\r\n\r\nThe shade comes in red.\r\n")
    target = accept_document(workspace, made, document)
    assert target == workspace.folder / "documents" / "colours.md"
    assert target.read_bytes() == document.read_bytes(), "to the byte"
    with pytest.raises(Conflict, match="is there already"):
        accept_document(workspace, made, document)
    with pytest.raises(FileMissing):
        accept_document(workspace, made, tmp_path / "nothing.md")


def test_a_document_answers_no_other_kind_of_draft(workspace: Workspace, tmp_path: Path) -> None:
    made = draft(workspace, found(workspace, "dataset", COLOUR))
    (tmp_path / "colours.md").write_text("# Colours\n", encoding="utf-8")
    with pytest.raises(Conflict, match="asks for no document"):
        accept_document(workspace, made, tmp_path / "colours.md")


def test_a_document_goes_where_the_application_reads(application: Path, tmp_path: Path) -> None:
    from slipway.workspace import open_workspace

    settings = application / "slipway.toml"
    settings.write_text(settings.read_text(encoding="utf-8").replace('["documents"]', '["handbook"]'), encoding="utf-8")
    (application / "documents").rename(application / "handbook")
    (tmp_path / "colours.md").write_text("# Colours\n", encoding="utf-8")
    with open_workspace(application) as workspace:
        made = draft(workspace, found(workspace, "knowledge", COLOUR, topic="lamp colours"))
        assert made.path == "handbook/lamp-colours.md"
        assert accept_document(workspace, made, tmp_path / "colours.md") == application / "handbook" / "colours.md"


def test_an_applied_draft_still_belongs_to_the_person_it_came_from(workspace: Workspace) -> None:
    from slipway.domain.errors import ContentErased, NotFound
    from slipway.privacy.erasure import erase_subject

    made = draft(workspace, found(workspace, "training", COLOUR, correction="My name is Anna."))
    apply_draft(workspace, made)
    erase_subject(workspace, SubjectId("anna"))
    with pytest.raises((ContentErased, NotFound)):
        workspace.store.records.get(Draft, made.id)


async def test_a_gap_closes_when_every_question_of_it_is_answered(
    workspace: Workspace, release: Release, ask: Ask
) -> None:
    assert (await ask("Do you sell the lamp shade in red or green?")).abstained
    (finding,) = triage(workspace, release)
    assert await close_answered(workspace, release) == []
    assert load_finding(workspace, finding.id).state == "open"
    document = workspace.folder / "documents" / "colours.md"
    document.write_text(
        "# Colours\n\n## Do you sell the lamp shade in red or green?\n\nWe sell the lamp shade in red and in green.\n",
        encoding="utf-8",
    )
    build_index(workspace)
    second = cut_release(workspace)
    assert second.id != release.id
    assert [closed.id for closed in await close_answered(workspace, second)] == [finding.id]
    assert list_findings(workspace, state="open") == []
    assert await close_answered(workspace, second) == []


async def test_a_gap_of_which_one_question_stays_open_is_not_closed(workspace: Workspace, release: Release) -> None:
    answered = "Within how many days can I return a parcel?"
    both = found(workspace, "knowledge", answered, DOG, topic="both")
    one = found(workspace, "knowledge", answered, topic="one")
    assert [closed.id for closed in await close_answered(workspace, release)] == [one.id]
    assert load_finding(workspace, both.id).state == "open"
    assert triage(workspace, release) == [], "asking again to close is no traffic of users"
